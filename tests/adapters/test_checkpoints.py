"""Bookmarks, the due table and the counts of refusals: in memory, in a file and on a PostgreSQL server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from postgres import fresh_store_url, sql, with_parameters

from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.wiring import Services, assemble, policy_book
from returnable.domain.errors import CommandSeen, Stale, StoreUnusable
from returnable.domain.handler import CommandHandler
from returnable.domain.ports import CommandReceipt, Counted, DueCase, DueStatus, Tip
from returnable.testing import Scenario, a_return, an_order, run_deadlines

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
A_MINUTE = timedelta(minutes=1)
SOON = NOON + A_MINUTE
A_MOMENT = timedelta(microseconds=1)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{tmp_path}/store.db",
        "postgres": fresh_store_url,
    }
    return urls[request.param]()


@pytest.fixture
def store(url: str) -> Iterator[CaseStore]:
    opened = open_store(url)
    yield opened
    opened.close()


# ---- bookmarks ----------------------------------------------------------------------------------------------------------


def test_a_bookmark_that_nobody_set_is_at_the_beginning(store: CaseStore) -> None:
    assert store.checkpoints.checkpoint("publish/events") == 0
    assert store.checkpoints.begun() == {}


def test_who_holds_a_bookmark_moves_it_and_nobody_else_does(store: CaseStore) -> None:
    marks = store.checkpoints
    assert marks.acquire("events", "first", now=NOON, until=SOON) == 0

    assert marks.advance("events", "first", 7, after=0, until=SOON)
    assert not marks.advance("events", "second", 9, after=7, until=SOON)
    assert marks.checkpoint("events") == 7
    assert marks.checkpoint("mails") == 0
    marks.acquire("a list", "third", now=NOON, until=SOON)
    assert list(marks.begun().items()) == [("a list", 0), ("events", 7)]


def test_a_bookmark_moves_only_from_where_its_holder_believes_it_stands(store: CaseStore) -> None:
    marks = store.checkpoints
    marks.acquire("events", "first", now=NOON, until=SOON)
    marks.advance("events", "first", 7, after=0, until=SOON)

    assert not marks.advance("events", "first", 6, after=5, until=SOON)
    assert not marks.advance("events", "first", 12, after=9, until=SOON), (
        "the store was put back to an older copy of itself"
    )
    assert marks.advance("events", "first", 7, after=0, until=SOON), "told again after a lost answer"
    assert marks.checkpoint("events") == 7


def test_a_bookmark_is_anothers_only_when_its_holders_time_is_over(store: CaseStore) -> None:
    marks = store.checkpoints
    marks.acquire("events", "first", now=NOON, until=SOON)
    marks.advance("events", "first", 7, after=0, until=SOON + A_MINUTE)

    assert marks.acquire("events", "second", now=SOON, until=SOON + A_MINUTE) is None
    assert marks.acquire("events", "second", now=SOON + A_MINUTE - A_MOMENT, until=SOON + 2 * A_MINUTE) is None
    assert marks.acquire("events", "second", now=SOON + A_MINUTE, until=SOON + 2 * A_MINUTE) == 7
    assert not marks.advance("events", "first", 8, after=7, until=SOON + 3 * A_MINUTE)
    assert marks.acquire("events", "first", now=SOON + A_MINUTE, until=SOON + 3 * A_MINUTE) is None


def test_a_holder_goes_on_holding(store: CaseStore) -> None:
    marks = store.checkpoints
    marks.acquire("events", "first", now=NOON, until=SOON)

    assert marks.acquire("events", "first", now=NOON, until=SOON + A_MINUTE) == 0
    assert marks.acquire("events", "second", now=SOON, until=SOON + A_MINUTE) is None


def test_a_bookmark_that_was_let_go_is_free_at_once(store: CaseStore) -> None:
    marks = store.checkpoints
    marks.acquire("events", "first", now=NOON, until=SOON)
    marks.advance("events", "first", 7, after=0, until=SOON)

    marks.release("events", "second")
    assert marks.acquire("events", "second", now=NOON, until=SOON) is None
    marks.release("events", "first")
    assert marks.acquire("events", "second", now=NOON, until=SOON) == 7


def test_of_many_that_want_a_bookmark_at_once_one_gets_it(store: CaseStore) -> None:
    def want(nth: int) -> int | None:
        return store.checkpoints.acquire("events", f"the {nth}th", now=NOON, until=SOON)

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(want, range(24)))

    assert sorted(got, key=str) == [0, *[None] * 23]


# ---- the due table --------------------------------------------------------------------------------------------------------


def due(case_id: str, minutes: int = 0) -> DueCase:
    return DueCase(case_id, NOON + minutes * A_MINUTE)


def test_a_due_table_is_fed_by_one_of_those_that_stand_at_the_same_place(store: CaseStore) -> None:
    table = store.due
    assert table.status() == DueStatus(0, 0, None, 0)

    assert table.update(0, 5, ["A"], [due("A")], [])
    assert not table.update(0, 9, ["B"], [due("B")], [])
    assert table.update(5, 9, ["C", "D"], [due("C", -1)], ["D"])

    assert table.status() == DueStatus(9, 2, NOON - A_MINUTE, 1)
    assert table.parked() == ["D"]


def test_what_was_looked_at_again_counts_as_it_was_found_last(store: CaseStore) -> None:
    table = store.due
    table.update(0, 5, "ABCD", [due("A"), due("B"), due("C")], ["D"])

    table.update(5, 9, "ABCD", [due("B", 1), due("D", 2)], ["C"])

    assert table.due_by(NOON + A_MINUTE) == ["B"]
    assert table.status() == DueStatus(9, 2, NOON + A_MINUTE, 1)
    assert table.parked() == ["C"]


def test_a_case_is_due_from_its_instant_on(store: CaseStore) -> None:
    store.due.update(0, 1, [], [DueCase("B", NOON), DueCase("A", NOON + A_MOMENT)], [])

    assert store.due.due_by(NOON - A_MOMENT) == []
    assert store.due.due_by(NOON) == ["B"]
    assert store.due.due_by(NOON + A_MOMENT) == ["B", "A"]


def test_a_claimed_case_is_nobody_elses_until_the_claim_ends(store: CaseStore) -> None:
    table = store.due
    table.update(0, 1, [], [due("C", -1), due("A", -3), due("B", -2), due("later", 1)], [])

    assert table.claim(NOON, until=SOON, limit=2) == [due("A", -3), due("B", -2)]
    assert table.claim(NOON, until=SOON, limit=2) == [due("C", -1)]
    assert table.claim(SOON - A_MOMENT, until=SOON + A_MINUTE, limit=9) == []
    assert table.claim(SOON, until=SOON + A_MINUTE, limit=9) == [
        due("A", -3),
        due("B", -2),
        due("C", -1),
        due("later", 1),
    ]


def test_a_claim_that_is_given_back_is_free_and_one_that_became_anothers_stays_so(store: CaseStore) -> None:
    # given: the first one's claim ended, and another claimed what it had
    table = store.due
    table.update(0, 1, [], [due("A"), due("B"), due("C")], [])
    mine = table.claim(NOON, until=SOON, limit=2)
    others = table.claim(SOON, until=SOON + A_MINUTE, limit=9)
    assert [[one.case_id for one in claimed] for claimed in (mine, others)] == [["A", "B"], ["A", "B", "C"]]

    # when
    table.give_back(mine, until=SOON)
    still_claimed = table.claim(SOON, until=SOON + 2 * A_MINUTE, limit=9)
    table.give_back(others[:2], until=SOON + A_MINUTE)

    # then
    assert still_claimed == []
    assert table.claim(SOON, until=SOON + 2 * A_MINUTE, limit=9) == others[:2]


def test_a_claimed_case_that_is_fed_anew_is_free(store: CaseStore) -> None:
    table = store.due
    table.update(0, 1, [], [due("A"), due("B")], [])
    table.claim(NOON, until=SOON, limit=9)

    table.update(1, 2, ["A"], [due("A")], [])

    assert table.claim(NOON, until=SOON, limit=9) == [due("A")]


def test_a_parked_case_is_not_due(store: CaseStore) -> None:
    table = store.due
    table.update(0, 1, [], [due("A"), due("B")], [])

    table.park("A")
    table.park("unknown")

    assert table.claim(SOON, until=SOON + A_MINUTE, limit=9) == [due("B")]
    assert (table.due_by(SOON), table.parked()) == (["B"], ["A"])


def test_of_many_that_claim_at_once_each_gets_others(store: CaseStore) -> None:
    cases = [f"A-{nth:03}" for nth in range(120)]
    store.due.update(0, 1, [], [DueCase(case_id, NOON) for case_id in cases], [])

    def claim_all(_: int) -> list[str]:
        mine: list[str] = []
        while claimed := store.due.claim(NOON, until=SOON, limit=7):
            mine += [one.case_id for one in claimed]
        return mine

    with ThreadPoolExecutor(8) as pool:
        claimed = [case_id for mine in pool.map(claim_all, range(8)) for case_id in mine]

    assert sorted(claimed) == cases


def test_two_that_open_the_same_store_share_its_tables(url: str) -> None:
    if url == "memory:":  # is a fresh one every time
        assert open_store(url).checkpoints is not open_store(url).checkpoints
        return
    one, other = open_store(url), open_store(url)

    one.checkpoints.acquire("events", "first", now=NOON, until=SOON)
    one.due.update(0, 5, [], [due("A")], [])

    assert other.checkpoints.acquire("events", "second", now=NOON, until=SOON) is None
    assert other.due.status() == DueStatus(5, 1, NOON, 0)
    one.close()
    other.close()


# ---- a store that was made before there were such tables ----------------------------------------------------------------


def test_a_file_of_the_first_version_gets_the_tables_and_its_deadlines_are_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    story = Scenario(assemble(url)).given(an_order(delivered="2026-03-05"), a_return(labelled="2026-03-09 12:30"))
    story.desk.close()
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript("DROP TABLE due; DROP TABLE bookmarks; DROP TABLE timelines; PRAGMA user_version = 1")
    connection.close()

    assert migrate_store(url) == (1, 2), "it says so"
    story = Scenario(assemble(url))

    story.at("2026-04-01").when(run_deadlines()).then("LabelVoided")
    story.desk.close()
    assert migrate_store(url) == (2, 2)


def test_a_server_with_the_first_version_is_migrated_and_its_deadlines_are_found() -> None:
    url = fresh_store_url()
    story = Scenario(assemble(url)).given(an_order(delivered="2026-03-05"), a_return(labelled="2026-03-09 12:30"))
    story.desk.close()
    schema = place_of(url).schema
    sql(
        f"DROP TABLE {schema}.due; DROP TABLE {schema}.bookmarks; DELETE FROM {schema}.schema_versions WHERE version > 1"
    )

    assert migrate_store(url)[0] == 1

    story = Scenario(assemble(with_parameters(url, application_name="after")))
    story.at("2026-04-01").when(run_deadlines()).then("LabelVoided")
    story.desk.close()


# ---- counts of refusals -------------------------------------------------------------------------------------------------


@pytest.fixture
def with_facts(store: CaseStore) -> CaseStore:
    """The store, in which order A-1 has three facts and order A-2 has three more."""
    Scenario(Services(store, CommandHandler(store, policy_book(None)))).given(
        an_order("A-1", delivered="2026-03-05 14:00"), an_order("A-2", delivered="2026-03-05 14:00")
    )
    return store


def a_receipt(command_id: str) -> CommandReceipt:
    return CommandReceipt(command_id, "d" * 32, "request_return", NOON, "declined", judged_on=3)


def test_each_event_of_each_case_has_a_number_of_its_own(with_facts: CaseStore) -> None:
    refusals = with_facts.refusals

    for case_id, place, at in (("A-1", 2, SOON), ("A-1", 2, NOON), ("A-1", 3, NOON), ("A-2", 3, NOON)):
        refusals.count(case_id, place, known=3, at=at, receipt=None)

    assert refusals.of("A-1") == {2: Counted(2, SOON), 3: Counted(1, NOON)}
    assert refusals.of("A-2") == {3: Counted(1, NOON)}
    assert refusals.of("A-3") == {}


def test_the_receipt_of_a_counted_refusal_points_at_the_event_that_counts_it(with_facts: CaseStore) -> None:
    (event,) = [one for one in with_facts.load("A-2") if one.case_seq == 2]

    with_facts.refusals.count("A-2", 2, known=3, at=NOON, receipt=a_receipt("k-1"))

    kept = with_facts.receipt("k-1")
    assert kept is not None
    assert (kept.first, kept.last, kept.judged_on) == (event.position, event.position, 3)
    assert (kept.digest, kept.command, kept.at, kept.outcome) == ("d" * 32, "request_return", NOON, "declined")


def test_a_refusal_that_was_decided_on_other_facts_is_not_counted_and_leaves_no_receipt(with_facts: CaseStore) -> None:
    for known in (2, 4):
        with pytest.raises(Stale):
            with_facts.refusals.count("A-1", 2, known=known, at=NOON, receipt=a_receipt("k-1"))

    first, *_, last = with_facts.load("A-1")
    for other in (Tip(last.position, first.content), Tip(first.position, last.content)):
        with pytest.raises(Stale):
            with_facts.refusals.count("A-1", 2, known=3, tip=other, at=NOON, receipt=a_receipt("k-1"))

    assert with_facts.receipt("k-1") is None
    assert with_facts.refusals.of("A-1") == {}
    with_facts.refusals.count("A-1", 2, known=3, tip=Tip(last.position, last.content), at=NOON, receipt=None)


def test_a_command_that_is_on_record_is_not_counted_again_whatever_the_case_has_become(with_facts: CaseStore) -> None:
    with_facts.refusals.count("A-1", 2, known=3, at=NOON, receipt=a_receipt("k-1"))

    for known in (3, 7):
        with pytest.raises(CommandSeen):
            with_facts.refusals.count("A-1", 2, known=known, at=SOON, receipt=a_receipt("k-1"))

    assert with_facts.refusals.of("A-1") == {2: Counted(1, NOON)}


def test_threads_that_count_at_once_lose_no_refusal(with_facts: CaseStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        for nth in range(80):
            receipt = a_receipt(f"k-{nth}") if nth % 2 else None
            threads.submit(with_facts.refusals.count, "A-1", 2, known=3, at=NOON, receipt=receipt)

    assert with_facts.refusals.of("A-1") == {2: Counted(80, NOON)}


def test_nothing_is_counted_once_the_store_is_closed(with_facts: CaseStore) -> None:
    with_facts.close()

    with pytest.raises(StoreUnusable):
        with_facts.refusals.count("A-1", 2, known=3, at=NOON, receipt=None)
    with pytest.raises(StoreUnusable):
        with_facts.refusals.of("A-1")
