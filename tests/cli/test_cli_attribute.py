"""`coordeval attribute`: the table, the document, measured runs, exit codes."""

import json
from pathlib import Path

import pytest
from forked_commands import run_forked as run

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
DUMPS = Path(__file__).parents[2] / "fixtures" / "dumps"
BROKEN, SOUND = RUNS / "ckpt-2400", RUNS / "ckpt-300"


def test_the_table_sums_to_the_distance():
    """Loops, drops and misses have rows; the sum row is what is missing to 100 points."""
    done = run("attribute", BROKEN)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert {"Loop", "Drop/wrong_arity", "Drop/unexpected_keys", "Lost", "Miss"} <= set(rows)
    document = json.loads(run("attribute", BROKEN, "--json").stdout)
    expected = [f"{100 * document['distance'][key]:+.2f}" for key in document["distance"]]
    sums = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("sum")]
    assert sums[0][1:4] == expected


def test_the_document_is_whole():
    """Order, descriptions, counts and gains of every type, and the TIDE table."""
    done = run("attribute", DUMPS / "periodic-loops.jsonl", "--json")
    document = json.loads(done.stdout)
    assert document["format"] == "coordeval-attribution/1"
    assert [error["short_name"] for error in document["errors"]] == document["order"]
    assert all(error["description"] for error in document["errors"])
    assert set(document["tide"]["gain"]) == {"Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"}
    assert document["against"] == []


def test_against_shows_what_other_decoding_bought_and_left():
    """Score differences on common ids, and costs side by side; the same run buys nothing."""
    done = run("attribute", BROKEN, "--against", SOUND, "--against", BROKEN, "--json")
    assert done.returncode == 0, done.stderr
    sound, same = json.loads(done.stdout)["against"]
    assert sound["common"] == same["common"] == 64
    for key, bought in sound["bought"].items():
        assert bought == pytest.approx(sound["other"][key] - sound["base"][key])
    assert sound["left"]["f1/0.50/f1"] == pytest.approx(1 - sound["other"]["f1/0.50/f1"])
    assert sound["bought"]["parse/drop_rate"] < 0
    assert set(same["bought"].values()) == {0}
    assert "left for training" in run("attribute", BROKEN, "--against", SOUND).stdout


def test_against_counts_only_common_ids(tmp_path):
    """A shorter run is compared where both have an answer; what is unpaired is counted."""
    lines = (SOUND / "rollouts.jsonl").read_text().splitlines()
    part = tmp_path / "part.jsonl"
    part.write_text("\n".join(lines[:10]) + "\n")
    done = run("attribute", SOUND, "--against", part, "--json", "--scores", "constant")
    (found,) = json.loads(done.stdout)["against"]
    assert (found["common"], found["only_base"], found["only_other"]) == (10, 54, 0)
    assert found["bought"]["f1/0.50/f1"] == 0


def test_objects_in_another_order_are_the_same_ground_truth(tmp_path):
    """A data set shuffled inside its images compares, as it does for `compare`."""
    base = DUMPS / "conforming.jsonl"
    lines = [json.loads(line) for line in base.read_text().splitlines()]
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(json.dumps(line | {"gt": line["gt"][::-1]}) + "\n" for line in lines))
    done = run("attribute", base, "--against", turned, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["against"]
    assert found["bought"]["f1/0.50/f1"] == 0


@pytest.mark.parametrize("other", ["conforming", "moved"])
def test_runs_without_common_ground_truth_are_not_comparable(other, tmp_path):
    """No common id, or another box under the same id: exit code 4."""
    path = DUMPS / f"{other}.jsonl"
    base = SOUND
    if other == "moved":
        base = DUMPS / "conforming.jsonl"
        lines = [json.loads(line) for line in base.read_text().splitlines()]
        next(line for line in lines if line["gt"])["gt"].pop()
        path = tmp_path / "moved.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run("attribute", base, "--against", path)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_lines_in_another_order_buy_nothing(tmp_path):
    """The same answers in another order of lines are the same run, also for AP with tied scores."""
    base = BROKEN / "rollouts.jsonl"
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(base.read_text().splitlines()[::-1]) + "\n")
    arguments = ("--json", "--scores", "constant")
    scored = [json.loads(run("score", path, *arguments).stdout) for path in (base, turned)]
    assert scored[0]["metrics"]["coco/AP"] != scored[1]["metrics"]["coco/AP"]
    (found,) = json.loads(run("attribute", base, "--against", turned, *arguments).stdout)["against"]
    assert found["bought"]["coco/AP"] == 0


def test_faults_have_their_exit_codes(tmp_path):
    """No run: 2; a run of errors alone: 3."""
    assert run("attribute", tmp_path / "none").returncode == 2
    path = tmp_path / "errors.jsonl"
    path.write_text('{"id": "a", "width": 9, "height": 9, "gt": [], "text": "", "error": "x"}\n')
    assert run("attribute", path).returncode == 3
