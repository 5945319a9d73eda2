"""Under what settings the runs were made: what they share once, what differs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.metrics.names.stored import names_text
from coordeval.reports.formats import number
from coordeval.reports.printable import printable
from coordeval.stats.settings import control_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.reports.charts.shown import ShownRun

LIMIT = 160


def settings_rows(
    runs: Sequence[ShownRun],
) -> tuple[list[tuple[str, str]], list[tuple[str, list[str]]]]:
    """(name, value) rows that all runs share, and (name, values per run) rows that differ.

    What a run does not say is "not recorded"; rows that no run fills are left out.
    """
    described = [_described(shown) for shown in runs]
    same, differing = [], []
    for name in described[0] if described else ():
        values = [part[name] for part in described]
        if not any(values):
            continue
        shown = [value or "not recorded" for value in values]
        if len(set(shown)) == 1:
            same.append((name, shown[0]))
        else:
            differing.append((name, shown))
    return same, differing


def _described(shown: ShownRun) -> dict[str, str]:
    meta, result = shown.run.meta, shown.result
    return {
        "status": result.status,
        "images": number(result.metrics["samples/total"]),
        "checkpoint": _part(meta.get("checkpoint"), "name", "hash"),
        "adapter": _part(meta.get("adapter"), "name", "hash"),
        "training step": "" if shown.step is None else number(shown.step),
        "dataset": _part(meta.get("dataset"), "path", "sha256"),
        "engine": _flat(meta.get("engine")),
        "decoding": _decoding(meta.get("decode")),
        "prompt": _part(meta.get("prompt"), "name", "sha256"),
        "dialect": str(result.reading["dialect"]["name"]),
        "frame": str(result.reading["frame"]),
        "protocol": str(result.protocol["name"]),
        "names": _cut(names_text(result.protocol["names"])) if "names" in result.protocol else "",
        "classes": f"{number(result.protocol['classes']['count'])} "
        f"(from {str(result.protocol['classes']['source']).replace('_', ' ')})",
        "scores": result.score_source,
        "AP engine": str(result.versions["coco_engine"]),
        "scored by": f"coordeval {result.versions['coordeval']}",
    }


def _part(raw: Any, name: str, digest: str) -> str:
    if not isinstance(raw, dict):
        return "" if raw is None else _cut(raw)
    words = [str(raw[name])] if raw.get(name) else []
    if raw.get(digest):
        words.append(f"({str(raw[digest])[:12]})")
    return _cut(" ".join(words))


def _flat(raw: Any) -> str:
    if not isinstance(raw, dict):
        return "" if raw is None else _cut(raw)
    return _cut(", ".join(f"{key} {value}" for key, value in raw.items() if value is not None))


def _decoding(raw: Any) -> str:
    if not isinstance(raw, dict):
        return _flat(raw)
    plain = {key: value for key, value in raw.items() if not isinstance(value, dict)}
    control = control_facts({**raw, "samples": None})
    return _cut(", ".join(part for part in (_flat(plain), *control) if part))


def _cut(value: Any) -> str:
    return printable(str(value), limit=LIMIT)


__all__ = ["settings_rows"]
