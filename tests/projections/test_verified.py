"""Verifying a store: what contradicts something else that is stored is found, on every kind of store."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres import fresh_store_url, sql
from usual import an_inspected_return

from returnable.adapters.backups import verify_store
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.wiring import Services, assemble
from returnable.domain.commands import parse_command
from returnable.domain.fields import parse_instant
from returnable.domain.ports import Batch, Entry
from returnable.projections.verified import Verification
from returnable.testing import given, request_refund

Edit = Callable[[str], None]


class Shop:
    """A store with a return that is refunded and a claim, each command with an id."""

    def __init__(self, url: str) -> None:
        self.url = url
        services = assemble(url)
        self.services = services
        for nth, (at, fields) in enumerate(_commands(), start=1):
            services.handler.handle(parse_command({**fields, "command_id": f"k-{nth}"}), parse_instant(at))

    def edit(self, statement: str) -> None:
        """Change what is stored behind the back of the store; ``{}`` stands before the name of a table."""
        if self.url.startswith("postgres"):
            sql(statement.replace("{}", f"{place_of(self.url).schema}."))
            return
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute(statement.replace("{}", "")).rowcount
            connection.commit()

    def problems(self) -> dict[str, str]:
        """What is found wrong, by where."""
        return {problem.where: problem.what for problem in verify_store(self.url).problems}


def _commands() -> Iterator[tuple[str, dict[str, Any]]]:
    order = {
        "command": "confirm_order",
        "currency": "USD",
        "customer": {"customer_id": "c-1", "account_id": "acc-1"},
        "lines": [{"line_id": "1", "sku": "BAG", "unit_price": "480.00", "quantity": 1}],
        "payments": [{"payment_id": "p-1", "method": "card", "amount": "480.00"}],
    }
    lines = [{"line_id": "1", "quantity": 1}]
    for order_id in ("A-1", "A-2"):
        yield "2026-03-02T15:00:00Z", {**order, "order_id": order_id}
        parcel = {"order_id": order_id, "parcel_id": "P-1"}
        yield "2026-03-03T15:00:00Z", {"command": "record_shipment", **parcel, "carrier": "ups", "tracking_number": "T"}
        yield "2026-03-05T15:00:00Z", {"command": "record_delivery", **parcel}
    wanted = {"return_id": "R-1", "order_id": "A-1", "lines": lines, "channel": "portal"}
    yield "2026-03-06T15:00:00Z", {"command": "request_return", **wanted}
    label = {"label_id": "L-1", "carrier": "ups", "tracking_number": "T"}
    yield "2026-03-06T16:00:00Z", {"command": "issue_label", "return_id": "R-1", **label}
    claim = {"claim_id": "C-1", "order_id": "A-2", "line_id": "1", "channel": "email"}
    yield "2026-03-06T17:00:00Z", {"command": "report_wrong_item", **claim}
    yield "2026-03-20T15:00:00Z", {"command": "run_deadlines"}


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    url = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else fresh_store_url()
    shop = Shop(url)
    yield shop
    shop.services.store.close()


def test_all_is_well_with_a_store_that_only_the_desk_wrote(shop: Shop) -> None:
    verified = verify_store(shop.url)

    assert verified.problems == ()
    assert (verified.head, verified.facts, verified.cases, verified.commands) == (12, 12, 2, 11)


def test_all_is_well_with_a_store_in_memory_and_with_one_that_is_empty() -> None:
    services = Shop("memory:").services

    problems = list(Verification(services.store, services.handler.policy).run())

    assert problems == []
    assert verify_store("memory:").problems == ()


def test_what_others_record_while_it_is_verified_is_no_problem(shop: Shop) -> None:
    # given
    other = assemble(shop.url)

    def record(count: int) -> None:
        order_id = f"B-{other.store.head()}"
        confirm = {**dict(_commands())["2026-03-02T15:00:00Z"], "order_id": order_id, "command_id": order_id}
        other.handler.handle(parse_command(confirm), parse_instant("2026-03-21T15:00:00Z"))
        other.handler.due.catch_up()

    # when
    problems = list(Verification(shop.services.store, shop.services.handler.policy).run(record))
    other.store.close()

    # then
    assert shop.services.store.head() > 12
    assert problems == []


@pytest.mark.parametrize(
    ("statement", "where", "what"),
    [
        ("DELETE FROM {}facts WHERE stream = 'return/R-1' AND version = 2", "return/R-1#3", "is missing before it"),
        ("DELETE FROM {}facts WHERE stream = 'order/A-1' AND version = 2", "order/A-1#3", "is missing before it"),
        ("DELETE FROM {}names WHERE name = 'R-1'", "return R-1", "given in case 'A-1', but is not kept"),
        ("UPDATE {}names SET case_id = 'A-2' WHERE name = 'R-1'", "return R-1", "leads to case 'A-2'"),
        ("INSERT INTO {}names VALUES ('refund', 'F-9', 'A-1')", "refund F-9", "in which no event gives it"),
        ("DELETE FROM {}commands WHERE command_id = 'k-2'", "order/A-1#2", "but has no receipt"),
        ("UPDATE {}commands SET first = 1, last = 1 WHERE command_id = 'k-2'", "order/A-1#2", "positions from 1 to 1"),
        (
            "UPDATE {}commands SET first = 13, last = 99 WHERE command_id = 'k-5'",
            "command k-5",
            "position 13, which holds no event",
        ),
        (
            "INSERT INTO {}commands SELECT 'k-99', digest, command, at, outcome, 1, 1, 0 FROM {}commands LIMIT 1",
            "command k-99",
            "order/A-1#1, which it did not record",
        ),
        (
            "UPDATE {}commands SET outcome = 'declined' WHERE command_id = 'k-7'",
            "return/R-1#1",
            "its outcome is accepted, but the receipt of 'k-7' says declined",
        ),
        ("UPDATE {}commands SET command = 'void_label' WHERE command_id = 'k-7'", "return/R-1#1", "its command is"),
        (
            "UPDATE {}commands SET at = '2026-03-07T15:00:00Z' WHERE command_id = 'k-7'",
            "return/R-1#1",
            "its instant is",
        ),
        ("UPDATE {}commands SET first = 9, last = 3 WHERE command_id = 'k-5'", "command k-5", "positions from 9 to 3"),
        (
            "UPDATE {}commands SET first = 1, last = 4000000000000000000 WHERE command_id = 'k-5'",
            "command k-5",
            "order/A-1#1, which it did not record",
        ),
        (
            "UPDATE {}commands SET at = 'yesterday' WHERE command_id = 'k-5'",
            "the store",
            "the receipt of command 'k-5' says 'yesterday', which is no instant",
        ),
        (
            "UPDATE {}due SET at = 9223372036854775807",
            "the store",
            "an instant is stored as 9223372036854775807, which is none",
        ),
        ("UPDATE {}facts SET type = 'order.Sold/9' WHERE position = 5", "order/A-2#2", "order.Sold/9"),
        ("DELETE FROM {}policies", "order/A-1#1", "is pinned but was not kept"),
        ("UPDATE {}bookmarks SET position = 99 WHERE name = 'due'", "bookmark due", "the last event has position 12"),
    ],
)
def test_what_contradicts_something_else_that_is_stored_is_found_and_named(
    shop: Shop, statement: str, where: str, what: str
) -> None:
    shop.edit(statement)

    problems = shop.problems()

    assert what in problems[where]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DROP INDEX beginnings", "beginnings is missing"),
        ("DROP INDEX due_by_instant", "due_by_instant is missing"),
        ("DROP TABLE bookmarks", "bookmarks is missing"),
        ("DROP TABLE timelines", "timelines is missing"),
        ("DELETE FROM timelines", "on which timeline its file is"),
        ("DROP TABLE names; CREATE TABLE names (kind TEXT, name TEXT, case_id TEXT)", "names is not as it was made"),
        ("PRAGMA user_version = 1", "bookmarks is there, but the file says that it is of version 1"),
        ("CREATE TRIGGER mine AFTER INSERT ON facts BEGIN DELETE FROM facts; END", "a trigger, mine"),
    ],
)
def test_a_file_whose_tables_and_indexes_are_not_those_of_a_store_is_found(
    tmp_path: Path, statement: str, what: str
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assemble(url).store.close()
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript(statement)

    problems = verify_store(url).problems

    assert any(what in problem.what for problem in problems), problems


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (["DROP INDEX {}.beginnings"], "the index beginnings is missing"),
        (["ALTER TABLE {}.names DROP CONSTRAINT names_pkey"], "the index names_pkey is missing"),
        (
            [
                "CREATE FUNCTION {}.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
                "CREATE TRIGGER mine BEFORE INSERT ON {}.facts FOR EACH ROW EXECUTE FUNCTION {}.nothing()",
            ],
            "a trigger, mine, may change what is written",
        ),
    ],
)
def test_a_schema_on_a_server_whose_indexes_and_triggers_are_not_those_of_a_store_is_found(
    statements: list[str], what: str
) -> None:
    url = fresh_store_url()
    for statement in statements:
        sql(statement.replace("{}", place_of(url).schema))

    problems = verify_store(url).problems

    assert [problem.what for problem in problems] == [what]


def test_an_index_that_an_administrator_adds_is_no_problem(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assemble(url).store.close()
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript("CREATE INDEX mine ON facts (type); ANALYZE")

    assert verify_store(url).problems == ()


def test_a_store_that_cannot_be_read_has_that_as_its_problem(tmp_path: Path) -> None:
    shop = Shop(f"sqlite:///{tmp_path}/shop.db")
    shop.services.store.close()
    verification = Verification(shop.services.store, shop.services.handler.policy)

    verified = verification.result(list(verification.run()))

    assert verified.timelines == ()
    assert {problem.where for problem in verified.problems} == {"the store"}
    assert all("it cannot be read to its end" in problem.what for problem in verified.problems)


def test_a_policy_that_has_not_the_hash_under_which_it_is_kept_is_found(shop: Shop) -> None:
    shop.edit("UPDATE {}policies SET document = replace(document, ' the ', ' thy ')")

    problems = shop.problems()

    assert any(where.startswith("policy ") and "does not have the hash" in what for where, what in problems.items()), (
        problems
    )


def refuse_often(shop: Shop, times: int) -> None:
    """Ask so often for a cancellation that comes too late; every second time with an id."""
    late = {"command": "request_cancellation", "order_id": "A-1", "channel": "email", "order_reference": "A-1"}
    for nth in range(times):
        known = {"command_id": f"late-{nth}"} if nth % 2 else {}
        shop.services.handler.handle(parse_command(late | known), parse_instant("2026-03-21T15:00:00Z"))


@pytest.fixture(scope="module")
def with_every_row(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with a row in every table."""
    path = tmp_path_factory.mktemp("rows") / "shop.db"
    shop = Shop(f"sqlite:///{path}")
    refuse_often(shop, 30)
    shop.services.handler.due.catch_up()
    shop.edit("INSERT INTO due (case_id, at) VALUES ('A-9', 5)")
    shop.services.store.close()
    return path


_NEEDED = (
    *(("commands", "'k-5'", name) for name in ("digest", "command", "at", "outcome", "first", "last", "judged_on")),
    ("names", "'return', 'R-1'", "case_id"),
    ("bookmarks", "'due'", "position"),
    *(("refusals", "'A-1', 48", name) for name in ("times", "last_at")),
    *(("timelines", "1", name) for name in ("cookie", "began_at", "cause")),
    ("policies", "", "document"),
)
_OTHERS = (
    *(("bookmarks", "'due'", name) for name in ("holder", "held_until")),
    *(("due", "'A-9'", name) for name in ("at", "claimed_until")),
    *(("timelines", "1", name) for name in ("file", "sha256", "head", "replaced_head")),
)


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "kind"),
    [
        *((*place, "NULL", "null") for place in _NEEDED),
        *((*place, "x'00ff'", "blob") for place in (*_NEEDED, *_OTHERS)),
    ],
)
def test_a_value_that_its_column_cannot_hold_is_found_with_its_table_and_row(
    with_every_row: Path, tmp_path: Path, table: str, row: str, column: str, value: str, kind: str
) -> None:
    # given: what no statement can store, and only a page in the wrong place brings
    path = tmp_path / "shop.db"
    shutil.copy(with_every_row, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (strict,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        loose = re.sub(r" STRICT(, )?", " ", re.sub(rf"\b{column} \w+( NOT NULL)?", column, strict))
        connection.execute("PRAGMA writable_schema = ON")
        for nth, definition in enumerate((loose, strict), start=1):
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (definition, table))
            connection.execute(f"PRAGMA schema_version = {version + nth}")
            if definition is loose:
                connection.execute(f"UPDATE {table} SET {column} = {value}")

    # when
    told = [problem.what for problem in verify_store(f"sqlite:///{path}").problems]

    # then
    start = f"table {table}, row {row}"
    assert any(one.startswith(start) and f": {column} is of the kind {kind}, not " in one for one in told), told


def test_all_is_well_where_refusals_are_counted(shop: Shop) -> None:
    refuse_often(shop, 30)

    assert shop.problems() == {}


@pytest.mark.parametrize(
    ("statement", "where", "what"),
    [
        ("UPDATE {}refusals SET times = times - 8", "the counts of refusals", "5 refusals have a receipt"),
        ("UPDATE {}refusals SET case_seq = 1", "case A-1", "event 1, which counts none"),
        ("UPDATE {}commands SET first = 1, last = 1 WHERE command_id = 'late-29'", "command late-29", "order/A-1#1"),
    ],
    ids=["fewer are counted than have a receipt", "another fact counts them", "a receipt points elsewhere"],
)
def test_a_count_of_refusals_that_does_not_fit_is_found(shop: Shop, statement: str, where: str, what: str) -> None:
    refuse_often(shop, 30)

    shop.edit(statement)

    assert what in shop.problems()[where]


def test_a_deadline_that_is_not_in_the_due_table_is_found(shop: Shop) -> None:
    shop.services.handler.due.catch_up()
    sound = shop.problems()
    shop.edit("INSERT INTO {}due (case_id, at) VALUES ('A-9', 5)")

    assert sound == {}
    assert "the first due at" in shop.problems()["due table"]


def test_a_decision_that_comes_out_otherwise_is_found(shop: Shop) -> None:
    text = "convert_from(content, 'UTF8')" if shop.url.startswith("postgres") else "CAST(content AS TEXT)"
    back = "convert_to({}, 'UTF8')" if shop.url.startswith("postgres") else "CAST({} AS BLOB)"
    changed = back.format(f'replace({text}, \'"verdict":"pass"\', \'"verdict":"fail"\')')
    shop.edit("UPDATE {}facts SET content = " + changed + " WHERE type = 'return.ReturnAuthorized/1'")

    assert any("recorded fail, now pass" in what for what in shop.problems().values())


def test_a_position_beyond_the_sequence_of_the_server_is_found() -> None:
    shop = Shop(fresh_store_url())
    sql(f"SELECT setval('{place_of(shop.url).schema}.positions', 3)")

    problems = shop.problems()
    shop.services.store.close()

    assert problems == {"the store": "the last event is at position 12, but the sequence has only come to 3"}


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM facts WHERE case_id = 'A-2'", "there is no event at the positions from 4 to 6"),
        ("UPDATE sqlite_sequence SET seq = 20 WHERE name = 'facts'", "but 20 positions were given away"),
        ("DELETE FROM facts WHERE position > 10", "but 12 positions were given away"),
    ],
)
def test_positions_of_a_file_have_no_gap_and_none_is_given_away_for_nothing(
    tmp_path: Path, statement: str, what: str
) -> None:
    shop = Shop(f"sqlite:///{tmp_path}/shop.db")
    shop.edit(statement)

    found = [problem.what for problem in verify_store(shop.url).problems]
    shop.services.store.close()

    assert any(what in each for each in found), found


def test_the_counts_of_records_are_those_of_every_store(shop: Shop) -> None:
    memory = Shop("memory:")
    ours, theirs = shop.services.store.records, memory.services.store.records

    assert [ours.count(what) for what in ("facts", "names", "receipts")] == [12, 4, 12]  # type: ignore[arg-type]
    assert [theirs.count(what) for what in ("facts", "names", "receipts")] == [12, 4, 12]  # type: ignore[arg-type]
    assert ours.reserved_ids() == theirs.reserved_ids()
    assert ours.reserved_ids(("claim", "C-1"), 1) == theirs.reserved_ids(("claim", "C-1"), 1)
    assert ours.receipts() == theirs.receipts()
    assert ours.receipts("k-10", 2) == theirs.receipts("k-10", 2)
    assert ours.policies() == theirs.policies()


def test_a_fact_without_a_command_id_needs_no_receipt() -> None:
    services: Services = given(an_inspected_return(), request_refund()).services

    assert list(Verification(services.store, services.handler.policy).run()) == []


def test_a_fact_that_no_desk_recorded_is_found(shop: Shop) -> None:
    (last, *_), _ = shop.services.store.load_until_damage("A-1")
    entry = Entry("order/A-1", 4, last.event)
    count = len(shop.services.store.load("A-1"))
    shop.services.store.append([Batch("A-1", count, (entry,))])

    problems = shop.problems()

    assert "positions from 1 to 1" in problems["order/A-1#4"] or "cannot have happened" in problems["order/A-1#4"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("outcome = 'accepted'", "which counts refusals, but says accepted"),
        ("judged_on = 1", "judged on 1 events"),
        ("judged_on = 999", "judged on 999 events"),
        ("first = 0, last = 0", "positions from 0 to 0"),
        ("first = 1", "order/A-1#1, in which it is not counted"),
    ],
)
def test_a_damaged_receipt_of_a_counted_refusal_is_found(shop: Shop, change: str, what: str) -> None:
    # given
    wanted = {"command": "request_cancellation", "order_id": "A-1", "channel": "phone"}
    for nth in range(23):
        command = parse_command({**wanted, "command_id": f"again-{nth}"})
        shop.services.handler.handle(command, parse_instant("2026-03-21T15:00:00Z"))
    sound = shop.problems()

    # when
    shop.edit(f"UPDATE {{}}commands SET {change} WHERE command_id = 'again-22'")

    # then
    assert sound == {}
    assert what in shop.problems()["command again-22"]
