"""The harness around an engine, against the bare engine on the same requests.

Bare is the least anyone would write: open the images, hand all requests over, wait for the tokens.
The harness is `run_rollouts` as the command line uses it: the same images and tokens, and besides
checks, raw log-probabilities, texts, and a run directory whose every line is on the disk. Both use
the model that is already loaded, in turn.

    python benchmarks/bench_engine_overhead.py --engine vllm     in the environment with vLLM
    python benchmarks/bench_engine_overhead.py --engine hf

The checkpoint has random weights, `--hidden` wide: the wider, the more an engine has to do per
token beside the harness. A 4-billion-parameter model is 2,560 wide and has 36 layers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rounds import INTERVAL_NOTE, median_s, ratio_of, side_by_side
from script import run_script
from tables import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.engines.hf import HfEngine
    from coordeval.records import Sample

BARE, OURS = "bare engine", "coordeval harness"
SCENES = Path(__file__).parent.parent / "fixtures" / "scenes" / "heldout.jsonl"
Work = tuple["Callable[[], None]", "Callable[[], None]"]


def write_checkpoint(folder: Path, hidden: int, layers: int) -> Path:
    """A checkpoint with random weights, which hardly ever ends an answer before the limit."""
    from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint

    config = TinyConfig(hidden=hidden, layers=layers, heads=hidden // 32, feed_forward=3 * hidden)
    return write_random_checkpoint(folder / "random", seed=0, config=config)


def harness(engine: Engine, samples: list[Sample], decode: DecodeSettings) -> Callable[[], None]:
    """One run of all samples into a fresh run directory."""
    from coordeval.engines.runner import run_rollouts
    from coordeval.parsers.dialects import dialect_named

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            outcome = run_rollouts(
                engine,
                samples,
                out=Path(folder) / "run",
                identity={"checkpoint": {"name": "random", "hash": "0"}},
                extra={},
                decode=decode,
                dialect=dialect_named("coordjson"),
            )
            assert outcome.counts["errors"] == 0

    return work


def vllm_work(checkpoint: Checkpoint, samples: list[Sample], decode: DecodeSettings) -> Work:
    """Bare `LLM.generate`, and the harness around the same `LLM`."""
    from PIL import Image

    from coordeval.data.prompts import default_prompt
    from coordeval.engines.hf_inputs import render_prompt
    from coordeval.engines.hf_loading import load_reader
    from coordeval.engines.runner import make_requests
    from coordeval.engines.vllm import VllmEngine
    from coordeval.engines.vllm_loading import VllmSetup
    from coordeval.engines.vllm_requests import sampling_params
    from coordeval.parsers.dialects import dialect_named

    dialect = dialect_named("coordjson")
    reader, prompt = load_reader(checkpoint), default_prompt(dialect=dialect)
    engine = VllmEngine(
        checkpoint=checkpoint,
        reader=reader,
        prompt=prompt,
        decode=decode,
        dialect=dialect,
        setup=VllmSetup(dtype="fp32", on_cpu=True),
    )
    llm = engine.start()
    prompt_ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
    requests = make_requests(samples, decode)

    def bare() -> None:
        prompts: list[Any] = [
            {
                "prompt_token_ids": list(prompt_ids),
                "multi_modal_data": {"image": Image.open(sample.image_path).convert("RGB")},
            }
            for sample in samples
            if sample.image_path is not None
        ]
        params = [sampling_params(request, decode, reader, None) for request in requests]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        assert len(outputs) == len(samples)

    return bare, harness(engine, samples, decode)


def hf_engine(checkpoint: Checkpoint, decode: DecodeSettings, batch_size: int = 16) -> HfEngine:
    """The engine on the CPU in fp32, its model loaded."""
    import torch

    from coordeval.data.prompts import default_prompt
    from coordeval.engines.hf import HfEngine
    from coordeval.engines.hf_loading import load_model, load_reader
    from coordeval.parsers.dialects import dialect_named

    dialect = dialect_named("coordjson")
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    return HfEngine(
        reader=load_reader(checkpoint),
        load=lambda: model,
        prompt=default_prompt(dialect=dialect),
        decode=decode,
        dialect=dialect,
        dtype="fp32",
        batch_size=batch_size,
    )


def hf_work(checkpoint: Checkpoint, samples: list[Sample], decode: DecodeSettings) -> Work:
    """Bare `generate` in batches of 16, and the harness around the same kind of model."""
    import torch
    from PIL import Image
    from transformers import GenerationConfig

    from coordeval.data.prompts import default_prompt
    from coordeval.engines.hf_inputs import collate, encode_sample, render_prompt
    from coordeval.engines.hf_loading import load_model, load_reader
    from coordeval.parsers.dialects import dialect_named

    reader, prompt = load_reader(checkpoint), default_prompt(dialect=dialect_named("coordjson"))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    prompt_ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=decode.max_new_tokens,
        eos_token_id=sorted(reader.end_ids),
        pad_token_id=reader.pad_id,
    )

    def bare() -> None:
        for start in range(0, len(samples), 16):
            encoded = [
                encode_sample(
                    prompt_ids,
                    Image.open(sample.image_path).convert("RGB"),
                    reader.image_processor,
                    reader.image_token_id,
                )
                for sample in samples[start : start + 16]
                if sample.image_path is not None
            ]
            batch = collate(encoded, pad_id=reader.pad_id, image_token_id=reader.image_token_id)
            with torch.inference_mode():
                inputs = batch.model_inputs(model.device, model.dtype)
                model.generate(**inputs, generation_config=greedy)

    return bare, harness(hf_engine(checkpoint, decode), samples, decode)


def measure(options: argparse.Namespace) -> list[Table]:
    """One engine; where it is not installed the row says so."""
    from coordeval.data.dataset import open_dataset
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.checkpoint import resolve_checkpoint

    title = (
        f"Rollout harness over the bare engine ({options.engine}): {options.images} images x "
        f"{options.tokens} tokens, {options.layers} layers of {options.hidden}"
    )
    samples = list(open_dataset(SCENES))[: options.images]
    decode = DecodeSettings(max_new_tokens=options.tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = write_checkpoint(Path(folder), options.hidden, options.layers)
        make = vllm_work if options.engine == "vllm" else hf_work
        bare, ours = make(resolve_checkpoint(str(path)), samples, decode)
        times = side_by_side({BARE: bare, OURS: ours}, options.pairs, warm_up=1)
    return [
        Table(
            title=title,
            columns=(
                ("what", ""),
                ("CPU s", ".3f"),
                ("wall s", ".3f"),
                ("CPU, times bare", ".3f"),
                ("wall, times bare", ".3f"),
            ),
            rows=tuple(
                (
                    name,
                    median_s(times, name),
                    median_s(times, name, wall=True),
                    ratio_of(times, name, BARE),
                    ratio_of(times, name, BARE, wall=True),
                )
                for name in (BARE, OURS)
            ),
            notes=(INTERVAL_NOTE,),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine, how wide, how much."""
    parser.add_argument("--engine", choices=("vllm", "hf"), default="hf")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=9)


if __name__ == "__main__":
    quick = {"hidden": 64, "layers": 2, "images": 4, "tokens": 16, "pairs": 2}
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick=quick))
