"""What making targets needs to know besides a rollout and its sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.decoding.token_table import TokenTable
from coordeval.errors import ConfigError
from coordeval.training.data.labels import AnswerLabeller

if TYPE_CHECKING:
    from coordeval.coords import CoordFrame
    from coordeval.data.ordering import ObjectOrder
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect
    from coordeval.training.stage2.config import ChannelBConfig


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetContext:
    """Tokenizer, dialect, frame and settings; made once, `dataclasses.replace` for another seed.

    `order` and `seed` are those in which true objects are written, as in `sample_text`: with
    `random` order give the seed that stage 1 gives for an epoch.
    """

    tokenizer: Any
    labeller: AnswerLabeller
    table: TokenTable
    end_id: int
    dialect: Dialect
    frame: CoordFrame
    config: ChannelBConfig
    order: ObjectOrder = "sorted"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dialect.coordinates not in ("token", "quoted_token"):
            raise ConfigError(
                f"data.dialect {self.dialect.name} writes coordinates as integers, and channel B "
                "teaches true bins at coordinate tokens: choose a dialect with coordinate tokens, "
                "or set stage2.b_ratio to 0"
            )

    @classmethod
    def for_reader(
        cls,
        reader: Reader,
        *,
        dialect: Dialect,
        frame: CoordFrame,
        config: ChannelBConfig,
        order: ObjectOrder = "sorted",
        seed: int = 0,
    ) -> TargetContext:
        """The context of a checkpoint's reader.

        Raises CheckpointError for a tokenizer without coordinate tokens, and ConfigError for one
        whose tokens cannot be turned into bytes and for a dialect of integers.
        """
        table = TokenTable.from_tokenizer(
            reader.tokenizer, end_ids=reader.end_ids, vocab_size=reader.vocab_size
        )
        return cls(
            tokenizer=reader.tokenizer,
            labeller=AnswerLabeller(reader.tokenizer, table.coords, reader.end_id),
            table=table,
            end_id=reader.end_id,
            dialect=dialect,
            frame=frame,
            config=config,
            order=order,
            seed=seed,
        )

    def tokenise(self, text: str) -> list[int]:
        """Ids of a piece of an answer, without the end token, as training writes them.

        What looks like a special token inside a description becomes ordinary characters.
        """
        return self.labeller.label(text).token_ids[:-1]


__all__ = ["TargetContext"]
