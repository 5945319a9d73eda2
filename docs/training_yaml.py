"""The reference of the training YAML, from the configuration's dataclasses and the example files.

Keys, values and defaults come from `coordeval.training.config`, a section's text from its
docstring, a key's remark from the comment beside it in recipes/train_*example.yaml.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
EXAMPLES = ("train_example.yaml", "train_stage2_example.yaml")
KEY_LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:# *(?P<remark>.*))?$")
PLAIN = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", dict: "table"}

INTRO = """# Training YAML

Every key of a `coordeval train` configuration. The files with all of them, ready to be changed:
[recipes/train_example.yaml](../recipes/train_example.yaml) (stage 1) and
[recipes/train_stage2_example.yaml](../recipes/train_stage2_example.yaml) (stage 2). What they are
for: [stage 1](training.md), [stage 2](stage2.md). Where a text below says None, YAML says `null`.
Relative paths are relative to the file, those of `--set` to the working folder. `trainer` is handed
on to transformers' `TrainingArguments`, whose own documentation it follows.

"""


def training_yaml_page() -> str:
    """The page, Markdown; a section for every table of the configuration."""
    from coordeval.training.config import TrainConfig

    return INTRO + "\n".join(_sections(TrainConfig, "", remarks()))


def remarks() -> dict[str, str]:
    """What the example files say beside a key, by the key's whole name; the first file wins."""
    out: dict[str, str] = {}
    for name in EXAMPLES:
        parents: list[str] = []
        for line in (RECIPES / name).read_text(encoding="utf-8").splitlines():
            match = KEY_LINE.match(line)
            if match is not None:
                parents[len(match["indent"]) // 2 :] = [match["key"]]
                out.setdefault(".".join(parents), _remark(match["remark"] or ""))
    return out


def _remark(text: str) -> str:
    """A comment without a bare "default X": the table has a column for that."""
    text = re.sub(r"(^|; )default (\S+:)", r"\1\2", text.strip())
    text = re.sub(r"(^|; )default [^\s:;]+(; |$)", r"\1", text)
    return text.removeprefix("or ").strip(" ;").replace("|", "\\|")


def _unless_choices(remark: str, hint: Any) -> str:
    """Nothing where a remark only lists the values that the table has anyway."""
    words = set(re.findall(r"\w+", remark))
    return "" if words <= set(re.findall(r"\w+", _values(hint))) else remark


def _sections(kind: Any, prefix: str, notes: dict[str, str]) -> list[str]:
    hints = typing.get_type_hints(kind)
    title = f"`{prefix}`" if prefix else "The file"
    lines = [f"## {title}\n", inspect.cleandoc(kind.__doc__ or "") + "\n"]
    lines.append("| key | values | default | |\n|---|---|---|---|")
    inner: list[str] = []
    for item in fields(kind):
        name = f"{prefix}.{item.name}" if prefix else item.name
        hint = hints[item.name]
        if is_dataclass(hint):
            lines.append(f"| [`{item.name}`](#{_anchor(name)}) | table | | {notes.get(name, '')} |")
            inner += _sections(hint, name, notes)
        else:
            remark = _unless_choices(notes.get(name, ""), hint)
            lines.append(f"| `{item.name}` | {_values(hint)} | {_default(item)} | {remark} |")
    return ["\n".join(lines) + "\n", *inner]


def _anchor(name: str) -> str:
    return name.replace(".", "").replace("`", "")


def _values(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if origin in {typing.Union, types.UnionType}:
        parts = [_values(part) for part in typing.get_args(hint) if part is not type(None)]
        return " or ".join([*parts, "`null`"])
    return PLAIN[origin or hint]


def _default(item: Any) -> str:
    if item.default_factory is not MISSING:
        return "`{}`"
    if item.default is MISSING:
        return "must be given"
    shown = {None: "null", True: "true", False: "false"}
    value = item.default
    return f"`{shown[value] if value is None or isinstance(value, bool) else value}`"
