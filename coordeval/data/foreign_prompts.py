"""What other models are asked for their own detections: the words of their own documentation.

| dialect | source |
|---|---|
| qwen25vl, qwen3vl | QwenLM cookbooks `spatial_understanding` and `2d_grounding` |
| rex-omni | IDEA-Research/Rex-Omni, task `detection` |
| paligemma | google-research/big_vision, PaliGemma's `detect` task |
| florence2 | microsoft/Florence-2, what its processor makes of `<OD>` and open vocabulary |
| cogvlm | THUDM/CogVLM, grounding captions |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.parsers.dialects import Dialect

FOREIGN_PROMPT_VERSION = "coordeval-foreign-1"

_OPEN = {
    "qwen25vl": (
        "Please first output bbox coordinates and names of every item in this image in JSON format."
    ),
    "qwen3vl": "Locate every object in the image. Report bbox coordinates in JSON format.",
    "florence2": "Locate the objects with category name in the image.",
    "cogvlm": (
        "Can you provide a description of the image and include the coordinates [[x0,y0,x1,y1]] "
        "for each mentioned object?"
    ),
}
# What stands for the classes, and what stands between them.
_CLOSED = {
    "qwen25vl": (
        (
            "Locate every item from the category list in the image and output the coordinates in "
            "JSON format. The category set includes {}."
        ),
        ", ",
    ),
    "qwen3vl": (
        (
            'Locate every instance that belongs to the following categories: "{}". Report bbox '
            "coordinates in JSON format."
        ),
        ", ",
    ),
    "rex-omni": (
        "Detect {}. Output the bounding box coordinates in [x0, y0, x1, y1] format.",
        ", ",
    ),
    "paligemma": ("detect {}", " ; "),
    "florence2": ("Locate {} in the image.", ". "),
}


def foreign_prompt_text(dialect: Dialect, class_names: Sequence[str] | None) -> str:
    """The family's own words: closed where `class_names` are given, else open.

    Raises ConfigError for a variant that the family does not have, and for a dialect of a user's
    own, which only the user can ask for.
    """
    name = _asked_as(dialect)
    if name is None:
        raise ConfigError(
            f"the dialect {dialect.name} has no prompt of its own: write one, and give it with "
            "--prompt FILE.toml"
        )
    if class_names is None:
        if name not in _OPEN:
            raise ConfigError(
                f"the dialect {dialect.name} asks for named classes, and the data has no class "
                "list: give COCO data, or a prompt with --prompt FILE.toml"
            )
        return _OPEN[name]
    if name not in _CLOSED:
        raise ConfigError(
            f"the dialect {dialect.name} has no prompt with a class list: use --prompt open, or a "
            "prompt of your own with --prompt FILE.toml"
        )
    words, separator = _CLOSED[name]
    return words.format(separator.join(class_names))


def prefers_closed(dialect: Dialect) -> bool:
    """True where the family's detection prompt names the classes wherever a list is known."""
    return dialect.is_foreign and _asked_as(dialect) in _CLOSED


def _asked_as(dialect: Dialect) -> str | None:
    """The built-in dialect whose prompt serves; a user's own variation has none."""
    return dialect.name if dialect.name in _OPEN or dialect.name in _CLOSED else None


__all__ = ["FOREIGN_PROMPT_VERSION", "foreign_prompt_text", "prefers_closed"]
