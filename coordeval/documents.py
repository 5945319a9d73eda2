"""TOML and YAML files of people as plain data, whatever stands in them.

Nothing in such a file can make an object, grow without bound or take more than linear time: YAML
tags other than JSON's types are refused, aliases are counted as if they were written out, and both
formats are limited in size and depth. A key that stands twice is refused in both.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAX_BYTES = 1 << 20
MAX_YAML_NODES = 50_000
"""Values of a YAML file, those that aliases repeat counted each time."""
MAX_YAML_DEPTH = 100
"""Lists and mappings inside one another; PyYAML's time grows with their square."""
MAX_DOTTED = 300
_SHOWN = 300
# tomllib's time is quadratic in the number of parts of one dotted key.
_LONG_DOTTED_KEY = re.compile(
    r"(?<![\w-])(?:(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){" + str(MAX_DOTTED) + "}"
)
_JSON_TAGS = ("bool", "float", "int", "map", "null", "seq", "str")
# What PyYAML's constructors raise on nonsense besides its own errors (`!!int ""`, `!!bool x`, an
# integer of too many digits); deep nesting overruns the stack.
_YAML_FAULTS = (ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError)


def read_text(path: Path) -> str:
    """The text of a configuration file; ConfigError where it cannot be read or is too large."""
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB, not read")
        return data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: not UTF-8: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data; ConfigError names the file and the place in it."""
    text = read_text(path)
    if _LONG_DOTTED_KEY.search(text):
        raise ConfigError(f"{path}: cannot be read: a key of {MAX_DOTTED} parts or more")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: not a TOML file: {_line(error)}") from None


def refuse_unknown_keys(raw: Iterable[str], known: Sequence[str], where: str) -> None:
    """ConfigError for the first key that is not known, with the nearest that is."""
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {shown(key, 60)}; {hint}")


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data (JSON's types alone); ConfigError names file and place.

    Dates stay text. Aliases and `<<` work, within the limit; an alias to what holds it does not.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """As `read_yaml`, for a text that `where` names; an empty text is None."""
    yaml, loader_class = _plain_loader()
    try:
        loader = loader_class(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_growth(node, where)
        return loader.construct_document(node)
    except (yaml.YAMLError, *_YAML_FAULTS) as error:
        raise ConfigError(f"{where}: cannot be read: {_line(error)}") from None


@cache
def _plain_loader() -> tuple[Any, Any]:
    """The yaml module, and a loader class for JSON's types that refuses repeated keys."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """PyYAML's safe loader without dates, binary data, sets and ordered maps."""

        yaml_constructors = {  # noqa: RUF012 - as PyYAML has it
            tag: make
            for tag, make in yaml.SafeLoader.yaml_constructors.items()
            if tag is None or tag.rpartition(":")[2] in _JSON_TAGS
        }
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, form) for tag, form in found if not tag.endswith(":timestamp")]
            for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            """The next value, with all that is inside it."""
            self.depth += 1
            if self.depth > MAX_YAML_DEPTH:
                place = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(
                    None, None, f"nested more than {MAX_YAML_DEPTH} deep", place
                )
            node: yaml.Node | None = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Before `<<` is filled in: every key that is written stands once."""
            seen = set()
            for key, _ in node.value:
                name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
                if name is not None and name in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {str(key.value)[:40]!r} stands twice", key.start_mark
                    )
                seen.add(name)
            super().flatten_mapping(node)

    return yaml, PlainLoader


def _refuse_growth(root: Any, where: str) -> None:
    """Refuse a document that is too large once its aliases are written out, or without end."""
    sizes: dict[int, int | None] = {}  # None while a node's own inside is being counted

    def size(node: Any) -> int:
        known = sizes.get(id(node), -1)
        if known is None:
            raise ConfigError(f"{where}: cannot be read: an alias stands inside what it repeats")
        if known >= 0:
            return known
        sizes[id(node)] = None
        total = 1
        if not isinstance(node.value, str):
            for item in node.value:
                total += sum(map(size, item)) if isinstance(item, tuple) else size(item)
        if total > MAX_YAML_NODES:
            raise ConfigError(
                f"{where}: cannot be read: more than {MAX_YAML_NODES:,} values, "
                "those that aliases repeat counted each time"
            )
        sizes[id(node)] = total
        return total

    size(root)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


__all__ = [
    "MAX_BYTES",
    "MAX_YAML_NODES",
    "parse_yaml",
    "read_text",
    "read_toml",
    "read_yaml",
    "refuse_unknown_keys",
]
