"""How properties are searched: the same examples every time, unless a deep search is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

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
