"""How properties are searched: the same examples every time, unless a deep search is asked for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

# Tests start hundreds of interpreters: each would compile the library anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# So few examples show that a property is a property. `bench` simulates, races and fuzzes at full size, and "deep" searches.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=2000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deep" if os.environ.get("RETURNABLE_HYPOTHESIS") == "deep" else "ci")


LONG = ("tests/reliability/", "tests/examples/", "tests/testing/", "tests/domain/")
"""Folders of long tests. Those of reliability run proofs of ``bench`` at sizes at which each still meets every trouble that
it counts, and notices what it is to notice. docs/reliability.md tells of the runs at full size."""

COVERS = (
    *("tests/domain/", "tests/policy/", "tests/projections/", "tests/front/", "returnable/"),
    "tests/testing/test_fakes.py",  # of domain/effects.py
    "tests/adapters/test_export.py",  # of projections/exports.py
)
"""Tests that count for coverage, which more than doubles the time of a test. Only the domain and the projections are
measured, and these tests reach them. Their Hypothesis tests do not count: a line that only a search reaches has no test that
says what it is for."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests come first, so that no process is left with one in the end; coverage is measured by some folders only."""
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if not item.nodeid.startswith(COVERS) or is_hypothesis_test(getattr(item, "function", None)):
                item.add_marker("no_cover")
    items.sort(
        key=lambda item: next((nth for nth, folder in enumerate(LONG) if item.nodeid.startswith(folder)), len(LONG))
    )


class SharedOut:
    """With ``-n``, each process keeps to modules, whose servers it starts once, until it has none left and takes others'."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(SharedOut())


@pytest.fixture(autouse=True)
def _logging_is_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up logging for the process; it ends with the test."""
    log = logging.getLogger("returnable")
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="session", autouse=True)
def _servers_are_stopped() -> Iterator[None]:
    """The servers that a test may have started end with the tests."""
    yield
    jetstream = sys.modules.get("jetstream")
    if jetstream is not None and jetstream.own_nats.cache_info().currsize:
        jetstream.own_nats().stop()
    postgres = sys.modules.get("postgres")
    if postgres is not None and postgres.own_server.cache_info().currsize:
        postgres.own_server().stop()
