"""The recipe of the stage-2 studies: its arms differ in what they say, and its tables count."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from coordeval.data.dataset import open_dataset
from coordeval.training.config_file import config_yaml

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch):
    """Imports a recipe as a module."""
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module


@pytest.fixture
def studies(recipe):
    """The module of the studies."""
    return recipe("stage2_studies")


def test_all_six_questions_are_there(studies):
    """One study for each question of the notes, each with something to compare."""
    assert set(studies.STUDIES) == {"gate", "anchor", "contexts", "order", "boxes", "channels"}
    assert all(len(study.arms) >= 2 for study in studies.STUDIES.values())


@pytest.mark.parametrize("name", ["gate", "anchor", "contexts", "order", "boxes", "channels"])
def test_cells_have_folders_of_their_own_and_share_what_they_must(studies, name, tmp_path):
    """Cells of a study never share a folder; of one seed they read the same data and seed."""
    pairs = studies.cells_of(name, tmp_path, [17, 18])
    folders = [cell.folder for _, cell in pairs]
    assert len(set(folders)) == len(folders) == 2 * len(studies.STUDIES[name].arms)
    configs = [(cell.seed, cell.settings()) for _, cell in pairs]
    commands = [cell.command for _, cell in pairs]
    assert {config.data.train for _, config in configs} == {str(tmp_path / "scenes/train.jsonl")}
    assert all(config.seed == seed for seed, config in configs)
    texts = [config_yaml(replace(config, output_dir="")) for _, config in configs]
    assert len(set(zip(texts, commands, strict=True))) == len(folders)


def test_gate_arms_differ_in_the_gate_alone(studies, tmp_path):
    """Nothing but the weight of the gate tells the two arms apart."""
    cells = {arm.name: cell for arm, cell in studies.cells_of("gate", tmp_path, [17])}
    without, with_gate = cells["gate 0"].settings(), cells["gate 1"].settings()
    assert (without.stage2.coord_gate_weight, with_gate.stage2.coord_gate_weight) == (0.0, 1.0)
    same = replace(without, stage2=with_gate.stage2, output_dir=with_gate.output_dir)
    assert same == with_gate
    assert with_gate.model == str(cells["base"].checkpoint)


def test_stress_scenes_are_fixed_and_never_trained_on(recipe, tmp_path):
    """The same call writes the same scenes, none of them a training scene; crowded ones are."""
    sets, starting = recipe("stress_sets"), recipe("shapes_start")
    first = sets.write_stress_sets(tmp_path / "one")
    again = sets.write_stress_sets(tmp_path / "two")
    train = starting.write_data(tmp_path, train=8, evaluation=4) / "train.jsonl"
    seeds = {sample.metadata["seed"] for sample in open_dataset(train)}
    for name, stress in first.items():
        assert stress.data.read_bytes() == again[name].data.read_bytes()
    for name in ("plain", "crowded"):
        samples = list(open_dataset(first[name].data))
        assert not {sample.metadata["seed"] for sample in samples} & seeds
    sizes = [len(sample.objects) for sample in open_dataset(first["crowded"].data)]
    assert min(sizes) > 4
    assert not any(sample.objects for sample in open_dataset(first["noise"].data))


def test_tables_give_mean_and_spread(recipe):
    """Values are means over seeds with their range; drops are added up by reason."""
    tables = recipe("study_tables")

    def metrics(f1, arity):
        known = dict.fromkeys(tables.COLUMNS.values())
        reasons = dict.fromkeys((f"parse/dropped/{name}" for name in tables.DROP_REASONS), 0)
        return known | reasons | {"f1/0.50/f1": f1, "parse/dropped/wrong_arity": arity}

    results = [
        tables.ArmResult(
            arm=arm,
            seed=seed,
            stresses={"plain": metrics(f1, arity)},
            course={"loss": {0: 4.0, 100: f1}},
        )
        for arm, seed, f1, arity in (("a", 1, 0.5, 2), ("a", 2, 0.7, 3), ("b", 1, 0.25, 0))
    ]
    lines = tables.stress_table(results).splitlines()
    row = next(line for line in lines if line.startswith("| plain | a |"))
    assert row.split(" | ")[2] == "0.600 [0.500, 0.700]"
    assert row.count("| -") == len(tables.COLUMNS) - 1
    assert "- plain, a: wrong_arity 5" in lines
    assert not any(line.startswith("- plain, b") for line in lines)
    course = tables.course_table(results, ("loss", "absent")).splitlines()
    assert course[0] == "| `loss` | step 0 | step 100 |"
    assert course[2] == "| a | 4 | 0.600 [0.500, 0.700] |"
    assert len(course) == 4


def test_figure_has_a_point_for_every_training(recipe):
    """Every arm and seed is drawn under every stress, on axes that all studies share."""
    tables, figure = recipe("study_tables"), recipe("study_figure")

    def result(arm, seed, f1):
        stresses = {name: {"f1/0.50/f1": f1} for name in ("plain", "sampled", "crowded")}
        return tables.ArmResult(arm=arm, seed=seed, stresses=stresses, course={})

    drawn = figure.study_figure(
        {
            "one": [result("a", 17, 0.5), result("a", 18, 0.7), result("b", 17, None)],
            "two": [result("c", 17, 0.1)],
        }
    )
    assert "one: a 0.60; two: c 0.10" in drawn.alt
    one, two = drawn.spec["vconcat"]
    assert [chart["data"]["values"] for chart in one["hconcat"]] == 3 * [
        [{"arm": "a", "seed": "17", "f1": 0.5}, {"arm": "a", "seed": "18", "f1": 0.7}]
    ]
    ends = {
        layer["encoding"]["x"]["scale"]["domain"][1]
        for study in (one, two)
        for chart in study["hconcat"]
        for layer in chart["layer"]
    }
    assert ends == {0.75}
    with pytest.raises(ValueError, match="no results"):
        figure.study_figure({"one": []})


def test_a_training_that_fails_is_said_and_ends_the_study(studies, tmp_path, monkeypatch, capsys):
    """No table of half a study: one line and the exit code of an incomplete run."""
    monkeypatch.setattr(studies, "prepare", lambda *_: None)
    monkeypatch.setattr(studies, "train_cells", lambda cells, jobs: [1, *[0] * (len(cells) - 1)])
    with pytest.raises(SystemExit) as stop:
        studies.main(["gate", "--out", str(tmp_path), "--seeds", "17"])
    assert stop.value.code == 3
    assert "1 of 3 trainings failed" in capsys.readouterr().err
