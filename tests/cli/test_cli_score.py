"""`coordeval score` and `coordeval inspect`: outputs, files, exit codes, hostile text."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from forked_commands import run_forked

from coordeval.records import GroundTruthObject, Rollout
from coordeval.runs import RunWriter

DUMPS = Path(__file__).parents[2] / "fixtures" / "dumps"
LIMITED = DUMPS / "identical-to-limit.jsonl"


def run(*arguments, env=None):
    return run_forked(*arguments, env=env)


def line(**changes):
    text = '{"objects": [{"desc": "cat", "bbox_2d": [<|coord_0|>, <|coord_0|>, <|coord_500|>, <|coord_500|>]}]}'
    base = {"id": "a", "width": 1000, "height": 1000, "text": text}
    base["gt"] = [{"desc": "Cat ", "bbox_2d": [0, 0, 500, 500]}]
    return base | changes


def write(path, *lines):
    path.write_text("".join(json.dumps(item) + "\n" for item in lines))
    return path


def test_json_of_a_bare_file_is_metrics_json_and_writes_nothing(tmp_path):
    """A bare file's scores are printed and not stored."""
    dump = write(tmp_path / "d.jsonl", line())
    done = run("score", dump, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["format"] == "coordeval-metrics/1"
    assert document["metrics"]["f1/0.50/f1"] == 1.0
    assert document["metrics"]["coco/AP"] == pytest.approx(1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


def test_out_stores_the_tables_of_a_bare_file(tmp_path):
    """--out gets every file of a score folder."""
    dump = write(tmp_path / "d.jsonl", line())
    assert run("score", dump, "--out", tmp_path / "s").returncode == 0
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert names == {
        "metrics.json",
        "per_image.parquet",
        "per_class.parquet",
        "objects.parquet",
        "coco_results.json",
    }


def make_run(path):
    identity = {
        "checkpoint": {"name": "c", "hash": "h"},
        "frame": "unit-1000",
        "dialect": {"name": "coordjson"},
    }
    gt = (GroundTruthObject("cat", "bbox_2d", (0.0, 0.0, 50.0, 50.0)),)
    text = line()["text"]
    with RunWriter(path, identity=identity, extra={}) as writer:
        writer.append([Rollout(id="a", width=100, height=100, gt=gt, text=text)])
        writer.finish("complete", {})
    return path


def test_scores_of_a_run_stand_in_its_folder_by_protocol(tmp_path):
    """The default protocol writes score/, another one score@NAME/."""
    folder = make_run(tmp_path / "run")
    assert run("score", folder).returncode == 0
    assert run("score", folder, "--protocol", "rex-omni").returncode == 0
    first = json.loads((folder / "score" / "metrics.json").read_text())
    other = json.loads((folder / "score@rex-omni" / "metrics.json").read_text())
    assert first["metrics"]["coco/AP"] == pytest.approx(1.0)
    assert (first["protocol"]["name"], other["protocol"]["name"]) == ("coordeval", "rex-omni")


def test_the_declared_frame_is_used_and_an_option_overrides_it(tmp_path):
    """Bins mean what the run says, unless --frame says otherwise."""
    folder = make_run(tmp_path / "run")
    own = json.loads(run("score", folder, "--json", "--out", tmp_path / "a").stdout)
    other = json.loads(
        run("score", folder, "--frame", "coordexp", "--json", "--out", tmp_path / "b").stdout
    )
    assert own["reading"]["frame"] == "unit-1000"
    assert own["metrics"]["f1/mean/f1"] == 1.0
    assert other["reading"]["frame"] == "coordexp"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "coco"], "unknown protocol"),
        (["--frame", "coordxp"], "unknown coordinate frame"),
        (["--dialect", "json"], "unknown dialect"),
        (["--field-order", "desc"], "desc_first or geometry_first"),
        (["--classes", "/nonexistent"], "--classes"),
        (["--scores", "scores"], "scores"),
    ],
)
def test_wrong_options_are_exit_2_with_one_line(tmp_path, arguments, message):
    """A wrong option says what is wrong with it."""
    done = run("score", write(tmp_path / "d.jsonl", line()), *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_evaluate_is_exit_3(tmp_path):
    """An empty file, and one with engine errors alone, evaluate nothing."""
    failed = line(finish_reason="error", error="no image", text="")
    for lines in ([], [failed]):
        done = run("score", write(tmp_path / "d.jsonl", *lines), "--json")
        assert done.returncode == 3
        assert json.loads(done.stdout)["status"] == "empty"


def test_scores_of_another_length_are_an_error_that_names_the_sample(tmp_path):
    """One confidence per found record, or exit code 2."""
    done = run("score", write(tmp_path / "d.jsonl", line(scores=[0.5, 0.6])))
    assert done.returncode == 2
    assert "'a'" in done.stderr or " a" in done.stderr


def test_a_class_list_makes_other_names_wrong(tmp_path):
    """--classes closes the universe: names outside it are false positives."""
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\n\ncat\n")
    two = line(
        text=line()["text"].replace(
            "]}]}",
            ']}, {"desc": "owl", "bbox_2d": [<|coord_1|>, <|coord_1|>, <|coord_9|>, <|coord_9|>]}]}',
        )
    )
    done = run("score", write(tmp_path / "d.jsonl", two), "--classes", classes, "--json")
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["f1/0.50/tp"], metrics["f1/0.50/fp"]) == (1, 1)


def test_a_class_list_is_read_as_a_rollout_reads_it(tmp_path):
    """A byte order mark, a JSON list and repeated names change nothing."""
    found = []
    for name, data in (
        ("plain.txt", b"dog\ncat\n"),
        ("marked.txt", b"\xef\xbb\xbfdog\r\ncat\ndog\n"),
        ("list.json", b'["dog", "cat"]'),
    ):
        (tmp_path / name).write_bytes(data)
        done = run(
            *("score", write(tmp_path / "d.jsonl", line()), "--json"),
            *("--classes", tmp_path / name),
        )
        found.append(json.loads(done.stdout)["protocol"]["classes"])
    assert found[0]["count"] == 2
    assert found == [found[0]] * 3


def test_the_report_is_plain_where_nobody_looks():
    """Piped output has no escape codes, and reads the same under NO_COLOR."""
    done = run("score", LIMITED)
    assert "\x1b" not in done.stdout
    for expected in (
        "dropped records",
        "truncated_record",
        "images with a loop",
        "COCO",
        "worst images",
    ):
        assert expected in done.stdout
    assert done.stderr == ""


def test_inspect_lists_the_worst_first_and_marks_the_loop():
    """Without an id the worst samples; with one, its records, the loop and the misses."""
    rows = json.loads(run("inspect", LIMITED, "--json").stdout)
    assert [row["failures"] for row in rows] == sorted(
        (row["failures"] for row in rows), reverse=True
    )
    listing = run("inspect", LIMITED).stdout
    assert listing.index(rows[0]["id"]) < listing.index(rows[-1]["id"])
    one = run("inspect", LIMITED, "kite-x32").stdout
    assert "↻ the record above, x 32 in all" in one
    assert "to the end" in one
    assert "missed:" in one


def test_inspect_shows_every_drop_with_its_reason():
    """A dropped record stands there with reason, detail and slot."""
    dump = DUMPS / "cjk-slots.jsonl"
    worst = json.loads(run("inspect", dump, "--json", "--reason", "wrong_arity").stdout)[0]["id"]
    document = json.loads(run("inspect", dump, worst, "--json").stdout)
    drops = [record for record in document["records"] if record["reason"]]
    assert drops
    assert {(drop["reason"], drop["detail"]) for drop in drops} == {
        ("wrong_arity", "foreign_token")
    }
    first = drops[0]
    assert first["evidence"] in document["text"][first["start"] : first["end"]]
    assert f"in slot {first['slot'] + 1}" in run("inspect", dump, worst).stdout


def test_inspect_filters_and_refuses_unknown_names():
    """--reason and --issue select; unknown names list the known ones."""
    assert json.loads(run("inspect", LIMITED, "--reason", "wrong_arity", "--json").stdout) == []
    looped = json.loads(run("inspect", LIMITED, "--loops", "--json").stdout)
    assert looped and all(row["loop"] for row in looped)
    for option in ("--reason", "--issue"):
        done = run("inspect", LIMITED, option, "nope")
        assert done.returncode == 2
        assert "use one of" in done.stderr
    done = run("inspect", LIMITED, "kite-x33")
    assert done.returncode == 2
    assert "did you mean 'kite-x32'" in done.stderr


def test_hostile_descriptions_reach_neither_terminal_nor_markup(tmp_path):
    """Escape sequences, markup and right-to-left marks are shown as signs."""
    evil = "\\u001b[2J\\u001b]0;owned\\u0007 [bold]x[/bold] \\u202e"
    text = line()["text"].replace("cat", evil)
    dump = write(
        tmp_path / "d.jsonl",
        line(id="i\x1b[31m", text=text, gt=[{"desc": "\x1b[5mz", "bbox_2d": [1, 1, 9, 9]}]),
    )
    for arguments in (["score", dump], ["inspect", dump], ["inspect", dump, "i\x1b[31m"]):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert "\u202e" not in done.stdout
    assert "[bold]x[/bold]" in done.stdout
    assert "\\x1b[2J" in done.stdout or "\\u001b[2J" in done.stdout


def test_a_damaged_run_is_said_with_file_and_line(tmp_path):
    """A broken line in the middle is an error with its number, not a crash or a silent loss."""
    folder = make_run(tmp_path / "run")
    path = folder / "rollouts.jsonl"
    path.write_bytes(b"{broken\n" + path.read_bytes())
    done = run("score", folder)
    assert done.returncode == 2
    assert f"{path}:1: " in done.stderr
    shutil.rmtree(folder)
    assert run("score", folder).returncode == 2


def test_inspect_lists_what_another_run_does_better():
    """--worse-than keeps the samples whose F1 fell, and none where a run is held against itself."""
    runs = DUMPS.parent / "runs"
    fallen = json.loads(
        run(
            "inspect",
            runs / "ckpt-2400",
            "--worse-than",
            runs / "ckpt-300",
            "--limit",
            64,
            "--json",
        ).stdout
    )
    risen = json.loads(
        run(
            "inspect",
            runs / "ckpt-300",
            "--worse-than",
            runs / "ckpt-2400",
            "--limit",
            64,
            "--json",
        ).stdout
    )
    assert len(fallen) > len(risen) > 0
    assert not {row["id"] for row in fallen} & {row["id"] for row in risen}
    assert (
        json.loads(
            run("inspect", runs / "ckpt-300", "--worse-than", runs / "ckpt-300", "--json").stdout
        )
        == []
    )


def test_the_commands_that_are_named_next_can_be_pasted(tmp_path):
    """What `score` and `inspect` name next runs as it stands: spaces quoted, the reading kept."""
    text = '{"objects": [{"desc": "cat", "bbox_2d": [1, 2, 3, 4]}]}'
    folder = make_run(tmp_path / "my run")
    write(folder / "rollouts.jsonl", line(text=text, id="a b"))
    options = ("--dialect", "coordjson-bins", "--frame", "unit-1000")
    scored = run("score", folder, *options)
    listed = run("inspect", folder, *options)
    for done, mark in ((scored, "next: coordeval "), (listed, "one of them: coordeval ")):
        words = shlex.split(done.stdout.partition(mark)[2].splitlines()[0])
        again = run(*words)
        assert again.returncode == 0, again.stderr
        assert "wrong_arity" not in again.stdout
