"""The deadline worker: alone, beside others, and when things go wrong."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import RemoteDisconnected
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from patience import GUARD_SECONDS, wait_until
from postgres import fresh_store_url
from terminal import returnable as returnable_command
from usual import a_labelled_return

import returnable
from returnable.adapters import worker as working
from returnable.adapters.cli.app import run
from returnable.adapters.operating import health
from returnable.adapters.operating.health import health_at
from returnable.adapters.operating.logs import JsonLines
from returnable.adapters.wiring import Services, assemble
from returnable.adapters.worker import DeadlineWorker
from returnable.domain import due
from returnable.domain.calendar import A_MOMENT
from returnable.domain.errors import HistoryBroken, PolicyInvalid, StoreBusy, StoreUnusable
from returnable.domain.events import LabelVoided, Who
from returnable.domain.ports import DueCase
from returnable.testing import Scenario, a_return, an_order, report_wrong_item, request_cancellation, request_refund
from returnable.testing.behaviour import World

VOIDS_AT = datetime(2026, 3, 12, 4, 0, tzinfo=UTC)
"""When the label of :func:`a_labelled_return` voids: the beginning of Thursday in New York."""
LATER = datetime(2026, 6, 1, 15, 0, tzinfo=UTC)


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def recorded(services: Services) -> Counter[str]:
    """How often each deadline of each stream is on record."""
    events = services.store.read(0, 100_000)
    deadlines = ("LabelVoided", "ContactMissed", "RefundOverdue")
    return Counter(f"{one.event.type} {one.stream}" for one in events if one.event.type in deadlines)


def three_deadlines(services: Services) -> Scenario:
    """A label to void, a contact to miss and a refund to be overdue, in three cases."""
    story = Scenario(services).given(a_labelled_return())
    story.given(
        an_order("A-2", delivered="2026-03-09"), report_wrong_item("C-2", order_id="A-2", at="2026-03-10 10:00")
    )
    story.at("2026-03-10 11:00").given(
        an_order("A-3"), request_cancellation("A-3"), request_refund("F-3", order_id="A-3")
    )
    return story


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{tmp_path}/store.db",
        "postgres": fresh_store_url,
    }
    made = assemble(urls[request.param]())
    yield made
    made.store.close()


# ---- what it records ------------------------------------------------------------------------------------------------------


def test_each_deadline_is_recorded_when_it_came_and_once(services: Services) -> None:
    three_deadlines(services)
    clock = Clock(VOIDS_AT - A_MOMENT)
    worker = DeadlineWorker(services.handler, clock, name="night")

    worker.work()
    before = recorded(services)["LabelVoided return/R-1"]
    clock.now = VOIDS_AT
    worker.work()
    at = recorded(services)["LabelVoided return/R-1"]
    clock.now = LATER
    counts = [worker.work(), worker.work()]

    assert (before, at) == (0, 1)
    assert counts[1] == 0
    assert recorded(services) == Counter(
        ["LabelVoided return/R-1", "ContactMissed claim/C-2", "RefundOverdue order/A-3"]
    )
    assert worker.status().recorded == 3


def test_a_recorded_deadline_says_who_recorded_it_and_when(services: Services) -> None:
    three_deadlines(services)

    DeadlineWorker(services.handler, Clock(LATER), name="night").work()

    (voided,) = [one.event for one in services.store.read(0, 1000) if isinstance(one.event, LabelVoided)]
    assert voided.actor == Who(role="system", id="night")
    assert (voided.occurred_at, voided.recorded_at) == (VOIDS_AT, LATER)


def test_of_many_workers_one_records_a_deadline(services: Services) -> None:
    story = Scenario(services)
    story.given(*(an_order(f"A-{nth}", delivered="2026-03-05 14:00") for nth in range(20)))
    story.given(*(a_return(f"R-{nth}", order_id=f"A-{nth}", labelled="2026-03-09 12:30") for nth in range(20)))
    workers = [DeadlineWorker(services.handler, Clock(LATER), name=f"worker {nth}") for nth in range(6)]

    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(lambda worker: worker.work(), workers))

    assert sum(counts) == 20
    assert recorded(services) == Counter(f"LabelVoided return/R-{nth}" for nth in range(20))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=15, max_size=40, unique=True), st.integers(1, 9))
@settings(max_examples=40)
def test_every_answer_is_the_same_whether_a_worker_ran_or_not(steps: Sequence[int], every: int) -> None:
    # given: the same things happen in two shops, and in one of them a worker runs now and then
    with_worker, without = World(), World()
    for nth, step in enumerate(steps):
        # A step is chosen by how the cases stand, so what is told is told again.
        _, command, _ = without.step(step)
        with_worker.at = without.at
        if nth % every == 0:
            DeadlineWorker(with_worker.services.handler, Clock(without.at)).work()
        if command is not None:
            with suppress(returnable.Impossible):
                with_worker.services.handler.handle(command, without.at)

    # then
    def answers(world: World, at: datetime) -> list[str]:
        asked: list[dict[str, Any]] = [{"query": "worklist"}]
        for case in without.cases:
            asked += [{"query": query, "order_id": case.case_id} for query in ("order", "eligibility")]
            asked += [{"query": "return", "return_id": name} for name in case.returns]
            asked += [{"query": "claim", "claim_id": name} for name in case.claims]
            asked += [{"query": "refund", "refund_id": name} for name in case.refunds]
        desk = returnable.Desk(world.services, Clock(at))
        # Where a ruling names a fact, its number counts the recorded deadlines before it.
        return [re.sub(r'(?<=#)\d+(?=")', "N", desk.ask(question).model_dump_json()) for question in asked]

    for at in (without.at, *without.instants(), LATER):
        if at >= without.at:
            assert answers(with_worker, at) == answers(without, at)


def test_a_desk_records_by_an_instant_of_its_callers() -> None:
    with returnable.open("memory:", clock=Clock(datetime(2026, 3, 10, 15, 0, tzinfo=UTC))) as desk:
        three_deadlines(desk.services)

        too_early = desk.run_deadlines(VOIDS_AT - A_MOMENT)
        outcome = desk.run_deadlines("2026-03-12T00:00:00-04:00")
        again = desk.run_deadlines(now=VOIDS_AT)

    assert [event.type for _, _, event in outcome.recorded_events if event.type == "LabelVoided"] == ["LabelVoided"]
    assert "LabelVoided" not in [event.type for _, _, event in too_early.recorded_events]
    assert again.recorded_events == ()


def test_an_instant_without_an_offset_is_refused() -> None:
    with returnable.open("memory:") as desk, pytest.raises(returnable.Impossible, match=r"^now: "):
        desk.run_deadlines("2026-03-12T00:00:00")


def test_a_worker_of_a_desk_works_by_the_clock_of_the_desk_also_a_frozen_one() -> None:
    with freeze_time("2026-03-09T16:30:00Z") as frozen, returnable.open("memory:") as desk:
        Scenario(desk.services).given(a_labelled_return())
        worker = desk.deadline_worker(name="night")
        early = worker.work()
        frozen.move_to(VOIDS_AT)
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        wait_until(lambda: bool(recorded(desk.services)))
        stop.set()
        thread.join(GUARD_SECONDS)

        assert early == 0
        assert recorded(desk.services) == Counter(["LabelVoided return/R-1"])


# ---- trouble ------------------------------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # given
    monkeypatch.setattr(working, "PAUSES", (0.001,))
    story = Scenario().given(a_labelled_return())
    worker = DeadlineWorker(story.services.handler, Clock(LATER), every_seconds=0.001)
    catch_up, stop, tries = worker.handler.due.catch_up, threading.Event(), Counter[str]()

    def sometimes(*given: Any) -> int:
        tries["all"] += 1
        if tries["all"] <= 3:
            raise StoreUnusable("the server is away")
        if recorded(story.services):
            stop.set()
        return catch_up(*given)

    worker.handler.due.catch_up = sometimes  # type: ignore[method-assign]

    # when
    with caplog.at_level(logging.INFO, "returnable.worker"):
        worker.run(stop)

    # then
    assert recorded(story.services) == Counter(["LabelVoided return/R-1"])
    assert [record.levelname for record in caplog.records].count("WARNING") == 3
    assert worker.status().failures == 3
    assert worker.status().last_error is None, "the last pass was sound"


def test_a_case_that_is_busy_stays_due_and_holds_up_no_other() -> None:
    story = three_deadlines(assemble("memory:"))
    clock = Clock(LATER)
    worker = DeadlineWorker(story.services.handler, clock, claim_seconds=60)
    record_due = worker.handler.record_due

    def busy(case_id: str, *others: Any) -> Any:
        if case_id == "A-1":
            raise StoreBusy("others are faster")
        return record_due(case_id, *others)

    worker.handler.record_due = busy  # type: ignore[method-assign]
    worker.work()
    assert recorded(story.services) == Counter(["ContactMissed claim/C-2", "RefundOverdue order/A-3"])

    worker.handler.record_due = record_due  # type: ignore[method-assign]
    assert worker.work() == 0, "it is claimed for a while"
    clock.now += timedelta(seconds=60)
    assert worker.work() == 1


def test_a_case_whose_policy_is_lost_is_parked_and_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    story = three_deadlines(assemble("memory:"))
    worker = DeadlineWorker(story.services.handler, Clock(LATER))
    policy_of = worker.handler.policy_of

    def lost(case: Any) -> Any:
        if case.case_id == "A-1":
            raise HistoryBroken("the policy is pinned but was not kept")
        return policy_of(case)

    worker.handler.policy_of = lost  # type: ignore[method-assign]

    with caplog.at_level(logging.ERROR, "returnable"):
        worker.work()

    assert worker.status().parked == 1
    assert "case 'A-1' was left out when deadlines were recorded: the policy is pinned" in caplog.text
    assert recorded(story.services) == Counter(["ContactMissed claim/C-2", "RefundOverdue order/A-3"])


def test_a_policy_that_cannot_be_read_holds_up_no_other_case_when_all_are_recorded_at_once() -> None:
    story = three_deadlines(assemble("memory:"))
    desk = returnable.Desk(story.services, Clock(LATER))
    policy_of = story.services.handler.policy_of

    def unreadable(case: Any) -> Any:
        if case.case_id == "A-1":
            raise PolicyInvalid("the kept policy: a_newer_key: is not a known key")
        return policy_of(case)

    story.services.handler.policy_of = unreadable  # type: ignore[method-assign]

    outcome = desk.run_deadlines()

    assert sorted(event.type for _, _, event in outcome.recorded_events) == ["ContactMissed", "RefundOverdue"]
    assert story.services.handler.due.table.parked() == ["A-1"]


@pytest.mark.parametrize("where", ["record_due", "catch_up"])
def test_what_nobody_thought_of_does_not_end_a_worker(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    monkeypatch.setattr(working, "PAUSES", (0.001,))
    story = three_deadlines(assemble("memory:"))
    worker = DeadlineWorker(story.services.handler, Clock(LATER), every_seconds=0.001)
    owner: Any = worker.handler if where == "record_due" else worker.handler.due
    sound, stop, tries = getattr(owner, where), threading.Event(), Counter[str]()

    def astonishing(*given: Any) -> Any:
        tries["all"] += 1
        if tries["all"] == 1:
            raise RuntimeError("nobody thought of it")
        if tries["all"] > 5 or len(recorded(story.services)) > 2:
            stop.set()
        return sound(*given)

    setattr(owner, where, astonishing)

    # when
    threading.Timer(1, stop.set).start()
    with caplog.at_level(logging.ERROR, "returnable.worker"):
        worker.run(stop)

    # then
    assert len(recorded(story.services)) >= 2
    assert "RuntimeError: nobody thought of it" in caplog.text


def test_a_worker_that_is_stopped_while_it_takes_in_a_long_history_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "CASES_AT_ONCE", 1)
    story = three_deadlines(assemble("memory:"))
    looks = Counter[str]()

    def stopped() -> bool:
        looks["all"] += 1
        return looks["all"] > 2

    assert story.services.handler.due.catch_up(stopped) == 0
    assert story.services.handler.due.catch_up() == story.services.store.head()
    assert story.services.handler.due.table.status().waiting == 3


@pytest.mark.parametrize("how", ["worker", "run_deadlines", "once"])
def test_a_parked_case_that_can_be_read_by_now_is_looked_at_again(how: str, tmp_path: Path) -> None:
    # given
    url = f"sqlite:///{tmp_path}/shop.db"
    story = Scenario(assemble(url)).given(a_labelled_return())
    desk = story.services.handler
    desk.due.catch_up()
    desk.due.table.park("A-1")

    # when
    if how == "worker":
        stop = threading.Event()
        threading.Timer(0.5, stop.set).start()
        DeadlineWorker(desk, Clock(LATER), every_seconds=0.01).run(stop)
    elif how == "run_deadlines":
        returnable.Desk(story.services, Clock(LATER)).run_deadlines()
    else:
        assert run(["worker", "--once", "--store", url]) == 0

    # then
    assert recorded(story.services) == Counter(["LabelVoided return/R-1"])
    story.desk.close()


def test_what_was_claimed_when_the_store_went_away_is_free_when_it_is_back() -> None:
    story = three_deadlines(assemble("memory:"))
    worker = DeadlineWorker(story.services.handler, Clock(LATER))
    record_due = worker.handler.record_due

    def away(*given: Any) -> Any:
        raise StoreUnusable("the server is away")

    worker.handler.record_due = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnusable):
        worker.work()
    worker.handler.record_due = record_due  # type: ignore[method-assign]

    assert worker.work() == 3


def test_once_that_could_not_record_all_says_so_with_its_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    Scenario(assemble(url)).given(a_labelled_return()).desk.close()

    def busy(*given: Any) -> Any:
        raise StoreBusy("others are faster")

    monkeypatch.setattr("returnable.domain.handler.CommandHandler.record_due", busy)

    assert run(["worker", "--once", "--store", url]) == 1


def test_pauses_begin_anew_after_a_sound_look(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(working, "PAUSES", (0.001, 0.002))
    story = Scenario().given(a_labelled_return())
    worker = DeadlineWorker(story.services.handler, Clock(LATER), every_seconds=0.001)
    catch_up, stop, tries = worker.handler.due.catch_up, threading.Event(), Counter[str]()

    def sometimes(*given: Any) -> int:
        tries["all"] += 1
        if tries["all"] in (1, 2, 6):
            raise StoreUnusable("the server is away")
        if tries["all"] > 8:
            stop.set()
        return catch_up(*given)

    worker.handler.due.catch_up = sometimes  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "returnable.worker"):
        worker.run(stop)

    assert [record.getMessage().split()[3] for record in caplog.records] == ["0.001", "0.002", "0.001"]


def test_a_worker_whose_first_deadline_is_late_is_not_well() -> None:
    story = Scenario().given(a_labelled_return())
    worker = DeadlineWorker(story.services.handler, clock := Clock(VOIDS_AT - A_MOMENT))
    worker.work()

    clock.now = VOIDS_AT + timedelta(seconds=50)

    assert worker.status().healthy(51)
    assert not worker.status().healthy(49.9)


def test_a_worker_that_is_stopped_finishes_the_case_at_hand_and_gives_the_others_back() -> None:
    story = three_deadlines(assemble("memory:"))
    stop = threading.Event()
    first = DeadlineWorker(story.services.handler, Clock(LATER))
    record_due = first.handler.record_due

    def and_stop(*given: Any) -> Any:
        stop.set()
        return record_due(*given)

    first.handler.record_due = and_stop  # type: ignore[method-assign]
    assert first.work(stop) == 1
    first.handler.record_due = record_due  # type: ignore[method-assign]

    assert DeadlineWorker(story.services.handler, Clock(LATER)).work() == 2


def test_what_a_dead_worker_had_claimed_is_recorded_by_another_when_the_claim_ends() -> None:
    story = three_deadlines(assemble("memory:"))
    desk, clock = story.services.handler, Clock(LATER)
    desk.due.catch_up()
    claimed = desk.due.table.claim(LATER, until=LATER + timedelta(seconds=60), limit=9)
    assert [type(one) for one in claimed] == [DueCase] * 3

    other = DeadlineWorker(desk, clock)
    assert other.work() == 0
    clock.now += timedelta(seconds=60)
    assert other.work() == 3


# ---- how it stands ------------------------------------------------------------------------------------------------------


def test_a_worker_says_how_it_stands() -> None:
    story = Scenario().given(a_labelled_return())
    clock = Clock(VOIDS_AT + timedelta(seconds=90))
    worker = DeadlineWorker(story.services.handler, clock)

    at_first = worker.status()
    assert (at_first.behind, at_first.last_pass_at, at_first.waiting) == (story.services.store.head(), None, 0)
    assert not at_first.healthy(60)

    story.services.handler.due.catch_up()
    assert (worker.status().late_seconds, worker.status().first_due_at) == (90.0, VOIDS_AT)
    worker.work()
    status = worker.status()
    assert (status.behind, status.late_seconds, status.waiting, status.recorded) == (0, 0.0, 0, 1)
    assert status.healthy(60)
    clock.now += timedelta(seconds=61)
    assert not worker.status().healthy(60)


def test_a_meter_of_opentelemetry_counts_it() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("shop")
    story = three_deadlines(assemble("memory:"))

    DeadlineWorker(story.services.handler, Clock(LATER), meter=meter).work()

    data = reader.get_metrics_data()
    assert data is not None
    points = {
        (metric.name, *dict(point.attributes or {}).values()): point.value  # type: ignore[union-attr]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }
    named = "returnable.deadlines"
    assert points == {
        (f"{named}.recorded", "LabelVoided"): 1,
        (f"{named}.recorded", "ContactMissed"): 1,
        (f"{named}.recorded", "RefundOverdue"): 1,
        (f"{named}.behind",): 0,
        (f"{named}.late",): 0,
        (f"{named}.waiting",): 0,
        (f"{named}.parked",): 0,
    }


def test_health_is_answered_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_SECONDS", GUARD_SECONDS)
    well = [True]
    with health_at("127.0.0.1", 0, lambda: (well[0], {"behind": 3, "at": LATER})) as port:
        with urlopen(f"http://127.0.0.1:{port}/health?from=probe") as answer:
            assert json.load(answer) == {"healthy": True, "behind": 3, "at": "2026-06-01T15:00:00Z"}
        well[0] = False
        for path, status in (("health", 503), ("", 404)):
            with pytest.raises(HTTPError) as refused:
                urlopen(f"http://127.0.0.1:{port}/{path}")
            assert refused.value.code == status
            refused.value.close()


def asked(port: int) -> tuple[int, dict[str, Any]]:
    """What health answers: status and content."""
    with pytest.raises(HTTPError) as refused:
        urlopen(f"http://127.0.0.1:{port}/health", timeout=GUARD_SECONDS)
    with refused.value as answer:
        return answer.code, json.load(answer)


def test_health_is_answered_while_the_store_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a report that waits for a store that is away
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)
    back, reports = threading.Event(), Counter[str]()

    def report() -> tuple[bool, dict[str, Any]]:
        reports["begun"] += 1
        back.wait(GUARD_SECONDS)
        return True, {}

    with health_at("127.0.0.1", 0, report) as port:
        # when
        answers = [asked(port), asked(port)]
        begun = reports["begun"]
        back.set()
        well: list[dict[str, Any]] = []

        def is_told() -> bool:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    well.append(json.load(answer))
            except HTTPError as refused:  # the report that was waiting is not quite through
                refused.close()
            return bool(well)

        wait_until(is_told)

        # then
        assert answers == [(503, {"healthy": False, "last_error": "the store has not answered for 0.05 s"})] * 2
        assert begun == 1, "who asks again does not wait for the store once more"
        assert well == [{"healthy": True}]


def test_health_is_answered_again_after_there_was_no_room_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a system that has no room for the thread that would make the report
    monkeypatch.setattr(health, "PATIENCE_SECONDS", GUARD_SECONDS)
    may_begin, begin = [False], threading.Thread.start

    def begun(thread: threading.Thread) -> None:
        if thread.name == "returnable-health" and not may_begin[0]:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", begun)
    monkeypatch.setattr(ThreadingHTTPServer, "handle_error", lambda *args: None)
    with health_at("127.0.0.1", 0, lambda: (True, {})) as port:
        with pytest.raises(RemoteDisconnected):
            urlopen(f"http://127.0.0.1:{port}/health", timeout=GUARD_SECONDS)

        # when
        may_begin[0] = True

        # then
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=GUARD_SECONDS) as answer:
            assert json.load(answer) == {"healthy": True}


@pytest.mark.parametrize(
    ("error", "said"),
    [(StoreUnusable("the server is away"), "the server is away"), (RuntimeError("secret"), "unexpected RuntimeError")],
)
def test_health_that_cannot_be_told_says_why(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_SECONDS", GUARD_SECONDS)

    def report() -> tuple[bool, dict[str, Any]]:
        raise error

    with health_at("127.0.0.1", 0, report) as port:
        assert asked(port) == (503, {"healthy": False, "last_error": said})


@pytest.mark.parametrize("command", [("worker",), ("publish", "--to", "stdout:")])
def test_a_port_that_is_taken_is_told_with_the_option_and_the_port(command: tuple[str, ...], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assemble(url).store.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        status, _, err = returnable_command(*command, "--store", url, "--health", f"127.0.0.1:{port}")

    assert (status, err) == (2, f"returnable: --health: 127.0.0.1:{port}: Address already in use\n")


def test_a_log_line_for_machines_is_one_object_with_what_it_is_about() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("returnable.worker")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        story = Scenario().given(a_labelled_return())
        DeadlineWorker(story.services.handler, Clock(LATER), name="night").work()
        try:
            raise ValueError("out\nof sorts")
        except ValueError:
            logger.exception("oh %s", "no")
    finally:
        logger.removeHandler(handler)

    said, failed = map(json.loads, stream.getvalue().splitlines())
    assert said.pop("time")
    assert said == {
        "level": "info", "logger": "returnable.worker", "message": "LabelVoided on return/R-1",
        "worker": "night", "case_id": "A-1", "fact": "LabelVoided", "stream": "return/R-1", "version": 4,
    }  # fmt: skip
    assert (failed["message"], failed["level"]) == ("oh no", "error")
    assert failed["error"].endswith("ValueError: out\nof sorts")
