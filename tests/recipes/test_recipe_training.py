"""The training recipes: their configurations hold, and the demo runs from data to curve."""

import importlib
import json
from pathlib import Path

import pytest
from forked_scripts import run_script

from coordeval.data.dataset import open_dataset
from coordeval.runs import open_run
from coordeval.training.config_file import config_yaml, load_config

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
CONFIGS = sorted(RECIPES.glob("*.yaml"))


@pytest.fixture
def recipe(monkeypatch):
    """Imports a recipe as a module."""
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module


def test_there_is_a_configuration_for_every_training_recipe():
    """The recipes that the docs name are there."""
    assert {path.stem for path in CONFIGS} >= {
        "bccd",
        "demo_train",
        "fixture_stage1",
        "stage1_ablation",
        "train_example",
        "train_stage2_example",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_hold(path, tmp_path):
    """Every recipe's file is read, its trainer arguments are known, and it survives a round trip."""
    from coordeval.training.loop.arguments import check_names

    config = load_config(path)
    check_names(config.trainer)
    written = tmp_path / "config.yaml"
    written.write_text(config_yaml(config), encoding="utf-8")
    assert load_config(written) == config


@pytest.mark.parametrize("name", ["train_example", "train_stage2_example"])
def test_examples_name_every_key(name):
    """The example of each stage, which the docs send readers to, leaves no key of it out."""
    import yaml

    path = RECIPES / f"{name}.yaml"
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    full = yaml.safe_load(config_yaml(load_config(path)))
    given.pop("trainer")
    full.pop("trainer")

    def keys(table, prefix=""):
        for key, value in table.items():
            yield prefix + key
            if isinstance(value, dict) and key != "decode":
                yield from keys(value, f"{prefix}{key}.")

    assert set(keys(full)) == set(keys(given))


def test_the_example_of_stage_2_holds_its_defaults():
    """What recipes/train_stage2_example.yaml says of stage 2 is the default, but for `decode`."""
    from dataclasses import asdict

    from coordeval.training.stage2.config import Stage2Config

    given = asdict(load_config(RECIPES / "train_stage2_example.yaml").stage2)
    assert given["channel_b"]["rollout"].pop("decode") == {"max_new_tokens": 1024}
    default = asdict(Stage2Config())
    default["channel_b"]["rollout"].pop("decode")
    assert given == default


def test_ablation_cells_differ_in_the_objective_alone(recipe, tmp_path, monkeypatch):
    """Budget, data, optimizer and schedule of all cells of a seed are the same."""
    from dataclasses import replace

    ablation = recipe("stage1_ablation")
    monkeypatch.setattr(ablation, "write_data", lambda out, **_: out / "scenes")
    monkeypatch.setattr(ablation, "write_start", lambda out, **_: out / "start")
    cells = ablation.cells(tmp_path, [17, 18], ())
    assert len({cell.folder for cell in cells}) == 8
    configs = [load_config(ablation.CONFIG, cell.changes) for cell in cells]
    assert {cell.arm: c.objective.preset for cell, c in zip(cells, configs, strict=True)} == {
        "pure_ce": "pure_ce",
        "soft": "soft",
        "mixed": "mixed",
        "soft+box": "soft",
    }
    boxed = [c.objective.box.active for c in configs]
    assert boxed == [cell.arm == "soft+box" for cell in cells]
    assert len({config_yaml(c) for c in configs}) == 8
    same = {
        config_yaml(replace(c, objective=configs[0].objective, output_dir="", seed=0, model=""))
        for c in configs
    }
    assert len(same) == 1
    for seed in (17, 18):
        starts = {c.model for c in configs if c.seed == seed}
        assert len(starts) == 1


def test_evaluation_scenes_are_never_trained_on(recipe, tmp_path):
    """No training scene is an evaluation scene, whatever the seed; the same call, the same bytes."""
    starting = recipe("shapes_start")
    texts = []
    for seed in (0, 1):
        folder = starting.write_data(tmp_path / str(seed), train=6, evaluation=6, seed=seed)
        texts.append({name: (folder / f"{name}.jsonl").read_text() for name in ("train", "eval")})
        seen = {
            name: [sample.metadata["seed"] for sample in open_dataset(folder / f"{name}.jsonl")]
            for name in ("train", "eval")
        }
        assert len(seen["train"]) == len(seen["eval"]) == 6
        assert not set(seen["train"]) & set(seen["eval"])
    assert texts[0]["eval"] == texts[1]["eval"]
    assert texts[0]["train"] != texts[1]["train"]
    again = starting.write_data(tmp_path / "again", train=6, evaluation=6)
    assert (again / "train.jsonl").read_text() == texts[0]["train"]


def test_tables_of_the_ablation(recipe):
    """Spread over seeds, order by goodness whatever the direction, and the price of a choice."""
    tables = recipe("ablation_tables")
    cells = [
        tables.CellResult(
            objective=name,
            seed=seed,
            step=4,
            values={
                "coord_diag/expected_bin_mae": mae,
                "coord_diag/p_gt_mean": p_gt,
                "f1/0.50/f1": f1,
                "f1/mean/f1": f1 / 2,
                "coco/AP": 0.1,
                "samples/conforming_rate": 1.0,
            },
        )
        for name, seed, mae, p_gt, f1 in (
            ("a", 1, 10.0, 0.2, 0.50),
            ("a", 2, 20.0, 0.1, 0.40),
            ("b", 1, 30.0, 0.4, 0.30),
            ("b", 2, 40.0, 0.3, 0.20),
        )
    ]
    lines = tables.markdown(cells).splitlines()
    assert "| `coord_diag/expected_bin_mae` ↓ | 15.0 [10.0, 20.0] | 35.0 [30.0, 40.0] |" in lines
    assert "| `f1/0.50/f1` ↑ | 0.450 [0.400, 0.500] | 0.250 [0.200, 0.300] |" in lines
    # A lower error is better: in full agreement with F1; AP is constant and ranks nothing.
    row = "| `coord_diag/expected_bin_mae` | +1.00 | +1.00 | - | +1.00 | a, seed 1 | 0.000 |"
    assert row in lines
    row = next(line for line in lines if line.startswith("| `coord_diag/p_gt_mean` | -"))
    assert row.endswith("| +1.00 | b, seed 1 | 0.200 |")
    assert "-0.60" in row


@pytest.mark.parametrize("mirror_x", [False, True])
@pytest.mark.parametrize("mirror_y", [False, True])
def test_boxes_of_a_view_lie_where_the_cell_is(recipe, mirror_x, mirror_y):
    """A dark rectangle in a photo is where its box says, after crop, scaling and mirrors."""
    import numpy as np
    from PIL import Image, ImageDraw

    from coordeval.records import GroundTruthObject

    views = recipe("bccd_views")
    photo = Image.new("RGB", (640, 480), "white")
    box = (300.0, 200.0, 400.0, 280.0)
    ImageDraw.Draw(photo).rectangle(box, fill="black")
    view = views.View((200.0, 100.0, 520.0, 340.0), mirror_x, mirror_y, (1.0, 1.0, 1.0))
    found = views.seen(GroundTruthObject("RBC", "bbox_2d", box), view)
    dark = np.argwhere(np.asarray(views.show(photo, view).convert("L")) < 128)
    (top, left), (bottom, right) = dark.min(0), dark.max(0)
    assert found == pytest.approx((left, top, right, bottom), abs=1.5)


def test_cells_outside_a_view_are_left_out(recipe):
    """What is cropped away, or nearly so, is not taught; what is mostly seen is cut to the view."""
    from coordeval.records import GroundTruthObject

    views = recipe("bccd_views")
    view = views.View((100.0, 100.0, 420.0, 340.0), False, False, (1.0, 1.0, 1.0))
    for box in ((0.0, 0.0, 90.0, 90.0), (60.0, 150.0, 120.0, 200.0)):
        assert views.seen(GroundTruthObject("RBC", "bbox_2d", box), view) is None
    found = views.seen(GroundTruthObject("RBC", "bbox_2d", (90.0, 150.0, 190.0, 200.0)), view)
    assert found[0] == 0.0
    assert found[2] == pytest.approx(90 / 320 * 191)


def _squares(pasted):
    """Cells of two names that are black squares."""
    from PIL import Image

    def cell(desc, size):
        return pasted.Cell(desc, Image.new("RGB", size, "black"), (230, 230, 230))

    return {"Platelets": [cell("Platelets", (40, 36))], "RBC": [cell("RBC", (100, 110))]}


@pytest.mark.parametrize("plan", ["FEW", "CROWD"])
def test_pasted_cells_lie_where_their_boxes_say(recipe, plan):
    """Every dark pixel is in a box, every box is dark in its middle, and the plan's limits hold."""
    import random

    import numpy as np

    pasted = recipe("bccd_pasted")
    plan = getattr(pasted, plan)
    for seed in range(20):
        image, boxes = pasted.scene(random.Random(seed), _squares(pasted), plan)
        assert image.size == plan.size
        assert 1 <= len(boxes) <= plan.most
        dark = np.asarray(image.convert("L")) < 115
        inside = np.zeros_like(dark)
        for (x1, y1, x2, y2), _ in boxes:
            assert 0 <= x1 <= x2 <= plan.size[0] - 1
            assert 0 <= y1 <= y2 <= plan.size[1] - 1
            inside[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = True
            if plan.outside == 0:
                assert dark[int(y1 + y2) // 2, int(x1 + x2) // 2]
        assert not (dark & ~inside).any()
        if plan.overlap == 0:
            assert inside.sum() == sum((b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b, _ in boxes)


def test_scenes_are_the_same_again(recipe):
    """The same seed gives the same scene, another one another."""
    import random

    pasted = recipe("bccd_pasted")
    found = [pasted.scene(random.Random(seed), _squares(pasted), pasted.FEW) for seed in (1, 1, 2)]
    assert found[0][1] == found[1][1] != found[2][1]
    assert found[0][0].tobytes() == found[1][0].tobytes()


def test_phases_of_the_cells_follow_each_other(recipe, tmp_path):
    """Every phase has a valid configuration and its own folder; only the last ends at low rates."""
    bccd = recipe("bccd")
    configs = [
        load_config(bccd.CONFIG, bccd.phase_changes(phase, tmp_path, tmp_path, tmp_path / "m"))
        for phase in bccd.PHASES
    ]
    assert len({c.output_dir for c in configs}) == len(configs)
    assert [c.trainer["max_steps"] for c in configs] == [p.steps for p in bccd.PHASES]
    assert {Path(c.data.prompt) for c in configs} == {bccd.PROMPT}
    assert {c.data.pixels for c in configs} == {bccd.PIXELS}
    assert configs[-1].trainer["lr_scheduler_kwargs"]["min_lr_rate"] == 0.02
    for config in configs:
        assert "test" not in Path(config.data.train).name
        assert Path(config.rollout_eval.data or config.data.eval).name.count("val") == 1


def test_only_whole_phases_are_finished(recipe, tmp_path):
    """A phase that was stopped is gone on with; one that took all its steps is not."""
    bccd = recipe("bccd")
    assert bccd.finished(tmp_path) is None
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        state = {"global_step": step, "max_steps": 4}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        assert bccd.finished(tmp_path) == (None if step == 2 else folder)


@pytest.mark.slow
def test_demo_trains_evaluates_and_shows_the_curve(tmp_path):
    """A few steps from nothing: the log, a run per evaluation, and the curve in both forms."""
    steps = {"trainer.max_steps": 4, "trainer.eval_steps": 2, "rollout_eval.every": 2}
    small = {
        "rollout_eval.limit": 4,
        "rollout_eval.decode.max_new_tokens": 24,
        "data.eval_limit": 4,
        "trainer.per_device_train_batch_size": 2,
        "trainer.dataloader_num_workers": 0,
    }
    given = [part for key, value in (steps | small).items() for part in ("--set", f"{key}={value}")]
    words = ["--out", tmp_path / "demo", "--scenes", 16, *given]
    done = run_script(RECIPES / "demo_train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "demo" / "stage1"
    rows = [json.loads(line) for line in (run / "train_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "grad_norm" in row] == [1, 2, 3, 4]
    curve = [row for row in rows if "eval_rollout/f1/0.50/f1" in row]
    assert [row["step"] for row in curve] == [0, 2, 4]
    for step in (0, 2, 4):
        assert len(list(open_run(run / "eval" / f"step_{step:06d}").rollouts())) == 4
    shown = [line.split()[0] for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert shown == ["0", "2", "4"]
    assert "F1@.50" in done.stdout
    assert "<svg" in (tmp_path / "demo" / "curve.svg").read_text()
    assert (tmp_path / "demo" / "curve.html").stat().st_size > 10_000
