"""What every event store promises: in memory, in a file and on a PostgreSQL server."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent
from freezegun import freeze_time
from patience import GUARD_SECONDS
from postgres import fresh_store_url

from returnable.adapters.eventstore import follow
from returnable.adapters.eventstore.memory import MemoryStore
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.postgres import PostgresStore
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.sqlite import SQLiteStore
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import CommandSeen, HistoryBroken, NameTaken, PolicyMissing, Stale, StoreUnusable
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, CommandReceipt, Entry, EventStore, Recorded, ReservedId, Tip

# The module of the library's contract also tests ciphers, whose package is not needed here and not installed.
with pytest.MonkeyPatch.context() as patch:
    cipher = ModuleType("eventsourcing.cipher")
    cipher.AESCipher = None  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "eventsourcing.cipher", cipher)
    import eventsourcing.tests.persistence as library

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


def linked(account_id: str = "A-1") -> AccountLinked:
    return AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT, account_id=account_id)


def batch(case_id: str, after: int, *accounts: str) -> Batch:
    """The next facts of the order of a case that holds nothing but its order's facts."""
    entries = (Entry(f"order/{case_id}", after + nth, linked(account)) for nth, account in enumerate(accounts, 1))
    return Batch(case_id, after, tuple(entries))


def receipt(command_id: str) -> CommandReceipt:
    return CommandReceipt(command_id, "d" * 64, "link_account", MOMENT, "accepted")


def accounts(recorded: Sequence[Any]) -> list[str]:
    return [one.event.account_id for one in recorded]


def postgres_store() -> CaseStore:
    return PostgresStore(place_of(fresh_store_url()))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CaseStore]:
    make: dict[str, Callable[[], CaseStore]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "store.db"),
        "postgres": postgres_store,
    }
    made = make[request.param]()
    yield made
    made.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def finish(thread: threading.Thread) -> None:
    thread.join(GUARD_SECONDS)
    assert not thread.is_alive()


# ---- appending and loading ------------------------------------------------------------------------------------------


def test_a_case_store_is_an_event_store(store: CaseStore) -> None:
    as_the_desk_sees_it: EventStore = store

    assert as_the_desk_sees_it.head() == 0


def test_what_was_appended_is_loaded_in_order_with_its_places(store: CaseStore) -> None:
    # given
    event, reply = linked("A-1"), linked("A-2")

    # when
    positions = store.append([Batch("O-1", 0, (Entry("order/O-1", 1, event), Entry("return/R-1", 1, reply)))])

    # then
    assert list(positions) == [1, 2]
    assert list(store.load("O-1")) == [
        Recorded(1, "O-1", 1, "order/O-1", 1, event),
        Recorded(2, "O-1", 2, "return/R-1", 1, reply),
    ]


def test_a_case_goes_on_where_it_stood(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])

    # when
    store.append([batch("O-1", 2, "C")])

    # then
    assert [(one.case_seq, one.version) for one in store.load("O-1")] == [(1, 1), (2, 2), (3, 3)]
    assert accounts(store.load("O-1")) == ["A", "B", "C"]


def test_streams_of_a_case_keep_their_own_versions(store: CaseStore) -> None:
    # given
    store.append([Batch("O-1", 0, (Entry("order/O-1", 1, linked()), Entry("return/R-1", 1, linked())))])

    # when: the order goes on after the return, then the return after the order
    store.append([Batch("O-1", 2, (Entry("order/O-1", 2, linked()),))])
    store.append([Batch("O-1", 3, (Entry("return/R-1", 2, linked()), Entry("return/R-1", 3, linked())))])

    # then
    assert [(one.stream, one.version) for one in store.load("O-1")] == [
        ("order/O-1", 1),
        ("return/R-1", 1),
        ("order/O-1", 2),
        ("return/R-1", 2),
        ("return/R-1", 3),
    ]


def tip_of(entry: Recorded) -> Tip:
    return Tip(entry.position, entry.content)


@pytest.mark.parametrize("others", [0, 9], ids=["alone", "among many cases"])
def test_facts_are_appended_only_behind_the_fact_that_was_known(store: CaseStore, others: int) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])
    first, last = map(tip_of, store.load("O-1"))
    more = [batch(f"N-{nth}", 0, "X") for nth in range(others)]

    # when: as many facts are known, and another one is the last of them
    for wrong in (first, last._replace(position=1), last._replace(content=first.content)):
        with pytest.raises(Stale) as refused:
            store.append([*more, replace(batch("O-1", 2, "C"), tip=wrong)])
        assert refused.value.case_id == "O-1"

    # then
    assert store.head() == 2
    store.append([*more, replace(batch("O-1", 2, "C"), tip=last), batch("O-1", 3, "D")])
    assert accounts(store.load("O-1")) == ["A", "B", "C", "D"]


def test_a_place_tells_apart_what_is_said_and_where_it_stands(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A"), batch("O-2", 0, "A"), batch("O-3", 0, "B")])

    # then
    places = [tip_of(store.load(case_id)[0]).digest for case_id in ("O-1", "O-2", "O-3")]
    assert len(set(places)) == 3
    assert [store.fingerprint_at(nth) for nth in (1, 2, 3, 9)] == [*places, places[2]]
    assert store.fingerprint_at(0) is None


def test_facts_are_not_appended_without_the_policy_to_which_they_are_pinned(store: CaseStore) -> None:
    # when
    with pytest.raises(PolicyMissing, match="abc"):
        store.append(
            [batch("O-1", 0, "A")],
            reserved_ids=[ReservedId("return", "R-1", "O-1")],
            receipt=receipt("c"),
            pinned="abc",
        )

    # then
    assert store.head() == 0
    assert store.case_of("return", "R-1") is None
    assert store.receipt("c") is None
    store.keep_policy("abc", "clauses")
    store.append([batch("O-1", 0, "A")], pinned="abc")
    assert store.head() == 1


def test_several_cases_are_appended_together(store: CaseStore) -> None:
    # when
    positions = store.append([batch("O-1", 0, "A"), batch("O-2", 0, "B", "C")])

    # then
    assert list(positions) == [1, 2, 3]
    assert accounts(store.load("O-2")) == ["B", "C"]


def test_an_unknown_case_is_empty(store: CaseStore) -> None:
    assert list(store.load("O-404")) == []


def test_ids_of_any_printable_text_come_back_unchanged(store: CaseStore) -> None:
    # given
    case_id = "Bestellung №7/ß 'drop' %41 \U0001f4e6"

    # when
    store.append([batch(case_id, 0, "A")], reserved_ids=[ReservedId("return", case_id, case_id)])

    # then
    assert store.load(case_id)[0].case_id == case_id
    assert store.case_of("return", case_id) == case_id


def test_a_tracking_number_leads_to_every_case_that_knows_it(store: CaseStore) -> None:
    # given: another number begins with the same characters
    for case_id, key in (("O-2", "aa"), ("O-1", "aa"), ("O-1", "aab"), ("O-3", "a")):
        store.append([], reserved_ids=[ReservedId("tracking", f"{key}/{case_id}", case_id)])

    # then
    assert store.cases_tracking("aa") == ["O-1", "O-2"]
    assert store.cases_tracking("b") == []


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_a_case_that_has_other_facts_than_known_is_stale(store: CaseStore, after: int) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])

    # when
    with pytest.raises(Stale) as refused:
        store.append([batch("O-1", after, "C")])

    # then
    assert refused.value.case_id == "O-1"
    assert accounts(store.load("O-1")) == ["A", "B"]


@pytest.mark.parametrize("after", [1, 3])
def test_a_case_is_compared_even_when_nothing_is_appended_to_it(store: CaseStore, after: int) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])

    # then
    with pytest.raises(Stale):
        store.append([Batch("O-1", after, ())])
    assert list(store.append([Batch("O-1", 2, ())])) == []


def test_one_stale_case_holds_back_the_whole_append(store: CaseStore) -> None:
    # given
    store.append([batch("O-2", 0, "A")])

    # when
    with pytest.raises(Stale) as refused:
        store.append([batch("O-1", 0, "B"), batch("O-2", 0, "C")], reserved_ids=[ReservedId("claim", "C-1", "O-1")])

    # then
    assert refused.value.case_id == "O-2"
    assert list(store.load("O-1")) == []
    assert store.case_of("claim", "C-1") is None
    assert store.head() == 1


def test_a_name_is_taken_once_and_leads_to_its_case(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "R-1", "O-1")])

    # when
    with pytest.raises(NameTaken) as refused:
        store.append([batch("O-2", 0, "B")], reserved_ids=[ReservedId("return", "R-1", "O-2")], receipt=receipt("c"))

    # then
    assert (refused.value.kind, refused.value.name) == ("return", "R-1")
    assert store.case_of("return", "R-1") == "O-1"
    assert list(store.load("O-2")) == []
    assert store.receipt("c") is None


def test_a_return_and_a_claim_may_have_the_same_id(store: CaseStore) -> None:
    # when
    store.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "X-1", "O-1")])
    store.append([batch("O-2", 0, "B")], reserved_ids=[ReservedId("claim", "X-1", "O-2")])

    # then
    assert (store.case_of("return", "X-1"), store.case_of("claim", "X-1")) == ("O-1", "O-2")
    assert store.case_of("refund", "X-1") is None


def test_a_name_cannot_be_claimed_twice_at_once(store: CaseStore) -> None:
    # given
    twice = [ReservedId("refund", "F-1", "O-1"), ReservedId("refund", "F-1", "O-1")]

    # then
    with pytest.raises(NameTaken):
        store.append([batch("O-1", 0, "A")], reserved_ids=twice)
    assert store.head() == 0


def test_a_command_is_carried_out_once(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A")], receipt=receipt("c-1"))

    # when
    with pytest.raises(CommandSeen) as refused:
        store.append([batch("O-1", 1, "B")], reserved_ids=[ReservedId("return", "R-1", "O-1")], receipt=receipt("c-1"))

    # then
    assert refused.value.command_id == "c-1"
    assert accounts(store.load("O-1")) == ["A"]
    assert store.case_of("return", "R-1") is None


def test_a_command_on_record_explains_a_taken_name_and_a_case_that_moved_on(store: CaseStore) -> None:
    # given
    names = [ReservedId("return", "R-1", "O-1")]
    store.append([batch("O-1", 0, "A")], reserved_ids=names, receipt=receipt("c-1"))

    # then: the same again is a command that was seen, another one wants a taken name
    with pytest.raises(CommandSeen):
        store.append([batch("O-1", 0, "A")], reserved_ids=names, receipt=receipt("c-1"))
    with pytest.raises(CommandSeen):
        store.append([batch("O-1", 5, "A")], reserved_ids=names, receipt=receipt("c-1"))
    with pytest.raises(NameTaken):
        store.append([batch("O-1", 0, "A")], reserved_ids=names, receipt=receipt("c-2"))
    with pytest.raises(NameTaken):
        store.append([batch("O-1", 5, "A")], reserved_ids=names, receipt=receipt("c-2"))
    with pytest.raises(Stale):
        store.append([batch("O-1", 0, "A")], receipt=receipt("c-2"))


@pytest.mark.parametrize("version", [0, 1, 2, 4])
def test_versions_must_continue_their_stream_without_a_gap(store: CaseStore, version: int) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])

    # then: the mistake is the caller's, trying again would not help
    with pytest.raises(ValueError, match="order/O-1"):
        store.append([Batch("O-1", 2, (Entry("order/O-1", version, linked()),))])
    with pytest.raises(ValueError, match="return/R-1"):
        store.append([Batch("O-1", 2, (Entry("return/R-1", 2, linked()),))])
    assert store.head() == 2


def test_a_stream_belongs_to_one_case(store: CaseStore) -> None:
    # given
    store.append([Batch("O-1", 0, (Entry("return/R-1", 1, linked()),))])

    # then
    with pytest.raises(ValueError, match="another case"):
        store.append([Batch("O-2", 0, (Entry("return/R-1", 1, linked()),))])
    with pytest.raises(ValueError, match="return/R-1"):
        store.append([Batch("O-2", 0, (Entry("return/R-1", 2, linked()),))])
    assert store.head() == 1


def test_after_any_refusal_the_store_goes_on(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "R-1", "O-1")], receipt=receipt("c-1"))
    with pytest.raises(CommandSeen):
        store.append([batch("O-1", 1, "B")], receipt=receipt("c-1"))
    with pytest.raises(NameTaken):
        store.append([batch("O-1", 1, "B")], reserved_ids=[ReservedId("return", "R-1", "O-1")])
    with pytest.raises(Stale):
        store.append([batch("O-1", 0, "B")])
    with pytest.raises(Stale):
        store.append([batch("O-1", 9, "B")])
    with pytest.raises(ValueError, match="order/O-1"):
        store.append([Batch("O-1", 1, (Entry("order/O-1", 9, linked()),))])

    # when
    positions = store.append([batch("O-1", 1, "B")], receipt=receipt("c-2"))

    # then
    assert accounts(store.load("O-1")) == ["A", "B"]
    assert store.head() == positions[0]


# ---- receipts and policies ------------------------------------------------------------------------------------------


def test_a_receipt_says_which_facts_its_command_recorded(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A")])

    # when
    store.append([batch("O-1", 1, "B", "C", "D")], receipt=receipt("c-1"))

    # then
    assert store.receipt("c-1") == CommandReceipt("c-1", "d" * 64, "link_account", MOMENT, "accepted", first=2, last=4)
    assert store.receipt("c-2") is None


def test_a_command_may_record_nothing_but_its_receipt(store: CaseStore) -> None:
    # when
    positions = store.append([], receipt=receipt("c-1"))

    # then
    kept = store.receipt("c-1")
    assert list(positions) == []
    assert kept is not None
    assert (kept.first, kept.last) == (0, 0)
    with pytest.raises(CommandSeen):
        store.append([], receipt=receipt("c-1"))


def test_the_moment_of_a_receipt_is_kept_in_utc_to_the_microsecond(store: CaseStore) -> None:
    # given
    moment = datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-5)))

    # when
    store.append([], receipt=CommandReceipt("c-1", "d", "cancel", moment, "declined"))

    # then
    kept = store.receipt("c-1")
    assert kept is not None
    assert kept.at == moment
    assert kept.at.utcoffset() == timedelta(0)
    assert kept.outcome == "declined"


def test_a_receipt_without_an_offset_is_refused(store: CaseStore) -> None:
    naive = CommandReceipt("c-1", "d", "cancel", MOMENT.replace(tzinfo=None), "accepted")

    with pytest.raises(ValueError, match="c-1"):
        store.append([batch("O-1", 0, "A")], receipt=naive)
    assert store.head() == 0


def test_a_policy_is_kept_once_and_for_ever(store: CaseStore) -> None:
    # when: kept again, with another text
    store.keep_policy("abc", "clauses")
    store.keep_policy("abc", "clauses")
    store.keep_policy("abc", "other clauses")

    # then
    assert store.policy("abc") == "clauses"
    assert store.policy("def") is None


# ---- reading --------------------------------------------------------------------------------------------------------


def test_the_log_is_read_in_pages(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B", "C"), batch("O-2", 0, "D", "E")])

    # then
    assert accounts(store.read()) == ["A", "B", "C", "D", "E"]
    assert accounts(store.read(after=2, limit=2)) == ["C", "D"]
    assert accounts(store.read(after=1, upto=3)) == ["B", "C"]
    assert accounts(store.read(upto=0)) == []
    assert accounts(store.read(limit=0)) == []
    assert accounts(store.read(after=5)) == []
    assert [one.position for one in store.read(after=3)] == [4, 5]
    assert [one.case_seq for one in store.read(after=3)] == [1, 2]


def test_the_head_is_the_last_position(store: CaseStore) -> None:
    assert store.head() == 0
    store.append([batch("O-1", 0, "A", "B")])
    assert store.head() == 2


def test_every_case_is_visited_in_order_of_its_id(store: CaseStore) -> None:
    # given: appended in turns, in another order, with ids whose order depends on how text is compared
    for case_id in ("b", "a", "É", "B", "\U0001f4e6", "ﬀ"):
        store.append([batch(case_id, 0, f"{case_id}1")])
    store.append([batch("a", 1, "a2")])

    # when
    visited = [(case_id, accounts(events)) for case_id, events in store.cases()]

    # then
    assert [case_id for case_id, _ in visited] == sorted(["b", "a", "É", "B", "\U0001f4e6", "ﬀ"])
    assert dict(visited)["a"] == ["a1", "a2"]


def test_cases_are_seen_as_they_were_when_the_visit_began(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A"), batch("O-2", 0, "B")])
    visit = store.cases()
    first = next(visit)

    # when: a visit in progress does not hold back writers
    store.append([batch("O-2", 1, "C"), batch("O-3", 0, "D")])

    # then
    assert [(case_id, accounts(events)) for case_id, events in (first, *visit)] == [("O-1", ["A"]), ("O-2", ["B"])]
    assert len(list(store.cases())) == 3


def test_a_visit_may_be_given_up(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A"), batch("O-2", 0, "B")])

    # when
    visit = store.cases()
    next(visit)
    del visit

    # then
    store.append([batch("O-1", 1, "C")])
    assert len(list(store.cases())) == 2


def test_a_fact_of_an_unknown_type_is_reported_with_its_position(store: CaseStore) -> None:
    # given
    store.insert_events([StoredEvent("order/O-1", 1, "order.FromTheFuture/1", b"{}")])

    # then
    with pytest.raises(HistoryBroken, match=r"position 1.*FromTheFuture"):
        store.read()


# ---- following ------------------------------------------------------------------------------------------------------


def test_a_follower_gets_what_is_there_and_then_what_comes(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])

    # when
    with store.follow(after=1) as events:
        already_there = next(events)
        writer = in_thread(lambda: [store.append([batch("O-1", 2, "C")]), store.append([batch("O-1", 3, "D")])])
        later = [next(events), next(events)]
        finish(writer)

    # then
    assert accounts([already_there, *later]) == ["B", "C", "D"]
    assert [one.case_seq for one in later] == [3, 4]


def test_a_follower_hears_of_its_own_process_and_of_its_end_without_looking_again(
    store: CaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a follower that will not look again by itself
    monkeypatch.setattr(follow, "POLL_SECONDS", 3600)
    following = store.follow()
    heard = threading.Semaphore(0)

    def tail() -> None:
        with following as events:
            for _ in events:
                heard.release()

    tailing = in_thread(tail)

    # then
    for after in range(20):
        store.append([batch("O-1", after, "A")])
        assert heard.acquire(timeout=GUARD_SECONDS)
    following.stop()
    finish(tailing)


def test_a_follower_passes_more_facts_than_fit_a_page(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, *(f"A-{n}" for n in range(1201)))])

    # when
    with store.follow() as events:
        seen = [next(events).position for _ in range(1201)]

    # then
    assert seen == list(range(1, 1202))


@pytest.mark.parametrize("after", [1, 499, 500, 501, 1200])
def test_a_follower_that_begins_in_the_middle_gets_all_that_follows_and_nothing_before(
    store: CaseStore, after: int
) -> None:
    # given
    store.append([batch("O-1", 0, *(f"A-{n}" for n in range(1201)))])

    # when
    with store.follow(after) as events:
        seen = [next(events).position for _ in range(1201 - after)]

    # then
    assert seen == list(range(after + 1, 1202))


def test_a_follower_is_stopped_from_another_thread(store: CaseStore) -> None:
    # given
    following = store.follow()
    seen: list[Recorded] = []

    def tail() -> None:
        with following as events:
            seen.extend(events)

    tailing = in_thread(tail)
    store.append([batch("O-1", 0, "A")])

    # when
    while not seen:
        tailing.join(0.01)
    following.stop()
    finish(tailing)

    # then
    assert len(seen) == 1


def test_a_follower_ends_when_its_context_is_left(store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B")])

    # when
    with store.follow() as events:
        next(events)

    # then
    assert list(events) == []


def test_closing_the_store_ends_its_followers(store: CaseStore) -> None:
    # given
    entered = threading.Event()

    def tail() -> None:
        with store.follow() as events:
            entered.set()
            for _ in events:
                pass

    tailing = in_thread(tail)
    assert entered.wait(GUARD_SECONDS)

    # when
    store.close()

    # then
    finish(tailing)


def test_a_follower_goes_on_after_a_fact_that_cannot_be_read(store: CaseStore) -> None:
    # given
    store.insert_events([StoredEvent("order/O-9", 1, "order.FromTheFuture/1", b"{}")])
    store.append([batch("O-1", 0, "A")])

    # then
    with store.follow() as events:
        with pytest.raises(HistoryBroken):
            next(events)
        assert next(events).case_id == "O-1"


def test_time_standing_still_does_not_keep_a_follower_waiting(store: CaseStore) -> None:
    with freeze_time("2026-03-02T15:00:00Z"):
        # given: a follower that has waited through several time-outs
        looks = threading.Semaphore(0)
        look = store.rows

        def counted(*args: object, **kwargs: object) -> object:
            looks.release()
            return look(*args, **kwargs)  # type: ignore[arg-type]

        store.rows = counted  # type: ignore[method-assign, assignment]
        seen: list[Recorded] = []

        def tail() -> None:
            with store.follow() as events:
                seen.append(next(events))

        tailing = in_thread(tail)
        for _ in range(4):
            assert looks.acquire(timeout=GUARD_SECONDS)

        # when
        store.append([batch("O-1", 0, "A")], receipt=receipt("c-1"))
        finish(tailing)

        # then
        assert accounts(seen) == ["A"]
        assert store.receipt("c-1") is not None


# ---- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.load("O-1"),
        lambda store: store.case_of("return", "R-1"),
        lambda store: store.cases_tracking("aa"),
        lambda store: store.append([batch("O-1", 0, "A")]),
        lambda store: store.receipt("c-1"),
        lambda store: store.read(),
        lambda store: list(store.cases()),
        lambda store: store.head(),
        lambda store: store.keep_policy("abc", "clauses"),
        lambda store: store.policy("abc"),
    ],
    ids=["load", "case_of", "cases_tracking", "append", "receipt", "read", "cases", "head", "keep_policy", "policy"],
)
def test_a_closed_store_says_so(store: CaseStore, use: Callable[[CaseStore], object]) -> None:
    # when: closed, and closed again
    store.close()
    store.close()

    # then
    with pytest.raises(StoreUnusable, match="closed"):
        use(store)


# ---- many threads ---------------------------------------------------------------------------------------------------


def test_of_many_threads_racing_for_a_place_exactly_one_wins(store: CaseStore) -> None:
    # given
    rounds, racers = 25, 16
    start = threading.Barrier(racers)
    wins: list[tuple[int, str]] = []

    def race(name: str) -> None:
        for after in range(rounds):
            start.wait(GUARD_SECONDS)
            try:
                store.append([batch("O-1", after, name)])
            except Stale:
                continue
            wins.append((after + 1, name))

    # when
    racing = [in_thread(partial(race, f"T-{n}")) for n in range(racers)]
    for thread in racing:
        finish(thread)

    # then
    assert sorted(wins) == [(one.case_seq, one.event.account_id) for one in store.load("O-1")]  # type: ignore[attr-defined]
    assert len(wins) == rounds


def test_sixty_four_threads_write_and_read_at_once(store: CaseStore) -> None:
    # given
    failures: list[BaseException] = []

    def work(case_id: str) -> None:
        try:
            for after in range(5):
                store.append([batch(case_id, after, "A")], receipt=receipt(f"{case_id}-{after}"))
                assert len(store.load(case_id)) == after + 1
                assert store.receipt(f"{case_id}-{after}") is not None
        except BaseException as failure:
            failures.append(failure)

    # when
    for thread in [in_thread(partial(work, f"O-{n}")) for n in range(64)]:
        finish(thread)

    # then
    assert failures == []
    assert [one.position for one in store.read(limit=1000)] == list(range(1, 321))


# ---- the contract of the library ------------------------------------------------------------------------------------


class _WithTextIds:
    def new_originator_id(self) -> str:
        self.made = getattr(self, "made", 0) + 1
        return f"order/{id(self)}-{self.made}"


class TestMemoryKeepsTheLibrarysContract(_WithTextIds, library.ApplicationRecorderTestCase):
    def create_recorder(self) -> CaseStore:
        return MemoryStore()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestSQLiteKeepsTheLibrarysContract(_WithTextIds, library.ApplicationRecorderTestCase):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def create_recorder(self) -> CaseStore:
        return SQLiteStore(self.folder / "store.db")

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestSQLitePositionsDoNotInterleave(_WithTextIds, library.NonInterleavingNotificationIDsBaseCase):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def create_recorder(self) -> CaseStore:
        return SQLiteStore(self.folder / "store.db")


class TestPostgresKeepsTheLibrarysContract(_WithTextIds, library.ApplicationRecorderTestCase):
    def create_recorder(self) -> CaseStore:
        made = postgres_store()
        self.addCleanup(made.close)
        return made

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestPostgresPositionsDoNotInterleave(_WithTextIds, library.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> CaseStore:
        made = postgres_store()
        self.addCleanup(made.close)
        return made


def test_streams_are_selected_by_version(store: CaseStore) -> None:
    # given
    stored = [StoredEvent("return/R-1", version, "topic", b"%d" % version) for version in (1, 2, 3)]
    store.insert_events(stored[:2])
    store.insert_events([StoredEvent("return/R-2", 1, "topic", b""), stored[2]])

    # then
    assert list(store.select_events("return/R-1")) == stored
    assert list(store.select_events("return/R-1", gt=1)) == stored[1:]
    assert list(store.select_events("return/R-1", lte=2, desc=True)) == [stored[1], stored[0]]
    assert list(store.select_events("return/R-1", limit=1)) == stored[:1]
    assert list(store.select_events("return/R-3")) == []


def test_streams_of_the_desk_are_selected_without_their_neighbours(store: CaseStore) -> None:
    # given
    store.append([Batch("O-1", 0, (Entry("order/O-1", 1, linked()), Entry("return/R-1", 1, linked())))])
    store.append([Batch("O-1", 2, (Entry("return/R-1", 2, linked()), Entry("order/O-1", 2, linked())))])

    # then
    assert [event.originator_version for event in store.select_events("return/R-1")] == [1, 2]
    assert [event.originator_version for event in store.select_events("order/O-1")] == [1, 2]


def test_without_cases_a_conflict_is_the_librarys_own(store: CaseStore) -> None:
    # given
    event = StoredEvent("return/R-1", 1, "topic", b"state")
    store.insert_events([event])

    # then
    with pytest.raises(IntegrityError):
        store.insert_events([event])
    with pytest.raises(TypeError, match="tracking"):
        store.insert_events([event], tracking=None)


# ---- URLs -----------------------------------------------------------------------------------------------------------


def test_memory_stores_are_fresh_each_time() -> None:
    # given
    one, other = open_store("memory:"), open_store("memory:")

    # when
    one.append([batch("O-1", 0, "A")])

    # then
    assert (one.head(), other.head()) == (1, 0)


def test_a_url_names_a_file_by_relative_absolute_or_percent_encoded_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.chdir(tmp_path)

    # when
    for url in ("sqlite:///relative.db", f"sqlite:///{tmp_path}/absolute.db", "sqlite:///a%20%3F%23%25.db"):
        store = open_store(url)
        store.append([batch("O-1", 0, "A")])
        store.close()

    # then
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a ?#%.db", "absolute.db", "relative.db"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store.db",
        "/store.db",
        "memory",
        "memory://",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://store.db",
        "sqlite://host/store.db",
        "sqlite:///:memory:",
        "sqlite:///store.db?synchronous=OFF",
        "sqlite:///a%00b",
        "mysql://localhost/returns",
    ],
)
def test_a_url_that_names_no_store_is_refused_in_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.chdir(tmp_path)

    # when
    with pytest.raises(StoreUnusable) as refused:
        open_store(url)

    # then
    message = str(refused.value)
    assert repr(url) in message
    assert "memory:" in message
    assert "sqlite:///" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []
