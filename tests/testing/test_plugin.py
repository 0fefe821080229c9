"""The pytest plugin, as a host's tests meet it: the fixtures, the marker, and what else freezes time in the same process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from returnable.facade import Desk
from returnable.testing import FrozenClock, Scenario, an_order, confirm_order, request_return

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run tests of a host that has configured nothing."""

    def runner(code: str, *arguments: str, conftest: str = "") -> pytest.RunResult:
        pytester.makepyfile(code)
        if conftest:
            pytester.makeconftest(conftest)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:cov", *arguments)

    return runner


# ---- the fixtures ----------------------------------------------------------------------------------------------------


def test_the_desk_of_every_test_is_fresh_and_in_memory(run: Run) -> None:
    result = run(
        """
        from returnable.testing import an_order, confirm_order

        def test_one(desk):
            assert desk.handle(confirm_order().fields).accepted

        def test_two(desk):
            assert list(desk.orders()) == []
            assert desk.url == "memory:"
        """
    )

    result.assert_outcomes(passed=2)


def test_the_desk_reads_whatever_clock_the_test_has(desk: Desk, clock: FrozenClock) -> None:
    clock.move_to("2026-03-02 10:00")
    outcome = desk.handle(confirm_order().fields)

    clock.advance(hours=2)
    last = desk.eligibility(order_id="A-1").cancellation.allowed
    clock.tick()
    too_late = desk.eligibility(order_id="A-1").cancellation.allowed

    assert outcome.at == datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    assert (last, too_late) == (True, False)


def test_without_a_marker_it_is_monday_morning(clock: FrozenClock) -> None:
    assert str(clock) == "Mon 2026-03-02 10:00 EST"
    assert datetime.now(UTC) == clock.now


def test_a_scenario_is_told_to_the_desk_and_takes_the_clock_along(
    scenario: Scenario, desk: Desk, clock: FrozenClock
) -> None:
    scenario.given(an_order(delivered="2026-03-05")).at("2026-03-20").when(request_return())

    scenario.then_declined("returns.window")
    assert datetime.now(UTC) == clock.now == datetime(2026, 3, 20, 4, 0, tzinfo=UTC)
    assert desk.return_(return_id="R-1").status == "declined"


@pytest.mark.at("2026-11-25 13:00", tz="America/New_York")
def test_the_marker_says_when_a_test_runs() -> None:
    assert datetime.now(UTC) == datetime(2026, 11, 25, 18, 0, tzinfo=UTC)


@pytest.mark.at("2026-11-25 13:00", tz="Asia/Tokyo")
def test_a_marked_time_is_meant_in_the_zone_that_is_given(clock: FrozenClock) -> None:
    assert str(clock) == "Tue 2026-11-24 23:00 EST"


@pytest.mark.at("2026-11-25")
def test_a_marked_day_is_its_first_instant_in_the_policys_zone(desk: Desk, clock: FrozenClock) -> None:
    clock.advance_business_days(1)

    assert str(clock) == "Fri 2026-11-27 00:00 EST"
    assert clock.desk is desk


@pytest.mark.parametrize(
    "frozen", [pytest.param(True, marks=pytest.mark.at("2020-02-29T12:00:00Z")), pytest.param(False)]
)
def test_a_marker_on_one_parameter_stops_the_clock_for_that_alone(frozen: bool) -> None:
    assert (datetime.now(UTC) == datetime(2020, 2, 29, 12, 0, tzinfo=UTC)) == frozen


@pytest.mark.at("2020-02-29T12:00:00Z")
class TestAMarkerOnAClass:
    @pytest.fixture
    def made_at(self) -> datetime:
        return datetime.now(UTC)

    def test_stops_the_clock_for_its_tests_and_their_fixtures(self, made_at: datetime) -> None:
        assert made_at == datetime.now(UTC) == datetime(2020, 2, 29, 12, 0, tzinfo=UTC)

    @pytest.mark.at("2024-02-29T12:00:00Z")
    def test_gives_way_to_a_nearer_one(self) -> None:
        assert datetime.now(UTC).year == 2024


def test_the_clock_runs_on_after_a_test_that_failed(run: Run) -> None:
    result = run(
        """
        import datetime as dt
        import pytest

        PLAIN = dt.datetime

        @pytest.mark.at("2001-01-01")
        def test_one():
            assert dt.datetime.now().year == 2001
            raise RuntimeError

        def test_two():
            assert dt.datetime is PLAIN
            assert dt.datetime.now().year != 2001
        """
    )

    result.assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ('"2026-03-08 02:30"', "*at: 2026-03-08 02:30 does not exist in America/New_York: the clocks go forward *"),
        ('"2026-11-01 01:30"', "*at: 2026-11-01 01:30 happens twice in America/New_York; say 2026-11-01T01:30:00*"),
        ('"tomorrow"', "*at: 'tomorrow' is not an RFC 3339 instant*nor a time such as *"),
        ('"2026-03-08", tz="Mars/Olympus"', "*at: 'Mars/Olympus' is not an IANA time zone"),
        ("", '*at takes one instant: @pytest.mark.at("2026-11-25 13:00", tz=*'),
        ('"2026-03-08", zone="UTC"', "*at takes one instant: *"),
        ('"2026-03-08", "UTC", "what"', "*at takes one instant: *"),
    ],
)  # fmt: skip
def test_a_marker_that_says_no_instant_is_refused_in_one_line(run: Run, marker: str, says: str) -> None:
    result = run(f"import pytest\n\n@pytest.mark.at({marker})\ndef test_it(): pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_host_names_its_policy_in_a_setting_or_in_a_fixture(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nreturnable_policy = rules/shop.json\n")
    pytester.mkdir("rules").joinpath("shop.json").write_text(_policy_of_days(7))
    code = """
        import pytest
        from returnable.testing import a_policy, an_order, request_return

        def test_by_the_setting(scenario):
            scenario.given(an_order(delivered="2026-03-05")).at("2026-03-13").when(request_return())
            scenario.then_declined("returns.window")

        class TestByTheFixture:
            @pytest.fixture
            def returnable_policy(self):
                return a_policy({"returns.window": {"days": 8}})

            def test_it(self, scenario):
                scenario.given(an_order(delivered="2026-03-05")).at("2026-03-13").when(request_return()).then_accepted()
        """

    result = run(code)

    result.assert_outcomes(passed=2)


def _policy_of_days(days: int) -> str:
    from returnable.testing import a_policy

    return a_policy({"returns.window": {"days": days}}).document


def test_a_policy_that_cannot_be_read_is_one_clear_error(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nreturnable_policy = nowhere.toml\n")

    result = run("def test_it(desk): pass")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*PolicyInvalid: nowhere.toml: cannot be read: No such file or directory"])


def test_a_host_keeps_its_desks_in_a_store_of_its_choice(run: Run) -> None:
    result = run(
        "def test_it(desk, tmp_path): assert (tmp_path / 'shop.db').exists()",
        conftest="""
        import pytest

        @pytest.fixture
        def returnable_store(tmp_path):
            return f"sqlite:///{tmp_path}/shop.db"
        """,
    )

    result.assert_outcomes(passed=1)


def test_a_host_may_have_a_clock_and_a_marker_of_its_own_by_our_names(run: Run) -> None:
    result = run(
        """
        import datetime as dt
        import pytest

        @pytest.fixture
        def clock():
            return "on the tower"

        @pytest.mark.edges("of a graph")
        @pytest.mark.at("2026-11-25 13:00")
        def test_it(clock, desk):
            assert clock == "on the tower"
            assert dt.datetime.now(dt.UTC) == dt.datetime(2026, 11, 25, 18, tzinfo=dt.UTC)
        """,
        "-W",
        "ignore::pytest.PytestUnknownMarkWarning",
    )

    result.assert_outcomes(passed=1)


def test_the_marker_works_on_a_unittest_too(run: Run) -> None:
    result = run(
        """
        import datetime as dt
        import unittest
        import pytest

        class Test(unittest.TestCase):
            @pytest.mark.at("2026-11-25T18:00:00Z")
            def test_it(self):
                assert dt.datetime.now(dt.UTC) == dt.datetime(2026, 11, 25, 18, tzinfo=dt.UTC)

            def test_the_next(self):
                assert dt.datetime.now(dt.UTC) != dt.datetime(2026, 11, 25, 18, tzinfo=dt.UTC)
        """
    )

    result.assert_outcomes(passed=2)


def test_the_marker_stops_the_clock_after_the_fixtures_of_the_session_and_before_those_of_the_test(run: Run) -> None:
    result = run(
        """
        import datetime as dt
        import pytest

        @pytest.fixture(scope="session")
        def of_the_session():
            return dt.datetime.now(dt.UTC)

        @pytest.fixture
        def of_the_test():
            return dt.datetime.now(dt.UTC)

        @pytest.mark.at("2020-01-01T00:00:00Z")
        def test_it(of_the_test, of_the_session):
            assert of_the_session.year > 2020
            assert of_the_test.year == 2020
        """
    )

    result.assert_outcomes(passed=1)


def test_a_clock_that_is_asked_for_late_knows_the_desk(request: pytest.FixtureRequest, desk: Desk) -> None:
    late: FrozenClock = request.getfixturevalue("clock")

    assert late.desk is desk
    assert late.edges() == ()


def test_a_freeze_that_is_never_stopped_fails_its_own_test_and_no_other(run: Run) -> None:
    result = run(
        """
        import datetime as dt
        from freezegun import freeze_time

        def test_one(clock):
            freeze_time("2001-01-01").start()

        def test_two():
            assert dt.datetime.now().year > 2020
            assert dt.datetime.__name__ == "datetime"
        """
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ClockTaken: a freeze_time().start() of this test was never stopped"])


# ---- at its ease -----------------------------------------------------------------------------------------------------


def test_the_plugin_imports_nothing_that_a_host_does_not_use() -> None:
    code = "import sys, pytest, returnable.testing, returnable.testing.plugin; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "returnable.testing.plugin" in loaded
    heavy = {"freezegun", "hypothesis", "pydantic", "eventsourcing", "statemachine", "returnable.domain.policy"}
    assert not heavy & set(loaded)


def test_a_run_without_the_kit_never_loads_it(run: Run) -> None:
    result = run(
        """
        import sys

        def test_one(): pass
        def test_two(): assert not {"returnable.facade", "freezegun"} & (set(sys.modules) - BEFORE)
        """.replace("BEFORE", repr({"returnable.facade", "freezegun"} & set(sys.modules)))
    )

    result.assert_outcomes(passed=2)


def test_without_freezegun_the_clock_says_what_to_install(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "freezegun", None)

    with pytest.raises(pytest.fail.Exception, match=r"pip install 'returnable\[testing\]'"):
        request.getfixturevalue("clock")


@pytest.mark.parametrize("times", [1, 3])
def test_the_durations_that_pytest_reports_are_real_ones(pytester: pytest.Pytester, times: int) -> None:
    pytester.makepyfile(
        f"""
        def test_it(clock):
            for _ in range({times}):
                clock.advance(hours=24 * 300)
        """
    )

    report = pytester.inline_run("-p", "no:cacheprovider", "-p", "no:cov")

    durations = [each.duration for each in report.getreports("pytest_runtest_logreport")]
    assert len(durations) == 3
    report.assertoutcome(passed=1)
    assert all(0 <= duration < 86_400 for duration in durations)


def test_processes_of_xdist_share_the_work(pytester: pytest.Pytester) -> None:
    pytester.makefile(".scenario.jsonl", order=Scenario().given(an_order(delivered="2026-03-05")).as_scenario())
    pytester.makepyfile(
        """
        import pytest
        from returnable.testing import an_order, edges

        @edges(an_order(delivered="2026-03-05"))
        def test_edges(desk, clock, moment):
            assert clock.now == moment.at

        @pytest.mark.at("2026-11-25 13:00")
        def test_marked(clock):
            assert str(clock) == "Wed 2026-11-25 13:00 EST"
        """
    )

    result = pytester.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider", "-p", "no:cov")

    result.assert_outcomes(passed=3 + 3 * 6 + 1)
