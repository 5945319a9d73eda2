"""Promises about the table of what each engine can do."""

from __future__ import annotations

import pytest

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.engines.capabilities import (
    CAPABILITIES,
    FEATURES,
    PROCESSOR_FLAG,
    SERVER_WITH,
    SERVER_WITHOUT,
    asked_features,
    capability_table,
    require_capabilities,
)
from coordeval.engines.opening import SOURCES
from coordeval.errors import ConfigError


def decode(**options):
    return DecodeSettings(max_new_tokens=9, **options)


def constrained(mode, **options):
    return decode(constraint=ConstraintSettings(mode=mode, **options))


ASKING = {
    "coords": constrained("coords"),
    "grammar": constrained("grammar", ordered=False),
    "ordered": constrained("grammar"),
    "sorted": constrained("grammar", ordered=False, sorted_objects=True),
    "guard": decode(guard=GuardSettings(mode="stop")),
    "telemetry": decode(telemetry=True),
}


def test_the_table_is_whole():
    """Every engine has a row, every row every feature, and each refusal a remedy."""
    own = set(SOURCES) - {"server", "ray"}  # Ray can do what the engine inside it can
    assert set(CAPABILITIES) == own | {SERVER_WITH, SERVER_WITHOUT}
    for row in CAPABILITIES.values():
        assert list(row) == list(FEATURES) or set(row) == set(FEATURES)
        assert all(bool(cell.remedy) != cell.possible for cell in row.values())


def test_settings_name_their_features():
    """Free decoding asks for nothing; each setting for its own."""
    assert asked_features(decode()) == []
    for name, settings in ASKING.items():
        assert name in asked_features(settings)
    assert asked_features(constrained("grammar")) == ["grammar", "ordered"]
    assert asked_features(constrained("coords")) == ["coords"]
    assert asked_features(constrained("coords", ordered=True)) == ["coords", "ordered"]


@pytest.mark.parametrize("engine", CAPABILITIES)
@pytest.mark.parametrize("feature", FEATURES)
def test_refusals_follow_the_table(engine, feature):
    """What a cell says is what happens, and the message names an engine that can."""
    cell = CAPABILITIES[engine][feature]
    if cell.possible:
        require_capabilities(engine, ASKING[feature])
        return
    with pytest.raises(ConfigError) as caught:
        require_capabilities(engine, ASKING[feature])
    assert cell.remedy in str(caught.value)
    assert "hf" in str(caught.value)
    assert engine in str(caught.value)


def test_a_plain_server_is_told_the_flag():
    """Where our processor is needed, the flag that loads it is in the message."""
    for feature in ("coords", "ordered", "sorted"):
        with pytest.raises(ConfigError) as caught:
            require_capabilities(SERVER_WITHOUT, ASKING[feature])
        assert PROCESSOR_FLAG in str(caught.value)


def test_the_markdown_table_has_every_cell():
    """One row per engine, as many columns as features and one."""
    head, rule, *rows = capability_table().splitlines()
    assert head.count("|") == len(FEATURES) + 2 == rule.count("|")
    assert len(rows) == len(CAPABILITIES)
    for line, (engine, row) in zip(rows, CAPABILITIES.items(), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells == [engine, *(row[name].how for name in FEATURES)]
