"""The wheel in clean environments: base install, demo, scores, on every Python that is here."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from clean_environments import ROOT, interpreter, run

from coordeval.metrics.score import METRICS_VERSION
from coordeval.parsers import PARSER_VERSION

pytestmark = pytest.mark.wheel

PYTHONS = ("3.11", "3.12", "3.13")
NO_NETWORK = {  # whatever asks for the network meets a closed door
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONPATH": "",
}


@pytest.mark.parametrize("version", PYTHONS)
def test_a_clean_environment_runs_the_demo_and_scores_a_packaged_run(version, built, tmp_path):
    """Help, demo, score, compare and report work offline, with no torch, and say frozen numbers."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    run(python, "-m", "venv", tmp_path / "venv")
    clean = tmp_path / "venv" / "bin"
    run(clean / "python", "-m", "pip", "install", "--quiet", "--no-compile", built.wheel)
    run(clean / "python", "-m", "pip", "check")
    absent = "import importlib.util as u; print([m for m in ('torch', 'transformers') if u.find_spec(m)])"
    assert run(clean / "python", "-c", absent).stdout.strip() == "[]"
    (tmp_path / "work").mkdir()
    demo_and_scores(clean, tmp_path / "work")
    refusals(clean, tmp_path / "work")


def demo_and_scores(clean, work):
    """What a base install promises, run in the folder `work` without a network."""
    coordeval = clean / "coordeval"
    offline = {"cwd": work, "env": NO_NETWORK}
    assert "rollout" in run(coordeval, "--help", **offline).stdout
    shown = run(coordeval, "demo", "--offline", **offline).stdout
    assert all(word in shown for word in ("ckpt-300", "ckpt-2400", "bbox_3d"))
    document = json.loads(run(coordeval, "demo", "--offline", "--json", **offline).stdout)
    for name, scores in document.items():
        assert_frozen(scores["metrics"], name)
    where = "import coordeval.cli.demo as d; print(d.PACKAGED)"
    runs = Path(run(clean / "python", "-c", where, **offline).stdout.strip()) / "runs"
    good, broken = runs / "ckpt-300", runs / "ckpt-2400"
    scored = run(coordeval, "score", broken, "--out", work / "s", "--json", **offline)
    assert_frozen(json.loads(scored.stdout)["metrics"], "ckpt-2400")
    assert "worse" in run(coordeval, "compare", good, broken, **offline).stdout
    page = run(coordeval, "report", good, "-o", work / "r.html", "--json", **offline)
    assert json.loads(page.stdout)["images_missing"] == 0


def assert_frozen(metrics, name):
    """The metrics are those frozen under fixtures/expected, whatever the versions of libraries."""
    versions = f"{PARSER_VERSION}.{METRICS_VERSION}"
    expected = ROOT / "fixtures" / "expected" / versions / f"{name}.json"
    frozen = json.loads(expected.read_text(encoding="utf-8"))["metrics"]
    assert set(frozen) <= set(metrics)
    for key, value in frozen.items():
        near = value if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)
        assert metrics[key] == near, key


def refusals(clean, work):
    """Without an extra or a checkout, commands end with 2 and one line that mends it."""
    demo = failed(clean / "coordeval", "demo", "--rollout", cwd=work)
    assert demo.returncode == 2
    assert "--fixtures" in demo.stderr
    rollout = failed(clean / "coordeval", "rollout", ROOT / "fixtures" / "ckpt-300", cwd=work)
    assert rollout.returncode == 2
    assert "pip install 'coordeval[hf]'" in rollout.stderr


def failed(*command, cwd):
    """A process that is allowed to fail."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd
    )


def test_every_extra_resolves(built):
    """One set of versions serves all extras but vllm at once; nothing is installed."""
    done = run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"),
        f"{built.wheel}[bench,browser,docs,fuzz,ray,semantic,server,train]",
    )
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert any(item["metadata"]["name"] == "coordeval" for item in report["install"])


def test_tests_run_from_the_sdist(built, tmp_path):
    """Unpacked anywhere, the sdist's own tests of fixtures, data and release pass."""
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    some = ("tests/golden", "tests/data", "tests/docs/test_docs_release.py")
    pytest_there = (sys.executable, "-m", "pytest", *quiet, *some, "-m", "not slow and not data")
    run(*pytest_there, cwd=folder, env={"PYTHONPATH": str(folder)})
