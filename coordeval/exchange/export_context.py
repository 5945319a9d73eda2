"""What every export needs beside the scores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.data.paths import resolve_image
from coordeval.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.exchange.scored_objects import ScoredObject

Files = dict[str, Any]
"""File names with their content: text as it is, anything else as JSON."""

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """The run's name, and where its images lie: a folder, or a prefix of their addresses."""

    name: str
    image_root: Path | None = None
    image_prefix: str | None = None

    def image_path(self, image: str | None) -> Path | None:
        """The real path of an image inside the image root; None without either.

        None, too, for paths that leave the root: an export must not point other tools at files
        outside of it.
        """
        if image is None or self.image_root is None:
            return None
        try:
            return resolve_image(self.image_root, image)
        except DataError:
            return None


def label_of(obj: ScoredObject) -> str:
    """The name to show: the class, else the description as written (unknown names).

    Characters that XML cannot hold become U+FFFD, since label configurations are XML.
    """
    return xml_text(obj.class_name or obj.desc or "?")


def xml_text(text: str) -> str:
    """The text with U+FFFD for characters that XML cannot hold even escaped."""
    return _NOT_XML.sub("\ufffd", text)


__all__ = ["ExportContext", "Files", "label_of", "xml_text"]
