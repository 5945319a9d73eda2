"""What a training is asked to do, as plain values; defaults as `coordeval train` states.

Arguments of Hugging Face's Trainer are not mirrored: they stand under `trainer` and are handed on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from coordeval.coords import DEFAULT_FRAME
from coordeval.data.ordering import ObjectOrder
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import DEFAULT_DIALECT, FieldOrder
from coordeval.training.config_checks import above_zero, at_least, not_negative, one_of
from coordeval.training.stage2.config import Stage2Config

Preset = Literal["pure_ce", "soft", "mixed"]
HardCeOver = Literal["vocabulary", "coordinates"]
BoxDecode = Literal["expectation", "argmax", "straight_through"]
OverLength = Literal["refuse", "drop"]
TuneWhat = Literal["full", "coord_rows", "lora", "dora"]
EvalEngine = Literal["hf", "vllm", "process"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]

OF_OTHER_STAGE = {
    "stage2": "is read by stage 2 alone, and this is stage 1: set stage: 2, or take it out",
    "objective": "is stage 1's; in stage 2 the channels have weights of their own: set them under "
    "stage2.channel_a and stage2.channel_b",
}
"""Why a section of one stage is refused in the other."""

PRESETS: dict[str, dict[str, float]] = {
    "pure_ce": {"hard_ce": 1.0, "soft_ce": 0.0, "w1": 0.0, "gate": 0.0},
    "soft": {"hard_ce": 0.0, "soft_ce": 1.0, "w1": 1.0, "gate": 1.0},
    "mixed": {"hard_ce": 1.0, "soft_ce": 1.0, "w1": 1.0, "gate": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Training and evaluation data, and how answers are written.

    `order` `random` shuffles the objects anew for every epoch and sample, seeded. Samples longer
    than `max_length` tokens (prompt, image and answer) stop the training (`refuse`) or are left
    out and counted (`drop`); none is ever cut. `packing` puts several short samples into one row.
    Images that cannot be read while training are left out and counted; more than `max_unreadable`
    of them stop it.
    """

    train: str
    eval: str | None = None
    image_root: str | None = None
    eval_image_root: str | None = None
    limit: int | None = None
    eval_limit: int | None = None
    dialect: str = DEFAULT_DIALECT
    field_order: FieldOrder = "desc_first"
    order: ObjectOrder = "sorted"
    frame: str = DEFAULT_FRAME
    prompt: str | None = None
    pixels: str | None = None
    max_length: int = 4096
    over_length: OverLength = "refuse"
    packing: bool = False
    max_unreadable: int = 16

    def __post_init__(self) -> None:
        one_of("data.field_order", self.field_order, FieldOrder)
        one_of("data.order", self.order, ObjectOrder)
        one_of("data.over_length", self.over_length, OverLength)
        at_least(
            "data", 1, max_length=self.max_length, limit=self.limit, eval_limit=self.eval_limit
        )
        at_least("data", 0, max_unreadable=self.max_unreadable)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxLossConfig:
    """Box losses on groups of four coordinate slots; a weight of 0 leaves a term out."""

    smooth_l1: float = 0.0
    ciou: float = 0.0
    giou: float = 0.0
    decode: BoxDecode = "expectation"
    temperature: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        one_of("objective.box.decode", self.decode, BoxDecode)
        not_negative("objective.box", smooth_l1=self.smooth_l1, ciou=self.ciou, giou=self.giou)
        above_zero("objective.box", temperature=self.temperature, beta=self.beta)

    @property
    def active(self) -> bool:
        """True where any box term has a weight."""
        return bool(self.smooth_l1 or self.ciou or self.giou)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """The terms' weights; None takes the preset's. `text_ce` is always on text tokens alone.

    Each term is a mean over its own tokens, so that its weight means the same however many
    coordinates an answer has. `pure_ce` is the ordinary cross-entropy instead: `text_ce` and
    `hard_ce` are divided by the tokens of both (`joint_ce`).
    `hard_ce_over` says over which tokens the hard cross-entropy of coordinates is normalised;
    `sigma` and `truncate` (bins) shape the soft target, `temperature` divides the logits of soft
    CE, W1 and the gates. With `sigma_end` sigma goes from `sigma` to it over `sigma_steps`
    optimizer steps, by the same factor at each, and stays there; `truncate` does not follow it.
    Evaluation losses are taken at the sigma of their step. The diagnostics never follow these:
    they are always taken at T = 1, sigma 2, truncation 16.
    """

    preset: Preset = "mixed"
    text_ce: float = 1.0
    hard_ce: float | None = None
    soft_ce: float | None = None
    w1: float | None = None
    gate: float | None = None
    text_gate: float = 0.0
    hard_ce_over: HardCeOver = "vocabulary"
    sigma: float = 2.0
    sigma_end: float | None = None
    sigma_steps: int = 0
    truncate: int | None = 16
    temperature: float = 1.0
    box: BoxLossConfig = field(default_factory=BoxLossConfig)

    def __post_init__(self) -> None:
        one_of("objective.preset", self.preset, Preset)
        one_of("objective.hard_ce_over", self.hard_ce_over, HardCeOver)
        own = {name: getattr(self, name) for name in ("text_ce", *PRESETS["mixed"], "text_gate")}
        not_negative("objective", **own, sigma=self.sigma, truncate=self.truncate)
        self._check_annealing()
        above_zero("objective", temperature=self.temperature)
        if not any(self.weights().values()):
            raise ConfigError("objective: no term has a weight")

    def _check_annealing(self) -> None:
        if self.sigma_end is None:
            if self.sigma_steps:
                raise ConfigError("objective.sigma_steps needs objective.sigma_end to go to")
            return
        not_negative("objective", sigma_end=self.sigma_end)
        if not (self.sigma and self.sigma_end):
            raise ConfigError(
                "objective.sigma and sigma_end must be above 0: sigma changes by a factor"
            )
        if self.sigma_steps < 1:
            raise ConfigError(
                "objective.sigma_steps must be at least 1: how many steps sigma_end takes"
            )

    @property
    def joint_ce(self) -> bool:
        """True where both cross-entropies share one denominator, all supervised tokens."""
        return self.preset == "pure_ce"

    def weights(self) -> dict[str, float]:
        """The weight of every term by name, box terms included, the preset filled in."""
        out = {"text_ce": self.text_ce}
        for name, value in PRESETS[self.preset].items():
            own = getattr(self, name)
            out[name] = value if own is None else own
        out["text_gate"] = self.text_gate
        box = self.box
        return out | {"smooth_l1": box.smooth_l1, "ciou": box.ciou, "giou": box.giou}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """Which parameters learn, and how fast.

    `coord_rows` trains nothing but the rows of the coordinate tokens in embedding and head.
    Learning rates left out are `trainer.learning_rate`; `muon` uses torch's Muon with `muon_lr`
    for the hidden matrices, AdamW for the rest. `lora_*` are for `lora` and `dora`.
    """

    what: TuneWhat = "full"
    vision_lr: float | None = None
    aligner_lr: float | None = None
    language_lr: float | None = None
    coord_rows_lr: float | None = None
    muon: bool = False
    muon_lr: float = 0.02
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: str = "all-linear"

    def __post_init__(self) -> None:
        one_of("tune.what", self.what, TuneWhat)
        not_negative(
            "tune",
            vision_lr=self.vision_lr,
            aligner_lr=self.aligner_lr,
            language_lr=self.language_lr,
            coord_rows_lr=self.coord_rows_lr,
            muon_lr=self.muon_lr,
        )
        at_least("tune", 1, lora_rank=self.lora_rank)
        above_zero("tune", lora_alpha=self.lora_alpha)
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(
                f"tune.lora_dropout must be from 0 to below 1, not {self.lora_dropout}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvalConfig:
    """Free decoding while training: every `every` steps (0: never), at the start, at the end.

    `data` None takes the evaluation data. `engine` is `hf` (this process), `vllm` (an engine
    beside it that gets the current weights) or `process` (a checkpoint handed to another process).
    `decode` holds options of `coordeval rollout` by their names (`max_new_tokens`, `constrain`,
    `loop_guard`, ...). `best_metric` is any key of the catalogue: the best checkpoint is kept.
    """

    every: int = 0
    at_start: bool = False
    at_end: bool = True
    data: str | None = None
    image_root: str | None = None
    limit: int | None = 64
    batch_size: int = 8
    engine: EvalEngine = "hf"
    decode: dict[str, Any] = field(default_factory=dict)
    best_metric: str | None = None
    dump_samples: int = 10

    def __post_init__(self) -> None:
        one_of("rollout_eval.engine", self.engine, EvalEngine)
        at_least("rollout_eval", 0, every=self.every, dump_samples=self.dump_samples)
        at_least("rollout_eval", 1, limit=self.limit, batch_size=self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorConfig:
    """What else is watched: every `gradients_every` steps each term's own gradient (0: never)."""

    gradients_every: int = 0
    gradients_max_numel: int = 200_000
    diagnostics_every: int = 1

    def __post_init__(self) -> None:
        at_least(
            "monitor",
            0,
            gradients_every=self.gradients_every,
            diagnostics_every=self.diagnostics_every,
        )
        at_least("monitor", 1, gradients_max_numel=self.gradients_max_numel)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training. Paths are relative to the folder of the configuration file.

    `objective` is that of stage 1, `stage2` that of stage 2: what is not of the stage stays at its
    defaults. `attention` is the implementation that the model is loaded with: `auto` (the
    library's choice), `sdpa`, `eager` or `flash_attention_2`.
    """

    model: str
    output_dir: str
    data: DataConfig
    stage: int = 1
    adapter: str | None = None
    attention: Attention = "auto"
    seed: int = 17
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    rollout_eval: RolloutEvalConfig = field(default_factory=RolloutEvalConfig)
    stage2: Stage2Config = field(default_factory=Stage2Config)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.stage not in {1, 2}:
            raise ConfigError(f"stage: {self.stage} is not known; there are 1 and 2")
        one_of("attention", self.attention, Attention)
        if self.stage == 1 and self.stage2 != Stage2Config():
            raise ConfigError(f"stage2: {OF_OTHER_STAGE['stage2']}")
        if self.stage == 2 and self.objective != ObjectiveConfig():
            raise ConfigError(f"objective: {OF_OTHER_STAGE['objective']}")
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"seed: {self.seed} is not from 0 to {(1 << 32) - 1}")


__all__ = [
    "OF_OTHER_STAGE",
    "PRESETS",
    "Attention",
    "BoxDecode",
    "BoxLossConfig",
    "DataConfig",
    "EvalEngine",
    "HardCeOver",
    "MonitorConfig",
    "ObjectiveConfig",
    "OverLength",
    "Preset",
    "RolloutEvalConfig",
    "TrainConfig",
    "TuneConfig",
    "TuneWhat",
]
