"""The wheel and the sdist, built once for all tests here."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from clean_environments import ROOT, run
from filelock import FileLock


class Built(NamedTuple):
    """What `python -m build` made."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Built from the working tree as a release is: the wheel out of the sdist, in isolation."""
    out = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one build for all workers
        out = out.parent
    out /= "dist"
    with FileLock(f"{out}.lock"):
        if not list(out.glob("*.whl")):
            run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)
