"""Objects to text in other models' dialects: the counterpart of their parsers."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError
from coordeval.parsers import parse
from coordeval.parsers.findings import number_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from coordeval.parsers.dialects import Dialect, Family

Record = tuple[str, str, tuple[int, ...]]
"""Description, kind, and values as a found record holds them (x1, y1, x2, y2)."""


def render_foreign(
    records: Iterable[tuple[str, str, Sequence[int]]], dialect: Dialect, *, strict: bool = True
) -> str:
    """The whole answer for records (desc, kind, values), as the family's models write it.

    Values are those of found records. No records give an empty list, or an empty text where the
    family has no list. Where `strict`, a name that the family's syntax cannot hold raises
    ConfigError; so does, in any case, a geometry that it has no form for.
    """
    plain = [(desc, kind, tuple(values)) for desc, kind, values in records]
    for kind in sorted({kind for _, kind, _ in plain}):
        if not writes(dialect, kind):
            raise ConfigError(
                f"the dialect {dialect.name} has no form for {kind}: convert the data to boxes, or "
                "use another dialect"
            )
    text = _WRITERS[dialect.family](plain, dialect)
    if strict:
        for desc in dict.fromkeys(desc for desc, _, _ in plain):
            _require_readable(desc, dialect)
    return text


def writes(dialect: Dialect, kind: str) -> bool:
    """True where the dialect has a form for that geometry."""
    if not dialect.is_foreign:
        return True
    if dialect.keys is not None:
        named = {"bbox_2d": dialect.keys.box, "poly": dialect.keys.poly, "line": dialect.keys.line}
        return bool(named[kind])
    if kind == "poly":
        return dialect.family in {"rex-omni", "florence2"}
    return kind == "bbox_2d"


@lru_cache(maxsize=4096)
def _require_readable(desc: str, dialect: Dialect) -> None:
    """Refuse a name that would come back as another one, or break its record."""
    box = (1, 1, 2, 2)
    kind = next(kind for kind in ("bbox_2d", "poly", "line") if writes(dialect, kind))
    values = {"bbox_2d": box, "poly": (1, 1, 2, 2, 3, 1), "line": box}[kind]
    neighbour = "dog" if desc == "cat" else "cat"
    described = [desc, neighbour, desc]
    text = _WRITERS[dialect.family]([(name, kind, values) for name in described], dialect)
    read = [(item.desc, item.values, item.reason) for item in parse(text, dialect).records]
    if read != [(name, values, None) for name in described]:
        raise ConfigError(
            f"the dialect {dialect.name} cannot write the name {desc!r}: its own reading would "
            "take it for something else"
        )


def written_values(values: tuple[int, ...], kind: str, dialect: Dialect) -> list[str]:
    """Numbers as the dialect writes them: its own order of corners, its own decimals."""
    if dialect.corners == "yxyx":
        swapped = zip(values[1::2], values[::2], strict=True)
        values = tuple(value for pair in swapped for value in pair)
    elif dialect.corners == "xywh" and kind == "bbox_2d":
        x1, y1, x2, y2 = values
        values = (x1, y1, x2 - x1, y2 - y1)
    return [number_text(value, dialect.decimals) for value in values]


def _json(records: list[Record], dialect: Dialect) -> str:
    keys = dialect.keys
    assert keys is not None
    geometry_keys = {"bbox_2d": keys.box, "poly": keys.poly, "line": keys.line}
    parts = []
    for desc, kind, values in records:
        name = f"{_quoted(keys.name[0])}: {_quoted(desc)}"
        numbers = ", ".join(written_values(values, kind, dialect))
        geometry = f"{_quoted(geometry_keys[kind][0])}: [{numbers}]"
        fields = [name, geometry] if dialect.field_order == "desc_first" else [geometry, name]
        parts.append("{" + ", ".join(fields) + "}")
    if keys.objects is not None:
        return f"{{{_quoted(keys.objects)}: [{', '.join(parts)}]}}"
    if not parts:
        return "```json\n[]\n```"
    return "```json\n[\n\t" + ",\n\t".join(parts) + "\n]\n```"


def _quoted(text: str) -> str:
    """A JSON string in the letters of its language, as models write names and keys alike."""
    return json.dumps(text, ensure_ascii=False)


def _rex_omni(records: list[Record], dialect: Dialect) -> str:
    phrases = []
    for desc, group in groupby(records, key=lambda record: record[0]):
        boxes = [
            "".join(f"<{number}>" for number in written_values(values, kind, dialect))
            for _, kind, values in group
        ]
        phrases.append(
            f"<|object_ref_start|>{desc}<|object_ref_end|><|box_start|>{','.join(boxes)}<|box_end|>"
        )
    return ", ".join(phrases)


def _paligemma(records: list[Record], dialect: Dialect) -> str:
    return " ; ".join(
        "".join(f"<loc{number:0>4}>" for number in written_values(values, kind, dialect))
        + f" {desc}"
        for desc, kind, values in records
    )


def _florence2(records: list[Record], dialect: Dialect) -> str:
    parts = []
    for (desc, kind), group in groupby(records, key=lambda record: record[:2]):
        lists = [
            "".join(f"<loc_{number}>" for number in written_values(values, kind, dialect))
            for _, _, values in group
        ]
        if kind == "poly":
            parts += [f"{desc}<poly>{one}</poly>" for one in lists]
        else:
            parts.append(desc + "".join(lists))
    return "".join(parts)


def _cogvlm(records: list[Record], dialect: Dialect) -> str:
    phrases = []
    for desc, group in groupby(records, key=lambda record: record[0]):
        boxes = [
            ",".join(f"{number:0>3}" for number in written_values(values, kind, dialect))
            for _, kind, values in group
        ]
        phrases.append(f"{desc} [[{';'.join(boxes)}]]")
    return " ".join(phrases)


_WRITERS: dict[Family, Callable[[list[Record], Dialect], str]] = {
    "json": _json,
    "rex-omni": _rex_omni,
    "paligemma": _paligemma,
    "florence2": _florence2,
    "cogvlm": _cogvlm,
}

__all__ = ["render_foreign", "writes", "written_values"]
