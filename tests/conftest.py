"""How properties are searched: the same examples every time, unless a deep search is asked for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Tests start hundreds of interpreters: each would compile the library anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders of long tests come first, so that no process is left with a long one in the end."""
    long = ("tests/reliability/", "tests/examples/", "tests/testing/", "tests/domain/")
    items.sort(
        key=lambda item: next((nth for nth, folder in enumerate(long) if item.nodeid.startswith(folder)), len(long))
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
