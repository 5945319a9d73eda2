"""`dynamics`, `import`, `export`, `overlay` on the command line: outputs, streams, exit codes."""

import json
import sys
from pathlib import Path

import pytest
import typer
from forked_commands import run_forked
from typer.testing import CliRunner

from coordeval.cli.dynamics import dynamics
from coordeval.cli.export import export
from coordeval.cli.import_run import import_run
from coordeval.cli.overlay import overlay
from coordeval.errors import ConfigError, DataError
from coordeval.reports.dynamics import dynamics_sections, render_markdown

FIXTURES = Path(__file__).parents[2] / "fixtures"
LOGS = FIXTURES / "logs"
DUMPS = FIXTURES / "dumps"


def call(function, *arguments):
    """Run one verb as the verb table does; errors of ours are raised."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_dynamics_prints_the_tables(monkeypatch):
    """The terminal shows the turning point, the audit, pixels and the warnings."""
    monkeypatch.setenv("NO_COLOR", "1")
    done = call(dynamics, LOGS / "summary-4b")
    text = " ".join(done.stdout.split())
    assert "improves until 400, then worsens" in text
    assert "not comparable" in text
    assert "4.8058" in text
    assert "\x1b" not in done.stdout
    fault = call(dynamics, LOGS / "accumulation-fault", "--image-size", "640x480")
    text = " ".join(fault.stdout.split())
    assert "factor 1/8 (8 accumulation steps in the log)" in text
    assert "15.3 x 11.5" in text


def test_dynamics_json_is_one_document():
    """Everything that is printed is there as data; curves on demand."""
    document = json.loads(call(dynamics, LOGS / "ablation-4b", "--json").stdout)
    assert document["format"] == "coordeval-dynamics/1"
    assert document["common_eval_steps"]["count"] == 17
    assert {audit["verdict"] for audit in document["ratios"]} == {"same_scale"}
    assert "curves" not in document
    curves = json.loads(call(dynamics, LOGS / "ablation-4b", "--json", "--curves").stdout)["curves"]
    assert {curve["log"] for curve in curves} == {"mixed", "pure_ce", "softce_w1_gate"}


def test_dynamics_markdown_cannot_be_broken_by_names(tmp_path):
    """Pipes, tags and line breaks of keys and folders stay inside their cells."""
    folder = tmp_path / "a|b <img src=x>"
    folder.mkdir()
    row = {"step": 1, "loss": 1.0, "k|ey\n<script>": 2.0}
    (folder / "logging.jsonl").write_text(json.dumps(row) + "\n")
    text = call(dynamics, folder, "--markdown", "--all").stdout
    assert "<script>" not in text.replace("\\<", "")
    table = [line for line in text.splitlines() if line.startswith("|")]
    for line in table:
        assert line.replace("\\|", "").count("|") in {3, 8}


def test_dynamics_end_table_in_markdown():
    """The published summary, as Markdown rows."""
    from coordeval.dynamics.analysis import analyse
    from coordeval.dynamics.discover import read_logs

    text = render_markdown(dynamics_sections(analyse(read_logs([LOGS / "summary-4b"]))))
    assert "| max eval step | 1932 | 1344 | 1832 |" in text
    assert "| eval coord_diag/soft_ce | 4.8058 | 3.6293 | 3.5260 |" in text
    assert "| eval coord_diag/ce | - | 3.4371 | 0 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patch", "16"], "--image-size"),
        (["--image-size", "big"], "WIDTHxHEIGHT"),
        (["--image-size", "0x0"], "pixels"),
        (["--json", "--markdown"], "choose one"),
        (["--at", "41"], "--at 41"),
    ],
)
def test_dynamics_refuses_nonsense(arguments, message):
    """Options that make no sense are one clear error."""
    with pytest.raises(ConfigError, match=message):
        call(dynamics, LOGS / "ablation-4b", *arguments)


def test_dynamics_names_what_is_missing(tmp_path):
    """A folder without logs and a path that is not there."""
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=path.name):
            call(dynamics, path)


def monitor_dump(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        '{"objects": [{"desc": "cat", "bbox_2d": [<|coord_1|>, 第九, <|coord_3|>, <|coord_4|>]}]}'
    )
    stats = {"parse_dropped_invalid": 1, "parse_dropped_invalid_by_reason": {"wrong_arity": 1}}
    sample = {
        "sample_id": "s\x1b[31m", "image": "a.jpg", "width": 64, "height": 64, "rollout_text": text,
        "gt_objects": [{"geom_type": "bbox_2d", "points_norm1000": [1, 2, 3, 4], "desc": "cat"}],
        "stats": stats,
    }  # fmt: skip
    bad = {"sample_id": 2, "width": 64, "height": 64, "gt_objects": []}
    document = {"global_step": step, "samples": [sample, bad]}
    (folder / f"step_{step:06d}.json").write_text(json.dumps(document))


def test_import_says_what_it_did(tmp_path):
    """Counts, the reason for what is left out, the cross-check, and no control characters."""
    monitor_dump(tmp_path / "monitor_dumps", 300)
    done = call(import_run, tmp_path, "--out", tmp_path / "run")
    assert "1 of 2 samples imported" in done.stdout
    assert "1 no_verbatim_text" in done.stdout
    assert "wrong_arity: 1 reported, 1 found" in done.stdout
    assert "\x1b" not in done.stdout
    assert (tmp_path / "run" / "rollouts.jsonl").exists()


def test_import_per_step_and_json(tmp_path):
    """One run per step, each ready to be compared with the other."""
    for step in (300, 2400):
        monitor_dump(tmp_path / "monitor_dumps", step)
    done = call(import_run, tmp_path, "--out", tmp_path / "runs", "--per-step", "--json")
    documents = json.loads(done.stdout)
    assert [Path(document["out"]).name for document in documents] == ["step-300", "step-2400"]
    assert [document["written"] for document in documents] == [1, 1]
    with pytest.raises(ConfigError, match="choose one"):
        call(import_run, tmp_path, "--out", tmp_path / "r", "--per-step", "--step", "300")


def test_export_prints_the_files(tmp_path):
    """Files on stdout, remarks on stderr; --json has both."""
    dump = DUMPS / "broken-records.jsonl"
    done = call(export, dump, "--to", "coco", "-o", tmp_path / "c")
    assert done.stdout.splitlines() == [
        str(tmp_path / "c" / n) for n in ("results.json", "ground_truth.json")
    ]
    assert "left out" in done.stderr
    document = json.loads(
        call(export, dump, "--to", "fiftyone", "-o", tmp_path / "f", "--json").stdout
    )
    assert len(document["files"]) == 2
    assert call(export, dump, "--to", "yolo", "-o", tmp_path / "y").exit_code == 2


def test_overlay_writes_png_and_svg(tmp_path):
    """Both kinds, with toggles; notes go to stderr."""
    dump = DUMPS / "identical-to-limit.jsonl"
    for name in ("x.png", "x.svg"):
        done = call(overlay, dump, "person-x32", "-o", tmp_path / name, "--no-gt", "--no-labels")
        assert done.stdout.strip() == str(tmp_path / name)
        assert "no image" in done.stderr
        assert (tmp_path / name).stat().st_size > 1000


def test_importing_the_verbs_loads_no_heavy_package():
    """The four command files import nothing heavy before they are called."""
    import subprocess

    code = (
        "import sys, coordeval.cli.dynamics, coordeval.cli.export, coordeval.cli.import_run, "
        "coordeval.cli.overlay; "
        "heavy = {'torch', 'pandas', 'numpy', 'PIL', 'pyarrow', 'tensorboard'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["dynamics", "{logs}/ablation-4b", "--json"], 0),
        (["dynamics", "{tmp}"], 2),
        (["dynamics", "{logs}/ablation-4b", "--at", "1"], 2),
        (["import", "{tmp}/empty.json", "--out", "{tmp}/r"], 3),
        (["import", "{tmp}/none", "--out", "{tmp}/r"], 2),
        (["export", "{dumps}/conforming.jsonl", "--to", "coco", "-o", "{tmp}/c"], 0),
        (["overlay", "{dumps}/conforming.jsonl", "no-such-id", "-o", "{tmp}/x.png"], 2),
    ],
)
def test_exit_codes(tmp_path, arguments, code):
    """The four verbs end as the command line promises, without a traceback."""
    (tmp_path / "empty.json").write_text('{"samples": []}')
    filled = [text.format(logs=LOGS, dumps=DUMPS, tmp=tmp_path) for text in arguments]
    done = run_forked(*filled)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 0 or done.stderr.startswith("error: ")
