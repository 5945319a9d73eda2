"""Tests of stage 2 share the tiny trainings of stage 1."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
