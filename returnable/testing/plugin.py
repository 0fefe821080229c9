"""The pytest plugin: the fixtures ``desk``, ``clock`` and ``scenario``, the marker ``at``, scenarios and edges as tests.

Pytest finds it without any configuration. Nothing but pytest is imported before a test uses it. A host can change the
setting ``returnable_policy``, and the fixtures ``returnable_policy`` and ``returnable_store``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from returnable.testing.frozen import prepare_if_loaded

if TYPE_CHECKING:
    from returnable.facade import Desk
    from returnable.testing.around_edges import Around
    from returnable.testing.clock import FrozenClock, Moment
    from returnable.testing.scenario import Scenario

_EDGES = "returnable_edges"
"""The marker that ``@edges`` sets."""
SCENARIO = ".scenario.jsonl"
"""The ending of the files that are collected as tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings, all with defaults."""
    parser.addini(
        "returnable_policy",
        "The policy of the fixtures and scenarios: a TOML file, a directory of versions (both from the folder of the "
        "configuration file), or the name of a bundled one. Default: the bundled one in force.",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    config.addinivalue_line(
        "markers",
        "at(when, tz=None): the test runs at this instant, on a frozen clock; a time without an offset is meant in the zone "
        "tz, by default that of the policy.",
    )
    config.addinivalue_line(
        "markers",
        f"{_EDGES}(…): written as @returnable.testing.edges(…); the test runs around every edge of a history.",
    )


def _policy_setting(config: pytest.Config) -> str | None:
    """The policy that the configuration names; a file or directory from the folder of the configuration file."""
    named = str(config.getini("returnable_policy"))
    if not named:
        return None
    place = (config.inipath.parent if config.inipath else config.rootpath) / named
    return str(place) if place.exists() else named


# ---- the fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def returnable_policy(request: pytest.FixtureRequest) -> Any:
    """The policy of ``desk``, ``clock`` and ``scenario``: a policy, a file, a directory, a name; ``None``: the bundled one.

    Override it in a ``conftest.py`` or a test module, or name a file in the setting of the same name.
    """
    return _policy_setting(request.config)


@pytest.fixture
def returnable_store() -> str:
    """The URL of the store of ``desk``: a fresh one in memory, unless overridden."""
    return "memory:"


@pytest.fixture
def clock(_returnable_clock: FrozenClock) -> FrozenClock:
    """The clock of the whole process, frozen: at the instant of the marker ``at``, else on a Monday morning (2 March 2026).

    It moves by elapsed time, calendar days and business days, to an instant, and to the next edge of the desk. See
    :class:`returnable.testing.clock.Clock`.
    """
    return _returnable_clock


_CLOCK = "_returnable_clock"
"""The fixture behind ``clock``, under a name that no fixture of a host has."""


@pytest.fixture
def _returnable_clock(request: pytest.FixtureRequest, returnable_policy: Any) -> Iterator[FrozenClock]:
    _needs_freezegun()
    from returnable.testing.clock import FrozenClock

    frozen = FrozenClock(policy=returnable_policy)
    around = _moment_in(request.node)
    marker = request.node.get_closest_marker("at")
    if around is not None:
        frozen.move_to(around.moment.at)
    elif marker is not None:
        frozen.move_to(_marked(marker, frozen.zone_name))
    frozen.desk = request.node.stash.get(_DESK, None)
    thaw = frozen.freeze()
    try:
        yield frozen
    finally:
        thaw()


@pytest.fixture
def desk(request: pytest.FixtureRequest, returnable_policy: Any, returnable_store: str) -> Iterator[Desk]:
    """A desk on a fresh store in memory. It reads the clock of the system, so what freezes that clock freezes the desk."""
    import returnable
    from returnable.adapters.wiring import policy_book

    frozen = request.getfixturevalue(_CLOCK) if _CLOCK in request.fixturenames else None
    policies = policy_book(returnable_policy)
    with returnable.open(returnable_store, policy=policies) as opened:
        request.node.stash[_DESK] = opened
        if frozen is not None:
            frozen.desk = opened
        around = _moment_in(request.node)
        if around is not None:
            from returnable.testing.around_edges import tell_until

            problem = tell_until(opened, around)
            if problem is not None:
                pytest.fail(f"@edges: {problem}", pytrace=False)
        yield opened


_DESK = pytest.StashKey["Desk"]()


@pytest.fixture
def scenario(desk: Desk, clock: FrozenClock) -> Scenario:
    """Given, when, then on the fixture ``desk``, and the frozen ``clock`` goes with it."""
    from returnable.testing.scenario import Scenario

    return Scenario(desk, clock=clock)


def _needs_freezegun() -> None:
    try:
        import freezegun  # noqa: F401
    except ImportError:
        pytest.fail("the fixture clock needs freezegun: pip install 'returnable[testing]'", pytrace=False)


def _marked(marker: pytest.Mark, zone_name: str) -> Any:
    from returnable.domain.errors import CalendarInvalid
    from returnable.testing.instants import instant

    values = dict(zip(("when", "tz"), marker.args, strict=False)) | dict(marker.kwargs)
    if set(values) - {"when", "tz"} or "when" not in values or len(marker.args) > 2:
        pytest.fail(
            '@pytest.mark.at takes one instant: @pytest.mark.at("2026-11-25 13:00", tz="America/New_York")',
            pytrace=False,
        )
    try:
        meant = instant(values["when"], values.get("tz") or zone_name)
    except (ValueError, CalendarInvalid) as error:
        says = f"@pytest.mark.at: {error}"
    else:
        return meant
    pytest.fail(says, pytrace=False)


# ---- the marker and the edges as tests ------------------------------------------------------------------------------------

_MOMENT = "_returnable_moment"
"""The parameter of a test that is run around edges; the test itself need not ask for it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with ``@edges(…)`` runs one tick before, at and one tick after every edge."""
    markers = list(metafunc.definition.iter_markers(_EDGES))
    if not markers:
        return
    from returnable.testing.around_edges import HistoryWrong, arounds_of

    found: list[Around] = []
    try:
        for marker in markers:
            found += arounds_of(marker, _policy_setting(metafunc.config))
    except HistoryWrong as error:
        pytest.fail(f"@edges of {metafunc.definition.name}: {error}", pytrace=False)
    metafunc.fixturenames.append(_MOMENT)
    metafunc.parametrize(_MOMENT, found, ids=[around.name for around in found])


def pytest_itemcollected(item: pytest.Item) -> None:
    """For a test with the marker ``at``, or around edges, the clock stops before the fixtures of the test are made.

    Those of its class, its module and the session are made before: they are made once, and may wait for something.
    """
    around = _moment_in(item)
    if around is None and item.get_closest_marker(_EDGES) is not None:
        raise pytest.UsageError(
            f"@edges: {item.nodeid} is a method of a unittest.TestCase, which cannot run around edges"
        )
    names = getattr(item, "fixturenames", None)
    if names is None or (around is None and item.get_closest_marker("at") is None):
        return
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    rest = [name for name in names if name != _CLOCK]
    wider = [name for name in rest if known.get(name) and known[name][-1].scope != "function"]
    item.fixturenames = [*wider, _CLOCK, *(name for name in rest if name not in wider)]  # type: ignore[attr-defined]


def pytest_runtest_setup() -> None:
    """A host's own ``freeze_time`` must be harmless, too."""
    prepare_if_loaded()


@pytest.fixture
def moment(request: pytest.FixtureRequest) -> Moment:
    """The moment of a test with ``@edges(…)``: the edge, and whether before it, at it, or after it."""
    around = _moment_in(request.node)
    if around is None:
        pytest.fail("the fixture moment is for tests with @edges(…)", pytrace=False)
    return around.moment


def _moment_in(item: pytest.Item) -> Around | None:
    """The moment of a test around edges."""
    found: Around | None = getattr(getattr(item, "callspec", None), "params", {}).get(_MOMENT)
    return found


# ---- scenarios as tests --------------------------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A file ``….scenario.jsonl`` is a series of tests, one for each line."""
    if not file_path.name.endswith(SCENARIO):
        return None
    from returnable.testing.scenarios import ScenarioFile

    collected: ScenarioFile = ScenarioFile.from_parent(parent, path=file_path)
    collected.policy = _policy_setting(parent.config)
    return collected
