"""Builders of texts that the parser tests share."""

from collections.abc import Sequence


def coords(values: Sequence[int]) -> str:
    return "[" + ", ".join(f"<|coord_{value}|>" for value in values) + "]"


def record(desc: str = "cat", values: Sequence[int] = (1, 2, 3, 4), key: str = "bbox_2d") -> str:
    return f'{{"desc": "{desc}", "{key}": {coords(values)}}}'


def wrap(*records: str) -> str:
    return '{"objects": [' + ", ".join(records) + "]}"


G = record("cat", (1, 2, 3, 4))
H = record("dog", (5, 6, 7, 8))
CAT = ("cat", (1, 2, 3, 4))
DOG = ("dog", (5, 6, 7, 8))
FRAGMENTS = [
    *'{}[],:"\\ \n', '{"objects": [', "]}", '{"desc": "', '"bbox_2d": [', '"poly": [', "<|coord_5|>", "<|coord_999|>",
    "<|coord_1000|>", "<|im_end|>", "第九", "85", "null", "true", "```json", '"object_1": ', '", ', "\ud800", "\x00", G, H,
    "1e5", "-", "x", "🦉",
]  # fmt: skip
