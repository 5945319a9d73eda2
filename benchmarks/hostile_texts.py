"""Texts of any length that once cost, or could cost, a parser more than linear time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BROKEN = '{"desc": "cat, "bbox_2d": [<|coord_1|>]}'
SOUND = '{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_30|>, <|coord_40|>]}'
TEN = f"{SOUND}, " * 9 + f"{BROKEN}, "
HOSTILE: dict[str, Callable[[int], str]] = {
    "[ repeated": lambda size: "[" * size,
    '{" repeated': lambda size: '{"' * (size // 2),
    "one unclosed string": lambda size: '{"objects": [{"desc": "' + "a" * size,
    "broken records": lambda size: '{"objects": [' + ", ".join([BROKEN] * (size // len(BROKEN))),
    "nested values": lambda size: '{"desc": "cat", "extra": [' * (size // 26),
    "escaped quotes": lambda size: '{"objects": [{"desc" ' + '\\"' * (size // 2),
    "} in a list": lambda size: '{"objects": [' + "}" * size,
    "one endless coordinate list": lambda size: (
        '{"objects": [{"desc": "cat", "poly": [' + "<|coord_1|>, " * (size // 13)
    ),
    "containers one after the other": lambda size: '{"objects": []} ' * (size // 16),
    "one digit run": lambda size: '{"objects": [{"desc": "cat", "bbox_2d": [' + "1" * size,
    "keys without end": lambda size: (
        '{"objects": [{' + ", ".join(f'"k{n:07}": 1' for n in range(size // 15))
    ),
    "a broken record among ten": lambda size: ('{"objects": [' + TEN * (size // len(TEN) + 1))[
        :size
    ],
    "records begun over and over": lambda size: '{"desc": "a", "bbox_2d": [' * (size // 26),
    "backslashes": lambda size: '{"objects": [{"desc": "' + "\\" * size,
    "quotes in a list": lambda size: (
        '{"objects": [{"desc": "cat", "bbox_2d": [' + '"a", ' * (size // 5)
    ),
    "foreign words in a list": lambda size: (
        '{"objects": [{"desc": "cat", "poly": [' + "x, " * (size // 3) + "]}]}"
    ),
}
"""Name -> text of about that many characters."""

__all__ = ["HOSTILE"]
