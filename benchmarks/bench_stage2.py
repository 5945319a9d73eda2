"""Channel A's iterations against as many teacher-forced steps: step time and peak memory.

A step is forward and backward of one batch: stage 1's objective in one teacher-forced pass, or
channel A with n iterations and the same weights; the ratio is to n teacher-forced steps. Seconds
are CPU seconds on a CPU, which neighbours disturb least. Images are encoded once in every step,
so that a step of n iterations should cost less than n steps.

Peak memory is that of a process of its own above what it held before the step (on a GPU: of its
allocator). The anchor's is what the graph of one teacher-forced pass holds between forward and
backward: under `em_detach` iteration 0 holds it while the last iteration takes its step.

    python benchmarks/bench_stage2.py [--device cuda --dtype bfloat16 --hidden 1024 --layers 12
        --vocabulary 151936 --image 512 --objects 40]
"""

# ruff: noqa: N806 (tensors carry their shape: labels_N)
from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import children
import torch
from children import last_json
from rounds import INTERVAL_NOTE, Ratio, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table
from torch_clock import clock_of

from coordeval.coords import CoordVocabulary
from coordeval.training.data.labels import COORDINATE, IGNORE, STRUCTURE
from coordeval.training.loop.teacher_forced import TeacherForced
from coordeval.training.losses import Stage1Objective
from coordeval.training.stage2.channel_a import ChannelA
from coordeval.training.stage2.config import ChannelAConfig, ContextConfig, Stage2Config
from coordeval.training.tiny.model import TinyConfig, build_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tables import Cell

PLAIN = "teacher-forced"
OBJECT = 24  # tokens of an object, four of them coordinates
CASES: dict[str, tuple[int, str, str]] = {
    "n 1": (1, "unroll", "expected"),
    "n 2, unroll": (2, "unroll", "expected"),
    "n 2, em_detach": (2, "em_detach", "expected"),
    "n 3, unroll": (3, "unroll", "expected"),
    "n 3, em_detach": (3, "em_detach", "expected"),
    "n 2, unroll, argmax": (2, "unroll", "argmax"),
    "n 2, unroll, gumbel": (2, "unroll", "gumbel_softmax"),
}


def make_model(options: argparse.Namespace) -> tuple[Any, list[int]]:
    """A Qwen3-VL of the asked size with random weights, and its coordinate tokens."""
    heads = max(1, options.hidden // 64)
    config = TinyConfig(
        hidden=options.hidden,
        layers=options.layers,
        heads=heads,
        head_dim=64,
        feed_forward=3 * options.hidden,
        vision_depth=max(2, options.layers // 2),
        vision_hidden=options.hidden // 2,
        vision_heads=heads,
        vision_feed_forward=2 * options.hidden,
    )
    tokenizer = tiny_tokenizer()
    model = build_model(config, tokenizer, seed=0)
    if options.vocabulary > len(tokenizer):
        model.resize_token_embeddings(options.vocabulary, mean_resizing=False)
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = CoordVocabulary.from_tokenizer(tokenizer).token_ids
    return model.to(options.device, getattr(torch, options.dtype)).train(), list(ids)


def make_batch(model: Any, coord_ids: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """Rows of one image, a short prompt, and objects of 24 tokens with a box each."""
    generator = torch.Generator().manual_seed(0)
    vision, image_id = model.config.vision_config, model.config.image_token_id
    side = max(2, options.image // vision.patch_size // 2 * 2)
    pixels = 3 * vision.temporal_patch_size * vision.patch_size**2
    visual = side * side // vision.spatial_merge_size**2
    prompt = [1, *[image_id] * visual, *range(2, 34)]
    B, L = options.batch, len(prompt) + OBJECT * options.objects
    ids_BL = torch.randint(2, 256, (B, L), generator=generator)
    ids_BL[:, : len(prompt)] = torch.tensor(prompt)
    starts = torch.arange(len(prompt) + 12, L - 4, OBJECT)
    slots = starts[:, None] + torch.arange(4)
    places = torch.randint(0, len(coord_ids), (B, *slots.shape), generator=generator)
    ids_BL[:, slots] = torch.tensor(coord_ids)[places]
    labels_BL, kinds_BL = ids_BL.clone(), torch.full((B, L), STRUCTURE, dtype=torch.uint8)
    kinds_BL[:, slots] = COORDINATE
    labels_BL[:, : len(prompt)] = -100
    kinds_BL[:, : len(prompt)] = IGNORE
    device, dtype = options.device, getattr(torch, options.dtype)
    patches = torch.randn(B * side * side, pixels, generator=generator).to(dtype)
    batch: dict[str, Any] = {
        "input_ids": ids_BL,
        "attention_mask": torch.ones_like(ids_BL),
        "mm_token_type_ids": (ids_BL == image_id).int(),
        "pixel_values": patches,
        "image_grid_thw": torch.tensor([[1, side, side]] * B),
        "labels": labels_BL,
        "token_kinds": kinds_BL,
        "segment_ids": torch.arange(B)[:, None].expand(B, L).contiguous(),
        "box_slots": (torch.arange(B)[:, None, None] * L + slots).flatten(0, 1),
    }
    placed = {key: value.to(device) for key, value in batch.items()}
    return placed | {"sample_ids": [str(row) for row in range(B)]}


def make_steps(
    options: argparse.Namespace, names: list[str], *, backward: bool = True
) -> dict[str, Callable[[], object]]:
    """Forward and backward of the named cases on one batch and model; forward alone on request."""
    model, coord_ids = make_model(options)
    batch = make_batch(model, coord_ids, options)

    def step_of(name: str) -> Callable[[], object]:
        channel = channel_of(name, model, coord_ids)
        divisors = channel.divisors(channel.counts(batch))

        def step() -> object:
            diagnosed: dict[str, Any] | None = None
            if options.diagnose:
                diagnosed = {at: [] for at in channel.diagnosed_at}
            computed = channel(model, batch, divisors, diagnosed=diagnosed)
            if not backward:
                return computed.loss
            computed.loss.backward()
            model.zero_grad()
            return None

        return step

    return {name: step_of(name) for name in names}


def channel_of(name: str, model: Any, coord_ids: list[int]) -> Any:
    """The plain channel, or channel A of one of our rows; all with the same weights."""
    if name == PLAIN:
        whole = Stage2Config()
        weights = {"text_ce": 1.0, "gate": 1.0, **whole.channel_a.weights.by_name()}
        objective = Stage1Objective(weights, coord_ids)
        ids_K = torch.tensor(coord_ids)
        return TeacherForced(model, objective, autocast=nullcontext, coord_ids_K=ids_K)
    return channel_a(*CASES[name], model, coord_ids)


def channel_a(iterations: int, mode: str, kind: str, model: Any, coord_ids: list[int]) -> Any:
    """Channel A with so many passes, its gradients unrolled or detached, and that context."""
    config = ChannelAConfig(
        iterations=iterations,
        grad_mode=mode,  # type: ignore[arg-type]
        context=ContextConfig(kind=kind),  # type: ignore[arg-type]
    )
    return ChannelA(model, Stage2Config(channel_a=config), coord_ids, autocast=nullcontext)


def peak_bytes(name: str, what: str, options: argparse.Namespace) -> int:
    """Most memory of a step, or what its graph holds after the forward pass, in a fresh process."""
    step = make_steps(options, [name], backward=what == "peak")[name]
    if options.device != "cpu":
        step()  # loads kernels and makes workspaces
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        kept = step()
        held = torch.cuda.memory_allocated() - before
        del kept
        return torch.cuda.max_memory_allocated() - before if what == "peak" else held
    before = children.resident_bytes()
    kept = step()
    held = children.resident_bytes() - before
    del kept
    return children.peak_bytes() - before if what == "peak" else held


def child_bytes(name: str, what: str, options: argparse.Namespace) -> int:
    """`peak_bytes` in a process of its own."""
    given = ["--measure", json.dumps([name, what])]
    for key in ("batch", "objects", "image", "hidden", "layers", "vocabulary", "threads"):
        given += [f"--{key}", str(getattr(options, key))]
    given += ["--device", options.device, "--dtype", options.dtype]
    given += [f"--{key}" for key in ("diagnose", "checkpointing") if getattr(options, key)]
    return int(last_json(__file__, given))


def measure(options: argparse.Namespace) -> list[Table]:
    """All cases."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    names = [PLAIN, *CASES]
    anchor, peaks = 0, dict[str, int]()
    if options.memory:
        anchor = child_bytes(PLAIN, "held", options)
        peaks = {name: child_bytes(name, "peak", options) for name in names}
    steps = make_steps(options, names)
    times = side_by_side(steps, options.rounds, warm_up=1, clock=clock_of(options.device))
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        iterations = CASES[name][0] if name in CASES else 1
        ratio = ratio_of(times, name, PLAIN)
        rows.append(
            (
                name,
                median_s(times, name),
                Ratio(*(value / iterations for value in ratio)),
                *_memory_cells(peaks, name, anchor if iterations > 1 else 0),
            )
        )
    return [
        Table(
            title=f"Stage 2 iterations: {options.batch} rows of {options.objects} objects, "
            f"H {options.hidden}, {options.layers} layers, {options.device} {options.dtype}",
            columns=(
                ("channel A", ""),
                ("seconds", ".3f"),
                ("times n steps", ".3f"),
                ("peak MiB", ".0f"),
                ("memory, times one step", ".3f"),
                ("less the anchor's graph", ".3f"),
            ),
            rows=tuple(rows),
            notes=(
                "A step is one teacher-forced pass and its gradients."
                + (f" The anchor's graph holds {anchor / 2**20:.0f} MiB." if anchor else ""),
                INTERVAL_NOTE,
            ),
        )
    ]


def _memory_cells(peaks: dict[str, int], name: str, anchor: int) -> tuple[Cell, ...]:
    """MiB, steps' worth of it, and the same without the anchor's graph."""
    if not peaks:
        return None, None, None
    one = peaks[PLAIN]
    return peaks[name] / 2**20, peaks[name] / one, (peaks[name] - anchor) / one


def arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and device."""
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--image", type=int, default=128, help="side in pixels")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=8_192)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--diagnose", action="store_true", help="with diagnostics, in every step")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)


def print_bytes() -> int:
    """In a process of its own: the memory of one case, alone on the last line."""
    name, what = json.loads(sys.argv.pop(2))
    del sys.argv[1]
    parser = argparse.ArgumentParser()
    arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(peak_bytes(name, what, options))
    return 0


if __name__ == "__main__":
    quick = {
        "batch": 1,
        "objects": 2,
        "image": 32,
        "hidden": 64,
        "layers": 2,
        "vocabulary": 2048,
        "rounds": 1,
        "memory": False,
    }
    sys.exit(
        print_bytes()
        if sys.argv[1:2] == ["--measure"]
        else run_script(__doc__, measure, arguments=arguments, quick=quick)
    )
