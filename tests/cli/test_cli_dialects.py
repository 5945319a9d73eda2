"""Other models' dialects as a person meets them: scoring, asking, `auto`, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordeval.cli.app import app
from coordeval.coords import FRAMES, frame_named
from coordeval.data.canonical import sample_text
from coordeval.errors import CoordevalError
from coordeval.parsers import dialect_named
from coordeval.parsers.dialects import DIALECTS, FOREIGN_DIALECTS
from coordeval.parsers.proposing import ReadText, propose
from coordeval.records import GroundTruthObject, Sample

FIXTURES = Path(__file__).parents[2] / "fixtures"
SIZES = [(1600, 1200), (640, 480), (500, 1400)]
BOXES = [("cat", (100, 50, 400, 300)), ("red car", (20, 200, 333, 460)), ("dog", (3, 4, 480, 460))]


def call(*arguments):
    """Exit code, stdout, stderr; user faults as the main program prints them."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, CoordevalError):
        return result.exception.exit_code, result.stdout, f"{result.stderr}{result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def lines_in(dialect, sizes=SIZES):
    """Rollout lines whose texts are the ground truth, written in a dialect."""
    out = []
    for index, (width, height) in enumerate(sizes):
        objects = tuple(
            GroundTruthObject(desc, "bbox_2d", tuple(map(float, box))) for desc, box in BOXES
        )
        sample = Sample(id=f"im{index}", image="x", width=width, height=height, objects=objects)
        text = sample_text(sample, dialect=dialect, frame=FRAMES["coordexp"], order="as_is")
        gt = [{"desc": desc, "bbox_2d": list(box)} for desc, box in BOXES]
        line = {"id": sample.id, "width": width, "height": height, "gt": gt, "text": text}
        out.append(json.dumps(line))
    return "\n".join(out) + "\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FOREIGN_DIALECTS)
def test_the_truth_in_any_dialect_scores_one(here, name):
    """Parser, frame and matching agree: no IoU is lost beyond the dialect's own grid."""
    (here / "r.jsonl").write_text(lines_in(FOREIGN_DIALECTS[name]))
    code, out, _ = call("score", "r.jsonl", "--dialect", name, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["metrics"]["f1/0.95/f1"] == 1.0
    assert document["metrics"]["samples/conforming_rate"] == 1.0
    assert document["reading"]["dialect"]["name"] == name
    assert document["reading"]["frame"] == FOREIGN_DIALECTS[name].frame


def test_a_frame_option_says_what_the_numbers_mean(here):
    """Thousandths read as pixels are elsewhere; the option wins over the dialect's own frame."""
    (here / "r.jsonl").write_text(lines_in(FOREIGN_DIALECTS["qwen3vl"]))
    code, out, _ = call("score", "r.jsonl", "--dialect", "qwen3vl", "--frame", "pixels", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["reading"]["frame"] == "pixels"
    assert document["metrics"]["f1/0.95/f1"] == 0.0


def test_the_pixels_of_a_resized_image_need_its_limits(here):
    """With other pixel limits the image was resized otherwise, and so are the boxes."""
    (here / "r.jsonl").write_text(lines_in(FOREIGN_DIALECTS["qwen25vl"]))
    arguments = ("score", "r.jsonl", "--dialect", "qwen25vl", "--json", "--frame")
    right = json.loads(call(*arguments, "resized-28:3136:12845056")[1])
    other = json.loads(call(*arguments, "resized-28:3136:200000")[1])
    assert right["metrics"]["f1/0.95/f1"] == 1.0
    assert other["metrics"]["f1/0.95/f1"] < 0.5


OWN_TOML = """\
list = "detections"
name_key = "class"
box_key = "box"
ignore = ["score"]
coordinates = "fraction"
corners = "yxyx"
"""


def test_a_dialect_from_a_file_scores_and_is_shown(here):
    """Score and inspect read it; the numbers stored say what was declared."""
    (here / "mine.toml").write_text(OWN_TOML)
    (here / "r.jsonl").write_text(lines_in(dialect_named("mine.toml")))
    code, out, _ = call("score", "r.jsonl", "--dialect", "mine.toml", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["metrics"]["f1/0.95/f1"] == 1.0
    assert document["reading"]["dialect"]["keys"]["box"] == ["box"]
    code, out, _ = call("inspect", "r.jsonl", "im0", "--dialect", "mine.toml", "--json")
    assert code == 0
    assert [record["verdict"] for record in json.loads(out)["records"]] == ["right"] * 3


def test_coordeval_toml_says_how_a_bare_file_is_read(here):
    """Its dialect and frame hold where neither an option nor run.json says another; it is told."""
    (here / "mine.toml").write_text(OWN_TOML)
    (here / "coordeval.toml").write_text('dialect = "mine.toml"\n')
    (here / "r.jsonl").write_text(lines_in(dialect_named("mine.toml")))
    (here / "p.jsonl").write_text(lines_in(FOREIGN_DIALECTS["paligemma"]))
    for command in ("score", "inspect", "attribute"):
        code, out, err = call(command, "r.jsonl", "--json")
        assert code == 0
        assert "r.jsonl: dialect " in err
    code, out, _ = call("score", "r.jsonl", "--json")
    assert json.loads(out)["metrics"]["f1/0.95/f1"] == 1.0
    code, out, err = call("score", "p.jsonl", "--dialect", "paligemma", "--json")
    assert json.loads(out)["metrics"]["f1/0.95/f1"] == 1.0
    assert "coordeval.toml" not in err
    assert call("import", "p.jsonl", "--dialect", "paligemma", "--out", "run")[0] == 0
    assert json.loads(call("score", "run", "--json")[1])["metrics"]["f1/0.95/f1"] == 1.0
    (here / "coordeval.toml").write_text('dialect = "qwen3vl"\nframe = "pixels"\n')
    (here / "q.jsonl").write_text(lines_in(FOREIGN_DIALECTS["qwen3vl"]))
    code, out, err = call("score", "q.jsonl", "--json")
    assert json.loads(out)["reading"]["frame"] == "pixels"
    assert "q.jsonl: dialect qwen3vl, frame pixels of " in err
    (here / "coordeval.toml").write_text('dialect = "qwen4vl"\n')
    assert call("score", "q.jsonl")[0] == 2


def test_coordeval_toml_says_how_a_dump_is_read_too(here):
    """`import` takes dialect and frame as `score` of the bare file does: the same numbers, told."""
    (here / "r.jsonl").write_text(lines_in(FOREIGN_DIALECTS["paligemma"]))
    (here / "q.jsonl").write_text(lines_in(FOREIGN_DIALECTS["qwen3vl"]))
    (here / "coordeval.toml").write_text('dialect = "paligemma"\n')
    code, _, err = call("import", "r.jsonl", "--out", "p")
    assert code == 0
    assert err.count("r.jsonl: dialect paligemma of ") == 1
    assert json.loads(call("score", "p", "--json")[1])["metrics"]["f1/0.95/f1"] == 1.0
    # An option overrides both keys: the file's frame is not mixed with another dialect.
    (here / "coordeval.toml").write_text('dialect = "paligemma"\nframe = "pixels"\n')
    code, _, err = call("import", "q.jsonl", "--dialect", "qwen3vl", "--out", "o")
    assert (code, "coordeval.toml" in err) == (0, False)
    assert json.loads(call("score", "o", "--json")[1])["metrics"]["f1/0.95/f1"] == 1.0
    (here / "coordeval.toml").write_text('dialect = "qwen3vl"\nframe = "pixels"\n')
    assert call("import", "q.jsonl", "--out", "q")[0] == 0
    assert call("import", "q.jsonl", "--frame", "square-1000", "--out", "s")[0] == 0
    for run, options in (("q", ()), ("s", ("--frame", "square-1000"))):
        bare = json.loads(call("score", "q.jsonl", *options, "--json")[1])
        imported = json.loads(call("score", run, "--json")[1])
        assert imported["reading"] == bare["reading"]
        assert imported["metrics"]["f1/mean/f1"] == bare["metrics"]["f1/mean/f1"]
    (here / "coordeval.toml").write_text('dialect = "auto"\n')
    code, _, err = call("import", "r.jsonl", "--out", "a")
    assert code == 0
    assert "using paligemma" in err
    (here / "coordeval.toml").write_text('dialect = "qwen4vl"\n')
    assert call("import", "r.jsonl", "--out", "w")[0] == 2
    assert not (here / "w").exists()


@pytest.mark.parametrize("name", [*DIALECTS, *FOREIGN_DIALECTS])
def test_auto_proposes_what_the_texts_are_written_in_or_says_what_is_open(here, name):
    """Never another dialect: the right one with its reason, or exit 2 with the table."""
    dialect = DIALECTS.get(name) or FOREIGN_DIALECTS[name]
    (here / "r.jsonl").write_text(lines_in(dialect))
    code, out, err = call("score", "r.jsonl", "--dialect", "auto", "--json")
    assert "conforming" in err
    if code == 2:
        assert "read these texts alike" in err
        assert name in err
        assert out == ""
        return
    document = json.loads(out)
    assert code == 0
    assert document["reading"]["dialect"]["name"] == name
    assert document["reading"]["auto"]["chosen"] == name
    assert f"using {name}: " in err
    assert document["metrics"]["f1/0.95/f1"] == 1.0


@pytest.mark.parametrize(
    "name", ["coordjson", "object-map", "rex-omni", "paligemma", "florence2", "cogvlm"]
)
def test_auto_knows_what_has_its_own_syntax(here, name):
    """These are told by their syntax alone."""
    (here / "r.jsonl").write_text(lines_in(DIALECTS.get(name) or FOREIGN_DIALECTS[name]))
    assert call("score", "r.jsonl", "--dialect", "auto", "--json")[0] == 0


def test_auto_tells_thousandths_from_pixels_where_the_images_do(here):
    """On small images thousandths would lie outside; on large ones they would not, so it asks."""
    thousandths = FOREIGN_DIALECTS["qwen3vl"]
    (here / "small.jsonl").write_text(lines_in(thousandths, [(510, 470)] * 3))
    code, out, _ = call("score", "small.jsonl", "--dialect", "auto", "--json")
    assert code == 0
    assert json.loads(out)["reading"]["dialect"]["name"] == "qwen3vl"
    (here / "large.jsonl").write_text(lines_in(thousandths, [(1920, 1080)] * 3))
    code, _, err = call("score", "large.jsonl", "--dialect", "auto")
    assert code == 2
    assert "qwen25vl" in err
    assert "qwen3vl" in err


RESIZED = "resized-28:802816:12845056"


def pixels_of_an_enlarged_image(here):
    """Lines of Qwen2.5-VL on images that its processor enlarged, beyond the file's own pixels."""
    dialect = replace(FOREIGN_DIALECTS["qwen25vl"], frame=RESIZED)
    (here / "r.jsonl").write_text(lines_in(dialect, [(500, 470)] * 3))
    return dialect


def test_auto_reads_in_the_frame_that_is_named(here):
    """Pixels of an enlarged image look like thousandths, until `--frame` says what they are."""
    pixels_of_an_enlarged_image(here)
    code, out, err = call("score", "r.jsonl", "--dialect", "auto", "--frame", RESIZED, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["reading"]["auto"]["chosen"] == "qwen25vl"
    assert document["metrics"]["f1/0.50/f1"] == 1.0
    code, out, _ = call("score", "r.jsonl", "--dialect", "auto", "--frame", "unit-1000", "--json")
    assert code == 2 or json.loads(out)["reading"]["auto"]["chosen"] != "qwen25vl"


def test_a_dialect_that_the_run_has_itself_keeps_the_runs_frame(here):
    """Naming a run's own dialect again does not replace the pixel limits of its rollout."""
    dialect = pixels_of_an_enlarged_image(here)
    run = here / "run"
    run.mkdir()
    (here / "r.jsonl").rename(run / "rollouts.jsonl")
    meta = {"format": "coordeval-run/1", "status": "complete", "dialect": dialect.to_json()}
    (run / "run.json").write_text(json.dumps(meta))
    code, out, err = call("score", "run", "--dialect", "qwen25vl", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["f1/0.50/f1"] == 1.0
    code, _, err = call("score", "run", "--dialect", "auto")
    assert code == 2
    assert "qwen25vl and qwen3vl read these texts alike" in err


def test_auto_proposes_nothing_for_a_file_of_several_dialects(here):
    """A dialect that reads a part of the texts is not the file's; the others are named."""
    names = ("qwen3vl", "paligemma", "florence2", "rex-omni")
    parts = [lines_in(FOREIGN_DIALECTS[name], [(510, 470)] * 3).splitlines() for name in names]
    rows = [json.loads(line) for part in parts for line in part]
    texts = [json.dumps({**row, "id": str(number)}) for number, row in enumerate(rows)]
    (here / "r.jsonl").write_text("\n".join(texts) + "\n")
    code, out, err = call("score", "r.jsonl", "--dialect", "auto")
    assert code == 2
    assert out == ""
    assert "9 of 12 texts are written in others alone" in err


def test_auto_says_which_texts_its_choice_does_not_read():
    """A few strangers do not change the proposal, and are not passed over in silence."""
    most = lines_in(FOREIGN_DIALECTS["paligemma"], [(510, 470)] * 3).splitlines()
    one = lines_in(FOREIGN_DIALECTS["florence2"], [(510, 470)] * 3).splitlines()[:1]
    rows = [json.loads(line) for line in most * 7 + one]
    texts = [ReadText(row["text"], row["width"], row["height"]) for row in rows]
    proposal = propose(texts, frame_named("coordexp"))
    assert proposal.chosen == "paligemma"
    assert "1 of 22 texts are written in others alone: florence2 (1)" in proposal.why


@pytest.mark.parametrize("text", ["", "I see a cat and a dog."])
def test_auto_proposes_nothing_for_texts_without_objects(here, text):
    """No text, or none with an object, is exit 2."""
    line = {"id": "a", "width": 9, "height": 9, "gt": [], "text": text}
    (here / "r.jsonl").write_text(json.dumps(line) + "\n")
    code, _, err = call("inspect", "r.jsonl", "--dialect", "auto")
    assert code == 2
    assert "--dialect auto" in err


def world(here, dialect):
    """A dataset with images, and a recording of it in a dialect."""
    from PIL import Image

    (here / "rec.jsonl").write_text(lines_in(dialect))
    records = []
    for index, (width, height) in enumerate(SIZES):
        Image.new("RGB", (width, height)).save(here / f"{index}.png")
        record = {"id": f"im{index}", "image": f"{index}.png", "width": width, "height": height}
        record["objects"] = [{"desc": desc, "bbox_2d": list(box)} for desc, box in BOXES]
        records.append(json.dumps(record))
    (here / "data.jsonl").write_text("\n".join(records) + "\n")


def rolled(*options):
    return call(
        *("rollout", "rec.jsonl", "--engine", "replay", "--data", "data.jsonl", "--out", "run"),
        *("--no-score", *options),
    )


def test_a_rollout_stores_dialect_frame_and_the_familys_own_prompt(here):
    """The run then scores, compares and inspects without being told its dialect again."""
    world(here, FOREIGN_DIALECTS["qwen3vl"])
    code, _, err = rolled("--dialect", "qwen3vl")
    assert code == 0, err
    meta = json.loads((here / "run" / "run.json").read_text())
    assert meta["dialect"]["name"] == "qwen3vl"
    assert meta["frame"] == "unit-1000"
    assert meta["prompt"]["name"] == "qwen3vl-open"
    assert "Report bbox coordinates in JSON format" in meta["prompt"]["user"]
    code, out, _ = call("score", "run", "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["f1/0.95/f1"] == 1.0
    assert rolled("--dialect", "qwen3vl")[0] == 0  # the same command goes on with the same run


def test_pixel_limits_are_part_of_what_qwen25s_pixels_mean(here):
    """--pixels settles the frame, and the run says so."""
    world(here, FOREIGN_DIALECTS["qwen25vl"])
    assert rolled("--dialect", "qwen2.5-vl", "--pixels", "3136:200000")[0] == 0
    meta = json.loads((here / "run" / "run.json").read_text())
    assert meta["dialect"]["name"] == "qwen25vl"
    assert meta["frame"] == meta["dialect"]["frame"] == "resized-28:3136:200000"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dialect", "auto"), "has to be named"),
        (("--dialect", "qwen4"), "unknown dialect 'qwen4'"),
        (("--dialect", "rex-omni"), "asks for named classes"),
        (("--dialect", "paligemma"), "asks for named classes"),
        (("--dialect", "qwen3vl", "--loop-guard", "stop"), "another model's"),
        (("--dialect", "qwen3vl", "--constrain", "grammar"), "--constrain"),
        (("--dialect", "qwen3vl", "--telemetry"), "--telemetry"),
        (("--dialect", "absent.toml"), "absent.toml"),
        (("--dialect", "cogvlm", "--field-order", "geometry_first"), "has only desc_first"),
    ],
)
def test_what_a_dialect_cannot_have_is_refused_in_one_line(here, options, says):
    """Before anything is made, with exit code 2."""
    world(here, FOREIGN_DIALECTS["qwen3vl"])
    code, _, err = rolled(*options)
    assert code == 2
    assert says in err
    assert not (here / "run").exists()


def test_a_class_list_makes_the_prompt_name_the_classes(here):
    """With COCO data the family's detection prompt lists its names, in the family's own way."""
    from coordeval.data.dataset import open_dataset
    from coordeval.data.prompt_choice import choose_prompt

    coco = {
        "images": [{"id": 1, "file_name": "0.png", "width": 9, "height": 9}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "red car"}],
    }
    (here / "instances.json").write_text(json.dumps(coco))
    dataset = open_dataset(here / "instances.json")
    asked = {
        name: choose_prompt(None, dialect, dataset.categories).user
        for name, dialect in {**FOREIGN_DIALECTS, "coordjson": DIALECTS["coordjson"]}.items()
    }
    assert asked["qwen3vl"] == (
        'Locate every instance that belongs to the following categories: "cat, red car". '
        "Report bbox coordinates in JSON format."
    )
    assert asked["rex-omni"].startswith("Detect cat, red car. Output the bounding box")
    assert asked["paligemma"] == "detect cat ; red car"
    assert "cat, red car" in asked["qwen25vl"]
    assert "cat. red car" in asked["florence2"]
    assert "each mentioned object" in asked["cogvlm"]
    assert "Use only these names" not in asked["coordjson"]
    assert (
        "every object"
        in choose_prompt("open", FOREIGN_DIALECTS["qwen3vl"], dataset.categories).user
    )


def test_an_imported_dump_may_be_read_by_auto(here):
    """`import --dialect auto` proposes from the dump's texts and stores what it chose, and why."""
    (here / "raw_rollouts.jsonl").write_text(lines_in(FOREIGN_DIALECTS["paligemma"]))
    code, _, err = call(
        *("import", "raw_rollouts.jsonl", "--dialect", "auto", "--out", "run"),
        *("--gt-space", "pixels"),
    )
    assert code == 0, err
    assert "--dialect auto: using paligemma" in err
    meta = json.loads((here / "run" / "run.json").read_text())
    assert meta["dialect_proposal"]["chosen"] == meta["dialect"]["name"] == "paligemma"
    assert meta["frame"] == "unit-1024"
    code, out, _ = call("score", "run", "--json")
    assert json.loads(out)["metrics"]["f1/0.95/f1"] == 1.0
    assert json.loads(out)["reading"]["auto"]["chosen"] == "paligemma"


@pytest.mark.slow
def test_a_checkpoint_is_asked_in_another_dialect(here):
    """The Hugging Face engine asks with the family's prompt, and its texts are read as they are."""
    code, _, err = call(
        *("rollout", FIXTURES / "shapes-final", "--data", FIXTURES / "scenes" / "heldout.jsonl"),
        *("--dialect", "qwen3vl", "--limit", "2", "--max-new-tokens", "16", "--engine", "hf"),
        *("--device", "cpu", "--out", "run"),
    )
    assert code == 0, err
    meta = json.loads((here / "run" / "run.json").read_text())
    assert meta["prompt"]["name"].startswith("qwen3vl-")
    assert meta["counts"]["finished"] == 2


def test_a_dialect_file_in_coordeval_toml_stands_beside_it(here, monkeypatch):
    """Its path is relative to coordeval.toml, as all paths in that file are."""
    world(here, FOREIGN_DIALECTS["qwen3vl"])
    (here / "mine.toml").write_text('like = "qwen3vl"\n')
    (here / "coordeval.toml").write_text('data = "data.jsonl"\ndialect = "mine.toml"\n')
    (here / "prompt.toml").write_text('user = "Detect."\n')
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    code, _, err = call(
        *("rollout", here / "rec.jsonl", "--engine", "replay", "--out", here / "run"),
        *("--no-score", "--prompt", here / "prompt.toml"),
    )
    assert code == 0, err
    assert json.loads((here / "run" / "run.json").read_text())["dialect"]["name"] == "mine"


def test_a_declared_dialect_is_asked_with_a_prompt_of_the_users_own(here):
    """Nobody else knows how to ask for it: without one, exit 2 and what to give."""
    world(here, FOREIGN_DIALECTS["qwen3vl"])
    (here / "mine.toml").write_text('like = "qwen3vl"\n')
    code, _, err = rolled("--dialect", "mine.toml")
    assert code == 2
    assert "--prompt FILE.toml" in err
