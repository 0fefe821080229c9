"""What ``bench.proofs.fuzz`` once found: each came to an error of somebody else's, or to one that nobody can read."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import returnable
from returnable.adapters.eventstore.memory import MemoryStore
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.imports.mapping import MappingInvalid, read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import read_orders
from returnable.adapters.scenario import play
from returnable.adapters.wiring import assemble
from returnable.domain.commands import parse_command
from returnable.domain.errors import HistoryBroken, Impossible, PolicyInvalid
from returnable.domain.events import decode
from returnable.domain.policy import bundled_policies, read_policies
from returnable.testing import Scenario, a_return, an_order, correct_delivery

ROOT = Path(__file__).parents[2]
WEBSHOP = ROOT / "examples" / "import" / "webshop.toml"
LONGEST = 1000

NO_TEXTS: list[Any] = [None, 7, 1.5, True, b"A-1", [], {"a": 1}, Decimal(1), "", "x" * 100_000, "a\x00b", "\ud800"]


def refused(error: pytest.ExceptionInfo[Impossible], field: str) -> None:
    assert error.value.code == "command.invalid"
    assert error.value.field == field
    assert len(error.value.message) < LONGEST
    assert error.value.message.isprintable()


@pytest.fixture
def desk() -> returnable.Desk:
    return returnable.Desk(Scenario().given(an_order()).services)


# ---- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", NO_TEXTS, ids=lambda subject: repr(subject)[:20])
@pytest.mark.parametrize("name", ["why", "replay", "edges", "report"])
def test_a_subject_that_is_no_name_is_refused(desk: returnable.Desk, name: str, subject: Any) -> None:
    with pytest.raises(Impossible) as error:
        getattr(desk, name)(subject)

    refused(error, "subject")


@pytest.mark.parametrize("order_id", NO_TEXTS[1:], ids=lambda order_id: repr(order_id)[:20])
def test_the_ledger_of_what_can_be_no_order_is_refused(desk: returnable.Desk, order_id: Any) -> None:
    with pytest.raises(Impossible) as error:
        list(desk.ledger(order_id=order_id))

    refused(error, "order_id")


@pytest.mark.parametrize("status", [[1] * 1001, 10**4000, "x" * 100_000], ids=lambda each: repr(each)[:20])
def test_a_state_that_there_is_not_is_refused_briefly(desk: returnable.Desk, status: Any) -> None:
    with pytest.raises(Impossible) as error:
        list(desk.orders(status=status))

    refused(error, "status")


@pytest.mark.parametrize("event", [1.0, True, "US/Eastern\x00", Decimal("sNaN")], ids=repr)
def test_an_event_that_has_no_number_is_refused(desk: returnable.Desk, event: Any) -> None:
    with pytest.raises(Impossible) as error:
        desk.why("order/A-1", event=event)

    refused(error, "event")


def test_a_history_until_neither_an_instant_nor_a_number_is_refused(desk: returnable.Desk) -> None:
    with pytest.raises(Impossible) as error:
        desk.replay("order/A-1", until=True)

    refused(error, "until")


def test_the_name_of_a_command_is_repeated_briefly() -> None:
    with pytest.raises(Impossible) as error:
        parse_command({"command": "\U0001f9e8" * 200 + "\ud800" * 200})

    refused(error, "command")


@pytest.mark.parametrize("key", ["", "\x00", "\u202e", "x" * 100_000])
def test_a_key_without_a_name_under_which_all_is_too_deep_is_named_somehow(key: str) -> None:
    line = json.dumps({"at": "2026-03-02T15:00:00Z", "command": "run_deadlines", key: 1}, ensure_ascii=False)
    deep = line.replace(": 1}", f": {'[' * 100}{']' * 100}}}").encode()

    (played,) = play(assemble("memory:"), [(1, deep)])

    assert played.error is not None
    assert played.error.code == "command.invalid"
    assert played.error.field
    assert played.error.message.isprintable()
    assert len(played.error.message) < LONGEST


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_policy_with_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"id = {'9' * 5000}\n")

    with pytest.raises(PolicyInvalid, match=r"policy\.toml: not TOML"):
        read_policies(file)


def test_a_policy_with_half_a_character_in_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    content = json.loads(bundled_policies().versions[0].document)
    content["source"] = "\ud800"
    file.write_text(json.dumps(content))

    with pytest.raises(PolicyInvalid, match=r"policy\.json: .*surrogate"):
        read_policies(file)


def test_a_key_that_no_policy_has_is_repeated_briefly(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"{'x' * 100_000} = 1\n" + (ROOT / "domain" / "policies" / "allu-usa.toml").read_text())

    with pytest.raises(PolicyInvalid, match="is not a known key") as error:
        read_policies(file)

    assert len(str(error.value)) < LONGEST


@pytest.mark.parametrize("key", ["zone", "name"])
def test_a_zone_or_calendar_that_there_is_not_is_repeated_briefly(tmp_path: Path, key: str) -> None:
    file = tmp_path / "policy.toml"
    text = (ROOT / "domain" / "policies" / "allu-usa.toml").read_text()
    file.write_text(re.sub(rf'(?m)^{key} = ".*"$', f'{key} = "{"x" * 100_000}"', text))

    with pytest.raises(PolicyInvalid, match="zone|calendar") as error:
        read_policies(file)

    assert len(str(error.value)) < LONGEST


def test_a_mapping_with_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(f"name = {'9' * 5000}\n")

    with pytest.raises(MappingInvalid, match=r"mapping\.toml: not TOML"):
        read_mapping(str(file))


def test_a_column_that_there_is_not_is_repeated_briefly(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(WEBSHOP.read_text().replace('confirmed_at = "Paid at"', f'confirmed_at = "{"x" * 100_000}"'))
    mapping = read_mapping(str(file))

    with pytest.raises(MappingInvalid, match="has no column") as error:
        list(read_orders(str(WEBSHOP.with_suffix(".csv")), mapping, Planner(mapping)))

    assert len(str(error.value)) < 5000  # it has 30 columns, which are said


# ---- stored facts ---------------------------------------------------------------------------------------------------


def test_an_error_names_the_stream_and_the_version_of_a_fact_that_cannot_be_read() -> None:
    store = Scenario().given(an_order()).services.store
    assert isinstance(store, CaseStore)
    assert isinstance(store, MemoryStore)
    rows = store.rows(0, None)
    store.rows = lambda *_: [(*row[:6], b"{}") for row in rows]  # type: ignore[method-assign]
    store.case_rows = lambda *_: store.rows(0, None)  # type: ignore[method-assign]

    for read in (lambda: store.load("A-1"), store.read):
        with pytest.raises(
            HistoryBroken, match=r"^order/A-1#1, at position 1, of case 'A-1': a stored order\.Confirmed/1"
        ):
            read()


@pytest.mark.parametrize("name", ["\\u0000", "x" * 100_000, "\\u202e"])
def test_an_unknown_field_of_a_stored_fact_is_repeated_so_that_it_can_be_read(name: str) -> None:
    content = f'{{"occurred_at":"2026-03-02T15:00:00Z","recorded_at":"2026-03-02T15:00:00Z","{name}":1}}'

    with pytest.raises(HistoryBroken, match="Extra inputs") as error:
        decode("claim.ClaimContacted/1", content.encode())

    assert len(str(error.value)) < LONGEST
    assert str(error.value).isprintable()


def test_an_unknown_type_is_repeated_so_that_it_can_be_read() -> None:
    with pytest.raises(HistoryBroken, match="unknown to this version") as error:
        decode("\x1b[31m" * 1000, b"{}")

    assert len(str(error.value)) < LONGEST
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b'"requested_at":"2026', b'"requested_at":"x2026'),
        (b'"clause":"returns.window"', b'"clause":"returns.widow"'),
        (b'"requested_at":', b'"asked_at":'),
    ],
)
def test_a_finding_that_says_what_cannot_be_is_named_with_its_fact(good: bytes, bad: bytes) -> None:
    story = Scenario().given(an_order(delivered="2026-03-05"), a_return())
    recorder = story.services.store  # type: ignore[attr-defined]
    rows = recorder.rows(0, None)
    damaged = [(*row[:6], row[6].replace(good, bad) if b'"ruling"' in row[6] else row[6]) for row in rows]
    assert damaged != rows
    recorder.rows = recorder.case_rows = lambda *_: damaged
    desk = returnable.Desk(story.services)

    for look in (
        lambda: desk.audit(stream="return/R-1"),
        lambda: desk.why("return/R-1"),
        lambda: desk.report("return/R-1"),
    ):
        with pytest.raises(HistoryBroken, match="return/R-1") as error:
            look()
        assert "what cannot be" in str(error.value) or "cannot be explained" in str(error.value)


def test_a_parcel_that_never_was_is_repeated_briefly() -> None:
    story = Scenario().given(an_order(delivered="2026-03-05"), correct_delivery())
    recorder = story.services.store  # type: ignore[attr-defined]
    rows = recorder.rows(0, None)
    damaged = [
        (*row[:6], row[6].replace(b'"P-', b'"' + b"x" * 100_000)) if "TakenBack" in row[5] else row for row in rows
    ]
    assert damaged != rows
    recorder.rows = recorder.case_rows = lambda *_: damaged

    with pytest.raises(HistoryBroken, match="was not delivered") as error:
        returnable.Desk(story.services).order(order_id="A-1")

    assert len(str(error.value)) < LONGEST
