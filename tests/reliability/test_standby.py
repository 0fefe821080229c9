"""A hot standby answers questions, says nothing that the server did not say, and may be behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from patience import wait_until
from postgres import own_server

from bench.postgres import Standby, with_parameters
from bench.speed.lifecycle import go_through
from returnable import Desk
from returnable.adapters.eventstore.open import migrate_store
from returnable.adapters.wiring import assemble
from returnable.domain.errors import Impossible, StoreUnusable

LATER = datetime.fromisoformat("2026-04-01T12:00:00-04:00")
LONG_AGO = datetime.fromisoformat("2026-03-10T12:00:00-04:00")
SCHEMA = "has_a_standby"


@pytest.fixture(scope="module")
def standby() -> Iterator[Standby]:
    migrate_store(with_parameters(own_server().url, schema=SCHEMA))
    made = own_server().standby()
    yield made
    made.stop()


@pytest.fixture
def writing(standby: Standby) -> Iterator[Desk]:
    with Desk(assemble(with_parameters(own_server().url, schema=SCHEMA)), lambda: LATER) as desk:
        yield desk


@pytest.fixture
def reading(standby: Standby) -> Iterator[Desk]:
    services = assemble(with_parameters(standby.url, schema=SCHEMA), create=False, only_reading=True)
    with Desk(services, lambda: LATER) as desk:
        yield desk


def on_standby(standby: Standby, statement: bytes) -> None:
    with psycopg.connect(standby.url, autocommit=True) as connection:
        connection.execute(statement)


def test_a_standby_answers_as_the_server_does_once_it_has_come_as_far(writing: Desk, reading: Desk) -> None:
    list(go_through(writing, "1"))

    wait_until(lambda: reading.services.store.head() >= writing.services.store.head())

    questions: list[dict[str, Any]] = [
        {"query": "order", "order_id": "A-1"},
        {"query": "return", "return_id": "R-1"},
        {"query": "return", "return_id": "R-1", "as_of": LONG_AGO, "known_at": LONG_AGO},
        {"query": "audit", "stream": "return/R-1"},
        {"query": "worklist"},
    ]
    assert [reading.ask(question) for question in questions] == [writing.ask(question) for question in questions]


def test_a_standby_takes_no_commands(standby: Standby, reading: Desk) -> None:
    with pytest.raises(StoreUnusable, match="standby"):
        assemble(with_parameters(standby.url, schema=SCHEMA))
    with pytest.raises(StoreUnusable, match="read-only"):
        next(go_through(reading, "2"))


def test_a_standby_that_is_behind_does_not_know_yet_whatever_instant_it_is_asked_for(
    standby: Standby, writing: Desk, reading: Desk
) -> None:
    on_standby(standby, b"SELECT pg_wal_replay_pause()")
    list(go_through(writing, "3"))

    with pytest.raises(Impossible, match="A-3"):
        reading.order(order_id="A-3", known_at=LATER)
    assert writing.order(order_id="A-3", known_at=LATER).order_id == "A-3"

    on_standby(standby, b"SELECT pg_wal_replay_resume()")
    wait_until(lambda: reading.services.store.head() >= writing.services.store.head())
    assert reading.order(order_id="A-3", known_at=LATER) == writing.order(order_id="A-3", known_at=LATER)


def test_who_follows_a_standby_hears_of_everything(writing: Desk, reading: Desk) -> None:
    head = writing.services.store.head()
    wait_until(lambda: reading.services.store.head() >= head)

    with reading.services.store.follow(head) as events:
        written = [event for outcome in go_through(writing, "4") for event in outcome.recorded_events]
        heard = [next(events) for _ in written]

    assert [(one.stream, one.version, one.event) for one in heard] == written
