"""The training data: samples of a dataset file as token sequences, encoded where they are needed.

Prompts are those of rollouts, token for token: the same functions make them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image

from coordeval.data.canonical import sample_text
from coordeval.data.images import load_sample_image
from coordeval.engines.hf_inputs import encode_sample
from coordeval.errors import DataError
from coordeval.training.data.collator import EncodedExample, TrainCollator
from coordeval.training.data.labels import IGNORE, IGNORE_LABEL
from coordeval.training.data.packing import Packing
from coordeval.training.data.skips import Skipped
from coordeval.training.data.source import Split, open_source

if TYPE_CHECKING:
    from coordeval.engines.hf_inputs import EncodedSample
    from coordeval.engines.hf_loading import Reader
    from coordeval.records import Sample
    from coordeval.training.config import DataConfig
    from coordeval.training.data.collator import Item


class TrainDataset:
    """A dataset file as training examples; map-style, one item per sample or packed row.

    Images are opened when an item is asked for, in whatever process that is. Items depend on
    nothing but the file, the configuration, `seed` and the epoch: with `order: random` every
    sample's objects are shuffled by (seed, epoch, id). Everything that can be known beforehand
    is checked at once. `needs_coordinates`: the objective has terms on coordinate tokens.

    Raises CheckpointError for a tokenizer without coordinate tokens where the dialect writes them;
    ConfigError for a dialect of integers where coordinates are needed; DataError for data that
    cannot be read, none of whose images is there or can be read, whose geometries are all
    degenerate, that has no coordinate to teach though they are needed, or whose samples are too
    long (`refuse`).
    """

    def __init__(
        self,
        config: DataConfig,
        reader: Reader,
        *,
        split: Split = "train",
        seed: int = 0,
        needs_coordinates: bool = False,
    ) -> None:
        source = open_source(config, reader, split, needs_coordinates=needs_coordinates)
        self.split, self.seed = split, seed
        self.dataset, self.prompt = source.dataset, source.prompt
        self.dialect, self.frame = source.dialect, source.frame
        self.samples, self.lengths, self.report = source.samples, source.lengths, source.report
        self._reader, self._source = reader, source
        self._order = config.order
        self._packing = None
        if config.packing:
            self._packing = Packing(self.lengths.tolist(), config.max_length, seed=seed)
        # Shared, so that workers that live through several epochs hear of a new one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Items of an epoch, the same in every epoch: samples, or packed rows."""
        return len(self.samples) if self._packing is None else len(self._packing)

    def __getitem__(self, index: int) -> Item | list[Item]:
        """One example, or one packed row of them; `Skipped` where an image cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._packing is None:
            return self.item(index)
        return [self.item(number) for number in self._packing.row(index, self.epoch)]

    @property
    def epoch(self) -> int:
        """The epoch that items belong to, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is read next: `EpochCallback` does.

        Evaluation data stay at epoch 0, so that every evaluation sees the same answers; data
        loaders count their own iterations there.
        """
        if self.split == "train":
            self._epoch.fill_(epoch)

    def collator(self) -> TrainCollator:
        """What puts this dataset's items into batches."""
        return TrainCollator(self._reader, packing=self._packing is not None, filler=self._filler())

    def item(self, number: int) -> Item:
        """The example of one sample in the current epoch; `Skipped` where it cannot be read."""
        sample = self.samples[number]
        try:
            prompt = self._encode_prompt(sample)
        except (DataError, ValueError) as error:
            return Skipped(sample.id, " ".join(str(error).split()))
        answer = self._source.labeller.label(self.answer_text(number))
        start = len(prompt.prompt_ids)
        ids = torch.tensor([*prompt.prompt_ids, *answer.token_ids])
        labels = ids.clone()
        labels[:start] = IGNORE_LABEL
        kinds = torch.full(ids.shape, IGNORE, dtype=torch.uint8)
        kinds[start:] = torch.from_numpy(answer.kinds_T)
        return EncodedExample(
            sample_id=sample.id,
            input_ids=ids,
            labels=labels,
            token_kinds=kinds,
            boxes=torch.from_numpy(answer.boxes_M4) + start,
            pixel_values=prompt.pixel_values,
            grid_thw=prompt.grid_thw,
        )

    def answer_text(self, number: int) -> str:
        """What is taught for one sample in the current epoch, without the end token."""
        return sample_text(
            self.samples[number],
            dialect=self.dialect,
            frame=self.frame,
            order=self._order,
            # Injective: no epoch of one seed is an epoch of another.
            seed=(self.seed << 32) + self.epoch,
        )

    def _encode_prompt(self, sample: Sample) -> EncodedSample:
        """Prompt and image, as rollouts read them."""
        image = load_sample_image(sample)
        source = self._source
        return encode_sample(source.prompt_ids, image, source.images, self._reader.image_token_id)

    def _filler(self) -> EncodedExample:
        """The prompt with a small grey image and no answer: it teaches nothing."""
        source = self._source
        side = source.images.patch_size * source.images.merge_size
        prompt = encode_sample(
            source.prompt_ids,
            Image.new("RGB", (side, side), (128, 128, 128)),
            source.images,
            self._reader.image_token_id,
        )
        ids = torch.tensor(prompt.prompt_ids)
        return EncodedExample(
            sample_id=None,
            input_ids=ids,
            labels=torch.full_like(ids, IGNORE_LABEL),
            token_kinds=torch.full(ids.shape, IGNORE, dtype=torch.uint8),
            boxes=torch.empty((0, 4), dtype=torch.long),
            pixel_values=prompt.pixel_values,
            grid_thw=prompt.grid_thw,
        )


__all__ = ["Split", "TrainDataset"]
