"""vLLM and Hugging Face side by side on the fixture checkpoints; without vLLM nothing is collected.

vLLM takes seconds to start, so tests share one per checkpoint and put other settings around it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HAS_VLLM = importlib.util.find_spec("vllm") is not None
collect_ignore_glob = [] if HAS_VLLM else ["test_*.py"]
FIXTURES = Path(__file__).parents[2] / "fixtures"

if HAS_VLLM:
    from coordeval.engines.vllm_settings import set_environment

    set_environment(on_cpu=True, controlled=True)


def pytest_configure(config):
    if HAS_VLLM:  # its own deprecated imports, and those of what it imports
        for category in ("DeprecationWarning", "FutureWarning", "UserWarning", "SyntaxWarning"):
            config.addinivalue_line("filterwarnings", f"ignore::{category}")


class Bench:
    """One checkpoint with both engines; every engine of it shares the loaded models."""

    def __init__(self, path):
        import torch

        from coordeval.data.prompts import default_prompt, load_prompt
        from coordeval.engines.checkpoint import resolve_checkpoint
        from coordeval.engines.hf_loading import load_model, load_reader
        from coordeval.parsers.dialects import dialect_named

        self.checkpoint = resolve_checkpoint(str(path))
        self.reader = load_reader(self.checkpoint)
        self.dialect = dialect_named("coordjson")
        own = FIXTURES / "prompts" / "polygons.toml"
        polygons = self.checkpoint.name == "ckpt-polygons"
        self.prompt = load_prompt(own) if polygons else default_prompt(dialect=self.dialect)
        self._load = lambda: load_model(
            self.checkpoint, device=torch.device("cpu"), dtype=torch.float32
        )
        self._model, self._llm = None, None

    @property
    def model(self):
        if self._model is None:
            self._model = self._load()
        return self._model

    def hf(self, decode, **options):
        from coordeval.engines.hf import HfEngine

        arguments = {
            "reader": self.reader,
            "load": lambda: self.model,
            "prompt": self.prompt,
            "dialect": self.dialect,
            "dtype": "fp32",
        }
        return HfEngine(decode=decode, **(arguments | options))

    def new_vllm(self, decode, *, engine_args=None, **options):
        """An engine that will start a vLLM of its own."""
        from coordeval.engines.vllm import VllmEngine
        from coordeval.engines.vllm_loading import VllmSetup

        setup = VllmSetup(dtype="fp32", on_cpu=True, engine_args=engine_args or {})
        arguments = {
            "checkpoint": self.checkpoint,
            "reader": self.reader,
            "prompt": self.prompt,
            "dialect": self.dialect,
            "setup": setup,
        }
        return VllmEngine(decode=decode, **(arguments | options))

    def vllm(self, decode, **options):
        """An engine around the one vLLM of this checkpoint, which has our processor loaded."""
        if self._llm is None:
            from coordeval.decoding.settings import GuardSettings
            from coordeval.engines.base import DecodeSettings

            self._starter = self.new_vllm(
                DecodeSettings(max_new_tokens=1, samples=2, guard=GuardSettings(mode="mark"))
            )
            self._llm = self._starter.start()
        return self.new_vllm(decode, llm=self._llm, **options)

    def close(self):
        if self._llm is not None:
            self._starter.close()


@pytest.fixture(scope="session")
def benches():
    """Gives the bench of a fixture checkpoint by name, or of any checkpoint folder."""
    made = {}

    def bench(name):
        if name not in made:
            made[name] = Bench(FIXTURES / name)
        return made[name]

    yield bench
    for each in made.values():
        each.close()


@pytest.fixture(scope="session")
def scenes():
    """The held-out scenes as samples."""
    from coordeval.data.dataset import open_dataset

    return list(open_dataset(FIXTURES / "scenes" / "heldout.jsonl"))


@pytest.fixture(scope="session")
def scenes_of(scenes):
    """The held-out scenes that a fixture checkpoint was made for."""
    from coordeval.data.dataset import open_dataset

    outlines = list(open_dataset(FIXTURES / "scenes" / "outlines.jsonl"))
    return lambda name: outlines if name == "ckpt-polygons" else scenes


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    """Twelve noise images as samples."""
    from coordeval.data.dataset import open_dataset
    from coordeval.data.noise import write_noise_images

    return list(open_dataset(write_noise_images(tmp_path_factory.mktemp("noise"), count=12)))


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """A checkpoint folder of the fixtures' shape whose weights are random."""
    from coordeval.training.tiny.model import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "tiny", seed=3)
