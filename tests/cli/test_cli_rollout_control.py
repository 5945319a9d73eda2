"""The options of control on the command line: what they become, and what is refused."""

import inspect
from pathlib import Path

import pytest
import typer

from coordeval.cli.rollout import resolve_options, rollout
from coordeval.cli.rollout_asked import Asked
from coordeval.config import DECODE_TYPES, Defaults
from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.errors import ConfigError

FIXED = {"checkpoint": "x"}


def options(given, tmp_path, decode=None):
    """Options from what was given, over [decode] of a coordeval.toml."""
    defaults = Defaults(source=tmp_path / "coordeval.toml", decode=decode or {})
    return resolve_options(defaults, {"data": tmp_path / "d.jsonl"} | given, **FIXED)


def test_without_options_nothing_is_controlled(tmp_path):
    """The default is free decoding with no guard and no telemetry."""
    made = options({}, tmp_path)
    assert made.constraint == ConstraintSettings()
    assert made.guard == GuardSettings()
    assert not made.telemetry
    assert made.engine == "auto"


def test_options_become_settings(tmp_path):
    """Every option of control reaches its setting."""
    made = options(
        {
            "constrain": "grammar",
            "geometry": "bbox_2d, poly",
            "max_objects": 7,
            "max_points": 9,
            "separators": "compact",
            "ordered": False,
            "sorted_objects": True,
            "loop_guard": "stop",
            "guard_exact": 5,
            "guard_block": 6,
            "guard_near": 7,
            "guard_near_iou": 0.8,
            "guard_cycle": 9,
            "telemetry": True,
        },
        tmp_path,
    )
    assert made.constraint == ConstraintSettings(
        mode="grammar",
        geometries=("bbox_2d", "poly"),
        max_objects=7,
        max_points=9,
        separators="compact",
        ordered=False,
        sorted_objects=True,
    )
    assert made.guard == GuardSettings(
        mode="stop",
        exact_repeats=5,
        block_repeats=6,
        near_repeats=7,
        near_iou=0.8,
        cycle_repeats=9,
    )
    assert made.telemetry


def test_the_file_sets_defaults_and_options_win(tmp_path):
    """[decode] of coordeval.toml may ask for control; the command line has the last word."""
    decode = {"constrain": "coords", "loop_guard": "mark", "telemetry": True, "engine": "hf"}
    made = options({}, tmp_path, decode)
    assert (made.constraint.mode, made.guard.mode, made.telemetry) == ("coords", "mark", True)
    assert made.engine == "hf"
    assert options({"constrain": "none"}, tmp_path, decode).constraint.mode == "none"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_objects": 3}, "needs --constrain grammar"),
        ({"sorted_objects": True, "constrain": "coords"}, "needs --constrain grammar"),
        ({"constrain": "grammar", "geometry": "bbox"}, "geometries must be some of"),
        ({"constrain": "grammar", "geometry": ","}, "geometries must be some of"),
        ({"constrain": "grammar", "max_objects": 0}, "at least 1"),
        ({"constrain": "grammar", "max_points": 2}, "at least 3"),
        ({"loop_guard": "stop", "guard_near_iou": 1.5}, "near-iou"),
        ({"loop_guard": "stop", "guard_exact": 1}, "at least 2"),
    ],
)
def test_contradictions_are_refused(tmp_path, given, message):
    """Values that mean nothing are one line, before anything is read."""
    with pytest.raises(ConfigError, match=message):
        options(given, tmp_path)


def test_settings_survive_a_round_trip_through_json():
    """What run.json stores of constraint and guard reads back equal."""
    constraint = ConstraintSettings(
        mode="grammar", class_names=("a", '"b\\', "日本"), max_points=5, geometries=("poly",)
    )
    back = ConstraintSettings.from_json(constraint.to_json())
    assert back.to_json() == constraint.to_json()
    assert back.orders
    guard = GuardSettings(mode="mark", near_iou=0.9)
    assert GuardSettings.from_json(guard.to_json()) == guard


def test_a_plain_command_is_not_refused_for_switches_it_did_not_give(tmp_path):
    """Typer hands over False for a switch that was not given; free decoding stays free."""
    from typer.testing import CliRunner

    from coordeval.cli.app import app

    data = Path(__file__).parents[2] / "fixtures" / "scenes" / "heldout.jsonl"
    recording = data.parents[1] / "runs" / "ckpt-300"
    command = ["rollout", str(recording), "--engine", "replay", "--data", str(data)]
    found = CliRunner().invoke(app, [*command, "--limit", "2", "--out", str(tmp_path / "run")])
    assert found.exit_code == 0, found.output


def test_every_default_of_the_configuration_can_be_asked_for():
    """What [decode] sets, and what the options of control are called, is an option of rollout."""
    parameters = inspect.signature(rollout).parameters
    asked = Asked.__annotations__
    assert set(DECODE_TYPES) <= set(asked) <= set(parameters)
    assert {name: parameters[name].annotation for name in asked} == {
        name: given.__forward_arg__ for name, given in asked.items()
    }


def test_every_option_of_the_command_line_comes_through(monkeypatch, tmp_path):
    """An option that is given reaches the options of the rollout under its own name."""
    seen = {}

    def stop(defaults, given, **fixed):
        seen.update(given)
        raise typer.Exit

    monkeypatch.setattr("coordeval.cli.rollout.resolve_options", stop)
    monkeypatch.chdir(tmp_path)
    values = {name: object() for name in Asked.__annotations__}
    with pytest.raises(typer.Exit):
        rollout("ckpt", **values)
    assert seen == values
