"""Training configurations: what is read, and what is refused before anything is loaded."""

import pytest
import yaml

from coordeval.errors import ConfigError
from coordeval.training.config import PRESETS, ObjectiveConfig
from coordeval.training.config_file import build_config, config_hash, config_yaml, load_config

SMALLEST = {"model": "m", "output_dir": "out", "data": {"train": "train.jsonl"}}


def write(tmp_path, raw):
    """A configuration file of these values."""
    path = tmp_path / "stage1.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_paths_start_at_the_file(tmp_path):
    """Relative paths in the file are relative to its folder; a model that is not there stays."""
    config = load_config(write(tmp_path, SMALLEST))
    assert config.data.train == str(tmp_path / "train.jsonl")
    assert config.output_dir == str(tmp_path / "out")
    assert config.model == "m"
    (tmp_path / "m").mkdir()
    assert load_config(tmp_path / "stage1.yaml").model == str(tmp_path / "m")


def test_changes_win_over_the_file(tmp_path):
    """`--set` reaches nested keys, with YAML's types, and creates tables on the way."""
    path = write(tmp_path, SMALLEST | {"objective": {"preset": "soft"}})
    config = load_config(
        path,
        [
            "objective.preset=pure_ce",
            "objective.box.ciou=0.5",
            "trainer.learning_rate=1e-4",
            "data.packing=true",
            "data.eval=null",
            "tune.language_lr=2e-5",
        ],
    )
    assert config.objective.preset == "pure_ce"
    assert config.objective.box.ciou == 0.5
    assert config.data.packing is True
    assert config.data.eval is None
    assert config.tune.language_lr == 2e-5
    assert set(config.trainer) == {"learning_rate"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"objectiv": {}}, "did you mean objective"),
        ({"data": {"train": "x", "max_lenght": 5}}, "did you mean data.max_length"),
        ({"objective": {"box": {"cious": 1}}}, "did you mean objective.box.ciou"),
        ({"objective": {"preset": "hard"}}, "pure_ce, soft, mixed"),
        ({"objective": {"sigma": -1}}, "sigma"),
        ({"objective": {"sigma": "wide"}}, "objective.sigma must be float"),
        ({"objective": {"temperature": 0}}, "temperature"),
        ({"objective": {"temperature": float("inf")}}, "temperature"),
        ({"objective": {"truncate": -1}}, "truncate"),
        ({"seed": -1}, "seed: -1 is not from 0"),
        ({"seed": 1 << 32}, "seed"),
        ({"data": {}}, "data.train is missing"),
        ({"data": ["x"]}, "data must hold keys"),
        ({"data": {"train": "x", "packing": "yes please"}}, "packing must be bool"),
        ({"data": {"train": "x", "limit": 1.5}}, "limit must be"),
        ({"stage": 3}, "stage"),
        ({"tune": {"what": "head"}}, "coord_rows"),
        ({"rollout_eval": {"engine": "ray"}}, "hf, vllm, process"),
        ({"rollout_eval": {"every": -1}}, "negative"),
        (
            {"objective": {"preset": "pure_ce", "text_ce": 0, "hard_ce": 0}},
            "no term has a weight",
        ),
    ],
)
def test_what_makes_no_sense_is_named(raw, message):
    """Unknown keys, wrong types and contradictions say which key and what it may be."""
    with pytest.raises(ConfigError, match=message):
        build_config(SMALLEST | raw, where="here")


@pytest.mark.parametrize("change", ["a", "=1", "a..b=1", "model.x=1"])
def test_malformed_changes_are_refused(tmp_path, change):
    """A change that is none is one clear line."""
    with pytest.raises(ConfigError, match="--set"):
        load_config(write(tmp_path, SMALLEST), [change])


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    """Broken YAML and other documents are faults of the user."""
    for text in ("[1, 2", "- a\n", "!!python/object/apply:os.system ['true']"):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(ConfigError):
            load_config(tmp_path / "x.yaml")


def test_printing_and_reading_back_is_the_identity(tmp_path):
    """The printed configuration holds every default and reads back equal, with the same hash."""
    config = build_config(SMALLEST | {"objective": {"preset": "soft"}}, where="here")
    (tmp_path / "again.yaml").write_text(config_yaml(config))
    raw = yaml.safe_load(config_yaml(config))
    again = build_config(raw, where="again")
    assert again == config
    assert config_hash(again) == config_hash(config)
    moved = build_config(raw | {"output_dir": "elsewhere"}, where="again")
    assert config_hash(moved) == config_hash(config)
    assert config_hash(build_config(raw | {"seed": 1}, where="x")) != config_hash(config)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fill_what_is_left_open(preset):
    """A preset's weights hold where none is given, and give way where one is."""
    weights = ObjectiveConfig(preset=preset).weights()
    assert {name: weights[name] for name in PRESETS[preset]} == PRESETS[preset]
    assert ObjectiveConfig(preset=preset, w1=3.0).weights()["w1"] == 3.0
    assert weights["text_ce"] == 1.0
