"""Settings that hold for every test."""

import os

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run; HYPOTHESIS_PROFILE=explore looks for new ones.
common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", derandomize=True, **common)
settings.register_profile("explore", **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser):
    parser.addoption(
        "--require-data",
        action="store_true",
        help="a test marked `data` that is skipped counts as failed",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    required = item.config.getoption("--require-data") and item.get_closest_marker("data")
    if required and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although the data is required"
    return report
