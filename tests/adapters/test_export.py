"""Facts are taken out as tables that other tools read, and as scenarios that play back to the same."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, cast

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json
from usual import a_delivered_order, an_inspected_return

from returnable.adapters.export.scenario import (
    Written,
    bundled_suffices,
    why_policies_conflict,
    write_policies,
    write_scenario,
)
from returnable.adapters.export.tables import csv_cell, harmless, original, table
from returnable.adapters.files import NotWritten, written_whole
from returnable.adapters.printable import json_text
from returnable.adapters.scenario import Played, play, read_scenario
from returnable.adapters.wiring import Services, assemble, policy_book
from returnable.domain.characters import is_needed, is_unseen
from returnable.domain.commands import Command
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import ClaimDenied, encode
from returnable.domain.fields import parse_instant
from returnable.domain.handler import CommandHandler
from returnable.domain.outcome import Outcome
from returnable.domain.policy import PolicyBook, PolicyInvalid, policy_from, read_policies
from returnable.domain.ruling import ClauseResult
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Choice, Column, History, Rows, WholeCases
from returnable.projections.subjects import find_subject
from returnable.testing import (
    Scenario,
    a_policy,
    a_return,
    an_order,
    declined,
    link_account,
    override,
    record_delivery,
    record_refund_result,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    run_deadlines,
)
from returnable.testing.behaviour import World

AT = datetime(2026, 3, 2, 15, tzinfo=UTC)

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=5, max_size=50)


def asked(query: str) -> list[Any]:
    """What DuckDB answers."""
    answer = duckdb.sql(query)
    assert answer is not None
    return answer.fetchall()


def exported(services: Services, form: str, view: str = "facts", choice: Choice | None = None) -> bytes:
    """An export as bytes."""
    out = io.BytesIO()
    rows = Rows(History(services.store), services.handler.policy)
    chosen, columns = (rows.events, FACT_COLUMNS) if view == "facts" else (rows.clauses, CLAUSE_COLUMNS)
    writer = table(form, out, columns)
    for row in chosen(choice or Choice()):
        writer.write(row)
    writer.end()
    return out.getvalue()


def written_of(services: Services, choice: Choice | None = None, views: bool = True) -> tuple[bytes, Written]:
    """A scenario, and what is said of it."""
    out = io.BytesIO()
    history = History(services.store)
    written = write_scenario(out, history, WholeCases(history, choice or Choice()), services.handler.policy, views)
    return out.getvalue(), written


def scenario_of(services: Services, choice: Choice | None = None, views: bool = True) -> bytes:
    """A scenario."""
    return written_of(services, choice, views)[0]


def played(content: bytes, services: Services) -> list[Played]:
    """The scenario played; an empty one has no lines."""
    return list(play(services, read_scenario(content, "export"))) if content else []


def unmet(lines: Iterable[Played]) -> list[str]:
    """Where what was expected did not come."""
    return [f"line {line.line}: {mismatch}" for line in lines for mismatch in line.mismatches]


def facts_of(services: Services, case_ids: Iterable[str] | None = None) -> dict[str, list[tuple[object, ...]]]:
    """Case → its facts where they stand in it, as they are stored."""
    chosen = None if case_ids is None else set(case_ids)
    return {
        case_id: [(e.case_seq, e.stream, e.version, *encode(e.event)) for e in events]
        for case_id, events in services.store.cases()
        if chosen is None or case_id in chosen
    }


def of_subjects(services: Services, *subjects: str) -> Choice:
    """A choice of subjects."""
    return Choice(tuple(find_subject(services.store, services.handler.policy, subject) for subject in subjects))


def lived(seeds: Iterable[int], services: Services | None = None) -> World:
    """A random history."""
    world = World(services)
    for seed in seeds:
        world.step(seed)
    return world


def settled() -> Scenario:
    """A return with a fee, refunded; a declined cancellation; an override."""
    return Scenario().given(
        an_inspected_return(price="300.00"),
        request_refund(actor={"role": "care", "id": "kim"}),
        record_refund_result(reference="re-1"),
        an_order("A-2", confirmed="2026-04-01 10:00", price="80.00"),
        declined(
            request_cancellation(
                "A-2", command_id="c-9", channel="phone", order_reference="A-2", at="2026-04-01 13:00:00.250000"
            )
        ),
        override("cancellation.window", "order/A-2", reason="Our mail was late.", at="2026-04-01 14:00"),
        request_cancellation("A-2", order_reference="A-2", at="2026-04-01 15:00"),
        request_refund("F-2", order_id="A-2", at="2026-04-01 16:00"),
        record_refund_result(result="failed", refund_id="F-2"),
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_json_lines_have_every_fact_once_in_the_order_of_the_log_with_its_columns_in_their_order() -> None:
    story = settled()

    lines = [json.loads(line) for line in exported(story.services, "jsonl").splitlines()]

    log = story.services.store.read(0, 1000)
    assert [(line["position"], line["type"]) for line in lines] == [(e.position, e.event.type) for e in log]
    names = [column.name for column in FACT_COLUMNS]
    assert all(list(line) == [*names, "ruling"] for line in lines)


def test_a_line_tells_who_when_and_how_it_was_ruled() -> None:
    story = settled()

    lines = [json.loads(line) for line in exported(story.services, "jsonl").splitlines()]

    request, declined = (line for line in lines if line["case_id"] == "A-2" and line["case_seq"] in (2, 3))
    assert (request["outcome"], declined["outcome"]) == ("declined", "declined")
    assert (request["failed"], declined["failed"]) == ([], ["cancellation.window", "cancellation.by_email"])
    assert (declined["command_id"], declined["recorded_at"]) == ("c-9", "2026-04-01T17:00:00.250000Z")
    assert (declined["policy"], declined["policy_version"]) == ("allu-usa", "2026-01")
    window = declined["ruling"][0]
    assert window["quote"].startswith("If you would like to cancel")
    assert window["because"].endswith("(1 h late).")
    assert window["facts"]["deadline"] == "2026-04-01T16:00:00Z"
    cancelled = next(line for line in lines if line["type"] == "Cancelled")
    assert cancelled["overridden"] == ["cancellation.window"]
    refund = next(line for line in lines if line["type"] == "RefundRequested")
    assert (refund["actor_role"], refund["actor_id"]) == ("care", "kim")


def test_amounts_are_what_was_captured_asked_back_and_answered_for_each_tender() -> None:
    story = settled()
    amounts = [
        ("Confirmed", "300.00"),
        ("RefundRequested", "280.00"),
        ("RefundSettled", "280.00"),
        ("Confirmed", "80.00"),
        ("RefundRequested", "80.00"),
        ("RefundFailed", "80.00"),
    ]

    lines = map(json.loads, exported(story.services, "jsonl").splitlines())

    assert [(line["type"], line["amount"]) for line in lines if line["amount"] is not None] == amounts


def test_the_clauses_view_has_one_row_for_each_clause_that_was_weighed() -> None:
    story = settled()

    rows = [json.loads(line) for line in exported(story.services, "jsonl", "clauses").splitlines()]

    assert all(list(row) == [*(column.name for column in CLAUSE_COLUMNS), "quote"] for row in rows)
    weighed = [len(getattr(e.event, "ruling", None) or ()) for e in story.services.store.read(0, 1000)]
    assert len(rows) == sum(weighed)
    late = next(row for row in rows if row["clause"] == "cancellation.window" and row["verdict"] == "fail")
    assert (late["deadline"], late["margin_seconds"]) == ("2026-04-01T16:00:00Z", -3600.25)
    window = next(row for row in rows if row["clause"] == "returns.window")
    assert (window["deadline"], window["type"]) == ("2026-03-20T04:00:00Z", "ReturnAuthorized")
    fee = next(row for row in rows if row["clause"] == "returns.label_fee")
    assert (fee["deadline"], fee["amount"], fee["facts"]["amount"]) == (None, "280.00", "20.00")


def test_a_promise_has_its_deadline_too() -> None:
    story = Scenario().given(a_delivered_order(), report_wrong_item(attachments=[], at="2026-03-06 10:00"))

    rows = [json.loads(line) for line in exported(story.services, "jsonl", "clauses").splitlines()]

    deadlines = {row["clause"]: (row["deadline"], row["margin_seconds"]) for row in rows}
    contact_by = story.ask("claim/C-1")["contact_by"]
    contact = deadlines["wrong_item.contact"]
    assert (parse_instant(str(contact[0])), contact[1]) == (parse_instant(contact_by), None)
    assert deadlines["wrong_item.by_email"] == (None, None)


def test_of_lines_with_deadlines_of_their_own_the_earliest_counts() -> None:
    lines = [{"line_id": name, "sku": "S", "unit_price": "10.00", "quantity": 1} for name in ("1", "2")]
    story = Scenario().given(
        an_order(lines=lines),
        record_shipment("P-1", {"1": 1}, at="2026-03-04 09:00"),
        record_delivery("P-1", at="2026-03-04 12:00"),
        record_shipment("P-2", {"2": 1}, at="2026-03-06 09:00"),
        record_delivery("P-2", at="2026-03-06 12:00"),
        request_return({"2": 1, "1": 1}, at="2026-03-10 12:00"),
    )

    rows = [json.loads(line) for line in exported(story.services, "jsonl", "clauses").splitlines()]

    assert rows[0]["deadline"] == "2026-03-19T04:00:00Z"


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_duckdb_reads_what_was_refunded_for_each_clause(form: str, tmp_path: Path) -> None:
    story = settled()
    for view in ("facts", "clauses"):
        (tmp_path / f"{view}.{form}").write_bytes(exported(story.services, form, view))

    deducted = asked(
        f"""SELECT clause, count(*), sum(amount)::DECIMAL(12, 2)
            FROM '{tmp_path}/clauses.{form}' WHERE type = 'RefundRequested' GROUP BY clause ORDER BY clause"""
    )
    declined = asked(
        f"""SELECT stream, epoch_us(recorded_at), content::JSON ->> 'channel'
            FROM '{tmp_path}/facts.{form}' WHERE outcome = 'declined' AND type LIKE '%Requested'"""
    )

    by_clause = {clause: (count, amount) for clause, count, amount in deducted}
    assert by_clause["returns.label_fee"] == (1, Decimal("280.00"))
    assert by_clause["returns.refund_timing"] == (2, Decimal("360.00"))
    asked_at = datetime(2026, 4, 1, 17, 0, 0, 250_000, tzinfo=UTC)
    assert declined == [("order/A-2", round(asked_at.timestamp() * 1_000_000), "phone")]


def test_parquet_columns_are_typed_and_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr("returnable.adapters.export.tables.ROWS_IN_A_GROUP", 7)
    story = settled()
    file = tmp_path / "facts.parquet"
    file.write_bytes(exported(story.services, "parquet"))

    types = {row[0]: row[1] for row in asked(f"DESCRIBE SELECT * FROM '{file}'")}
    groups = pq.ParquetFile(file).metadata

    assert list(types) == [column.name for column in FACT_COLUMNS]
    assert (types["recorded_at"], types["amount"]) == ("TIMESTAMP WITH TIME ZONE", "DECIMAL(24,4)")
    assert (types["position"], types["failed"]) == ("BIGINT", "VARCHAR[]")
    assert (groups.num_rows, groups.num_row_groups) == (
        story.services.store.head(),
        -(-story.services.store.head() // 7),
    )


def test_an_empty_store_gives_an_empty_table_that_can_be_read(tmp_path: Path) -> None:
    services = assemble("memory:")
    for form in ("parquet", "csv"):
        (tmp_path / f"empty.{form}").write_bytes(exported(services, form))

    counts = [asked(f"SELECT count(*) FROM '{tmp_path}/empty.{form}'") for form in ("parquet", "csv")]

    assert counts == [[(0,)], [(0,)]]
    assert exported(services, "jsonl") == b""


FORMULA = tuple("=+-@＝＋－＠﹦﹢﹣﹫\t\r\n")
SEPARATORS = (",", ";", "|", "\t")
HOSTILE = st.lists(
    st.sampled_from(["=1", "-1", "＝", ";", "|", ",", "\t", "\r", "\n", '"', "'", " ", "\\u", "0041", "x"])
).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | HOSTILE


def written_in_csv(*rows: tuple[str, ...]) -> str:
    """The file that holds these texts, behind a number and before another one."""
    names = [f"text_{nth}" for nth in range(len(rows[0]))]
    columns = [Column("row", "int", ""), *(Column(name, "text", "") for name in names), Column("left", "seconds", "")]
    out = io.BytesIO()
    writer = table("csv", out, [*columns, Column("last", "text", "")])
    for number, texts in enumerate(rows, start=1):
        writer.write({"row": number, **dict(zip(names, texts, strict=True)), "left": -75600, "last": texts[0]})
    writer.end()
    return out.getvalue().decode()


@given(ANY_TEXT)
def test_a_text_comes_back_exactly_from_its_cell(text: str) -> None:
    (row,) = csv.reader(io.StringIO(f"{csv_cell(text, 'text')},1\r\n", newline=""), strict=True)

    assert row == [harmless(text), "1"]
    assert not [one for at, one in enumerate(row[0]) if is_unseen(one) and not is_needed(row[0], at)]
    assert original(row[0]) == original(json_text(row[0])) == text


@settings(max_examples=400)
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=3))
def test_no_cell_is_a_formula_whatever_separator_the_reader_splits_at(rows: list[tuple[str, str]]) -> None:
    content = written_in_csv(*rows)

    for separator in SEPARATORS:
        for trims in (False, True):
            found = csv.reader(io.StringIO(content, newline=""), delimiter=separator, skipinitialspace=trims)
            cells = [cell for row in found for cell in row]
            assert not [cell for cell in cells if cell.lstrip(" ").startswith(FORMULA) and cell != "-75600"], separator


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=1+1;y", "x;'=1+1;y"),
        ("x|=1+1", "x|'=1+1"),
        ('x;"=1+1";y', 'x;\'"=1+1";y'),
        ("x; -1", "x;' -1"),
        ("x;", "x;'"),
        ("'=1", "''=1"),
        ("x\n=1", "x\\u000a=1"),
        (r"C:\users", r"C:\u005cusers"),
    ],
)
def test_what_would_begin_a_cell_gets_an_apostrophe(text: str, cell: str) -> None:
    assert harmless(text) == cell
    assert original(cell) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a - b",
        "a; b",
        "5 + 3; 2",
        "it's",
        "x,-5",
        '{"a":"x;","b":-1}',
        "kim@shop.example",
        r"C:\temp",
        "Zoë; naïve",
    ],
)
def test_a_harmless_text_is_written_as_it_is(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "＋1", "－1", "＠x", "  =1", "\t=1", "\r=1"])
def test_a_text_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert harmless(text).startswith("'")


def test_numbers_and_times_are_plain_cells_so_that_a_late_margin_stays_a_number() -> None:
    story = settled()

    rows = list(csv.DictReader(io.StringIO(exported(story.services, "csv", "clauses").decode(), newline="")))

    assert "-3600.25" in {row["margin_seconds"] for row in rows}
    assert exported(story.services, "csv").count(b"\r\n") == story.services.store.head() + 1


# ---- what is taken ---------------------------------------------------------------------------------------------------


def positions(services: Services, choice: Choice) -> list[int]:
    return [json.loads(line)["position"] for line in exported(services, "jsonl", choice=choice).splitlines()]


def test_an_order_brings_its_case_a_return_its_stream_and_a_refund_its_own_facts() -> None:
    services = settled().services
    log = services.store.read(0, 1000)

    taken = {
        subject: positions(services, of_subjects(services, subject)) for subject in ("order/A-1", "return/R-1", "F-1")
    }

    assert taken["order/A-1"] == [e.position for e in log if e.case_id == "A-1"]
    assert taken["return/R-1"] == [e.position for e in log if e.stream == "return/R-1"]
    assert taken["F-1"] == [e.position for e in log if getattr(e.event, "refund_id", None) == "F-1"]
    assert positions(services, of_subjects(services, "A-2", "R-1")) == [
        e.position for e in log if e.case_id == "A-2" or e.stream == "return/R-1"
    ]


def test_a_period_has_its_beginning_and_not_its_end() -> None:
    services = settled().services
    log = services.store.read(0, 1000)
    since, until = log[3].event.recorded_at, log[6].event.recorded_at

    taken = positions(services, Choice(since=since, until=until))

    assert taken == [e.position for e in log if since <= e.event.recorded_at < until]
    assert log[3].position in taken
    assert log[6].position not in taken


def test_a_scenario_takes_whole_cases_with_a_fact_in_the_period() -> None:
    story = settled()
    april = Choice(since=parse_instant("2026-04-01T00:00:00Z"))
    other = assemble("memory:")

    lines = played(scenario_of(story.services, april), other)

    assert unmet(lines) == []
    assert facts_of(other) == facts_of(story.services, ["A-2"])
    assert scenario_of(story.services, Choice(of_subjects(story.services, "A-1").subjects, april.since)) == b""


def test_what_is_recorded_during_an_export_is_not_part_of_it() -> None:
    story = settled()
    history = History(story.services.store)
    story.given(an_order("A-9", confirmed="2026-05-01 10:00"))
    out = io.BytesIO()

    write_scenario(out, history, WholeCases(history, Choice()), story.services.handler.policy)

    assert b"A-9" not in out.getvalue()


def test_a_fact_that_cannot_be_read_stops_an_export(tmp_path: Path) -> None:
    services = assemble(f"sqlite:///{tmp_path}/shop.db")
    Scenario(services).given(a_delivered_order())
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("UPDATE facts SET content = CAST('{}' AS BLOB) WHERE position = 2")
        connection.commit()

    for choice in (Choice(), of_subjects_unread(services)):
        with pytest.raises(HistoryBroken, match=r"position 2, of case 'A-1'"):
            exported(services, "jsonl", choice=choice)
    services.store.close()


def of_subjects_unread(services: Services) -> Choice:
    """A choice made before the damage."""
    sound = Scenario().given(a_delivered_order())
    return of_subjects(sound.services, "order/A-1")


# ---- scenarios -------------------------------------------------------------------------------------------------------


@given(HISTORIES)
@settings(max_examples=40)
def test_any_history_exported_and_played_comes_to_the_same_facts_and_views(seeds: list[int]) -> None:
    world = lived(seeds)
    other = assemble("memory:")

    lines = played(scenario_of(world.services), other)

    assert unmet(lines) == []
    assert facts_of(other) == facts_of(world.services)


@given(HISTORIES, st.data())
@settings(max_examples=25)
def test_any_subject_exported_alone_brings_its_whole_case(seeds: list[int], data: st.DataObject) -> None:
    world = lived(seeds)
    names = [f"order/{order_id}" for order_id in world.order_ids]
    names += [f"return/{name}" for case in world.cases for name in case.returns]
    if not names:
        return
    choice = of_subjects(world.services, data.draw(st.sampled_from(names)))
    other = assemble("memory:")

    lines = played(scenario_of(world.services, choice), other)

    assert unmet(lines) == []
    assert facts_of(other) == facts_of(world.services, choice.case_ids)


@pytest.mark.parametrize("seed", range(3))
def test_a_history_in_a_file_exported_and_played_into_a_file_comes_to_the_same(seed: int, tmp_path: Path) -> None:
    world = lived(range(seed * 1000, seed * 1000 + 60), assemble(f"sqlite:///{tmp_path}/one.db"))
    other = assemble(f"sqlite:///{tmp_path}/other.db")

    lines = played(scenario_of(world.services), other)

    assert unmet(lines) == []
    assert facts_of(other) == facts_of(world.services)
    assert scenario_of(other) == scenario_of(world.services)
    world.services.store.close()
    other.store.close()


def with_deadlines() -> Scenario:
    """Three returns whose labels voided, found by one run of the deadlines over all cases."""
    orders = ("A-1", "A-2", "A-3")
    return Scenario().given(
        [an_order(name) for name in orders],
        [record_shipment(order_id=name, at="2026-03-03 09:00") for name in orders],
        [record_delivery(order_id=name, at="2026-03-05 14:00") for name in orders],
        [a_return(f"R-{name}", order_id=name, requested="2026-03-09 12:00", labelled=True) for name in orders],
        run_deadlines(command_id="nightly", at="2026-03-20"),
    )


def test_deadlines_recorded_over_many_cases_are_one_line_for_those_that_are_exported() -> None:
    story = with_deadlines()
    other, alone = assemble("memory:"), assemble("memory:")
    two = of_subjects(story.services, "order/A-3", "order/A-1")

    everything, some = played(scenario_of(story.services), other), played(scenario_of(story.services, two), alone)

    assert unmet(everything) == unmet(some) == []
    assert facts_of(other) == facts_of(story.services)
    assert facts_of(alone) == facts_of(story.services, ["A-1", "A-3"])
    nightly = [line for line in some if line.command == "run_deadlines"]
    assert [len(line.outcome.recorded_events) for line in nightly if line.outcome] == [2]


def test_the_lines_stand_as_the_log_does_and_say_where_its_clock_steps_back() -> None:
    story = Scenario().given(
        an_order("A-2", confirmed="2026-04-01 10:00"),
        an_order(confirmed="2026-03-01 10:00"),
        link_account(at="2026-03-02 10:00"),
        link_account("A-2", account_id="acc-3", at="2026-03-01 11:00"),
    )
    other = assemble("memory:")

    content, written = written_of(story.services, views=False)
    lines = played(content, other)

    said = [(json.loads(line)["at"], json.loads(line).get("steps_back")) for line in content.splitlines()]
    assert said == [
        ("2026-04-01T14:00:00Z", None),
        ("2026-03-01T15:00:00Z", True),
        ("2026-03-02T15:00:00Z", None),
        ("2026-03-01T16:00:00Z", True),
    ]
    assert written.steps_back == 2
    assert unmet(lines) == []
    assert facts_of(other) == facts_of(story.services)


class _SlowClocks:
    """A desk asked by several processes, each with a clock of its own: up to a minute and a half slow."""

    def __init__(self, desk: CommandHandler, seed: int) -> None:
        self._desk = desk
        self._dice = Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk, name)

    def handle(self, command: Command, at: datetime) -> Outcome:
        """Handle it by one of the clocks."""
        return self._desk.handle(command, at - timedelta(seconds=self._dice.choice((0, 0, 1, 30, 90))))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60), st.integers(0, 99))
def test_what_several_clocks_recorded_plays_back_to_the_same_facts(seeds: list[int], clocks: int) -> None:
    services = assemble("memory:")
    world = World(Services(services.store, cast(CommandHandler, _SlowClocks(services.handler, clocks))))
    for seed in seeds:
        world.step(seed)
    other = assemble("memory:")

    lines = played(scenario_of(services), other)

    assert unmet(lines) == []
    assert facts_of(other) == facts_of(services)


def test_without_views_a_scenario_has_commands_only() -> None:
    story = settled()

    content = scenario_of(story.services, views=False)

    assert b'"query"' not in content
    assert scenario_of(story.services).startswith(content)


def test_a_view_that_does_not_come_out_is_an_unmet_expectation() -> None:
    story = settled()
    content = scenario_of(story.services).replace(b'"status":"cancelled"', b'"status":"shipped"')

    lines = played(content, assemble("memory:"))

    (mismatch,) = unmet(lines)
    assert mismatch.endswith("status: expected 'shipped', came 'cancelled'")


# ---- the policies a scenario needs -----------------------------------------------------------------------------------


def test_a_pinned_policy_written_to_a_folder_is_read_with_the_same_hash_and_plays(tmp_path: Path) -> None:
    policy = a_policy({"cancellation.window": {"hours": 5}})
    story = Scenario(policy=policy).given(
        an_order(), request_cancellation(order_reference="A-1", at="2026-03-02 14:00")
    )
    _, written = written_of(story.services)

    (file,) = write_policies(str(tmp_path / "policies"), written, story.services.handler.policy)
    again = write_policies(str(tmp_path / "policies"), written, story.services.handler.policy)

    assert not bundled_suffices(written)
    assert again == [file]
    assert [version.sha256 for version in read_policies(file).versions] == [policy.sha256]
    other = assemble("memory:", tmp_path / "policies")
    assert unmet(played(scenario_of(story.services), other)) == []
    assert unmet(played(scenario_of(story.services), assemble("memory:"))) != []
    assert why_policies_conflict(written, story.services.handler.policy) is None


def test_policies_that_would_be_chosen_differently_are_told(tmp_path: Path) -> None:
    story = Scenario().given(an_order())
    later = policy_book(a_policy(version="2026-02", effective="2001-01-01"))
    Scenario(Services(story.services.store, type(story.services.handler)(story.services.store, later))).given(
        an_order("A-2")
    )
    _, written = written_of(story.services)

    problem = why_policies_conflict(written, story.services.handler.policy)
    files = write_policies(str(tmp_path), written, story.services.handler.policy)

    assert problem is not None
    assert len(files) == 2
    assert len({Path(file).parent for file in files}) == 1


def test_policies_of_different_merchants_go_into_folders_of_their_own(tmp_path: Path) -> None:
    story = Scenario().given(an_order())
    elsewhere = PolicyBook([policy_from(from_json(a_policy().document) | {"id": "another/one"}, "elsewhere")])
    Scenario(Services(story.services.store, type(story.services.handler)(story.services.store, elsewhere))).given(
        an_order("A-2")
    )
    _, written = written_of(story.services)

    files = write_policies(str(tmp_path), written, story.services.handler.policy)

    assert sorted(Path(file).parent.name for file in files) == ["allu-usa", "another-one"]
    assert "versions of different policies" in str(why_policies_conflict(written, story.services.handler.policy))


@pytest.mark.parametrize("content", ["{", "[]", '{"id": 7}'])
def test_a_document_that_is_no_policy_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(content, encoding="utf-8")

    with pytest.raises(PolicyInvalid, match=r"broken\.json"):
        read_policies(tmp_path / "broken.json")


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "facts.jsonl"

    with pytest.raises(ZeroDivisionError), written_whole(str(out), force=False) as file:
        file.write(b"half%d" % (1 // 0))

    assert list(tmp_path.iterdir()) == []
    with written_whole(str(out), force=False) as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["facts.jsonl"]
    assert out.read_bytes() == b"whole"


def test_a_file_that_exists_is_overwritten_only_by_force_also_when_it_came_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "facts.jsonl"

    with pytest.raises(NotWritten, match="exists already"), written_whole(str(out), force=False):
        out.write_bytes(b"theirs")

    assert out.read_bytes() == b"theirs"
    with written_whole(str(out), force=True) as file:
        file.write(b"mine")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]


@pytest.mark.parametrize(
    ("place", "reason"), [(lambda tmp: tmp, "is a directory"), (lambda tmp: tmp / "no" / "x", "no such directory")]
)
def test_a_place_that_cannot_be_written_is_refused(place: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match=reason), written_whole(str(place(tmp_path)), force=True):
        pass


def test_a_ruling_without_a_policy_is_broken_history() -> None:
    story = settled()
    rows = Rows(History(story.services.store), story.services.handler.policy)
    denied = ClaimDenied(occurred_at=AT, recorded_at=AT, ruling=(ClauseResult(clause="x", verdict="fail", facts={}),))

    with pytest.raises(HistoryBroken, match="has a ruling but pins no policy"):
        rows._weighed(denied)


def test_times_are_utc_whatever_the_policy_says() -> None:
    story = Scenario().given(an_order())

    (line,) = map(json.loads, exported(story.services, "jsonl").splitlines())

    assert line["recorded_at"] == "2026-03-02T15:00:00Z"
    assert datetime.fromisoformat(line["content"]["cancel_by"]).tzinfo is not None
    assert datetime.fromisoformat(line["recorded_at"]).astimezone(UTC).hour == 15
