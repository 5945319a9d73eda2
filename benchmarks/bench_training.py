"""Stage-1 objectives against plain cross-entropy on the same batch: step time and peak memory.

Every preset is compared with pure cross-entropy over the same supervised tokens, computed (a) as
Hugging Face does, all logits at once and upcast to float32, and (b) by our own chunked pass. Two
steps are timed, forward and backward: head and loss alone on given hidden states, and a whole small
language model (where Hugging Face's own loss also predicts the prompt, which it does not score).
Times are taken in turn, round by round, and reported as the median of the rounds' ratios with a
95 % interval of that median; CPU seconds on a CPU, which neighbours disturb least. Peak memory is
that of a process of its own above what it held before the step (on a GPU: of its allocator).

    python benchmarks/bench_training.py [--device cuda --dtype bfloat16 --positions 8192]
"""

# ruff: noqa: N806, N815 (tensors carry their shape: labels_N)
from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

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


def timed(steps: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every step in every round, each round in another order."""
    on_gpu = options.device != "cpu"
    clock = time.perf_counter if on_gpu else time.process_time
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(options.rounds + 1):
        for name in rng.permutation(list(steps)):
            if on_gpu:
                torch.cuda.synchronize()
            begun = clock()
            steps[str(name)]()
            if on_gpu:
                torch.cuda.synchronize()
            if round_number:  # the first round warms up
                seconds[str(name)].append(clock() - begun)
    return seconds


def resident_bytes() -> int:
    """Memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as handle:  # noqa: PTH123
        return int(handle.read().split()[1]) * resource.getpagesize()


def peak_bytes(stage: str, name: str, options: argparse.Namespace) -> int:
    """Most memory that one step takes above what was there before, in this fresh process."""
    step = BUILDERS[stage](options, [name])[name]
    if options.device != "cpu":
        step()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    before = resident_bytes()
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def median_interval(ratios: list[float]) -> tuple[float, float, float]:
    """Median of the rounds' ratios and a 95 % bootstrap interval of it."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(ratios, size=(2000, len(ratios))), axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return statistics.median(ratios), float(low), float(high)


def report(stage: str, options: argparse.Namespace) -> None:
    """Measure and print one stage."""
    names = [PEER, *OURS]
    peaks = {name: child_peak(stage, name, options) for name in names}
    seconds = timed(BUILDERS[stage](options, names), options)
    print(
        f"\n{stage}: {options.positions:,} supervised tokens, V {VOCABULARY:,}, H {options.hidden}"
    )
    print(f"{'':20} {'seconds':>8} {'over pure_ce [95 %]':>22} {'over HF':>8} {'MiB':>7} {'x':>6}")
    for name in names:
        base = [a / b for a, b in zip(seconds[name], seconds[BASE], strict=True)]
        peer = [a / b for a, b in zip(seconds[name], seconds[PEER], strict=True)]
        middle, low, high = median_interval(base)
        print(
            f"{name:20} {statistics.median(seconds[name]):8.3f} "
            f"{middle:8.3f} [{low:.3f}, {high:.3f}] {statistics.median(peer):8.3f} "
            f"{peaks[name] / 2**20:7.0f} {peaks[name] / peaks[BASE]:6.3f}"
        )


def child_peak(stage: str, name: str, options: argparse.Namespace) -> int:
    """`peak_bytes` in a process of its own."""
    arguments = [sys.executable, __file__, "--peak", json.dumps([stage, name])]
    for key in ("positions", "hidden", "layers", "threads", "device", "dtype"):
        arguments += [f"--{key}", str(getattr(options, key))]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    """Both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--stage", choices=list(BUILDERS), action="append")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.peak:
        stage, name = json.loads(options.peak)
        print(peak_bytes(stage, name, options))
        return
    for stage in options.stage or list(BUILDERS):
        report(stage, options)


if __name__ == "__main__":
    main()
