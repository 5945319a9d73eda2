"""A Ray cluster of two nodes on this machine; without Ray nothing is collected."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest

HAS_RAY = importlib.util.find_spec("ray") is not None
collect_ignore_glob = [] if HAS_RAY else ["test_*.py"]


def pytest_configure(config):
    if HAS_RAY:  # its own deprecated imports
        for category in ("DeprecationWarning", "FutureWarning", "UserWarning"):
            config.addinivalue_line("filterwarnings", f"ignore::{category}")


@pytest.fixture(scope="session")
def cluster():
    """Two nodes of one CPU each; the first one has room for the desk and for this process."""
    from clustering import HARM

    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: it holds socket paths
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(HARM)
    settings = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
    }
    kept = {name: os.environ.get(name) for name in (*settings, "RAY_ADDRESS")}
    os.environ.update(settings)
    os.environ.pop("RAY_ADDRESS", None)
    from ray.cluster_utils import Cluster

    poisoned = {"PYTHONPATH": str(folder / "site")}
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "env_vars": poisoned}
    made = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    made.add_node(**node)
    made.node_arguments = node
    yield made
    made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
