"""The fuzzer itself: it finds planted faults, refuses none that is fine, and can be repeated."""

import dataclasses
import importlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def recipes():
    """The recipes' folder on the path."""
    sys.path.insert(0, str(ROOT / "recipes"))
    yield
    sys.path.remove(str(ROOT / "recipes"))


def module(name):
    return importlib.import_module(f"fuzzing.{name}")


@pytest.mark.slow
def test_every_target_reads_its_seeds(tmp_path):
    """Seeds are good inputs: each target reads most of its own, and refuses none improperly."""
    target = module("target")
    for name, one in module("table").TARGETS.items():
        seeds = one.seeds()[:4]
        read = 0
        for number, data in enumerate(seeds):
            folder = tmp_path / f"{name} {number}"
            folder.mkdir()
            read += target.run_target(one, data, folder)
        assert read >= len(seeds) / 2, name


@pytest.mark.parametrize("name", ["bytes", "json", "answer"])
def test_inputs_are_a_function_of_the_seed(name):
    """The same seed bends the same input in the same way; another one differently."""
    bend = getattr(module("mutators"), f"bend_{name}")
    data = b'{"a": [1, 2, {"b": "c"}], "d": null}\n' * 3

    def bent(seed):
        rng = random.Random(seed)
        return [bend(data, rng) for _ in range(50)]

    assert bent(1) == bent(1) != bent(2)
    assert len(set(bent(3))) > 25


def planted(error_for):
    """A target that fails where the input says so."""

    def run(data, folder):
        error = error_for(data)
        if error is not None:
            raise error

    target = module("target")
    return target.Target(name="planted", run=run, seeds=lambda: [b"seed"])


def session(tmp_path, one):
    sessions = module("session")
    ledger = sessions.Ledger(name=one.name, engine="random")
    places = {"out": tmp_path / "ledger.json", "folder": tmp_path, "artifacts": tmp_path / "found"}
    return sessions.Session(one, ledger, **places)


def test_crashes_are_findings_once_per_place(tmp_path):
    """What is raised against the rules is kept with its input, and not a second time."""
    one = session(tmp_path, planted(lambda data: ValueError("no") if b"x" in data else None))
    for data in (b"a", b"x", b"xx", b"b"):
        one.feed(data)
    assert one.ledger.executions == 4
    assert one.ledger.read == 2
    (found,) = one.ledger.findings
    assert (tmp_path / "found" / found["input"]).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("text", "fine"), [("one line", True), ("", False), ("two\nlines", False), ("x" * 9000, False)]
)
def test_refusals_are_one_bounded_line(tmp_path, text, fine):
    """A fault told in no line, in two, or in a flood is a finding; one line is a refusal."""

    class RefusalError(Exception):
        """As a server's failures are, which bound no text themselves."""

    target = planted(lambda data: RefusalError(text))
    one = session(tmp_path, dataclasses.replace(target, refuses=lambda: (RefusalError,)))
    one.feed(b"a")
    assert (not one.ledger.findings) == fine


def test_processes_of_one_target_make_one_row():
    """Executions add up, the worst of each stays, and a finding is told once."""
    fuzz = importlib.import_module("fuzz")
    ledger = dataclasses.asdict(module("session").Ledger(name="x", engine="atheris"))
    found = {"error": "ValueError", "place": "a.py:1", "text": "no", "input": "f", "bytes": 1}
    first = ledger | {"executions": 5, "read": 2, "peak_mb": 9.0, "findings": [found]}
    second = ledger | {"executions": 7, "slowest_us_per_byte": 3.0, "findings": [found]}
    second |= {"growth": {"exponent": 1.2}, "seconds": 4.0}
    row = fuzz.merged([first, second])
    assert (row["executions"], row["read"], row["peak_mb"], row["seconds"]) == (12, 2, 9.0, 4.0)
    assert (row["slowest_us_per_byte"], row["growth"]) == (3.0, {"exponent": 1.2})
    assert row["findings"] == [found]


def test_growth_is_told_from_size():
    """A reader of quadratic cost shows an exponent near 2, one of linear cost near 1."""
    growth = module("growth")

    def draw():
        return growth.Pump(b"", b"ab", b"")

    def exponent(feed):
        found = growth.Growth()
        growth.look_for_growth(feed, draw, until=time.monotonic() + 0.05, growth=found)
        return found.exponent

    def quadratic(data):
        for at in range(0, len(data), 4):
            data.count(b"z", at)

    def linear(data):
        for _ in data:
            pass
        sum(bytearray(data * 40))

    assert exponent(quadratic) > 1.5
    assert exponent(linear) < 1.4


@pytest.mark.slow
def test_one_command_makes_the_table(tmp_path):
    """The command prints a row per target, ends with 0 where nothing was found, and writes JSON."""
    arguments = ["--minutes", "0.05", "--engine", "random", "--targets", "class list", "toml"]
    arguments += ["--artifacts", str(tmp_path / "found"), "--json", str(tmp_path / "x.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / "fuzz.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "x.json").read_text())
    assert [row["name"] for row in rows] == ["class list", "toml"]
    assert all(row["finished"] and row["executions"] > 50 for row in rows)
    assert "2 targets" in done.stdout
