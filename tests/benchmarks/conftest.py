"""The benchmark scripts import each other as scripts do: from their own folder."""

import gc
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))


@pytest.fixture(autouse=True)
def frozen(monkeypatch):
    """Benchmarks collect garbage between calls; what stands before a test is none, and is much."""
    gc.freeze()
    monkeypatch.setattr(gc, "unfreeze", lambda: None)
