"""What `coordeval train` logs besides losses and diagnostics of one pass: stage 2's places, counts.

`coordeval.dynamics.keys` holds the quantities that several tools log and curves are judged by;
this table explains the rest of a `train_log.jsonl`, so that every key in it stands in the docs.
"""

from __future__ import annotations

import re
from functools import lru_cache

from coordeval.metrics.catalogue import describe
from coordeval.metrics.catalogue_info import MetricInfo, count_entry, rate_entry

TERMS: dict[str, str] = {
    "text_ce": "cross-entropy over the whole vocabulary at text tokens",
    "text_gate": "-log of the probability outside the coordinate tokens at text tokens",
    "hard_ce": "cross-entropy among the coordinate tokens against the true bin",
    "soft_ce": "cross-entropy among the coordinate tokens against the soft target",
    "w1": "Wasserstein-1 distance to the soft target",
    "gate": "-log of the probability of all coordinate tokens at coordinate slots",
    "smooth_l1": "smooth L1 between the expected and the true box",
    "ciou": "1 - complete IoU of the expected and the true box",
    "giou": "1 - generalised IoU of the expected and the true box",
    "unlikelihood": "-log(1 - probability) of tokens that must not stand there",
}
"""The terms of the losses, by their names in logs."""

TARGETS: dict[str, tuple[str, str]] = {
    "rollouts": ("rollouts that targets were made of", "samples"),
    "failed": ("of these the engine's fault: the whole truth is taught", "samples"),
    "invalid": ("of these without a readable container: the whole truth is taught", "samples"),
    "truncated": ("of these cut by the token limit, or not closed", "samples"),
    "retokenised": ("of these without own token ids, or with those of another text", "samples"),
    "over_length": ("targets longer than `data.max_length`: the whole truth is taught", "samples"),
    "found": ("records found = the six that follow", "records"),
    "matched": ("objects assigned to a true one", "objects"),
    "false_positives": ("objects assigned to none", "objects"),
    "duplicates": ("repeats of another object", "objects"),
    "on_crowd": ("objects on a crowd region: neither right nor wrong", "objects"),
    "dropped": ("records that the parser drops", "records"),
    "unread": ("valid objects that no target could go on from", "objects"),
    "unmatchable_slots": ("matched objects not taught slot by slot", "objects"),
    "unusual": ("matched objects whose structure a prefix target does not teach", "objects"),
    "annotated": ("true objects = `matched` + the three that follow", "objects"),
    "missed": ("true objects that no written one found", "objects"),
    "crowd": ("crowd regions, which are not taught", "objects"),
    "degenerate": ("true objects without extent, which cannot be written", "objects"),
    "gating_rejections": ("pairs that overlap, but less than `matching.gate`", "objects"),
    "unlikely": ("tokens pushed down: one for a repeat, but for the two that follow", "tokens"),
    "unlikely_merged": ("repeats that lead to a token pushed down already", "objects"),
    "no_divergence": ("repeats that do not leave the clean answer", "objects"),
}
"""What became of stage 2's rollouts and ground truth, under `rollout/target/`; unit beside."""


def _plain(key: str, meaning: str, unit: str = "none") -> MetricInfo:
    return MetricInfo(key=key, meaning=meaning, unit=unit, better="none", low=None)


_LOSSES = (
    *(
        MetricInfo(key=f"loss/{term}", meaning=meaning, unit="loss", better="lower", low=None)
        for term, meaning in TERMS.items()
    ),
    MetricInfo(
        key="loss/<at>/<term>",
        meaning="the same at one place of stage 2",
        unit="loss",
        better="lower",
        low=None,
    ),
    count_entry("tokens/<term>", "what `loss/<term>` is a mean over", "tokens", "none"),
    count_entry("tokens/<at>/<term>", "the same at one place of stage 2", "tokens", "none"),
)
_PLACES = (
    _plain("coord_diag/<at>/<diagnostic>", "`coord_diag/<diagnostic>` at one place of stage 2"),
    rate_entry("token_acc/<at>", "`token_acc` at one place of stage 2", "higher"),
    rate_entry("<kind>_token_acc/<at>", "`<kind>_token_acc` at one place of stage 2", "higher"),
    _plain(
        "context/off_manifold",
        "mean distance of channel A's contexts to the nearest coordinate embedding",
    ),
)
_ROLLOUTS = (
    _plain("rollout/<metric>", "a metric of the table above, of the step's training rollouts"),
    _plain("rollout/views/<metric>", "the same of the views beyond the first"),
    count_entry("rollout/seconds", "time that the step's rollouts took", "seconds", "none"),
    rate_entry("rollout/match/precision", "matched of all written, by the targets", "higher"),
    rate_entry("rollout/match/recall", "matched of matched and missed, by the targets", "higher"),
    rate_entry("rollout/match/f1", "harmonic mean of the two", "higher"),
    *(
        count_entry(f"rollout/target/{name}", meaning, unit, "none")
        for name, (meaning, unit) in TARGETS.items()
    ),
)
_COURSE = (
    count_entry("step", "optimizer steps done", "none", "none"),
    count_entry("epoch", "epochs done", "none", "none"),
    _plain("channel", "which channel of stage 2 ran, `A` or `B`"),
    _plain("sigma", "width of the soft target, where it changes in training", "bins"),
    count_entry("lr/<group>", "learning rate of one parameter group", "none", "none"),
    count_entry("samples", "samples of the step", "samples", "none"),
    count_entry("skipped", "samples that could not be read", "samples", "none"),
    count_entry("input_tokens", "tokens that the model read, padding left out", "tokens", "none"),
    *(
        count_entry(f"taught/{kind}", f"{words} that were taught", "tokens", "none")
        for kind, words in (
            ("description", "tokens of descriptions"),
            ("coordinate", "coordinate tokens"),
            ("structure", "tokens of structure"),
            ("end", "end tokens"),
        )
    ),
    count_entry("seconds", "time of forward and backward passes", "seconds", "none"),
    count_entry("tokens_per_second", "`input_tokens` / `seconds`, all processes", "tokens", "none"),
    count_entry("samples_per_second", "`samples` / `seconds`, all processes", "samples", "none"),
)
_GRADIENTS = (
    count_entry("gradmon/grad_norm/<loss>", "norm of one term's gradient", "none", "none"),
    _plain("gradmon/cos_to_total/<loss>", "its cosine with the sum of all terms' gradients"),
    count_entry("gradmon/grad_norm_total", "norm of the sum", "none", "none"),
    count_entry(
        "gradmon/grad_norm_ratio_max_over_median", "largest norm / median norm", "none", "none"
    ),
    rate_entry("gradmon/neg_cosine_pair_frac", "pairs of terms that pull apart", "none"),
    rate_entry("gradmon/neg_cos_to_total_frac", "terms that pull against the sum", "none"),
    count_entry("gradmon/num_terms", "terms that were looked at", "none", "none"),
    count_entry("gradmon/shared_param_numel", "parameters that were looked at", "none", "none"),
    count_entry("gradmon/seconds", "time that it took", "seconds", "none"),
)

LOGGED_KEYS: tuple[MetricInfo, ...] = (*_LOSSES, *_PLACES, *_ROLLOUTS, *_COURSE, *_GRADIENTS)
"""Keys and families of keys; an evaluation's line has those of its pass under `eval_`."""

_AT = "(?:A1|A2|B)"
_TERM = f"(?:{'|'.join(TERMS)})"
_PLACEHOLDERS = {
    "<at>": _AT,
    "<term>": _TERM,
    "<loss>": f"(?:{_AT}/)?{_TERM}",
    "<kind>": "(?:coord|desc|format)",
    "<group>": r"[a-z_0-9]+(?:/[a-z_0-9]+)*",
}


def logged_key(key: str) -> MetricInfo | None:
    """What a key of `train_log.jsonl` means, without `eval_`; None where this table has it not."""
    for pattern, info in _patterns():
        match = pattern.fullmatch(key)
        if match is not None and _is_metric(match):
            return info
    return None


def _is_metric(match: re.Match[str]) -> bool:
    """Whether what stands for a metric's own key is one."""
    named = match.groupdict()
    if "diagnostic" in named:
        return describe(f"coord_diag/{named['diagnostic']}") is not None
    return "metric" not in named or describe(named["metric"]) is not None


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], MetricInfo], ...]:
    out = []
    for info in LOGGED_KEYS:
        pattern = re.escape(info.key)
        for name, expression in _PLACEHOLDERS.items():
            pattern = pattern.replace(name, expression)
        for name in ("diagnostic", "metric"):
            pattern = pattern.replace(f"<{name}>", f"(?P<{name}>.+)")
        out.append((re.compile(pattern), info))
    return tuple(out)


def logged_keys_markdown() -> str:
    """The table for the docs page."""
    lines = ["| key | meaning | unit | better |", "|---|---|---|---|"]
    lines += [
        f"| `{info.key}` | {info.meaning} | {info.unit} | {info.better} |" for info in LOGGED_KEYS
    ]
    return "\n".join(lines) + "\n"


__all__ = ["LOGGED_KEYS", "TARGETS", "TERMS", "logged_key", "logged_keys_markdown"]
