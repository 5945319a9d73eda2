"""Settings that hold for every test."""

import gc
import os
from collections import Counter

import pytest
from forked_commands import close_shared
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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Files with the most slow tests come first, so that no worker is left alone with one."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish():
    """What collecting has made stays to the end: no collection of garbage looks at it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    close_shared()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    required = item.config.getoption("--require-data") and item.get_closest_marker("data")
    if required and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although the data is required"
    return report
