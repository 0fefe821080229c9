"""The publisher: at least once, in order for each stream, from where it left off, whatever fails."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from postgres import fresh_store_url
from publishing import (
    SOURCE,
    Clock,
    Notebook,
    a_store,
    append,
    away,
    damage,
    event_ids,
    first_times,
    in_order,
    values,
)
from usual import an_inspected_return

import returnable.adapters.publishing.publisher as publishing
from returnable.adapters.eventstore.memory import MemoryCheckpoints
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.publishing.broker import BrokerFailed, Message
from returnable.adapters.publishing.cloud_event import cloud_event, damaged_event, own_source
from returnable.adapters.publishing.publisher import HOLD_SECONDS, Publisher, PublisherStatus, waves
from returnable.domain.errors import HistoryBroken, StoreBusy
from returnable.domain.ports import Recorded
from returnable.projections.redaction import BLANK, Redaction
from returnable.testing import given as told


def a_publisher(store: CaseStore, broker: Any, checkpoints: Any = None, **options: Any) -> Publisher:
    return Publisher(store, checkpoints or MemoryCheckpoints(), broker, **({"source": SOURCE} | options))


def facts_of_a_return() -> list[Recorded]:
    return list(told(an_inspected_return()).desk.services.store.read())


# ---- the event --------------------------------------------------------------------------------------------------------


def test_an_event_says_what_happened_when_to_what_and_where_it_stands() -> None:
    shipped = next(one for one in facts_of_a_return() if one.event.type == "Shipped")

    event = values(cloud_event(shipped, SOURCE))

    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "order/A-1#2",
        "source": SOURCE,
        "type": "returnable.order.Shipped.v1",
        "subject": "order/A-1",
        "time": data["occurred_at"],
        "recordedtime": data["recorded_at"],
        "partitionkey": "A-1",
        "sequence": f"{shipped.position:019d}",
        "datacontenttype": "application/json",
    }
    assert (data["parcel_id"], data["lines"]) == ("P-1", [{"line_id": "1", "quantity": 1}])


def test_every_event_keeps_the_rules_of_cloudevents() -> None:
    for entry in facts_of_a_return():
        body = cloud_event(entry, SOURCE).body

        _assert_a_cloud_event(body, with_data=True)


def test_the_event_of_a_damaged_fact_keeps_the_rules_too_and_tells_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    a_store(("A-1", 2), url=f"sqlite:///{path}").close()
    damage(path, "order/A-1", 2, b'{"account_id": "secret"}')
    _, found = a_store(url=f"sqlite:///{path}").load_until_damage("A-1")
    assert found is not None

    message = damaged_event(found, SOURCE)

    _assert_a_cloud_event(message.body, with_data=False)
    assert values(message)["type"] == "returnable.store.FactDamaged.v1"
    assert values(message)["id"] == "order/A-1#2/damaged"
    assert b"secret" not in message.body


def _assert_a_cloud_event(body: bytes, *, with_data: bool) -> None:
    """By the library of the CloudEvents project, and by the rules that it does not look at."""
    event = JSONFormat().read(CloudEvent, body)
    assert (event.get_data() is not None) is with_data
    attributes = {name: value for name, value in json.loads(body).items() if name != "data"}
    for name, value in attributes.items():
        assert re.fullmatch(r"[a-z0-9]{1,20}", name)
        assert isinstance(value, str)
        assert value
        assert value.isprintable()
    for name in {"time", "recordedtime"} & attributes.keys():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", attributes[name])


def test_the_order_of_positions_is_the_order_of_sequences_as_texts() -> None:
    store = a_store(("A", 12))
    sequences = [values(cloud_event(one, SOURCE))["sequence"] for one in store.read()]

    assert sorted(sequences) == sequences


def test_two_stores_have_two_sources_and_a_store_has_one() -> None:
    one, other = a_store(("A-1", 1)), a_store(("A-2", 1))

    sources = {own_source(one), own_source(other)}
    append(one, "B", "order/B")

    assert len(sources) == 2
    assert own_source(one) in sources


def test_a_store_whose_first_fact_cannot_be_read_has_to_be_given_a_source(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    store = a_store(("A-1", 2), url=f"sqlite:///{path}")
    damage(path, "order/A-1", 1)

    with pytest.raises(HistoryBroken, match="name a source"):
        a_publisher(store, Notebook(), source=None).once()


@pytest.mark.parametrize("source", ["", "my shop", "/shop\n", "/100%", "/ü"])
def test_what_is_no_uri_reference_is_no_source(source: str) -> None:
    with pytest.raises(ValueError, match="not a URI-reference"):
        a_publisher(a_store(), Notebook(), source=source)


def test_the_same_id_in_another_store_is_another_key() -> None:
    entry = a_store(("A-1", 1)).read()[0]

    assert cloud_event(entry, "/one").key != cloud_event(entry, "/other").key


# ---- publishing -----------------------------------------------------------------------------------------------------


def test_everything_is_published_once_and_the_place_is_kept() -> None:
    store, checkpoints, broker = a_store(("A", 3), ("B", 2)), MemoryCheckpoints(), Notebook()

    assert a_publisher(store, broker, checkpoints).once()

    assert sorted(broker.ids) == sorted(event_ids(store))
    assert checkpoints.checkpoint("publish/default") == store.head()
    broker.arrived.clear()
    append(store, "C", "order/C")
    assert a_publisher(store, broker, checkpoints).once()
    assert broker.ids == ["order/C#1"]


def test_a_store_on_a_server_is_published_by_one_of_two() -> None:
    store = a_store(("A", 3), ("B", 2), url=fresh_store_url())
    broker, clock = Notebook(), Clock()
    first, second = (a_publisher(store, broker, store.checkpoints, clock=clock) for _ in range(2))
    broker.trouble = lambda messages: second.once() and pytest.fail("both published")

    assert first.once()
    assert second.once()

    assert sorted(broker.ids) == sorted(event_ids(store))
    store.close()


def test_two_names_are_two_places() -> None:
    store, checkpoints = a_store(("A", 2)), MemoryCheckpoints()
    mine, other = Notebook(), Notebook()

    a_publisher(store, mine, checkpoints, name="mine").once()
    a_publisher(store, other, checkpoints, name="other").once()

    assert mine.ids == other.ids == ["order/A#1", "order/A#2"]


def test_the_kth_event_of_every_stream_goes_in_the_kth_wave() -> None:
    broker = Notebook()

    a_publisher(a_store(("A", 3), ("B", 1), ("C", 2)), broker).once()

    assert broker.sends == [["order/A#1", "order/B#1", "order/C#1"], ["order/A#2", "order/C#2"], ["order/A#3"]]


def test_published_again_it_is_the_same_byte_for_byte() -> None:
    store = a_store(("A", 3), ("B", 2))
    first, second = Notebook(), Notebook()

    a_publisher(store, first).once()
    a_publisher(store, second).once()

    assert first.arrived == second.arrived


def test_publishing_begins_where_it_is_told_to() -> None:
    store, checkpoints, broker = a_store(("A", 5)), MemoryCheckpoints(), Notebook()
    publisher = a_publisher(store, broker, checkpoints)

    assert publisher.begin_at(4)
    publisher.once()

    assert broker.ids == ["order/A#4", "order/A#5"]


def test_publishing_does_not_go_back_under_the_same_name() -> None:
    store, checkpoints, broker = a_store(("A", 5)), MemoryCheckpoints(), Notebook()
    publisher = a_publisher(store, broker, checkpoints)
    publisher.once()

    with pytest.raises(ValueError, match="the publisher 'default' is at position 5 already; choose another name"):
        publisher.begin_at(4)

    assert checkpoints.acquire("publish/default", "another", now=Clock().now, until=Clock().now) == 5, "it was let go"


def test_an_empty_store_has_nothing_to_publish_and_needs_no_source() -> None:
    broker = Notebook()

    assert a_publisher(a_store(), broker, source=None).once()

    assert broker.sends == []


def test_personal_data_can_be_left_out() -> None:
    store = told(
        an_inspected_return(customer={"customer_id": "c-77", "account_id": "acc-1", "email": "ann@shop.example"})
    ).desk.services.store
    broker = Notebook()

    Publisher(store, MemoryCheckpoints(), broker, redaction=Redaction(b"k")).once()

    confirmed = values(broker.arrived[0])
    assert confirmed["data"]["customer"]["customer_id"].startswith("anon-")
    assert b"ann@shop.example" not in b"".join(message.body for message in broker.arrived)
    assert confirmed["subject"] == "order/A-1"
    assert BLANK != confirmed["data"]["order_id"] == "A-1"


# ---- failures -------------------------------------------------------------------------------------------------------


def test_a_broker_that_is_away_is_tried_again_after_growing_pauses_and_nothing_is_skipped() -> None:
    store = a_store(("A", 2), ("B", 2))
    pauses: list[float] = []
    left = [away] * 5

    def trouble(messages: Sequence[Message]) -> None:
        if left:
            left.pop()(messages)

    broker = Notebook(trouble)

    _run_until(a_publisher(store, broker), lambda: len(broker.arrived) == 4, pauses)

    assert pauses[:5] == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert sorted(broker.ids) == sorted(event_ids(store))


def test_pauses_grow_to_half_a_minute_and_no_further() -> None:
    pauses: list[float] = []

    _run_until(a_publisher(a_store(("A", 1)), Notebook(away)), lambda: len(pauses) == 2000, pauses)

    assert max(pauses) == pauses[-1] == 30.0


def test_a_busy_store_is_tried_again_too() -> None:
    checkpoints, broker = MemoryCheckpoints(), Notebook()
    hold, busy = checkpoints.acquire, [True, True]

    def held(*arguments: Any, **options: Any) -> int | None:
        if busy:
            busy.pop()
            raise StoreBusy("busy")
        return hold(*arguments, **options)

    checkpoints.acquire = held  # type: ignore[method-assign]

    _run_until(a_publisher(a_store(("A", 1)), broker, checkpoints), lambda: bool(broker.arrived), [])

    assert broker.ids == ["order/A#1"]


def _run_until(publisher: Publisher, done: Callable[[], bool], pauses: list[float]) -> None:
    """Run it with pauses that are noted instead of waited for."""

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            if done() or len(pauses) > 5000:
                self.set()
            return self.is_set()

    publisher.run(Stop())


def test_what_was_acknowledged_before_a_failure_is_not_sent_again_by_the_same_process() -> None:
    store, checkpoints = a_store(("A", 3)), MemoryCheckpoints()
    broker = Notebook(lambda messages: away(messages) if messages[0].id == "order/A#3" and len(broker.sends) < 4 else 0)
    publisher = a_publisher(store, broker, checkpoints)
    with pytest.raises(BrokerFailed):
        publisher.once()

    publisher.once()

    assert broker.sends == [["order/A#1"], ["order/A#2"], ["order/A#3"], ["order/A#3"]]


def test_a_broker_that_takes_only_a_few_at_once_gets_a_few() -> None:
    store = a_store(*((f"C{n}", 1) for n in range(40)))
    broker = Notebook(lambda messages: away(messages) if len(messages) > 3 else None)

    _run_until(a_publisher(store, broker), lambda: len(broker.arrived) == 40, [])

    assert sorted(broker.ids) == sorted(event_ids(store))


def test_how_it_stands_can_be_read_at_any_time() -> None:
    clock = Clock()
    store, checkpoints, broker = a_store(("A", 3)), MemoryCheckpoints(), Notebook(away)
    publisher = a_publisher(store, broker, checkpoints, clock=clock)
    seen: list[PublisherStatus] = []

    def done() -> bool:
        seen.append(publisher.status())
        if len(seen) == 2:
            broker.trouble = lambda messages: seen.append(publisher.status())
        return len(broker.arrived) == 3

    _run_until(publisher, done, [])

    once, twice = seen[0], seen[1]
    assert (once.name, once.position, once.head, once.behind) == ("default", 0, 3, 3)
    assert (once.failures, once.last_error, once.last_error_at) == (1, "notebook: is away", clock.now)
    assert twice.failures == 2
    assert seen[2].state == "failing"
    assert publisher.status() == PublisherStatus("default", "stopped", 3, 3, 3, 0, "notebook: is away", clock.now, ())


def test_failures_and_recoveries_are_logged_with_their_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "returnable.publisher")
    left = [away]
    broker = Notebook(lambda messages: left.pop()(messages) if left else None)

    _run_until(a_publisher(a_store(("A", 1)), broker, name="shop"), lambda: bool(broker.arrived), [])

    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("WARNING", "shop: not published, trying again in 0.2 s: notebook: is away") in said
    assert ("INFO", "shop: publishing again after 1 failures") in said
    failure: Any = next(record for record in caplog.records if record.levelname == "WARNING")
    assert (failure.publisher, failure.position, failure.failures, failure.error) == ("shop", 0, 1, "notebook: is away")


# ---- two of a name --------------------------------------------------------------------------------------------------


def test_the_second_of_a_name_stands_by_and_goes_on_when_the_first_is_gone() -> None:
    clock, checkpoints = Clock(), MemoryCheckpoints()
    store, broker = a_store(("A", 2)), Notebook()
    checkpoints.acquire("publish/default", "gone", now=clock.now, until=clock.now.replace(minute=1))
    second = a_publisher(store, broker, checkpoints, clock=clock)

    assert not second.once()
    assert broker.sends == []
    clock.pass_(61)
    assert second.once()

    assert broker.ids == ["order/A#1", "order/A#2"]


def test_a_publisher_that_is_stopped_lets_go_at_once() -> None:
    clock, checkpoints, store = Clock(), MemoryCheckpoints(), a_store(("A", 1))
    first, second = Notebook(), Notebook()
    _run_until(a_publisher(store, first, checkpoints, clock=clock), lambda: bool(first.arrived), [])
    append(store, "A", "order/A")

    assert a_publisher(store, second, checkpoints, clock=clock).once()

    assert second.ids == ["order/A#2"]


def test_a_broker_that_only_the_holder_cannot_reach_is_left_to_the_other() -> None:
    checkpoints, store, broker = MemoryCheckpoints(), a_store(("A", 1)), Notebook()
    second = a_publisher(store, broker, checkpoints)

    _run_until(a_publisher(store, Notebook(away), checkpoints), second.once, [])

    assert broker.ids == ["order/A#1"]


def test_who_lost_the_bookmark_stops_sending_at_once_and_stands_by() -> None:
    clock, checkpoints, store = Clock(), MemoryCheckpoints(), a_store(("A", 4))

    def stolen(messages: Sequence[Message]) -> None:
        if messages[0].id == "order/A#2":
            clock.pass_(HOLD_SECONDS + 1)
            checkpoints.acquire("publish/default", "thief", now=clock.now, until=clock.now.replace(hour=17))

    broker = Notebook(stolen)
    publisher = a_publisher(store, broker, checkpoints, clock=clock)

    assert not publisher.once()

    assert broker.ids == ["order/A#1", "order/A#2"]
    assert checkpoints.checkpoint("publish/default") == 0


def test_a_long_batch_goes_on_holding_the_bookmark() -> None:
    clock, checkpoints, store = Clock(), MemoryCheckpoints(), a_store(("A", 30))
    second = Notebook()

    def slow(messages: Sequence[Message]) -> None:
        clock.pass_(9)
        assert not a_publisher(store, second, checkpoints, clock=clock).once()

    broker = Notebook(slow)

    assert a_publisher(store, broker, checkpoints, clock=clock).once()

    assert len(broker.arrived) == 30
    assert second.sends == []


def test_an_idle_publisher_does_not_write_to_the_store_all_the_time() -> None:
    checkpoints, store = MemoryCheckpoints(), a_store(("A", 1))
    holds: list[int] = []
    hold = checkpoints.acquire
    checkpoints.acquire = lambda *a, **o: (holds.append(1), hold(*a, **o))[1]  # type: ignore[method-assign,func-returns-value]
    pauses: list[float] = []

    _run_until(a_publisher(store, Notebook(), checkpoints, clock=Clock()), lambda: len(pauses) == 50, pauses)

    assert len(holds) == 1


# ---- facts that cannot be read ------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Path, CaseStore]:
    """A store of A and B in turns; the second fact of A cannot be read."""
    path = tmp_path / "shop.db"
    store = a_store(("A", 4), ("B", 4), url=f"sqlite:///{path}")
    damage(path, "order/A", 2)
    return path, store


def test_a_case_that_cannot_be_read_is_parked_with_an_event_and_the_others_go_on(
    broken: tuple[Path, CaseStore], caplog: pytest.LogCaptureFixture
) -> None:
    _, store = broken
    broker, checkpoints = Notebook(), MemoryCheckpoints()
    publisher = a_publisher(store, broker, checkpoints)

    assert publisher.once()

    assert [one for one in broker.ids if "/A" in one] == ["order/A#1", "order/A#2/damaged"]
    assert [one for one in broker.ids if "/B" in one] == ["order/B#1", "order/B#2", "order/B#3", "order/B#4"]
    assert checkpoints.checkpoint("publish/default") == store.head()
    (parked,) = publisher.status().parked
    assert (parked.case_id, parked.event_id) == ("A", "order/A#2")
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.getMessage().startswith("default: parked: case A stops before order/A#2 (position 3): ")


@pytest.mark.parametrize("positions_in_batch", [1, 2, 3, 100])
def test_a_parked_case_stays_parked_after_a_restart(broken: tuple[Path, CaseStore], positions_in_batch: int) -> None:
    _, store = broken
    broker, checkpoints = Notebook(), MemoryCheckpoints()

    while checkpoints.checkpoint("publish/default") < store.head():
        stop = threading.Event()
        broker.trouble = lambda messages, stop=stop: stop.set()  # type: ignore[misc]
        a_publisher(store, broker, checkpoints, positions_in_batch=positions_in_batch).once(stop)

    assert first_times([one for one in broker.ids if "/A" in one]) == ["order/A#1", "order/A#2/damaged"]
    assert len({message.body for message in broker.arrived if message.event == "FactDamaged"}) == 1


def test_what_is_damaged_after_it_was_published_parks_what_follows_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    store = a_store(("A", 2), url=f"sqlite:///{path}")
    broker, checkpoints = Notebook(), MemoryCheckpoints()
    a_publisher(store, broker, checkpoints).once()
    append(store, "A", "order/A")
    damage(path, "order/A", 1)

    a_publisher(store, broker, checkpoints).once()

    assert broker.ids == ["order/A#1", "order/A#2", "order/A#1/damaged"]


def test_a_mended_case_is_published_from_the_fact_on_that_was_damaged(broken: tuple[Path, CaseStore]) -> None:
    path, store = broken
    broker, checkpoints = Notebook(), MemoryCheckpoints()
    publisher = a_publisher(store, broker, checkpoints)
    publisher.once()
    (parked,) = publisher.status().parked
    whole = a_store(("A", 2)).read()[1]
    from returnable.domain.events import encode

    damage(path, "order/A", 2, encode(whole.event)[1])

    again = a_publisher(store, broker, checkpoints, name="mended")
    again.begin_at(parked.position)
    again.once()

    good = [one for one in broker.ids if "damaged" not in one]
    assert sorted(first_times(good)) == sorted(event_ids(store))
    assert in_order(good)
    assert again.status().parked == ()


# ---- whatever fails ---------------------------------------------------------------------------------------------------


LOGS = st.lists(st.sampled_from(["A", "A/r", "B", "C"]), min_size=1, max_size=14)


def _store_of(log: Sequence[str]) -> CaseStore:
    from returnable.adapters.eventstore.open import open_store

    store = open_store("memory:")
    for one in log:
        case_id, _, of_return = one.partition("/")
        append(store, case_id, f"return/{case_id}" if of_return else f"order/{case_id}")
    return store


class Unreliable:
    """A broker in which, when a send fails, each message arrives, is lost, or arrives later, as drawn."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._late: list[Message] = []
        self._troubles = 0
        self.arrived: list[Message] = []
        self.between: Callable[[], object] = lambda: None

    def send(self, messages: Sequence[Message]) -> None:
        """Take them in any order, or fail."""
        self.between()
        self._data.draw(st.randoms(use_true_random=False)).shuffle(order := list(messages))
        if self._troubles < 12 and self._data.draw(st.booleans(), label="fails"):
            self._troubles += 1
            for message in order:
                fate = self._data.draw(st.sampled_from([self.arrived, self._late, []]))
                fate.append(message)
            raise BrokerFailed("unreliable")
        self.arrived += order
        if self._late and self._data.draw(st.booleans(), label="late ones arrive"):
            self.arrived += self._late
            self._late.clear()
        self.between()

    def close(self) -> None:
        """Nothing."""


@given(st.lists(st.sampled_from(["order/A", "order/B", "return/R"])))
def test_waves_hold_all_messages_once_at_most_one_of_a_stream_in_each_and_keep_their_order(streams: list[str]) -> None:
    messages = [Message(SOURCE, f"{one}#{n}", one, "A", "Shipped", b"") for n, one in enumerate(streams)]

    found = waves(messages)

    assert sorted(one.id for wave in found for one in wave) == sorted(one.id for one in messages)
    for wave in found:
        assert len({one.stream for one in wave}) == len(wave) > 0
    for stream in set(streams):
        mine = [one.id for wave in found for one in wave if one.stream == stream]
        assert mine == [one.id for one in messages if one.stream == stream]


def _published_through_trouble(data: st.DataObject) -> tuple[CaseStore, list[Message]]:
    store = _store_of(data.draw(LOGS))
    broker, checkpoints = Unreliable(data), MemoryCheckpoints()
    size = data.draw(st.sampled_from([1, 3, 100]), label="positions in a batch")
    while checkpoints.checkpoint("publish/default") < store.head():
        publisher = a_publisher(store, broker, checkpoints, positions_in_batch=size)  # as if after a crash
        for _ in range(data.draw(st.integers(1, 3))):
            with suppress(BrokerFailed):
                publisher.once()
    return store, broker.arrived


@given(st.data())
def test_whatever_fails_every_event_arrives_and_first_in_order(data: st.DataObject) -> None:
    store, arrived = _published_through_trouble(data)

    ids = [message.id for message in arrived]
    assert sorted(set(ids)) == sorted(event_ids(store))
    assert in_order(ids)
    assert len({(message.id, message.body) for message in arrived}) == len(set(ids))


@given(st.data())
def test_two_publishers_at_once_keep_the_order_even_where_both_believe_they_hold_the_bookmark(
    data: st.DataObject,
) -> None:
    store = _store_of(data.draw(LOGS))
    clock, broker, checkpoints = Clock(), Unreliable(data), MemoryCheckpoints()
    first, second = (a_publisher(store, broker, checkpoints, clock=clock, positions_in_batch=4) for _ in range(2))
    inside = [0]

    def between() -> None:
        """In the middle of the one's send its hold ends, and the other publishes."""
        if inside[0] < 3 and data.draw(st.booleans(), label="taken over"):
            inside[0] += 1
            clock.pass_(HOLD_SECONDS + 1)
            with suppress(BrokerFailed):
                a_publisher(store, broker, checkpoints, clock=clock, positions_in_batch=3).once()

    broker.between = between

    while checkpoints.checkpoint("publish/default") < store.head():
        for publisher in (first, second):
            inside[0] = 0
            with suppress(BrokerFailed):
                publisher.once()

    ids = [message.id for message in broker.arrived]
    assert sorted(set(ids)) == sorted(event_ids(store))
    assert in_order(ids)


def test_without_waves_the_order_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: everything at once, and the tests above notice."""
    monkeypatch.setattr(publishing, "waves", lambda messages: [list(messages)])
    lost: list[bool] = []

    @given(st.data())
    def look(data: st.DataObject) -> None:
        _, arrived = _published_through_trouble(data)
        lost.append(not in_order([message.id for message in arrived]))

    look()

    assert any(lost)


def test_a_place_that_is_not_there_yet_is_refused_because_facts_would_be_skipped() -> None:
    store = a_store(("A", 3))
    publisher = a_publisher(store, Notebook())

    with pytest.raises(ValueError, match="there is no position 5 yet: the last event is at 3"):
        publisher.begin_at(5)

    assert publisher.begin_at(4), "the next one to come"


def test_a_fact_that_brokers_would_refuse_for_its_size_goes_out_without_its_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = facts_of_a_return()[0]
    whole = json.loads(cloud_event(entry, "/shop").body)
    monkeypatch.setattr("returnable.adapters.publishing.cloud_event.MOST_BYTES", 500)

    small = json.loads(cloud_event(entry, "/shop").body)

    assert small == {
        **{name: value for name, value in whole.items() if name not in ("data", "datacontenttype")},
        "dataref": "#order/A-1%231",
    }
