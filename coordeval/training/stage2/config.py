"""What stage 2 does beside the data, the model and the trainer, as plain values.

Channel A runs a batch several times, each pass reading coordinates from the model's own last
answer; channel B lets the model write, and teaches it from what it wrote. `b_ratio` says how often.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from coordeval.errors import ConfigError
from coordeval.training.config_checks import above_zero, at_least, not_negative, one_of

ContextKind = Literal["expected", "argmax", "rounded_expectation", "top_k", "gumbel_softmax"]
ContextGradient = Literal["soft", "stop", "straight_through"]
GradMode = Literal["unroll", "em_detach"]
SlotDecode = Literal["expectation", "straight_through"]
TargetStyle = Literal["prefix", "clean"]
Insertion = Literal["append", "sorted"]
RolloutEngine = Literal["hf", "vllm", "server"]
ServerWeights = Literal["reload", "own"]

CONTEXT_GRADIENTS: dict[str, tuple[str, ...]] = {
    "expected": ("soft", "stop"),
    "top_k": ("soft", "stop"),
    "gumbel_softmax": ("soft", "stop", "straight_through"),
    "argmax": ("straight_through", "stop"),
    "rounded_expectation": ("straight_through", "stop"),
}
"""The gradients that make sense for each context, the default first."""

MOST_CELLS = 4096
"""Cells a side of the largest canvas for masks: bins are far coarser, and memory has an end."""

_NO_GRADIENT = {
    "soft": "picks one bin, and has no gradient of its own: straight_through passes that of the "
    "expectation on, stop none",
    "straight_through": "is a mixture, and has a gradient of its own: soft",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TermWeights:
    """Weights of the terms at coordinate slots and boxes; 0 leaves a term out.

    Each is a mean over its own slots or boxes. The coordinate gate has one weight for both
    channels, `stage2.coord_gate_weight`. The channel checks its weights, under its own name.
    """

    hard_ce: float = 0.0
    soft_ce: float = 0.1
    w1: float = 0.1
    text_gate: float = 0.0
    smooth_l1: float = 2.0
    ciou: float = 0.2
    giou: float = 0.0

    def by_name(self) -> dict[str, float]:
        """Weights by the terms' names."""
        names = ("hard_ce", "soft_ce", "w1", "text_gate", "smooth_l1", "ciou", "giou")
        return {name: float(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorWeights:
    """Weights of coordinate terms on iteration 0 of channel A, which is teacher-forced."""

    hard_ce: float = 0.0
    soft_ce: float = 0.0
    w1: float = 0.0
    gate: float = 0.0
    smooth_l1: float = 0.0
    ciou: float = 0.0
    giou: float = 0.0

    def by_name(self) -> dict[str, float]:
        """Weights by the terms' names."""
        names = ("hard_ce", "soft_ce", "w1", "gate", "smooth_l1", "ciou", "giou")
        return {name: float(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextConfig:
    """What stands in the input where a coordinate stood, from the logits at that slot.

    `expected` mixes the embeddings of all bins by their probabilities, `top_k` those of the
    `top_k` most probable ones, `gumbel_softmax` by probabilities with seeded Gumbel noise;
    `argmax` and `rounded_expectation` pick one bin. `temperature` divides the logits. `gradient`
    None takes the kind's own (see CONTEXT_GRADIENTS).
    """

    kind: ContextKind = "expected"
    gradient: ContextGradient | None = None
    top_k: int = 8
    temperature: float = 1.0

    def __post_init__(self) -> None:
        one_of("stage2.channel_a.context.kind", self.kind, ContextKind)
        if self.gradient is not None:
            one_of("stage2.channel_a.context.gradient", self.gradient, ContextGradient)
            if self.gradient not in CONTEXT_GRADIENTS[self.kind]:
                raise ConfigError(
                    f"stage2.channel_a.context.gradient: {self.kind} {_NO_GRADIENT[self.gradient]}"
                )
        at_least("stage2.channel_a.context", 1, top_k=self.top_k)
        above_zero("stage2.channel_a.context", temperature=self.temperature)

    @property
    def backward(self) -> str:
        """The gradient that is taken: the given one, or the kind's own."""
        return self.gradient or CONTEXT_GRADIENTS[self.kind][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAConfig:
    """Self-context iterations: `iterations` forward passes over a teacher-forced answer.

    Iteration 0 reads the true coordinates; each next one reads `context` instead, made from the
    logits of the one before. Text cross-entropy (`text_ce`) and `anchor` are taken on iteration 0,
    `weights` on the last. `grad_mode` `unroll` keeps the gradients of all iterations; `em_detach`
    detaches the context, so that iteration 0 and the last one have gradients of their own.
    """

    iterations: int = 2
    context: ContextConfig = field(default_factory=ContextConfig)
    grad_mode: GradMode = "unroll"
    text_ce: float = 1.0
    weights: TermWeights = field(default_factory=TermWeights)
    anchor: AnchorWeights = field(default_factory=AnchorWeights)
    decode: SlotDecode = "expectation"

    def __post_init__(self) -> None:
        at_least("stage2.channel_a", 1, iterations=self.iterations)
        one_of("stage2.channel_a.grad_mode", self.grad_mode, GradMode)
        one_of("stage2.channel_a.decode", self.decode, SlotDecode)
        not_negative("stage2.channel_a", text_ce=self.text_ce)
        not_negative("stage2.channel_a.weights", **self.weights.by_name())
        not_negative("stage2.channel_a.anchor", **self.anchor.by_name())


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """How training rollouts are made.

    `decode` holds options of `coordeval rollout` by their names (`max_new_tokens`, `temperature`,
    `constrain`, `loop_guard`, ...). `views` rollouts are made of each sample: the first as
    `decode` says, the others sampled; each is an example of its own.
    `server` is the address of an OpenAI-style server for `engine: server`. `server_weights`
    `reload`: before every rollout step the weights are written to a folder of the run, which the
    server must see under the same path and is told to read (vLLM with VLLM_SERVER_DEV_MODE=1);
    `own`: it keeps those that it was started with.
    Every `dump_every` rollout steps (0: never) `dump_samples` rollouts of the first process are
    written to `monitor_dumps`, failures first.
    """

    engine: RolloutEngine = "hf"
    batch_size: int = 8
    views: int = 1
    view_temperature: float = 0.7
    server: str | None = None
    server_weights: ServerWeights = "reload"
    decode: dict[str, Any] = field(default_factory=dict)
    dump_every: int = 0
    dump_samples: int = 10

    def __post_init__(self) -> None:
        one_of("stage2.channel_b.rollout.engine", self.engine, RolloutEngine)
        one_of("stage2.channel_b.rollout.server_weights", self.server_weights, ServerWeights)
        at_least(
            "stage2.channel_b.rollout",
            0,
            dump_every=self.dump_every,
            dump_samples=self.dump_samples,
        )
        at_least("stage2.channel_b.rollout", 1, batch_size=self.batch_size, views=self.views)
        above_zero("stage2.channel_b.rollout", view_temperature=self.view_temperature)
        if self.engine == "server" and self.server is None:
            raise ConfigError(
                "stage2.channel_b.rollout.server: the address of the server is missing"
            )
        if self.engine != "server" and self.server is not None:
            raise ConfigError(
                "stage2.channel_b.rollout.server is read with engine: server alone, and this is "
                f"engine: {self.engine}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingConfig:
    """Optimal assignment of written objects to true ones.

    A pair costs 1 - IoU (of boxes; of masks where a polygon takes part) and is possible from `gate`
    on, with `class_aware` only within a class; an unmatched prediction costs `fp_cost`, an
    unmatched true object `fn_cost`. `mask_size` is the side of the canvas for masks, 8 to 4096
    cells.
    """

    gate: float = 0.5
    fp_cost: float = 1.0
    fn_cost: float = 1.2
    class_aware: bool = False
    mask_size: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.gate <= 1:
            raise ConfigError("stage2.channel_b.matching.gate is an IoU, from 0 to 1")
        not_negative("stage2.channel_b.matching", fp_cost=self.fp_cost, fn_cost=self.fn_cost)
        if not 8 <= self.mask_size <= MOST_CELLS:
            raise ConfigError(
                f"stage2.channel_b.matching.mask_size must be from 8 to {MOST_CELLS}, not "
                f"{self.mask_size}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeights:
    """Weights of the text cross-entropy by what a token belongs to; false positives have none.

    `matched_struct`: keys and punctuation of matched objects; `matched_desc`: their descriptions,
    where these are the true ones; `missed_*`: of added objects; `closing`: what ends the list, and
    the end token. `drop_multiplier` multiplies `missed_struct` and `closing` where the rollout had
    dropped records.
    """

    matched_struct: float = 1.0
    matched_desc: float = 0.0
    missed_struct: float = 1.0
    missed_desc: float = 1.0
    closing: float = 1.0
    drop_multiplier: float = 1.0

    def __post_init__(self) -> None:
        not_negative(
            "stage2.channel_b.tokens",
            matched_struct=self.matched_struct,
            matched_desc=self.matched_desc,
            missed_struct=self.missed_struct,
            missed_desc=self.missed_desc,
            closing=self.closing,
        )
        if not 1 <= self.drop_multiplier <= 4:
            raise ConfigError("stage2.channel_b.tokens.drop_multiplier must be from 1 to 4")

    @property
    def teaches_any(self) -> bool:
        """Whether any text has a weight."""
        struct = self.matched_struct or self.missed_struct
        return bool(struct or self.matched_desc or self.missed_desc or self.closing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelBConfig:
    """Real rollouts, matched and corrected.

    `target` `prefix` keeps what was written, appends what was missed, and closes; `clean` writes
    the kept and missed objects anew in canonical form, near repeats removed, `insertion` saying
    where the missed ones go. Near repeats are objects of one description with an IoU of at least
    `duplicate_iou`. `unlikelihood` weighs the term that pushes down the first token of a suppressed
    repeat. `text_ce` weighs the cross-entropy whose tokens `tokens` weigh, `weights` the terms at
    matched and missed slots.
    """

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    target: TargetStyle = "clean"
    insertion: Insertion = "append"
    duplicate_iou: float = 0.9
    text_ce: float = 1.0
    tokens: TokenWeights = field(default_factory=TokenWeights)
    weights: TermWeights = field(default_factory=TermWeights)
    unlikelihood: float = 1.0
    decode: SlotDecode = "expectation"

    def __post_init__(self) -> None:
        one_of("stage2.channel_b.target", self.target, TargetStyle)
        one_of("stage2.channel_b.insertion", self.insertion, Insertion)
        one_of("stage2.channel_b.decode", self.decode, SlotDecode)
        if not 0 < self.duplicate_iou <= 1:
            raise ConfigError("stage2.channel_b.duplicate_iou is an IoU, above 0 and at most 1")
        not_negative("stage2.channel_b", text_ce=self.text_ce, unlikelihood=self.unlikelihood)
        not_negative("stage2.channel_b.weights", **self.weights.by_name())


@dataclass(frozen=True, slots=True, kw_only=True)
class CurriculumConfig:
    """From A to B: the share of B goes in a line from `start` to `b_ratio` over `steps` steps."""

    start: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ConfigError("stage2.curriculum.start is a share, from 0 to 1")
        at_least("stage2.curriculum", 0, steps=self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage2Config:
    """Stage 2: which steps belong to which channel, and what the channels do.

    Step s (from 0) is B where floor((s + 1) r) > floor(s r), r being `b_ratio`. `sigma`,
    `truncate` (bins) and `temperature` shape the soft targets as in stage 1.
    """

    b_ratio: float = 0.05
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    coord_gate_weight: float = 1.0
    sigma: float = 2.0
    truncate: int | None = 16
    temperature: float = 1.0
    channel_a: ChannelAConfig = field(default_factory=ChannelAConfig)
    channel_b: ChannelBConfig = field(default_factory=ChannelBConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.b_ratio <= 1:
            raise ConfigError("stage2.b_ratio is a share of steps, from 0 to 1")
        not_negative(
            "stage2",
            coord_gate_weight=self.coord_gate_weight,
            sigma=self.sigma,
            truncate=self.truncate,
        )
        above_zero("stage2", temperature=self.temperature)


__all__ = [
    "CONTEXT_GRADIENTS",
    "AnchorWeights",
    "ChannelAConfig",
    "ChannelBConfig",
    "ContextConfig",
    "ContextGradient",
    "ContextKind",
    "CurriculumConfig",
    "GradMode",
    "Insertion",
    "MatchingConfig",
    "RolloutConfig",
    "RolloutEngine",
    "ServerWeights",
    "SlotDecode",
    "Stage2Config",
    "TargetStyle",
    "TermWeights",
    "TokenWeights",
]
