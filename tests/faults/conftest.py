"""A warmed process, a reference run, and disks that are small or cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from forked_commands import FIXTURES, SCENES, shared_commands

RECORDING = FIXTURES / "runs" / "ckpt-300"


@pytest.fixture(scope="session")
def commands():
    """Commands of a process that has imported everything but torch."""
    return shared_commands()


@pytest.fixture(scope="session")
def rollout_words():
    """Makes the words of a rollout on the replay engine into a folder."""

    def words(out, *more, batch_size=4):
        return (
            *("rollout", RECORDING, "--engine", "replay", "--data", SCENES),
            *("--out", out, "--batch-size", batch_size, "--no-score", *more),
        )

    return words


@pytest.fixture(scope="session")
def whole_run(commands, rollout_words, tmp_path_factory):
    """The run of an undisturbed rollout; not to be changed."""
    out = tmp_path_factory.mktemp("reference") / "run"
    assert commands.run(*rollout_words(out)).code == 0
    return out


@pytest.fixture
def run(whole_run, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(whole_run, tmp_path / "run")


@pytest.fixture
def small_run(commands, rollout_words, tmp_path):
    """A run of six images, to be changed."""
    out = tmp_path / "small"
    assert commands.run(*rollout_words(out, "--limit", 6)).code == 0
    return out


@pytest.fixture(scope="session")
def memory(tmp_path_factory):
    """A folder in memory where there is one: hundreds of synced runs need no disk to be killed."""
    shared = Path("/dev/shm")
    if not (shared.is_dir() and os.access(shared, os.W_OK)):
        yield tmp_path_factory.mktemp("memory")
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="coordeval-faults-") as folder:
        yield Path(folder)


@pytest.fixture
def place(memory):
    """A folder of its own for a test, on that disk."""
    return Path(tempfile.mkdtemp(dir=memory))


@pytest.fixture
def disk(tmp_path):
    """Makes small disks: tmpfs where root may mount, else the test is skipped with the reason."""
    mounted = []

    @contextmanager
    def make(size):
        point = tmp_path / f"disk{len(mounted)}"
        point.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", point)
        mounted.append(point)
        yield Disk(point)

    yield make
    for point in mounted:
        subprocess.run(["umount", "--lazy", point], check=True)


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path):
        self.path = path

    def grow(self, size):
        """Give it more room."""
        _mount("-o", f"remount,size={size}", self.path)

    def forbid_writing(self):
        """Remount it read-only."""
        _mount("-o", "remount,ro", self.path)


def _mount(*words):
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
