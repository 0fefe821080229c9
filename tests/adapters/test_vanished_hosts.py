"""A host that vanishes, or stands still, while the PostgreSQL server holds a lock for it: the others go on.

``python -m bench.proofs.vanished`` cuts real links. Here its parts are looked at one by one, without root.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from in_line import PATIENCE_SECONDS, Line, batch, together_of
from postgres import database_url, fresh_store_url
from psycopg_pool import ConnectionPool

from bench.postgres import OwnServer, Proxy, with_parameters
from returnable.adapters.eventstore import postgres
from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.adapters.eventstore.postgres import PostgresStore
from returnable.adapters.eventstore.postgres_connections import Limits, connected
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.store import CaseStore

KEEP_ALIVES = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")

ASKED = f"SELECT {', '.join(f'current_setting({name!r})' for name in KEEP_ALIVES)}"


@pytest.fixture(scope="module")
def url_over_tcp() -> Iterator[str]:
    """A store that is reached by TCP: a Unix socket has no keep-alives."""
    address = f"127.46.{os.getpid() // 256 % 256}.{os.getpid() % 256}"  # another one for each process of pytest
    with OwnServer() as server:
        migrate_store(server.url)
        yield server.listen(address, "127.0.0.0/8")


def recorder_of(store: CaseStore) -> Any:
    return store  # type: ignore[attr-defined]


def test_a_batch_is_committed_although_no_answer_to_it_arrives() -> None:
    # given: three appends that come together, and a link on which from then on nothing comes back
    proxy = Proxy(database_url())
    url = fresh_store_url()
    schema = place_of(url).schema
    store = open_store(with_parameters(proxy.url, schema=schema))
    line = Line(together_of(store))
    line.come(lambda: store.append([batch("first", 0, "f")]))
    for name in "ABC":
        line.come(lambda name=name: store.append([batch(name, 0, "a")]))  # type: ignore[misc]
    send = recorder_of(store)._send_together
    sent = threading.Event()

    def send_over_a_mute_link(connection: Any, appends: Any) -> Any:
        proxy.mute = True
        sent.set()
        return send(connection, appends)

    recorder_of(store)._send_together = send_over_a_mute_link

    # when
    going = threading.Thread(target=line.go)
    going.start()
    assert sent.wait(PATIENCE_SECONDS)

    # then: another host writes behind them
    with closing(open_store(url, busy_timeout_seconds=PATIENCE_SECONDS)) as other:
        while other.head() < 4:
            assert going.is_alive()
        other.append([batch("other", 0, "o")])
        assert [one.case_id for one in other.read()] == ["first", "A", "B", "C", "other"]

    # and: once the link is cut, each of the three learns what is stored
    proxy.mute = False
    recorder_of(store)._send_together = send
    proxy.cut()
    going.join(PATIENCE_SECONDS)
    assert [type(result) for result in line.results] == [list] * 4
    assert store.head() == 5
    store.close()
    proxy.close()


def test_a_session_of_ours_has_keep_alives_that_end_it_before_others_give_up(url_over_tcp: str) -> None:
    with closing(open_store(url_over_tcp)) as store:
        asked = recorder_of(store)._connections.use(lambda connection: connection.execute(ASKED).fetchone())

    assert asked == ("1", "1", "3", "4000")


@pytest.mark.parametrize(("busy", "seconds"), [(0.05, 4), (5, 4), (12, 8), (60, 48)])
def test_the_server_keeps_the_locks_of_a_vanished_host_for_less_time_than_others_wait(
    busy: float, seconds: int
) -> None:
    assert Limits(busy_seconds=busy).vanished_seconds == seconds


def test_a_migration_has_keep_alives_and_may_take_its_time(url_over_tcp: str) -> None:
    with connected(place_of(url_over_tcp), Limits()) as connection:
        assert connection.execute(ASKED).fetchone() == ("1", "1", "3", "4000")
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_in_a_pool_of_the_hosts_only_our_transactions_have_them(
    url_over_tcp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    execute, inside = postgres._execute, []

    def ask_too(connection: Any, append: Any) -> Any:
        if connection.pgconn.pipeline_status:
            inside.append(connection.execute(ASKED))
        return execute(connection, append)

    monkeypatch.setattr(postgres, "_execute", ask_too)
    with ConnectionPool(url_over_tcp, min_size=1, max_size=1, open=True) as pool:
        with pool.connection() as connection:
            before = connection.execute(ASKED).fetchone()

        # when: appends that come together, and the bookkeeping
        with closing(open_store(url_over_tcp, pool=pool)) as store:
            line = Line(together_of(store))
            for nth in range(3):
                line.come(lambda nth=nth: store.append([batch(f"pooled-{nth}", 0, "a")]))  # type: ignore[misc]
            line.go()
            in_books = recorder_of(store).checkpoints._tables.change(lambda statements: statements.execute(ASKED))

        # then
        assert [cursor.fetchone() for cursor in inside] == [("1", "1", "3", "4000")] * 2
        assert in_books == [("1", "1", "3", "4000")]
        with pool.connection() as connection:
            assert connection.execute(ASKED).fetchone() == before != in_books[0]


def test_a_host_that_stands_still_in_the_middle_of_a_batch_holds_the_others_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: its network answers, so that no keep-alive fails, and it sends no more
    with psycopg.connect(database_url()) as connection:
        if connection.info.server_version < 170000:
            pytest.skip("PostgreSQL has no limit for transactions before version 17")
    url = fresh_store_url()
    limits = Limits(busy_seconds=0.2, statement_seconds=0.5, patience_seconds=PATIENCE_SECONDS)
    status = PostgresStore(place_of(url), limits=limits)
    line = Line(together_of(status))
    together_of(status)._patience_seconds = PATIENCE_SECONDS
    line.come(lambda: status.append([batch("first", 0, "f")]))
    for name in "AB":
        line.come(lambda name=name: status.append([batch(name, 0, "a")]))  # type: ignore[misc]
    execute, stands, goes_on = postgres._execute, threading.Event(), threading.Event()

    def stand_still(connection: Any, append: Any) -> Any:
        cursor = execute(connection, append)
        if connection.pgconn.pipeline_status and not stands.is_set():
            recorder_of(status)._connections._watch.close()  # it stands still as well
            stands.set()
            assert goes_on.wait(PATIENCE_SECONDS)
        return cursor

    monkeypatch.setattr(postgres, "_execute", stand_still)
    going = threading.Thread(target=line.go)
    going.start()
    assert stands.wait(PATIENCE_SECONDS)

    # when
    with closing(open_store(url, busy_timeout_seconds=PATIENCE_SECONDS)) as other:
        other.append([batch("other", 0, "o")])

        # then
        goes_on.set()
        going.join(PATIENCE_SECONDS)
        assert [type(result) for result in line.results] == [list] * 3
        assert sorted(one.case_id for one in other.read()) == ["A", "B", "first", "other"]
    status.close()
