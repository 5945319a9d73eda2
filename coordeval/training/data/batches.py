"""Which samples stand in which optimizer step, on which process: the same whatever the cut.

A window is what one optimizer step sees: `per_device x processes x accumulation` samples in the
order of the epoch. Which samples a window holds depends on that product alone, so that batch 8,
batch 1 with accumulation 8, and two processes take the same steps. No sample is repeated to fill
the last window: a process that has none left gets a filler, a sample whose labels are blanked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from coordeval.training.data.labels import IGNORE, IGNORE_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor


class Place(NamedTuple):
    """One item of a batch: which sample, and whether it only keeps a process busy."""

    sample: int
    is_filler: bool = False


@dataclass(slots=True, kw_only=True)
class RankBatches:
    """The batches of one process for one epoch, as lists of `Place`; an iterable with a length.

    Shuffled by `seed` and the epoch alone (`shuffle`), so that a resumed or differently spread
    training goes through the samples in the same order. All processes get equally many batches.
    """

    num_samples: int
    batch_size: int
    rank: int = 0
    world: int = 1
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def order(self) -> list[int]:
        """All samples in the order of the epoch."""
        if not self.shuffle:
            return list(range(self.num_samples))
        # Not torch's generator: it takes no more than 32 bits, too few for a seed and an epoch.
        generator = np.random.default_rng([self.seed & 0xFFFF_FFFF, self.epoch])
        return [int(index) for index in generator.permutation(self.num_samples)]

    def __len__(self) -> int:
        together = self.batch_size * self.world
        whole, rest = divmod(self.num_samples, together)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[list[Place]]:
        order = self.order()
        together = self.batch_size * self.world
        for number in range(len(self)):
            chunk = order[number * together : (number + 1) * together]
            mine = chunk[self.rank :: self.world]
            yield [Place(i) for i in mine] if mine else [Place(chunk[0], is_filler=True)]


class PlacedDataset(Dataset[Any]):
    """A dataset asked by `Place`; items go on as (item, is_filler)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place) -> tuple[Any, bool]:
        return self.dataset[place.sample], place.is_filler


@dataclass(frozen=True, slots=True)
class PlacedCollator:
    """Collates with the data's own collator; a batch of fillers comes out without any label."""

    collate: Callable[[list[Any]], dict[str, Any]]

    def __call__(self, items: list[tuple[Any, bool]]) -> dict[str, Any]:
        """One batch from items and their filler marks."""
        batch = self.collate([item for item, _ in items])
        return blanked(batch) if all(is_filler for _, is_filler in items) else batch


def blanked(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without anything to learn: no labels, kinds, boxes, weights or sample ids."""
    out = {key: value for key, value in batch.items() if key not in ("token_weights", "unlikely")}
    out["labels"] = torch.full_like(batch["labels"], IGNORE_LABEL)
    out["token_kinds"] = torch.full_like(batch["token_kinds"], IGNORE)
    out["box_slots"] = batch["box_slots"][:0]
    return out | {"sample_ids": [], "skipped": []}


def batch_loader(
    dataset: Any,
    collate: Callable[[list[Any]], dict[str, Any]],
    batches: RankBatches,
    *,
    workers: int = 0,
    prefetch: int | None = None,
    pin_memory: bool = False,
    multiprocessing_context: str | None = None,
) -> DataLoader[Any]:
    """A loader of one process's batches.

    It draws from a random generator of its own, so that going through data (for an evaluation,
    say) leaves the global one where it was.
    """
    return DataLoader(
        PlacedDataset(dataset),
        batch_sampler=batches,
        collate_fn=PlacedCollator(collate),
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        multiprocessing_context=multiprocessing_context if workers else None,
        generator=torch.Generator().manual_seed(batches.seed),
    )


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on a device; what is no tensor stays as it is."""
    return {key: _moved(value, device) for key, value in batch.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    moved: Tensor = value.to(device, non_blocking=True)
    return moved


__all__ = [
    "Place",
    "PlacedCollator",
    "PlacedDataset",
    "RankBatches",
    "batch_loader",
    "blanked",
    "to_device",
]
