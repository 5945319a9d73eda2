"""What a model is asked: the versioned default prompt, and the user's own from a TOML file.

`build_messages` is the one place where a prompt becomes chat messages, for rollouts and for
training alike.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.data.foreign_prompts import FOREIGN_PROMPT_VERSION, foreign_prompt_text
from coordeval.data.pixels import PixelLimits, parse_pixels
from coordeval.documents import read_toml, refuse_unknown_keys
from coordeval.errors import ConfigError
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coordeval.data.ordering import ObjectOrder
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GeometryKind

DEFAULT_PROMPT_VERSION = "coordeval-1"
CLASSES_PLACEHOLDER = "{classes}"
PROMPT_KEYS = ("name", "system", "user", "order", "chat_template")
ORDERS = {"image_text": True, "text_image": False}
# What the engine itself passes to the chat template; a prompt file must not fight over it.
RESERVED_TEMPLATE_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "messages",
        "padding",
        "return_dict",
        "return_tensors",
        "tokenize",
        "truncation",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is asked for one image: texts, whether the image stands first, template arguments.

    `name` and `version` are labels; everything else shapes what the model reads and is hashed.
    """

    name: str
    version: str
    system: str | None
    user: str
    image_first: bool = True
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def sha256(self) -> str:
        """Hex digest over all that shapes the prompt (labels left out)."""
        shaping = {
            "system": self.system,
            "user": self.user,
            "image_first": self.image_first,
            "chat_template_kwargs": self.chat_template_kwargs,
        }
        data = json.dumps(shaping, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(data.encode("ascii")).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """All fields and the hash as plain data, as run.json stores them."""
        return {
            "name": self.name,
            "version": self.version,
            "system": self.system,
            "user": self.user,
            "image_first": self.image_first,
            "chat_template_kwargs": dict(self.chat_template_kwargs),
            "sha256": self.sha256,
        }


def build_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Chat messages of a prompt, with one `{"type": "image"}` placeholder in the user's turn.

    Training appends the assistant's turn; a rollout adds the generation prompt.
    """
    content: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": prompt.user}]
    if not prompt.image_first:
        content.reverse()
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if prompt.system is not None:
        messages.insert(0, {"role": "system", "content": prompt.system})
    return messages


def default_prompt(
    *,
    dialect: Dialect,
    object_order: ObjectOrder = "sorted",
    class_names: Sequence[str] | None = None,
    geometries: Sequence[GeometryKind] = ("bbox_2d",),
) -> Prompt:
    """Build the default prompt for a dialect: open, or closed where `class_names` are given.

    States the schema in the dialect's field order, what a coordinate is, and the order of objects.
    Class names are written as a JSON list, so that quotes and any script survive. Raises
    ValueError for no geometry or an empty class list. Other models are asked in their own words,
    see `foreign_prompt_text`.
    """
    if not geometries:
        raise ValueError("a prompt needs at least one geometry")
    if class_names is not None and not class_names:
        raise ValueError("a closed prompt needs at least one class name")
    variant = "open" if class_names is None else "closed"
    if dialect.is_foreign:
        return Prompt(
            name=f"{dialect.name}-{variant}",
            version=FOREIGN_PROMPT_VERSION,
            system=None,
            user=foreign_prompt_text(dialect, class_names),
        )
    sentences = ["Detect every object in the image.", _schema(dialect, geometries)]
    sentences.append(_COORDINATES[dialect.coordinates])
    if object_order == "sorted":
        sentences.append("List objects from top to bottom, then from left to right.")
    if class_names is not None:
        sentences.append(f"Use only these names: {_class_list(class_names)}.")
    return Prompt(
        name=f"default-{variant}",
        version=DEFAULT_PROMPT_VERSION,
        system=None,
        user=" ".join(sentences),
    )


_COORDINATES = {
    "token": "Each coordinate is one token from <|coord_0|> to <|coord_999|>.",
    "quoted_token": 'Each coordinate is one quoted token from "<|coord_0|>" to "<|coord_999|>".',
    "bin_int": "Each coordinate is an integer from 0 to 999.",
    "pixel_int": "Each coordinate is an integer in pixels.",
}
_GEOMETRY_FIELDS: dict[str, str] = {
    "bbox_2d": '"bbox_2d": [x1, y1, x2, y2]',
    "poly": '"poly": [x1, y1, x2, y2, x3, y3, ...]',
    "line": '"line": [x1, y1, x2, y2, ...]',
}


def _schema(dialect: Dialect, geometries: Sequence[GeometryKind]) -> str:
    records = []
    for kind in geometries:
        fields = ['"desc": "name"', _GEOMETRY_FIELDS[kind]]
        if dialect.field_order == "geometry_first":
            fields.reverse()
        records.append("{" + ", ".join(fields) + "}")
    if dialect.container == "list":
        schema = '{"objects": [' + records[0] + ", ...]}"
    else:
        schema = '{"object_1": ' + records[0] + ', "object_2": ...}'
    alternatives = "".join(f" or {record}" for record in records[1:])
    suffix = f", each object as {records[0]}{alternatives}" if alternatives else ""
    return f"Answer with one line of JSON: {schema}{suffix}."


def _class_list(class_names: Sequence[str]) -> str:
    return ", ".join(json.dumps(name, ensure_ascii=False) for name in class_names)


def load_prompt(path: Path, *, class_names: Sequence[str] | None = None) -> Prompt:
    """Read a prompt file: keys user (needed), system, order, name, and a table [chat_template].

    `order` is `image_text` (default) or `text_image`. `{classes}` in the texts becomes the list
    of `class_names` as JSON strings. Raises ConfigError, naming the file, for unreadable TOML,
    unknown keys (with a suggestion), wrong types, and `{classes}` without a class list.
    """
    raw = read_toml(path)
    refuse_unknown_keys(raw, PROMPT_KEYS, str(path))
    user, system = _text(raw, "user", path), _text(raw, "system", path)
    if user is None:
        raise ConfigError(f"{path}: key 'user' is missing: the text that asks for the objects")
    order = raw.get("order", "image_text")
    if not isinstance(order, str) or order not in ORDERS:
        raise ConfigError(
            f"{path}: order {shown(str(order), 60)} must be one of {', '.join(ORDERS)}"
        )
    return Prompt(
        name=_text(raw, "name", path) or path.stem,
        version="user",
        system=None if system is None else _fill_classes(system, class_names, path),
        user=_fill_classes(user, class_names, path),
        image_first=ORDERS[order],
        chat_template_kwargs=_template_arguments(raw.get("chat_template", {}), path),
    )


def _text(raw: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{path}: {key!r} must be a string, not {type(value).__name__}")
    return value


def _fill_classes(text: str, class_names: Sequence[str] | None, path: Path) -> str:
    if CLASSES_PLACEHOLDER not in text:
        return text
    if not class_names:
        raise ConfigError(
            f"{path}: {CLASSES_PLACEHOLDER} stands in the prompt, but the data has no class list; "
            "write the names out"
        )
    return text.replace(CLASSES_PLACEHOLDER, _class_list(class_names))


def _template_arguments(raw: Any, path: Path) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: [chat_template] must be a table of template arguments")
    for key in raw:
        if key in RESERVED_TEMPLATE_ARGUMENTS:
            raise ConfigError(f"{path}: [chat_template] must not set {key!r}: coordeval sets it")
    try:
        json.dumps(raw, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: [chat_template] holds a value that is not JSON: {error}"
        ) from None
    return raw


__all__ = [
    "CLASSES_PLACEHOLDER",
    "DEFAULT_PROMPT_VERSION",
    "PixelLimits",
    "Prompt",
    "build_messages",
    "default_prompt",
    "load_prompt",
    "parse_pixels",
]
