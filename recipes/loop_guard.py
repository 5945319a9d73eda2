"""What the loop guard alone saves, without a model: `python recipes/loop_guard.py`.

The guard is a function of the tokens that were written, so recorded texts show what it would have
done. Two sources: loops of four kinds injected into the ground truth of the held-out scenes (each
scene from its second object on, to the token budget), and the recorded free rollouts of the
fixture checkpoints. Each text is cut where the guard fires; both versions are scored.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import AutoTokenizer

from coordeval.coords import frame_named, quantise
from coordeval.data.canonical import render_record
from coordeval.data.dataset import open_dataset
from coordeval.data.ordering import order_objects
from coordeval.decoding.guard import replay_guard
from coordeval.decoding.settings import GuardSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.jsonl import dump_line
from coordeval.metrics.score import score_run
from coordeval.parsers.dialects import dialect_named
from coordeval.records import Rollout
from coordeval.runs import open_run, rollout_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.records import Sample

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
RECORDED = ("shapes-final", "ckpt-300", "ckpt-2400", "ckpt-loops", "ckpt-polygons")
LOOPS = ("exact", "block", "near", "cycle")
BUDGET = 256
DIALECT = dialect_named("coordjson")
FRAME = frame_named("coordexp")
STOP = GuardSettings(mode="stop")


class Saving(NamedTuple):
    """What the guard did to one source of texts; pairs are (free, with the guard)."""

    source: str
    texts: int
    stopped: int
    tokens: int
    saved: int
    f1: tuple[float | None, float | None]
    recall: tuple[float | None, float | None]


def fixture_tokenizer() -> tuple[Any, TokenTable]:
    """The tokenizer that all fixture checkpoints share, and its table."""
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / "shapes-final")
    return tokenizer, TokenTable.from_tokenizer(tokenizer, end_ids={tokenizer.eos_token_id})


def injected_text(sample: Sample, kind: str, *, copies: int = 64) -> str:
    """The ground truth's answer that never comes further than its last object."""
    records, last, before = [], "", ""
    for obj in order_objects(sample.objects, "sorted"):
        bins = quantise(obj.values_px, sample.width, sample.height, FRAME).bins
        before, last = last, render_record(obj.desc, obj.kind, bins, DIALECT)
        records.append(last)
    head = '{"objects": ['
    if not records:
        return head + "]}"
    if kind == "exact":
        tail = [last] * copies
    elif kind == "block":
        tail = [before or last, last] * copies
    elif kind == "near":
        tail = [
            render_record(obj.desc, obj.kind, _shifted(bins, n), DIALECT)
            for n in range(1, copies + 1)
        ]
    else:
        return head + ", ".join(records) + ", " + '{"desc": "' + "red " * 8 * copies
    return head + ", ".join([*records, *tail])


def _shifted(bins: Sequence[int], step: int) -> list[int]:
    """The box moved by one bin to and fro: near its neighbours, equal to none of them."""
    way = 8 - abs(step % 16 - 8)
    return [max(0, bins[0] - way), bins[1], max(1, bins[2] - way), bins[3]]


def injected_rollouts(kind: str, tokenizer: Any) -> Iterator[Rollout]:
    """One looping rollout per held-out scene, cut at the token budget."""
    for sample in open_dataset(FIXTURES / "scenes" / "heldout.jsonl"):
        text = injected_text(sample, kind)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = len(ids) < BUDGET
        yield Rollout(
            id=sample.id,
            width=sample.width,
            height=sample.height,
            gt=sample.objects,
            text=text if ends else tokenizer.decode(ids[:BUDGET], skip_special_tokens=False),
            token_ids=[*ids, tokenizer.eos_token_id] if ends else ids[:BUDGET],
            finish_reason="stop" if ends else "length",
        )


def guarded(rollout: Rollout, tokenizer: Any, table: TokenTable) -> Rollout:
    """The rollout as the guard would have ended it; unchanged where it never fires."""
    ids = rollout.token_ids or []
    verdict = replay_guard(STOP, DIALECT, ids, table)
    if verdict is None:
        return rollout
    return replace(
        rollout,
        text=tokenizer.decode(ids[: verdict.at], skip_special_tokens=False),
        token_ids=ids[: verdict.at],
        token_logprobs=None,
        finish_reason="loop_guard",
        guard=verdict.to_json(tokens_saved=BUDGET - verdict.at),
    )


def saving(source: str, rollouts: Sequence[Rollout], tokenizer: Any, table: TokenTable) -> Saving:
    """Score the texts as they are and as the guard leaves them."""
    cut = [guarded(rollout, tokenizer, table) for rollout in rollouts]
    free, kept = (
        metrics_of([replace(rollout, token_logprobs=None) for rollout in side])
        for side in (rollouts, cut)
    )
    tokens = sum(len(rollout.token_ids or ()) for rollout in rollouts)
    return Saving(
        source=source,
        texts=len(rollouts),
        stopped=int(kept["guard/stopped"] or 0),
        tokens=tokens,
        saved=tokens - sum(len(rollout.token_ids or ()) for rollout in cut),
        f1=(free["f1/0.50/f1"], kept["f1/0.50/f1"]),
        recall=(free["f1/0.50/recall"], kept["f1/0.50/recall"]),
    )


def metrics_of(rollouts: Sequence[Rollout]) -> dict[str, float | int | None]:
    """Metrics of bare rollouts, by way of a file as any outsider would write it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rollouts.jsonl"
        path.write_bytes(b"".join(dump_line(rollout_to_json(rollout)) for rollout in rollouts))
        return score_run(open_run(path)).metrics


def markdown(rows: Sequence[Saving]) -> str:
    """One line per source; pairs are "free -> with the guard"."""
    lines = [
        "| texts | number | stopped | tokens | saved | F1@.50 | recall@.50 |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    lines += [
        f"| {row.source} | {row.texts} | {row.stopped} | {row.tokens:,} | {row.saved:,} "
        f"| {_pair(row.f1)} | {_pair(row.recall)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _pair(values: tuple[float | None, float | None]) -> str:
    return " -> ".join("-" if value is None else f"{value:.3f}" for value in values)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    tokenizer, table = fixture_tokenizer()
    rows = []
    for kind in LOOPS:
        print(f"injected: {kind}", file=sys.stderr)
        texts = list(injected_rollouts(kind, tokenizer))
        rows.append(saving(f"injected, {kind}", texts, tokenizer, table))
    for name in RECORDED:
        print(f"recorded: {name}", file=sys.stderr)
        texts = list(open_run(FIXTURES / "runs" / name).rollouts())
        rows.append(saving(f"recorded, {name}", texts, tokenizer, table))
    print(markdown(rows))


if __name__ == "__main__":
    main()
