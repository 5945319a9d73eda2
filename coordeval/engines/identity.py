"""What makes a run the run it is: the part of run.json that a resumed run must share.

Things that only say where something lay (paths) or how it was run (batch size, device, versions)
are not part of it.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import checkpoint_hash
from coordeval.jsonl import dump_line
from coordeval.runs import META_NAME, read_meta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coordeval.coords import CoordVocabulary
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.selection import Selection
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Category

# Parts that are told apart by a hash; their paths and labels are for people.
HASH_KEYS = {"checkpoint": "hash", "adapter": "hash", "dataset": "sha256", "prompt": "sha256"}
SHORT_HASH = 8


def named_part(path: Path, name: str, content_hash: str | None) -> dict[str, Any]:
    """A checkpoint or adapter as run.json stores it."""
    return {"path": str(path), "name": name, "hash": content_hash}


def hashed_part(folder: Path, *, name: str | None = None) -> dict[str, Any]:
    """A checkpoint or adapter folder as run.json stores it, known by the hash of its content."""
    return named_part(folder, folder.name if name is None else name, checkpoint_hash(folder))


def run_identity(
    *,
    checkpoint: Mapping[str, Any],
    adapter: Mapping[str, Any] | None,
    engine: Engine,
    dialect: Dialect,
    frame: str,
    prompt: Prompt,
    pixels: PixelLimits | None,
    decode: DecodeSettings,
    dataset_path: Path,
    dataset_sha256: str,
    categories: Sequence[Category] | None,
    selection: Selection,
) -> dict[str, Any]:
    """Put the identity together; `pixels` None says that the checkpoint's own limits hold."""
    return {
        "checkpoint": dict(checkpoint),
        "adapter": None if adapter is None else dict(adapter),
        "engine": engine.describe()["identity"],
        "dialect": dialect.to_json(),
        "frame": frame,
        "prompt": prompt.to_json(),
        "pixels": None if pixels is None else pixels.to_json(),
        "decode": decode.to_json(),
        "seed": decode.seed,
        "dataset": {"path": str(dataset_path.resolve()), "sha256": dataset_sha256},
        "categories": (
            None if categories is None else [category_json(category) for category in categories]
        ),
        "vocabulary": vocabulary_json(engine.vocabulary()),
        "selection": selection.to_json(),
    }


def category_json(category: Category) -> dict[str, Any]:
    """One class as run.json stores it; its frequency where the dataset gives one."""
    plain: dict[str, Any] = {"id": category.id, "name": category.name}
    return plain if category.frequency is None else plain | {"frequency": category.frequency}


def vocabulary_json(vocabulary: CoordVocabulary | None) -> dict[str, int] | list[int] | None:
    """Coordinate token ids: the first where they are contiguous, else all; None without."""
    if vocabulary is None:
        return None
    if vocabulary.is_contiguous:
        return {"first": vocabulary.token_ids[0]}
    return list(vocabulary.token_ids)


def essence(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity without paths and labels: hashed parts by their hash alone."""
    out = dict(identity)
    for key, hash_key in HASH_KEYS.items():
        part = out.get(key)
        if isinstance(part, dict) and part.get(hash_key) is not None:
            out[key] = part[hash_key]
    return out


def keep_stored_labels(identity: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Take over stored parts whose hash is the same: a moved checkpoint is still the same one."""
    out = dict(identity)
    for key, hash_key in HASH_KEYS.items():
        mine, theirs = out.get(key), stored.get(key)
        if (
            isinstance(mine, dict)
            and isinstance(theirs, dict)
            and mine.get(hash_key) is not None
            and mine.get(hash_key) == theirs.get(hash_key)
        ):
            out[key] = theirs
    return out


def run_name(identity: Mapping[str, Any]) -> str:
    """`<checkpoint name>[+<adapter name>]-<short hash of the settings>`, fit for a folder.

    Two checkpoints under the same settings share the hash, which shows that they compare.
    """
    name = str(identity["checkpoint"]["name"])
    if identity.get("adapter"):
        name += f"+{identity['adapter']['name']}"
    settings = {key: value for key, value in essence(identity).items() if key != "checkpoint"}
    digest = hashlib.sha256(dump_line(settings)).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._+-]', '_', name)}-{digest[:SHORT_HASH]}"


def default_out(runs_dir: Path, identity: Mapping[str, Any]) -> Path:
    """The run directory that these settings belong to; the same ones find the same folder again.

    Where the name is taken by another checkpoint of the same name, its own hash is added.
    """
    out = runs_dir / run_name(identity)
    meta_path = out / META_NAME
    if meta_path.exists():
        stored, mine = read_meta(meta_path).get("checkpoint"), identity["checkpoint"]
        if isinstance(stored, dict) and stored.get("hash") != mine.get("hash"):
            return out.with_name(f"{out.name}-{str(mine.get('hash'))[:SHORT_HASH]}")
    return out


__all__ = [
    "category_json",
    "default_out",
    "essence",
    "keep_stored_labels",
    "named_part",
    "run_identity",
    "run_name",
    "vocabulary_json",
]
