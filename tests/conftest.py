"""Settings that hold for every test."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


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
