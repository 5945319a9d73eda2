"""Stage-1 objectives against plain cross-entropy on the same batch: step time and peak memory.

Every preset is compared with pure cross-entropy over the same supervised tokens, computed (a) as
Hugging Face does, all logits at once and upcast to float32, and (b) by our own chunked pass. Two
steps are timed, forward and backward: head and loss alone on given hidden states, and a whole small
language model (where Hugging Face's own loss also predicts the prompt, which it does not score).
Seconds are CPU seconds on a CPU, which neighbours disturb least. Peak memory is
that of a process of its own above what it held before the step (on a GPU: of its allocator).

    python benchmarks/bench_training.py [--device cuda --dtype bfloat16 --positions 8192]
"""

# ruff: noqa: N806, N815 (tensors carry their shape: labels_N)
from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import children
import torch
from children import last_json
from rounds import INTERVAL_NOTE, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table
from torch.nn import functional
from torch_clock import clock_of

from coordeval.training.config import BoxLossConfig, ObjectiveConfig
from coordeval.training.losses import Stage1Objective

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY = 151_936
FIRST_COORD = 150_000
OBJECT = 16  # tokens of an object, four of them coordinates
OURS: dict[str, dict[str, Any]] = {
    "pure_ce": {"preset": "pure_ce"},
    "soft": {"preset": "soft"},
    "mixed": {"preset": "mixed"},
    "mixed + boxes": {"preset": "mixed", "box": BoxLossConfig(smooth_l1=1.0, ciou=1.0, giou=1.0)},
    "mixed + text gate": {"preset": "mixed", "text_gate": 1.0},
    "soft, T 0.7": {"preset": "soft", "temperature": 0.7},
    "mixed, T 0.7": {"preset": "mixed", "temperature": 0.7},
}
PEER = "cross-entropy (HF)"
BASE = "pure_ce"


class Batch(NamedTuple):
    """`ids` (B, L), `labels_N` of all positions (-100 in the prompts), and the boxes' slots."""

    ids: torch.Tensor
    labels_N: torch.Tensor
    box_slots_M4: torch.Tensor


def make_batch(options: argparse.Namespace) -> Batch:
    """One row of a prompt, a quarter of the positions, and objects of 16 tokens with a box each."""
    generator = torch.Generator().manual_seed(0)
    prompt = options.positions // 4
    ids = torch.randint(0, FIRST_COORD, (prompt + options.positions,), generator=generator)
    starts = torch.arange(prompt + 8, len(ids) - 4, OBJECT)
    slots = starts[:, None] + torch.arange(4)
    ids[slots] = FIRST_COORD + torch.randint(0, 1000, slots.shape, generator=generator)
    labels = ids.clone()
    labels[:prompt] = -100
    device = options.device
    return Batch(ids[None].to(device), labels.to(device), slots.to(device))


def head_steps(options: argparse.Namespace, names: list[str]) -> dict[str, Callable[[], object]]:
    """Forward and backward of head and loss on fixed hidden states of the supervised tokens."""
    batch = make_batch(options)
    taught = batch.labels_N != -100
    labels_N = batch.labels_N[taught]
    slots = batch.box_slots_M4 - int((~taught).sum())
    dtype = getattr(torch, options.dtype)
    factory = {"device": options.device, "dtype": dtype}
    weight_VH = torch.empty(VOCABULARY, options.hidden, **factory).normal_(std=0.02)
    hidden_NH = torch.empty(len(labels_N), options.hidden, **factory).normal_()
    weight_VH.requires_grad_(True)
    hidden_NH.requires_grad_(True)

    def done() -> None:
        weight_VH.grad = hidden_NH.grad = None

    def peer() -> None:
        logits_NV = functional.linear(hidden_NH, weight_VH).float()
        functional.cross_entropy(logits_NV, labels_N).backward()  # type: ignore[no-untyped-call]
        done()

    def ours(objective: Stage1Objective) -> Callable[[], None]:
        def step() -> None:
            counts = objective.counts(labels_N, slots)
            loss, _ = objective.compute(hidden_NH, weight_VH, labels_N, counts, box_slots_M4=slots)
            loss.backward()  # type: ignore[no-untyped-call]
            done()

        return step

    return {name: peer if name == PEER else ours(objective_of(name)) for name in names}


def model_steps(options: argparse.Namespace, names: list[str]) -> dict[str, Callable[[], object]]:
    """Forward and backward of a small tied Qwen3 language model on the whole batch."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=options.hidden // 64,
        head_dim=64,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config).to(options.device, getattr(torch, options.dtype)).train()
    batch = make_batch(options)
    labels_N = batch.labels_N[1:]

    def peer() -> None:
        model(input_ids=batch.ids, labels=batch.labels_N[None]).loss.backward()
        model.zero_grad()

    def ours(objective: Stage1Objective) -> Callable[[], None]:
        def step() -> None:
            hidden_LH = model.model(input_ids=batch.ids).last_hidden_state[0, :-1]
            slots = batch.box_slots_M4 - 1
            counts = objective.counts(labels_N, slots)
            loss, _ = objective.compute(
                hidden_LH, model.lm_head, labels_N, counts, box_slots_M4=slots
            )
            loss.backward()  # type: ignore[no-untyped-call]
            model.zero_grad()

        return step

    return {name: peer if name == PEER else ours(objective_of(name)) for name in names}


def objective_of(name: str) -> Stage1Objective:
    """The objective of one of our rows."""
    ids = torch.arange(FIRST_COORD, FIRST_COORD + 1000)
    return Stage1Objective.from_config(ObjectiveConfig(**OURS[name]), ids)


BUILDERS = {"head and loss": head_steps, "whole model": model_steps}


def peak_bytes(stage: str, name: str, options: argparse.Namespace) -> int:
    """Most memory that one step takes above what was there before, in this fresh process."""
    step = BUILDERS[stage](options, [name])[name]
    if options.device != "cpu":
        step()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    before = children.resident_bytes()
    step()
    return children.peak_bytes() - before


def stage_table(stage: str, options: argparse.Namespace) -> Table:
    """Measure one stage."""
    names = [PEER, *OURS]
    peaks: dict[str, int] = {}
    if options.memory:
        peaks = {name: child_peak(stage, name, options) for name in names}
    steps = BUILDERS[stage](options, names)
    times = side_by_side(steps, options.rounds, warm_up=1, clock=clock_of(options.device))
    return Table(
        title=f"Loss terms, {stage}: {options.positions:,} supervised tokens, V {VOCABULARY:,}, "
        f"H {options.hidden}, {options.device} {options.dtype}",
        columns=(
            ("objective", ""),
            ("seconds", ".3f"),
            (f"times {BASE}", ".3f"),
            ("times HF", ".3f"),
            ("peak MiB", ".0f"),
            (f"memory, times {BASE}", ".3f"),
        ),
        rows=tuple(
            (
                name,
                median_s(times, name),
                ratio_of(times, name, BASE),
                ratio_of(times, name, PEER),
                peaks[name] / 2**20 if peaks else None,
                peaks[name] / peaks[BASE] if peaks else None,
            )
            for name in names
        ),
        notes=(INTERVAL_NOTE,),
    )


def child_peak(stage: str, name: str, options: argparse.Namespace) -> int:
    """`peak_bytes` in a process of its own."""
    given = ["--peak", json.dumps([stage, name])]
    for key in ("positions", "hidden", "layers", "threads", "device", "dtype"):
        given += [f"--{key}", str(getattr(options, key))]
    return int(last_json(__file__, given))


def measure(options: argparse.Namespace) -> list[Table]:
    """Both stages."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return [stage_table(stage, options) for stage in options.stage or list(BUILDERS)]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes, device, stages."""
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--stage", choices=list(BUILDERS), action="append")


def print_peak() -> int:
    """In a process of its own: the peak of one step, alone on the last line."""
    stage, name = json.loads(sys.argv.pop(2))
    del sys.argv[1]
    parser = argparse.ArgumentParser()
    arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(peak_bytes(stage, name, options))
    return 0


if __name__ == "__main__":
    quick = {"positions": 64, "hidden": 64, "layers": 1, "rounds": 1, "memory": False}
    sys.exit(
        print_peak()
        if sys.argv[1:2] == ["--peak"]
        else run_script(__doc__, measure, arguments=arguments, quick=quick)
    )
