"""Appends that come together: one transaction, and still each for itself."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_line import PATIENCE_SECONDS, Line, batch, receipt, together_of
from interrupting import Interrupted as InterruptedWork
from interrupting import TimeLimit, interruptible
from postgres import database_url, fresh_store_url, sql
from psycopg_pool import ConnectionPool

from bench.postgres import Proxy, with_parameters
from returnable.adapters.eventstore import forks, postgres
from returnable.adapters.eventstore import group_commit as module
from returnable.adapters.eventstore.group_commit import GroupCommit, Interrupted, TurnTimedOut
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.postgres_connections import Lost
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import CommandSeen, NameTaken, Stale, StoreBusy, StoreUnusable
from returnable.domain.ports import ReservedId

# ---- in turn ----------------------------------------------------------------------------------------------------------


def doubled(requests: Sequence[int]) -> list[int | Exception]:
    return [2 * request if request >= 0 else ValueError(f"{request} is negative") for request in requests]


def test_what_comes_while_somebody_writes_is_written_together_and_in_order() -> None:
    seen: list[Sequence[int]] = []

    def note(requests: Sequence[int]) -> list[int | Exception]:
        seen.append(requests)
        return doubled(requests)

    line = Line(together := GroupCommit(note, PATIENCE_SECONDS))
    for request in range(1, 6):
        line.come(lambda request=request: together.do(request))  # type: ignore[misc]

    assert line.go() == [2, 4, 6, 8, 10]
    assert seen == [[1], [2, 3, 4, 5]]
    assert together.do(6) == 12


def test_no_more_are_written_together_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 2)
    line = Line(together := GroupCommit(doubled, PATIENCE_SECONDS))
    for request in range(1, 7):
        line.come(lambda request=request: together.do(request))  # type: ignore[misc]

    assert line.go() == [2, 4, 6, 8, 10, 12]
    assert line.sizes == [1, 2, 2, 1]


def test_an_error_of_one_is_its_own() -> None:
    line = Line(together := GroupCommit(doubled, PATIENCE_SECONDS))
    for request in (1, -2, 3):
        line.come(lambda request=request: together.do(request))  # type: ignore[misc]

    first, second, third = line.go()

    assert (first, third) == (2, 6)
    assert isinstance(second, ValueError)
    assert str(second) == "-2 is negative"


def test_an_error_of_all_is_told_to_each_in_an_exception_of_its_own() -> None:
    def fail(requests: Sequence[int]) -> list[int | Exception]:
        raise StoreUnusable("the disk is full") from OSError("28")

    line = Line(together := GroupCommit(fail, PATIENCE_SECONDS))
    for request in range(4):
        line.come(lambda request=request: together.do(request))  # type: ignore[misc]

    errors = line.go()

    assert [str(error) for error in errors] == ["the disk is full"] * 4
    assert len({id(error) for error in errors}) == 4
    assert all(isinstance(error, StoreUnusable) and isinstance(error.__cause__, OSError) for error in errors)


def test_a_batch_that_breaks_off_is_told_as_not_known_and_the_next_one_goes_on() -> None:
    tries: list[Sequence[int]] = []

    def broken_off_once(requests: Sequence[int]) -> list[int | Exception]:
        tries.append(requests)
        if len(tries) == 2:
            raise TimeoutError("of somebody else")
        return doubled(requests)

    line = Line(together := GroupCommit(broken_off_once, PATIENCE_SECONDS))
    for request in range(1, 5):
        line.come(lambda request=request: together.do(request))  # type: ignore[misc]

    first, *others = line.go()

    assert first == 2
    assert [type(one) for one in others] == [Interrupted] * 3
    assert {str(one.__cause__) for one in others} == {"of somebody else"}  # type: ignore[attr-defined]
    assert together.do(5) == 10


def test_no_thread_of_the_hosts_writes_for_another() -> None:
    writers: list[list[int]] = []

    def note(requests: Sequence[Any]) -> list[Any]:
        writers.append([threading.get_ident(), *requests])
        return list(requests)

    line = Line(together := GroupCommit(note, PATIENCE_SECONDS))
    for _ in range(4):
        line.come(lambda: together.do(threading.get_ident()))

    first, *others = line.go()

    assert writers[0] == [first, first]
    (writer, *requests) = writers[1]
    assert requests == others
    assert writer not in line.results


@pytest.mark.parametrize("waits", [True, False])
def test_a_thread_that_is_interrupted_while_it_waits_takes_its_request_with_it(waits: bool) -> None:
    # given: one is at work, another waits behind it and is interrupted there, or when its turn has just been told
    class Interrupting:
        def __init__(self) -> None:
            self._lock = threading.Lock()
            self._acquired = 0

        def acquire(self, timeout: float = -1) -> bool:
            self._acquired += 1
            if self._acquired == 2 and waits:
                raise KeyboardInterrupt
            self._lock.acquire(timeout=timeout)
            if self._acquired == 2:
                raise KeyboardInterrupt
            return True

        def release(self) -> None:
            self._lock.release()

    seen: list[int] = []

    def note(requests: Sequence[int]) -> list[int | Exception]:
        seen.extend(requests)
        return doubled(requests)

    line = Line(together := GroupCommit(note, PATIENCE_SECONDS))
    line.come(lambda: together.do(1))
    wait = together._wait

    def interrupted(turn: Any) -> None:
        turn.come = Interrupting()
        wait(turn)

    together._wait = interrupted  # type: ignore[method-assign]
    if waits:
        with pytest.raises(KeyboardInterrupt):
            together.do(2)
        assert line.go() == [2]
        assert seen == [1]
    else:
        line.come(lambda: together.do(2))
        first, second = line.go()
        assert (first, type(second)) == (2, KeyboardInterrupt)
        assert seen == [1, 2]

    # then
    together._wait = wait  # type: ignore[method-assign]
    assert together.do(3) == 6


def test_where_no_thread_can_be_started_who_must_wait_is_told_that_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(together := GroupCommit(doubled, PATIENCE_SECONDS))
    line.come(lambda: together.do(1))

    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(module.Thread, "start", refuse)
        with pytest.raises(TurnTimedOut, match="no thread can be started"):
            together.do(2)

    assert line.go() == [2]
    assert line.sizes == [1]
    assert together.do(3) == 6


def test_the_thread_that_writes_for_others_ends_when_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    together: GroupCommit[int, int] = GroupCommit(doubled, PATIENCE_SECONDS)
    for _ in range(2):
        line = Line(together)
        for request in (1, 2, 3):
            line.come(lambda request=request: together.do(request))  # type: ignore[misc]
        writer = together._writer
        assert writer is not None

        assert line.go() == [2, 4, 6]

        writer.join(PATIENCE_SECONDS)
        assert not writer.is_alive()
        assert together._writer is None
        together._carry_out = doubled


def test_who_waits_for_too_long_is_told_and_nothing_of_its_is_done() -> None:
    together = GroupCommit(doubled, PATIENCE_SECONDS)
    line = Line(together)
    line.come(lambda: together.do(1))
    together._patience_seconds = 0.01

    with pytest.raises(TurnTimedOut):
        together.do(2)

    assert line.go() == [2]
    assert line.sizes == [1]
    assert together.do(3) == 6


def test_a_child_process_begins_with_nobody_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "PATIENCE_SECONDS", 0.01)  # the one at work does not end before the fork
    line = Line(together := GroupCommit(doubled, PATIENCE_SECONDS))
    line.come(lambda: together.do(1))

    child = os.fork()
    if not child:
        together._carry_out = doubled
        os._exit(together.do(4))
    line.go()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8


# ---- on a store -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls: dict[str, Callable[[], str]] = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/store.db",
        "postgres": fresh_store_url,
    }
    return urls[request.param]()


@pytest.fixture
def store(url: str) -> Iterator[CaseStore]:
    opened = open_store(url)
    yield opened
    opened.close()


def test_each_append_of_many_is_judged_on_its_own_state(store: CaseStore, url: str) -> None:
    # given: what some of them will run into
    store.append([batch("A", 0, "a-1")], reserved_ids=[ReservedId("return", "R-1", "A")], receipt=receipt("told"))
    line = Line(together_of(store))

    # when
    line.come(lambda: store.append([batch("first", 0, "f-1")]))
    line.come(lambda: store.append([batch("A", 1, "a-2", "a-3")], receipt=receipt("new")))
    line.come(lambda: store.append([batch("A", 1, "late")]))
    line.come(lambda: store.append([batch("A", 3, "a-4")]))
    line.come(lambda: store.append([batch("B", 0, "taken")], reserved_ids=[ReservedId("return", "R-1", "B")]))
    line.come(lambda: store.append([batch("B", 0, "seen")], receipt=receipt("new")))
    line.come(lambda: store.append([batch("B", 0, "gap", gap=1)]))
    line.come(
        lambda: store.append(
            [batch("B", 0, "twice")], reserved_ids=[ReservedId("refund", "F", "B"), ReservedId("refund", "F", "B")]
        )
    )
    line.come(lambda: store.append([batch("B", 0, "b-1")], reserved_ids=[ReservedId("return", "R-2", "B")]))
    line.come(lambda: store.append([batch("B", 1, "b-2")]))
    results = line.go()

    # then
    kinds = [type(result) if isinstance(result, Exception) else len(result) for result in results]  # type: ignore[arg-type]
    assert kinds == [1, 2, Stale, 1, NameTaken, CommandSeen, ValueError, NameTaken, 1, 1]
    assert line.sizes[0] == 1
    assert line.sizes[1] == 9
    with closing(open_store(url)) as other:
        events: list[Any] = [one.event for one in other.read()]
        assert [event.account_id for event in events] == ["a-1", "f-1", "a-2", "a-3", "a-4", "b-1", "b-2"]
        positions = [position for result in results if not isinstance(result, Exception) for position in result]  # type: ignore[attr-defined]
        assert positions == [one.position for one in other.read()][1:]
        assert other.case_of("return", "R-2") == "B"
        assert other.case_of("refund", "F") is None
        kept = other.receipt("new")
        assert kept is not None
        assert (kept.first, kept.last) == tuple(results[1])  # type: ignore[arg-type]


def test_appends_of_many_threads_keep_their_order_in_each_case(url: str) -> None:
    with closing(open_store(url)) as store:

        def write(name: str) -> None:
            for nth in range(25):
                store.append([batch(name, nth, f"{name}-{nth}")])

        threads = [threading.Thread(target=write, args=(f"case {nth}",)) for nth in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)

        for nth in range(12):
            events: list[Any] = [one.event for one in store.load(f"case {nth}")]
            assert [event.account_id for event in events] == [f"case {nth}-{each}" for each in range(25)]


APPENDS = st.lists(
    st.tuples(
        st.sampled_from("AB"), st.integers(0, 3), st.integers(0, 2), st.sampled_from("…xy"), st.sampled_from("…12")
    ),
    min_size=1,
    max_size=8,
)


EXAMPLES = count(1)


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CaseStore, CaseStore]]:
    """In one of them is appended at once, in the other one by one: after every example both hold the same."""
    path = tmp_path_factory.mktemp("together") / "store.db"
    with closing(open_store(f"sqlite:///{path}")) as at_once, closing(open_store("memory:")) as one_by_one:
        yield at_once, one_by_one


@given(APPENDS)
@settings(max_examples=150)
def test_what_is_appended_together_comes_to_the_same_as_one_after_the_other(
    two_stores: tuple[CaseStore, CaseStore], appends: list[tuple[str, int, int, str, str]]
) -> None:
    # given: ids of its own for each example
    at_once, one_by_one = two_stores
    example, head = next(EXAMPLES), at_once.head()

    def append(store: CaseStore, nth: int) -> object:
        letter, after, size, name, command = appends[nth]
        case_id = f"{letter}-{example}"
        names = [] if name == "…" else [ReservedId("return", f"{name}-{example}", case_id)]
        accounts = [f"{nth}-{each}" for each in range(size)]
        try:
            return list(
                store.append(
                    [batch(case_id, after, *accounts)],
                    reserved_ids=names,
                    receipt=None if command == "…" else receipt(f"{command}-{example}"),
                )
            )
        except (Stale, NameTaken, CommandSeen, ValueError) as error:
            return type(error), str(error)

    # when
    line = Line(together_of(at_once))
    line.come(lambda: at_once.append([batch(f"first-{example}", 0, "f")]))
    for nth in range(len(appends)):
        line.come(lambda nth=nth: append(at_once, nth))  # type: ignore[misc]
    _, *together = line.go()
    one_by_one.append([batch(f"first-{example}", 0, "f")])

    # then
    assert together == [append(one_by_one, nth) for nth in range(len(appends))]
    assert at_once.read(head) == one_by_one.read(head)
    for command_id in (f"1-{example}", f"2-{example}"):
        assert at_once.receipt(command_id) == one_by_one.receipt(command_id)


# ---- when it goes wrong -----------------------------------------------------------------------------------------------


def test_when_the_file_cannot_be_written_all_that_came_together_fail_and_nothing_is_stored(tmp_path: Path) -> None:
    # given: another program holds the file
    store = open_store(f"sqlite:///{tmp_path}/store.db", busy_timeout_seconds=0.05)
    line = Line(together_of(store))
    together_of(store)._patience_seconds = PATIENCE_SECONDS
    line.come(lambda: store.append([batch("first", 0, "f")]))
    for nth in range(3):
        line.come(lambda nth=nth: store.append([batch(f"case {nth}", 0, "a")]))  # type: ignore[misc]
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    # when
    results = line.go()
    other.close()

    # then
    assert [type(result) for result in results] == [StoreBusy] * 4
    assert store.head() == 0
    assert store.append([batch("first", 0, "f")]) == [1]
    store.close()


def test_when_the_answer_to_many_is_lost_each_is_told_what_is_stored() -> None:
    # given
    proxy = Proxy(database_url())
    schema = place_of(fresh_store_url()).schema
    store = open_store(with_parameters(proxy.url, schema=schema))
    store.append([batch("A", 0, "a-1")])
    line = Line(together_of(store))
    line.come(lambda: store.append([batch("first", 0, "f-1")]))
    line.come(lambda: store.append([batch("A", 1, "a-2")], receipt=receipt("the-one-that-is-lost")))
    line.come(lambda: store.append([batch("A", 1, "late")]))
    line.come(lambda: store.append([batch("B", 0, "b-1")]))
    proxy.lose_answer_to(b"the-one-that-is-lost")

    # when
    first, second, third, fourth = line.go()

    # then
    assert proxy.lost == 1
    assert isinstance(third, Stale)
    stored = dict(sql(f"SELECT convert_from(content, 'UTF8')::json ->> 'account_id', position FROM {schema}.facts"))
    assert stored == {"a-1": 1, "f-1": first[0], "a-2": second[0], "b-1": fourth[0]}  # type: ignore[index]
    store.close()
    proxy.close()


def test_what_was_written_beside_a_wrong_append_is_told_even_if_the_next_finds_the_store_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: a batch with a gap in it is sent again one by one, and another process writes before the last of them
    store = open_store(url := fresh_store_url(), busy_timeout_seconds=0.3)
    schema, others = place_of(url).schema, []
    together_of(store)._patience_seconds = PATIENCE_SECONDS
    line = Line(together_of(store))
    line.come(lambda: store.append([batch("first", 0, "f")]))
    line.come(lambda: store.append([batch("A", 0, "a-1")]))
    line.come(lambda: store.append([batch("B", 0, "gap", gap=1)]))
    line.come(lambda: store.append([batch("C", 0, "c-1")]))
    execute = postgres._execute

    def disturbed(connection: Any, request: Any) -> Any:
        if request.append.batches[0].case_id == "C" and not connection.pgconn.pipeline_status:
            others.append(psycopg.connect(database_url()))
            lock = f"SELECT pg_advisory_xact_lock((1381256770::bigint << 32) | '{schema}.facts'::regclass::oid::bigint)"
            others[0].execute(lock.encode())
        return execute(connection, request)

    monkeypatch.setattr(postgres, "_execute", disturbed)

    # when
    _, written, gap, busy = line.go()
    others[0].close()

    # then
    assert [type(one) for one in (written, gap, busy)] == [list, ValueError, StoreBusy]
    assert [one.case_id for one in store.read()] == ["first", "A"]
    store.close()


def test_a_busy_store_after_a_lost_answer_is_not_told_as_nothing_recorded() -> None:
    # given: the answer is lost after the commit, and the second attempt finds another writer
    store = open_store(url := fresh_store_url(), busy_timeout_seconds=0.3)
    schema, others = place_of(url).schema, []
    connections: Any = store._connections  # type: ignore[attr-defined]
    do = connections._do

    def lose(work: Any) -> Any:
        answer = do(work)
        if not others and isinstance(answer, list) and not isinstance(answer[0], str):
            others.append(psycopg.connect(database_url()))
            lock = f"SELECT pg_advisory_xact_lock((1381256770::bigint << 32) | '{schema}.facts'::regclass::oid::bigint)"
            others[0].execute(lock.encode())
            raise Lost("the answer was lost")
        return answer

    connections._do = lose

    # when, then: it is stored, and found
    assert store.append([batch("A", 0, "a-1")], receipt=receipt("c-1")) == [store.head()]
    others[0].close()
    store.close()


def test_of_two_that_append_the_very_same_beside_a_wrong_one_the_second_is_told_that_it_came_too_late() -> None:
    store = open_store(fresh_store_url())
    line = Line(together_of(store))
    line.come(lambda: store.append([batch("first", 0, "f")]))
    line.come(lambda: store.append([batch("A", 0, "same")]))
    line.come(lambda: store.append([batch("A", 0, "same")]))
    line.come(lambda: store.append([batch("B", 0, "gap", gap=1)]))

    _, one, other, wrong = line.go()

    assert [type(each) for each in (one, other, wrong)] == [list, Stale, ValueError]
    store.close()


def test_many_cases_at_once_are_checked_as_few_are(url: str) -> None:
    with closing(open_store(url)) as store:
        store.append([batch(f"case {nth:03}", 0, "a") for nth in range(300)])
        again = [batch(f"case {nth:03}", 1, "b") for nth in range(300)] + [batch("case 007", 2, "c")]

        with pytest.raises(Stale, match="case 299"):
            store.append([*again, batch("case 299", 1, "late")])
        store.append(again)

        assert store.head() >= 601
        assert [one.case_seq for one in store.load("case 007")] == [1, 2, 3]


@pytest.mark.parametrize("prepare_threshold", [5, None])
def test_a_pool_of_the_hosts_serves_appends_that_come_together(prepare_threshold: int | None) -> None:
    url = fresh_store_url()
    options = {"prepare_threshold": prepare_threshold}
    with (
        ConnectionPool(database_url(), min_size=1, max_size=2, open=True, kwargs=options) as pool,
        closing(open_store(url, pool=pool)) as store,
    ):
        for again in range(3):
            line = Line(together_of(store))
            line.come(lambda: store.append([batch(f"first {again}", 0, "f")]))  # noqa: B023
            for nth in range(5):
                line.come(lambda nth=nth: store.append([batch(f"case {nth}", again, "a")]))  # type: ignore[misc] # noqa: B023
            line.come(lambda: store.append([batch("case 0", 7, "late")]))

            results = line.go()

            assert [type(one) for one in results] == [list] * 6 + [Stale]
            assert line.sizes == [1, 6]
            together_of(store)._carry_out = line._carry_out
        assert [len(store.load(f"case {nth}")) for nth in range(5)] == [3] * 5


def test_a_connection_of_the_hosts_is_as_it_was_after_a_batch_that_could_not_be_sent_whole() -> None:
    # given: a pool whose connections are not in autocommit mode, as the host wants them
    url = fresh_store_url()
    with (
        ConnectionPool(database_url(), min_size=1, max_size=1, open=True) as pool,
        closing(open_store(url, pool=pool)) as store,
    ):
        line = Line(together_of(store))
        line.come(lambda: store.append([batch("first", 0, "f")]))
        line.come(lambda: store.append([batch("right", 0, "a")]))
        line.come(lambda: store.append([batch("wrong\0", 0, "a")]))  # the driver refuses to send it

        # when
        results = line.go()

        # then
        assert [type(one) for one in results] == [list, list, psycopg.DataError]
        with pool.connection() as connection:
            assert not connection.autocommit


# ---- time limits ------------------------------------------------------------------------------------------------------


# A connection that is being opened or handed over when the limit comes is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", ["at work", "waiting"])
def test_a_time_limit_in_one_thread_hits_the_command_of_no_other(place: str, url: str) -> None:
    # given: one thread writes, and three more wait behind it; wherever a function begins, a time limit is raised in one
    fates: set[object] = set()
    with interruptible("returnable.adapters.eventstore"):
        for nth in count(1):
            with closing(open_store(url)) as store:
                together_of(store)._patience_seconds = PATIENCE_SECONDS
                line = Line(together_of(store))
                cases = [f"{nth}-{each}" for each in range(4)]
                works: list[Any] = [
                    lambda case_id=case_id: store.append([batch(case_id, 0, "a")], receipt=receipt(case_id))
                    for case_id in cases
                ]
                victim = 0 if place == "at work" else 1
                works[victim] = limited = InterruptedWork(works[victim], nth)

                # when
                for work in works:
                    line.come(work)
                results = line.go()

                # then: its own command came to an end of its own, and the others are stored, once, where they were told
                own = results.pop(victim)
                fates.add(type(own))
                stored = {case_id: [one.position for one in store.load(case_id)] for case_id in cases}
                own_stored = stored.pop(cases[victim])
                assert results == list(stored.values()), (nth, results, stored)
                assert all(len(positions) == 1 for positions in results)  # type: ignore[arg-type]
                assert isinstance(own, TimeLimit) or own == own_stored, (nth, own, own_stored)
                assert len(own_stored) <= 1
                assert len(store.append([batch(f"{nth}-next", 0, "a")])) == 1
            if not limited.came:
                break
    assert fates == {TimeLimit, list}
    assert nth > 5
