"""Which samples of a dataset a run covers: ids, the first N, one shard of n."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.jsonl import read_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.records import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """First `ids`, of these the first `limit`, of these every n-th (`shard` is (i, n)).

    None selects all. Limiting comes before sharding, so that merged shards are the limited set.
    """

    ids: tuple[str, ...] | None = None
    limit: int | None = None
    shard: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """What run.json stores; ids as count and hash, since they may be many."""
        ids = None
        if self.ids is not None:
            joined = "\n".join(sorted(self.ids)).encode("utf-8", "surrogatepass")
            ids = {"count": len(self.ids), "sha256": hashlib.sha256(joined).hexdigest()}
        shard = None if self.shard is None else f"{self.shard[0]}/{self.shard[1]}"
        return {"ids": ids, "limit": self.limit, "shard": shard}

    def apply(self, samples: Iterable[Sample]) -> list[Sample]:
        """Selected samples in dataset order; ConfigError names ids that the dataset lacks."""
        chosen = list(samples)
        if self.ids is not None:
            wanted = set(self.ids)
            chosen = [sample for sample in chosen if sample.id in wanted]
            missing = sorted(wanted - {sample.id for sample in chosen})
            if missing:
                shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
                raise ConfigError(
                    f"--ids: {len(missing)} not in the dataset ({shown}); "
                    "give ids separated by commas, or a file with one id per line"
                )
        if self.limit is not None:
            chosen = chosen[: self.limit]
        if self.shard is not None:
            index, count = self.shard
            chosen = chosen[index::count]
        return chosen


def parse_selection(*, ids: str | None, limit: int | None, shard: str | None) -> Selection:
    """Read `--ids FILE|a,b,c`, `--limit N` and `--shard i/n`; ConfigError for nonsense."""
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: must be at least 1")
    return Selection(
        ids=None if ids is None else _parse_ids(ids),
        limit=limit,
        shard=None if shard is None else _parse_shard(shard),
    )


def _parse_ids(text: str) -> tuple[str, ...]:
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # a long list of ids is no file name
        is_file = False
    if is_file:
        try:
            parts = read_document(path).decode("utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"--ids {path}: cannot be read: {error}") from None
    else:
        parts = text.split(",")
    ids = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not ids:
        raise ConfigError(f"--ids {text!r}: holds no ids")
    return ids


def _parse_shard(text: str) -> tuple[int, int]:
    """Take i modulo n: shards may be counted 0..n-1 or 1..n, and both ways cover everything."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
    if match is None or int(match.group(2)) == 0 or int(match.group(1)) > int(match.group(2)):
        raise ConfigError(
            f"--shard {text!r}: write i/n with i from 0 to n-1 (n/n is the same as 0/n)"
        )
    index, count = int(match.group(1)), int(match.group(2))
    return index % count, count


__all__ = ["Selection", "parse_selection"]
