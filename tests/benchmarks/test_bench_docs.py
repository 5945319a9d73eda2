"""The docs page is what the stored results give, and a run of all leaves nothing unsaid."""

import json
import sys
from pathlib import Path

import run_all
import write_docs
from rounds import Ratio
from tables import Table

ROOT = Path(__file__).resolve().parents[2]
RESULT = {
    "format": "coordeval-bench/1",
    "script": "bench_parsing.py",
    "about": "",
    "quick": False,
    "date": "2026-01-02",
    "seconds": 90.0,
    "load": [0.5, 1.25],
    "machine": {
        "cpu": "A processor",
        "cores": 2,
        "memory_gib": 23.5,
        "system": "Linux 6",
        "python": "3.11.7",
        "threads": "1",
    },
    "versions": {"numpy": "2.0"},
    "tables": [
        Table(
            title="Some title",
            columns=(("text", ""), ("us", ".1f"), ("ratio", ".2f")),
            rows=(("3 boxes", 12.345, Ratio(0.5, 0.4, 0.61)),),
        ).to_json()
    ],
}


def stored():
    return json.loads(write_docs.KEPT.read_text(encoding="utf-8"))


def test_the_page_is_what_the_stored_results_give():
    """docs/benchmarks.md is made of docs/benchmarks.json; mend with benchmarks/write_docs.py."""
    assert write_docs.PAGE.read_text(encoding="utf-8") == write_docs.page(stored())


def test_the_picture_is_what_the_stored_results_give():
    """docs/images/growth.svg is drawn from the same file."""
    assert write_docs.PICTURE.read_text(encoding="utf-8") == write_docs.picture(stored())


def test_the_stored_results_name_no_machine_of_ours():
    """No host and no folder of the machine that measured is in the published results."""
    text = write_docs.KEPT.read_text(encoding="utf-8")
    assert "/home" not in text
    assert str(ROOT) not in text
    assert "/tmp/" not in text


def test_a_page_shows_machine_versions_load_and_numbers():
    """Every table comes with where and with what it was measured."""
    page = write_docs.page({"parsing": RESULT})
    for part in (
        "2026-01-02; A processor, 2 cores, 24 GiB, Linux 6, Python 3.11.7, OMP_NUM_THREADS=1",
        "numpy 2.0",
        "load while it ran: 0.5 to 1.2",
        "| 3 boxes | 12.3 | 0.50 [0.40, 0.61] |",
        "**Some title**",
    ):
        assert part in page
    assert "a look, not figures" not in page


def test_small_sizes_and_other_versions_are_said():
    """Figures of `--quick` are marked, and two versions of one package both stand there."""
    other = RESULT | {"quick": True, "versions": {"numpy": "2.1"}, "date": "2026-01-05"}
    page = write_docs.page({"parsing": RESULT, "guard": other})
    assert "a look, not figures" in page
    assert "numpy 2.0 and 2.1" in page
    assert "2026-01-02 to 2026-01-05" in page
    assert page.count("*small sizes*") == 2  # in the note, and at the one section
    assert "`make bench` measures" in page


def test_a_page_of_small_sizes_names_the_command_that_made_it():
    """The minutes are those of the command beside them, and every section tells its own load."""
    page = write_docs.page({"parsing": RESULT | {"quick": True}})
    assert "`make bench QUICK=1` measures all of this again (2 minutes here)" in page
    assert "These are the small sizes" in page
    assert "`benchmarks/bench_parsing.py`, 90 s, load 0.5 to 1.2, *small sizes*" in page


def test_what_could_not_be_measured_says_why():
    """A benchmark without a result keeps its heading, with the reason."""
    missing = {"format": "coordeval-bench/1", "script": "x.py", "missing": "vLLM is not installed"}
    page = write_docs.page({"parsing": RESULT, "overhead_vllm": missing})
    assert "## Rollout harness on vLLM\n\nNot measured: vLLM is not installed.\n" in page


def test_every_step_has_a_section_and_a_script():
    """What `make bench` runs is what the page can show, in the same order, and all of it exists."""
    assert [step.name for step in run_all.STEPS] == list(write_docs.SECTIONS)
    for step in run_all.STEPS:
        assert (run_all.HERE / step.script).is_file()


def test_every_benchmark_script_is_run():
    """No script is forgotten by `make bench`; Ray's needs a cluster and prints for itself."""
    scripts = {path.name for path in run_all.HERE.glob("bench_*.py")}
    assert scripts - {step.script for step in run_all.STEPS} <= {"bench_ray.py"}


def test_without_the_second_environment_the_step_says_so(tmp_path, monkeypatch):
    """The row of vLLM is a reason where vLLM is not, and an older result does not stand in for it."""
    monkeypatch.setenv("COORDEVAL_VLLM_PYTHON", str(tmp_path / "nowhere"))
    step = next(step for step in run_all.STEPS if step.environment == run_all.VLLM)
    (tmp_path / f"{step.name}.json").write_text(json.dumps(RESULT))
    reason = run_all.run_step(step, tmp_path, quick=True)
    assert "not installed" in reason
    results = write_docs.read_results(tmp_path)
    assert results[step.name]["missing"] == reason


def test_a_failing_script_fails_the_run_and_is_named(tmp_path, monkeypatch, capsys):
    """The others still run; the exit code is 1 and the result says what happened."""
    fails, works = tmp_path / "fails.py", tmp_path / "works.py"
    fails.write_text("raise SystemExit(7)")
    works.write_text(
        "import sys, json; from pathlib import Path\n"
        "Path(sys.argv[sys.argv.index('--json') + 1]).write_text('{}')"
    )
    steps = (run_all.Step("fails", str(fails)), run_all.Step("works", str(works)))
    monkeypatch.setattr(run_all, "STEPS", steps)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--out", str(out)])
    assert run_all.main() == 1
    assert "fails" in capsys.readouterr().err
    assert json.loads((out / "fails.json").read_text())["missing"].endswith("exit code 7")
    assert json.loads((out / "works.json").read_text()) == {}


def test_no_results_is_an_error(tmp_path, monkeypatch, capsys):
    """An empty folder leaves the kept results and the page as they were."""
    kept = tmp_path / "kept.json"
    monkeypatch.setattr(
        sys, "argv", ["write_docs.py", "--results", str(tmp_path), "--kept", str(kept)]
    )
    assert write_docs.main() == 2
    assert "make bench" in capsys.readouterr().err
    assert not kept.exists()


def test_results_become_page_picture_and_kept_file(tmp_path, monkeypatch):
    """One command makes all three, and the kept file alone makes the same page again."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "parsing.json").write_text(json.dumps(RESULT))
    paths = [tmp_path / name for name in ("kept.json", "page.md", "growth.svg")]
    flags = [
        text
        for pair in zip(("--kept", "--page", "--picture"), map(str, paths), strict=True)
        for text in pair
    ]
    monkeypatch.setattr(sys, "argv", ["write_docs.py", "--results", str(folder), *flags])
    assert write_docs.main() == 0
    first = paths[1].read_text()
    monkeypatch.setattr(sys, "argv", ["write_docs.py", *flags])
    assert write_docs.main() == 0
    assert paths[1].read_text() == first == write_docs.page({"parsing": RESULT})
    assert not paths[2].exists()
