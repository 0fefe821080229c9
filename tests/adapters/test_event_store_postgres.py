"""What only a store on a PostgreSQL server has to promise."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from interrupting import Interrupted, TimeLimit, interruptible
from patience import GUARD_SECONDS, wait_until
from postgres import database_url, fresh_store_url, fresh_url, own_server, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

import returnable
from bench.postgres import OwnServer, Proxy, with_parameters
from returnable.adapters.cli.app import run
from returnable.adapters.eventstore import postgres_listener
from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.adapters.eventstore.postgres import PostgresStore
from returnable.adapters.eventstore.postgres_connections import Limits
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.postgres_schema import SCHEMA_VERSION
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import CommandSeen, NameTaken, Stale, StoreBusy, StoreUnusable
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, CommandReceipt, Entry, ReservedId

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
QUICK = Limits(busy_seconds=0.2, statement_seconds=0.6, connect_seconds=2.0, patience_seconds=10.0, connections=4)


def batch(case_id: str, after: int, *accounts: str) -> Batch:
    events = (AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT, account_id=account) for account in accounts)
    return Batch(
        case_id, after, tuple(Entry(f"order/{case_id}", after + n, event) for n, event in enumerate(events, 1))
    )


def receipt(command_id: str) -> CommandReceipt:
    return CommandReceipt(command_id, "d" * 64, "link_account", MOMENT, "accepted")


def accounts(store: CaseStore, case_id: str) -> list[str]:
    return [one.event.account_id for one in store.load(case_id)]  # type: ignore[attr-defined]


def schema_of(url: str) -> str:
    return place_of(url).schema


def opened(url: str, limits: Limits = QUICK, **more: object) -> CaseStore:
    return PostgresStore(place_of(url), limits=limits, **more)  # type: ignore[arg-type]


# ---- the schema -----------------------------------------------------------------------------------------------------


def test_a_store_that_was_not_created_is_refused_with_the_command_that_creates_it() -> None:
    url = fresh_url()

    with pytest.raises(StoreUnusable, match=r"there is no store in schema .*returnable migrate --store postgresql://"):
        open_store(url)

    assert sql("SELECT to_regnamespace(%s)", (schema_of(url),)) == [(None,)], "opening creates nothing"


def test_migrating_creates_the_store_once_and_is_harmless_when_repeated() -> None:
    url = fresh_url()

    assert migrate_store(url) == (0, SCHEMA_VERSION)
    with closing(open_store(url)) as store:
        store.append([batch("O-1", 0, "A")])
        assert migrate_store(url) == (SCHEMA_VERSION, SCHEMA_VERSION)
        assert accounts(store, "O-1") == ["A"]


def test_many_may_migrate_at_once_and_one_does_it() -> None:
    url = fresh_url()
    start = threading.Barrier(8)

    def migrate(_: int) -> tuple[int, int]:
        start.wait(GUARD_SECONDS)
        return migrate_store(url)

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(migrate, range(8)))

    assert results == [(0, SCHEMA_VERSION)] + [(SCHEMA_VERSION, SCHEMA_VERSION)] * 7
    open_store(url).close()


def test_a_newer_schema_is_neither_opened_nor_migrated() -> None:
    url = fresh_store_url()
    sql(f"INSERT INTO {schema_of(url)}.schema_versions VALUES ({SCHEMA_VERSION + 1})")

    for refusing in (open_store, migrate_store):
        with pytest.raises(StoreUnusable, match="newer version of returnable"):
            refusing(url)


def test_an_older_schema_is_refused_with_the_command_that_brings_it_up_to_date() -> None:
    url = fresh_store_url()
    sql(f"DELETE FROM {schema_of(url)}.schema_versions WHERE version > 1")

    with pytest.raises(StoreUnusable, match=r"version 1, this one needs 2.*returnable migrate"):
        open_store(url)


def test_a_schema_of_something_else_is_left_alone() -> None:
    url = fresh_url()
    sql(f"CREATE SCHEMA {schema_of(url)} CREATE TABLE facts (x int)")

    with pytest.raises(StoreUnusable, match="something else"):
        migrate_store(url)

    tables = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
    assert sql(tables, (schema_of(url),)) == [("facts",)]


def test_the_command_line_creates_a_store_and_plays_on_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_url()

    assert run(["worklist", "--store", url]) == 2
    assert "returnable migrate" in capsys.readouterr().err
    assert run(["migrate", "--store", url]) == 0
    assert capsys.readouterr().out == f"created: the store has version {SCHEMA_VERSION}\n"
    monkeypatch.setenv("RETURNABLE_STORE", url)
    assert run(["migrate"]) == 0
    assert capsys.readouterr().out == f"nothing to do: the store has version {SCHEMA_VERSION}\n"
    assert run(["worklist", "--json"]) == 0
    assert run(["project"]) == 2
    assert "need a file" in capsys.readouterr().err


# ---- URLs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:s3cret@127.0.0.1:1/shop",
        "postgresql://anna@127.0.0.1:1/shop?password=s3cret&schema=x",
        "postgresql://anna:s3cret@127.0.0.1:1/shop?schema=No",
        "postgresql://anna:s3cret@127.0.0.1:1/shop?schema=pg_x",
        "postgresql://anna:s3cret@127.0.0.1:1/shop?schema=a&schema=b",
        "postgresql://anna:s3cret@127.0.0.1:1/shop#x",
        "postgresql://anna:s3cret@[127.0.0.1/shop",
        "postgresql://anna:s3cret@127.0.0.1:1/shop?nonsense",
        "postgresql://anna:s3cret@127.0.0.1:1/shop?nonsense=1",
        "postgresql://anna:s3cret@127.0.0.1:1/shop?sslmode=nonsense",
        "mysql://anna:s3cret@127.0.0.1:1/shop",
    ],
)
def test_an_unusable_url_is_refused_in_one_line_without_its_password(url: str) -> None:
    for refusing in (open_store, migrate_store):
        with pytest.raises(StoreUnusable) as refused:
            refusing(url)

        assert "s3cret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_several_stores_share_a_database() -> None:
    urls = [fresh_store_url(), fresh_store_url()]

    for nth, url in enumerate(urls):
        with closing(open_store(url)) as store:
            assert list(store.append([batch("O-1", 0, f"A-{nth}")], receipt=receipt("c-1"))) == [1]
            assert accounts(store, "O-1") == [f"A-{nth}"]


# ---- durability -----------------------------------------------------------------------------------------------------


def test_a_server_that_acknowledges_too_early_is_refused() -> None:
    url = with_parameters(fresh_store_url(), options="-c%20synchronous_commit%3Doff")

    with pytest.raises(StoreUnusable, match="synchronous_commit is off"):
        open_store(url)

    open_store(url, only_reading=True).close()


def test_a_session_that_turns_durability_or_order_off_later_cannot_append() -> None:
    url = fresh_store_url()
    settings = {"synchronous_commit": "off", "default_transaction_isolation": "repeatable read"}
    for name, value in settings.items():
        with ConnectionPool(database_url(), min_size=1, max_size=1) as pool:
            pool.wait(GUARD_SECONDS)
            store = opened(url, pool=pool)
            with pool.connection() as connection:
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))

            with pytest.raises(StoreUnusable, match="durable"):
                store.append([batch("O-1", 0, "A")])

            assert store.head() == 0
            store.close()


@pytest.fixture
def other_server() -> Iterator[OwnServer]:
    """A server that a test may stop and configure as it likes."""
    server = OwnServer()
    yield server
    server.stop()


def test_a_server_that_would_lose_facts_with_its_power_is_refused(other_server: OwnServer) -> None:
    migrate_store(other_server.url)
    for name in ("fsync", "full_page_writes"):
        with psycopg.connect(other_server.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
        other_server.control("restart", "-m", "fast")

        with pytest.raises(StoreUnusable, match=f"{name} is off"):
            open_store(other_server.url)

        with psycopg.connect(other_server.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM RESET {name}".encode())
        other_server.control("restart", "-m", "fast")
    open_store(other_server.url).close()


@pytest.mark.parametrize("whose", ["ROLE careless", "DATABASE careless", "ROLE careless IN DATABASE careless"])
def test_a_role_or_a_database_that_acknowledges_too_early_is_refused(other_server: OwnServer, whose: str) -> None:
    # given
    with psycopg.connect(other_server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE careless SUPERUSER LOGIN")
        connection.execute("CREATE DATABASE careless")
        url = other_server.url.replace("postgres@/postgres", "careless@/careless")
        migrate_store(url)
        store = open_store(url)

        # when
        connection.execute(f"ALTER {whose} SET synchronous_commit = off".encode())

    # then: nobody opens it, and who has opened it before appends nothing over a new connection
    with pytest.raises(StoreUnusable, match="synchronous_commit is off"):
        open_store(url)
    store._connections._held.forget()  # type: ignore[attr-defined]
    with pytest.raises(StoreUnusable, match="durable"):
        store.append([batch("O-1", 0, "A")])
    assert store.head() == 0
    store.close()


def test_a_database_that_cannot_hold_every_text_is_refused() -> None:
    name = f"test_ascii_{os.getpid()}"
    sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        url = with_parameters(database_url(), dbname=name)
        with pytest.raises(StoreUnusable, match="UTF8"):
            open_store(url)
    finally:
        sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_service_that_may_only_read_and_insert_is_enough_for_a_store() -> None:
    url, role = fresh_store_url(), f"test_service_{os.getpid()}"
    schema = schema_of(url)
    for statement in (
        f"CREATE ROLE {role}",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    ):
        sql(statement)
    try:
        with closing(opened(with_parameters(url, options=f"-c%20role%3D{role}"))) as store:
            store.keep_policy("abc", "clauses")
            store.append(
                [batch("O-1", 0, "A", "B")], reserved_ids=[ReservedId("return", "R-1", "O-1")], receipt=receipt("c-1")
            )
            assert accounts(store, "O-1") == ["A", "B"]
    finally:
        sql(f"DROP OWNED BY {role}")
        sql(f"DROP ROLE {role}")


# ---- connections ----------------------------------------------------------------------------------------------------


def test_a_store_takes_no_more_connections_than_it_may() -> None:
    name = f"few-{os.getpid()}"
    url = with_parameters(fresh_store_url(), application_name=name)
    with closing(open_store(url, connections=3)) as store, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.append([batch(f"O-{n}", 0, "A")]), range(200)))
        assert store.head() == 200
        assert sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (name,)) <= [(3,)]


def test_a_desk_works_with_the_pool_of_its_host_and_leaves_it_as_it_was() -> None:
    url = fresh_store_url()
    with ConnectionPool(database_url(), min_size=1, max_size=2) as pool:
        with returnable.open(url, pool=pool) as desk:
            outcome = desk.confirm_order(
                order_id="A-1",
                customer={"customer_id": "c-1", "account_id": "c-1"},
                currency="USD",
                lines=[{"line_id": "1", "sku": "X", "unit_price": "10.00", "quantity": 1}],
                payments=[{"payment_id": "p", "method": "card", "amount": "10.00"}],
                command_id="c-1",
            )
            assert outcome.outcome == "accepted"
            assert desk.order(order_id="A-1").order_id == "A-1"

        with pool.connection() as connection:
            assert connection.autocommit is False
            assert connection.execute("SELECT 1").fetchone() == (1,)


# A connection that is being handed over when the limit comes is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("waits", [False, True])
def test_a_time_limit_in_a_thread_costs_the_others_no_connection(waits: bool) -> None:
    # given: one connection for all; where somebody has to wait for it, another thread has it until then
    limits = replace(QUICK, connections=1, busy_seconds=GUARD_SECONDS if waits else QUICK.busy_seconds)
    store = opened(fresh_store_url(), limits)
    connections = store._connections  # type: ignore[attr-defined]
    within = "returnable.adapters.eventstore.postgres_connections"
    with interruptible(within), closing(store), ThreadPoolExecutor(1) as other:
        for nth in count(1):
            taken, waiting, over = threading.Event(), threading.Event(), threading.Event()

            def hold(taken: threading.Event = taken, waiting: threading.Event = waiting) -> None:
                connections.use(lambda _: (taken.set(), waiting.wait(GUARD_SECONDS)))

            def ends_when_waited_for(waiting: threading.Event = waiting, over: threading.Event = over) -> None:
                while not (over.is_set() or connections._slots._waiting):
                    over.wait(0.001)
                waiting.set()

            watcher = threading.Thread(target=ends_when_waited_for)
            if waits:
                holding = other.submit(hold)
                taken.wait(GUARD_SECONDS)
                watcher.start()

            # when: where each function in turn begins, a time limit is raised in a thread that uses it
            limited = Interrupted(store.head, nth)
            with suppress(TimeLimit):
                limited()

            # then: it is there for the next one, and nobody cuts it off later
            over.set()
            if waits:
                watcher.join()
                holding.result(GUARD_SECONDS)
            assert store.head() == 0, nth
            assert not connections._watch._at_work, nth
            if not limited.came:
                break
    assert nth > 10


def test_who_waits_for_a_connection_gets_it_in_turn_and_is_told_when_it_takes_too_long() -> None:
    store = opened(fresh_store_url(), replace(QUICK, connections=1, busy_seconds=0.05))
    connections = store._connections  # type: ignore[attr-defined]
    order: list[int] = []
    with closing(store), ThreadPoolExecutor(4) as others:

        def ask(nth: int) -> None:
            connections.use(lambda _: order.append(nth))

        def hold_up(_: object) -> list[Any]:
            with pytest.raises(StoreBusy, match="other threads held all 1 connections"):
                store.head()
            connections.limits = replace(connections.limits, busy_seconds=GUARD_SECONDS)
            asked = []
            for nth in range(4):
                asked.append(others.submit(ask, nth))
                wait_until(lambda nth=nth: len(connections._slots._waiting) == nth + 1)  # type: ignore[misc]
            return asked

        for one in connections.use(hold_up):
            one.result(GUARD_SECONDS)
    assert order == [0, 1, 2, 3]


def test_connections_that_were_cut_are_replaced_without_anybody_noticing() -> None:
    name = f"cut-{os.getpid()}"
    url = with_parameters(fresh_store_url(), application_name=name)
    cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
    with closing(opened(url)) as store:
        for after in range(5):
            assert len(sql(cut, (name,))) >= 1
            store.append([batch("O-1", after, f"A-{after}")])
            sql(cut, (name,))
            assert accounts(store, "O-1")[-1] == f"A-{after}"


def test_a_server_that_does_not_come_back_is_said_to_be_away() -> None:
    proxy = Proxy(database_url())
    url = with_parameters(proxy.url, schema=schema_of(fresh_store_url()))
    with closing(opened(url, Limits(patience_seconds=0.3))) as store:
        proxy.close()

        with pytest.raises(StoreUnusable, match="cannot be reached"):
            store.head()
        with pytest.raises(StoreUnusable, match="cannot be reached"):
            store.append([batch("O-1", 0, "A")])


@pytest.fixture(scope="module")
def guarded() -> Iterator[OwnServer]:
    """A server that asks for passwords, and has no room for some."""
    with OwnServer() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for statement in (
                "CREATE ROLE shop LOGIN PASSWORD 'right'",
                "CREATE ROLE crowd LOGIN CONNECTION LIMIT 0",
                "CREATE DATABASE closed_to_most",
                "REVOKE CONNECT ON DATABASE closed_to_most FROM public",
            ):
                connection.execute(statement.encode())
        trusted = "".join(f"local all {role} trust\n" for role in ("postgres", "crowd", "nobody"))
        rules = f"{trusted}local closed_to_most shop trust\nlocal all shop scram-sha-256\n"
        (Path(server._server.pgdata) / "pg_hba.conf").write_text(rules)
        server.control("reload")
        migrate_store(server.url)
        yield server


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was connected to so far."""
    tried: list[str] = []
    connect = psycopg.connect

    def counted(conninfo: str, **options: Any) -> psycopg.Connection[Any]:
        tried.append(conninfo)
        return connect(conninfo, **options)

    monkeypatch.setattr("returnable.adapters.eventstore.postgres_connections.psycopg.connect", counted)
    return tried


@pytest.mark.parametrize(
    ("account", "database", "said"),
    [
        ("shop:s3cret", "postgres", "the password is wrong"),
        ("shop", "postgres", "access is denied"),
        ("nobody", "postgres", "access is denied"),
        ("strange", "postgres", "access is denied"),
        ("shop", "closed_to_most", "access is denied"),
        ("shop:right", "none", "there is no such database"),
    ],
)
def test_who_is_not_let_in_is_told_so_and_does_not_try_again(
    guarded: OwnServer, attempts: list[str], account: str, database: str, said: str
) -> None:
    url = f"postgresql://{account}@/{database}?host={guarded.socket_folder}"

    for refusing in (open_store, migrate_store):
        attempts.clear()
        with pytest.raises(StoreUnusable, match=f"{said} \\(") as refused:
            refusing(url)
        assert len(attempts) == 1
        assert not any(word in str(refused.value) for word in ("s3cret", "right", "reached"))


def test_of_several_servers_one_that_may_come_back_is_waited_for(guarded: OwnServer, attempts: list[str]) -> None:
    hosts = f"{guarded.socket_folder},/nowhere"

    with pytest.raises(StoreUnusable, match="cannot be reached"):
        opened(f"postgresql://shop:s3cret@/postgres?host={hosts}", Limits(opening_seconds=0.1))
    assert len(attempts) > 1


def test_a_server_without_room_is_asked_again_and_then_it_is_told(guarded: OwnServer, attempts: list[str]) -> None:
    url = f"postgresql://crowd@/postgres?host={guarded.socket_folder}"

    with pytest.raises(StoreUnusable, match=r"no room for another connection \(.*too many connections") as refused:
        opened(url, Limits(opening_seconds=0.1))

    assert len(attempts) > 1
    assert "reached" not in str(refused.value)
    with pytest.raises(StoreUnusable, match="no room for another connection"):
        migrate_store(url)


# ---- poolers --------------------------------------------------------------------------------------------------------


def kept_in_session(store: CaseStore) -> tuple[int, str, str]:
    """How many statements are prepared, and what is set, on the connection of a store that has one."""
    said = "current_setting('lock_timeout'), current_setting('application_name')"
    query = f"SELECT count(*), {said} FROM pg_prepared_statements"
    connections = store._connections  # type: ignore[attr-defined]
    (kept,) = connections.use(lambda connection: connection.execute(query.encode()).fetchall())
    return kept  # type: ignore[no-any-return]


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler tells a number of its own for the process of the server."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda info: 1))


def test_behind_a_pooler_nothing_is_left_in_a_session(request: pytest.FixtureRequest) -> None:
    url = fresh_store_url()
    kept = []
    for fixture in ("attempts", "pooled"):
        request.getfixturevalue(fixture)
        with closing(opened(url, Limits(connections=1))) as store:
            for nth in range(12):
                store.append([batch(f"{fixture}-{nth}", 0, "A")])
                store.load(f"{fixture}-{nth}")
            kept.append(kept_in_session(store))

    assert (kept[0][0] > 0, *kept[0][1:]) == (True, "5s", "returnable")
    assert kept[1] == (0, "0", "returnable")


@pytest.mark.usefixtures("pooled")
def test_behind_a_pooler_nobody_listens_and_a_follower_asks() -> None:
    url = fresh_store_url()
    with closing(opened(url)) as reading, closing(opened(url)) as writing, reading.follow() as events:
        listener = reading._listener  # type: ignore[attr-defined]
        listener._thread.join(GUARD_SECONDS)
        writing.append([batch("O-1", 0, "A")])

        assert next(events).position == 1
        assert not listener._ear.hears
        assert listener.pause() == postgres_listener.DEAF_POLL_SECONDS


def test_a_session_that_is_shared_unnoticed_is_told() -> None:
    with (
        ConnectionPool(database_url(), min_size=1, max_size=1, open=True) as pool,
        closing(opened(fresh_store_url(), pool=pool)) as store,
    ):
        store.append([batch("O-1", 0, "A")])
        with pool.connection() as connection:
            connection.pgconn.exec_(b"DEALLOCATE ALL")  # as if the next one got another session

        with pytest.raises(StoreUnusable, match="it shares sessions: give a pool of your own"):
            store.append([batch("O-1", 1, "B")])


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("how_many", [1, 8])
def test_a_sequence_that_has_come_to_its_end_is_told_and_nothing_is_recorded(left: int, how_many: int) -> None:
    # given
    url = fresh_store_url()
    with closing(opened(url)) as store:
        sql(f"SELECT setval('{schema_of(url)}.positions', {2**63 - 1 - left})")

        def refusal(nth: int) -> str:
            with pytest.raises(StoreUnusable) as raised:
                store.append([batch(f"A-{nth}", 0, "one", "two")], receipt=receipt(f"k-{nth}"))
            return str(raised.value)

        # when
        with ThreadPoolExecutor(how_many) as threads:
            refused = list(threads.map(refusal, range(how_many)))

        # then
        assert all("the sequence of positions has come to its end, so nothing was recorded" in one for one in refused)
        assert store.head() == 0
        sql(f"SELECT setval('{schema_of(url)}.positions', 1, false)")
        assert store.append([batch("A-0", 0, "one")], receipt=receipt("k-0")) == [1]


@pytest.mark.parametrize("behind", [1, 2, 3])
def test_a_sequence_that_is_behind_the_facts_is_brought_up_to_them(behind: int) -> None:
    # given: facts with a gap, and the sequence as a replica has it that took over
    url = fresh_store_url()
    with closing(opened(url)) as store:
        store.append([batch("O-1", 0, "A")])
        sql(f"SELECT setval('{schema_of(url)}.positions', 2)")
        store.append([batch("O-1", 1, "B", "C")])
        sql(f"SELECT setval('{schema_of(url)}.positions', {behind}, false)")

        # when
        store.append([batch("O-2", 0, "D")])
        store.append([batch("O-2", 1, "E", "F")])

        # then: no fact stands in the gap
        assert [entry.position for entry in store.read()] == [1, 3, 4, 5, 6, 7]
        assert accounts(store, "O-2") == ["D", "E", "F"]


# ---- time-outs ------------------------------------------------------------------------------------------------------


def test_a_writer_that_does_not_let_go_keeps_others_waiting_only_so_long() -> None:
    # given: a transaction that has appended and is not committed
    url = fresh_store_url()
    with closing(opened(url)) as store, psycopg.connect(database_url()) as other:
        nothing = ", ".join(["'{}'"] * 11 + ["NULL", "NULL", "'0'"])
        other.execute(f"SELECT {schema_of(url)}.append({nothing})".encode())

        # when
        with pytest.raises(StoreBusy, match="another writer"):
            store.append([batch("O-1", 0, "A")])
        assert store.head() == 0, "readers do not wait"
        other.rollback()

        # then
        store.append([batch("O-1", 0, "A")])


def test_a_server_that_falls_silent_is_left_and_nothing_is_appended_twice() -> None:
    # given
    proxy = Proxy(database_url())
    url = with_parameters(proxy.url, schema=schema_of(fresh_store_url()))
    with closing(opened(url)) as store:
        store.append([batch("O-1", 0, "A")])

        # when: nothing comes through for a while
        proxy.silent = True
        heal = threading.Timer(2.0, lambda: setattr(proxy, "silent", False))
        heal.start()
        store.append([batch("O-1", 1, "B")], receipt=receipt("c-1"))
        was_silent = proxy.silent
        heal.join()

        # then
        assert not was_silent
        assert accounts(store, "O-1") == ["A", "B"]
    proxy.close()


# ---- answers that are lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_id", [True, False], ids=["with a command id", "without one"])
def test_an_append_whose_answer_is_lost_is_found_stored(with_id: bool) -> None:
    # given
    proxy = Proxy(database_url())
    url = with_parameters(proxy.url, schema=schema_of(fresh_store_url()))
    rounds = 50
    with closing(opened(url)) as store:
        for nth in range(rounds):
            # when
            proxy.lose_answer_to(b"LOST-%d." % nth)
            known = receipt(f"c-{nth}") if with_id else None
            names = [ReservedId("refund", f"F-{nth}", "O-1")]
            positions = store.append([batch("O-1", 2 * nth, "A", f"LOST-{nth}.")], reserved_ids=names, receipt=known)

            # then
            assert list(positions) == [2 * nth + 1, 2 * nth + 2]
            assert proxy.lost == nth + 1
        assert len(store.load("O-1")) == 2 * rounds == store.head()
        if with_id:
            kept = store.receipt("c-7")
            assert kept is not None
            assert (kept.first, kept.last) == (15, 16)
    proxy.close()


def test_a_real_conflict_after_a_lost_answer_is_still_a_conflict() -> None:
    # given: what was sent was refused, and that answer was lost
    proxy = Proxy(database_url())
    url = with_parameters(proxy.url, schema=schema_of(fresh_store_url()))
    with closing(opened(url)) as store:
        store.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "R-1", "O-1")], receipt=receipt("c-1"))

        # then
        proxy.lose_answer_to(b"LOST-1.")
        with pytest.raises(Stale):
            store.append([batch("O-1", 0, "LOST-1.")])
        proxy.lose_answer_to(b"LOST-2.")
        with pytest.raises(NameTaken):
            store.append([batch("O-1", 1, "LOST-2.")], reserved_ids=[ReservedId("return", "R-1", "O-1")])
        proxy.lose_answer_to(b"LOST-3.")
        with pytest.raises(CommandSeen):
            store.append([batch("O-1", 1, "LOST-3.")], receipt=receipt("c-1"))
        proxy.lose_answer_to(b"LOST-4.")
        with pytest.raises(ValueError, match="order/O-1"):
            store.append([Batch("O-1", 1, batch("O-1", 4, "LOST-4.").entries)])
        assert proxy.lost == 4
        assert accounts(store, "O-1") == ["A"]
    proxy.close()


Sent = tuple[list[Batch], list[ReservedId], CommandReceipt | None]


@pytest.mark.parametrize(
    ("stored", "sent", "refusal"),
    [
        pytest.param(
            [
                ([batch("O-1", 0, "A")], [], None),
                ([batch("O-2", 0, "X")], [], None),
                ([batch("O-1", 1, "LOST")], [], None),
            ],
            ([batch("O-1", 0, "A", "LOST")], [], None),
            Stale,
            id="facts with another one between",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST", "B")], [], None)],
            ([batch("O-1", 0, "LOST", "C")], [], None),
            Stale,
            id="another fact behind it",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST")], [], None)],
            ([batch("O-1", 0, "LOST")], [], receipt("c-1")),
            Stale,
            id="no receipt",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST")], [], receipt("c-1"))],
            ([batch("O-1", 0, "LOST")], [], replace(receipt("c-1"), digest="e" * 64)),
            CommandSeen,
            id="a receipt of another command",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST")], [], receipt("c-1"))],
            ([batch("O-1", 0, "LOST")], [], replace(receipt("c-1"), at=MOMENT + timedelta(seconds=1))),
            CommandSeen,
            id="a receipt of another moment",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST")], [], None), ([batch("O-1", 1, "B")], [], receipt("c-1"))],
            ([batch("O-1", 0, "LOST")], [], receipt("c-1")),
            CommandSeen,
            id="a receipt for another fact",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST", "B")], [], receipt("c-1"))],
            ([batch("O-1", 0, "LOST")], [], receipt("c-1")),
            CommandSeen,
            id="a receipt for more facts",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST")], [], None)],
            ([batch("O-1", 0, "LOST")], [ReservedId("return", "R-1", "O-1")], None),
            Stale,
            id="a name that was not claimed",
        ),
        pytest.param(
            [([batch("O-1", 0, "LOST"), batch("O-2", 0, "X")], [ReservedId("return", "R-1", "O-2")], None)],
            ([batch("O-1", 0, "LOST")], [ReservedId("return", "R-1", "O-1")], None),
            NameTaken,
            id="a name of another case",
        ),
    ],
)
def test_what_others_stored_is_not_taken_for_an_append_whose_answer_was_lost(
    stored: list[Sent], sent: Sent, refusal: type[Exception]
) -> None:
    # given: somebody else stored nearly the same
    url = fresh_store_url()
    with closing(opened(url)) as others:
        for batches, names, known in stored:
            others.append(batches, reserved_ids=names, receipt=known)
        before = others.head()

    # when
    proxy = Proxy(database_url())
    with closing(opened(with_parameters(proxy.url, schema=schema_of(url)))) as store:
        proxy.lose_answer_to(b"LOST")
        batches, names, known = sent
        with pytest.raises(refusal):
            store.append(batches, reserved_ids=names, receipt=known)

        # then
        assert (proxy.lost, store.head()) == (1, before)
    proxy.close()


# ---- following ------------------------------------------------------------------------------------------------------


def test_a_follower_hears_of_another_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a follower that will not look again by itself, in a store that is not the one that writes
    monkeypatch.setattr("returnable.adapters.eventstore.postgres_listener.HEARING_POLL_SECONDS", 3600)
    url = fresh_store_url()
    heard = threading.Semaphore(0)
    with closing(opened(url)) as reading, closing(opened(url)) as writing:
        following = reading.follow()

        def tail() -> None:
            with following as events:
                for _ in events:
                    heard.release()

        tailing = threading.Thread(target=tail, daemon=True)
        tailing.start()
        for after in range(20):
            writing.append([batch("O-1", after, "A")])
            assert heard.acquire(timeout=GUARD_SECONDS)
        following.stop()
        tailing.join(GUARD_SECONDS)


def test_a_follower_keeps_its_place_when_its_connections_are_cut() -> None:
    # given
    name = f"ear-{os.getpid()}"
    url = fresh_store_url()
    cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
    with closing(opened(with_parameters(url, application_name=name))) as reading, closing(opened(url)) as writing:
        seen: list[int] = []

        def tail() -> None:
            with reading.follow() as events:
                while len(seen) < 60:
                    seen.append(next(events).position)

        tailing = threading.Thread(target=tail, daemon=True)
        tailing.start()

        # when
        for after in range(60):
            if after % 10 == 5:
                sql(cut, (name,))
            writing.append([batch("O-1", after, "A")])
        tailing.join(GUARD_SECONDS)

    # then
    assert seen == list(range(1, 61))


def test_where_nobody_can_listen_a_follower_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    def deaf(*_: object) -> None:
        raise psycopg.OperationalError("a pooler does not pass LISTEN on")

    monkeypatch.setattr("returnable.adapters.eventstore.postgres_listener._hear", deaf)
    url = fresh_store_url()
    with closing(opened(url)) as reading, closing(opened(url)) as writing, reading.follow() as events:
        for after in range(3):
            writing.append([batch("O-1", after, "A")])

            assert next(events).position == after + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own() -> None:
    with closing(open_store(fresh_store_url())) as store:
        store.append([batch("O-1", 0, "A")])

        child = os.fork()
        if child == 0:
            try:
                store.append([batch("O-1", 1, "B")])
                store.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

        store.append([batch("O-1", 2, "C")])
        assert accounts(store, "O-1") == ["A", "B", "C"]


def test_the_given_server_is_used_where_there_is_one() -> None:
    given = os.environ.get("RETURNABLE_TEST_POSTGRES")

    assert conninfo_to_dict(database_url()) == conninfo_to_dict(given or own_server().url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://shop:secret/x@host/db",
        "postgresql://shop:secret#x@host/db",
        "postgresql://shop:secret%x@host/db",
        "postgresql://shop:secret?x@host/db",
        "postgresql://shop:secret%00@127.0.0.1:1/db",
        "postgresql://shop:my secret@127.0.0.1:1/db",
        "postgresql://shop:my@secret@127.0.0.1:1/db",
        "postgresql://shop@127.0.0.1:1/db?password=secret%00",
        "host=db password=secret",
    ],
)
def test_a_password_that_is_not_encoded_is_not_shown(url: str, attempts: list[str]) -> None:
    for refusing in (open_store, migrate_store):
        with pytest.raises(StoreUnusable) as refused:
            refusing(url)

        assert "secret" not in str(refused.value)
        assert "reached" not in str(refused.value)
    assert len(attempts) <= 2, "it is not tried again"
