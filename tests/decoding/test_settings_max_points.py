"""Lines need two points only, so lists of lines may be held to two."""

import pytest

from coordeval.decoding.settings import ConstraintSettings
from coordeval.errors import ConfigError


def test_two_points_are_enough_where_only_lines_occur():
    settings = ConstraintSettings(mode="grammar", geometries=("line", "bbox_2d"), max_points=2)
    assert ConstraintSettings.from_json(settings.to_json()) == ConstraintSettings(
        mode="grammar", geometries=("line", "bbox_2d"), max_points=2, ordered=True
    )
    with pytest.raises(ConfigError, match="at least 2"):
        ConstraintSettings(mode="grammar", geometries=("line",), max_points=1)
    with pytest.raises(ConfigError, match="at least 3"):
        ConstraintSettings(mode="grammar", max_points=2)
