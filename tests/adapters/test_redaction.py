"""A redacted export names nobody, keeps who is whom, and is decided as the original was."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import from_json
from usual import a_labelled_return

from returnable.adapters.export.scenario import write_scenario
from returnable.adapters.export.tables import table
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import Services, assemble
from returnable.domain.commands import COMMANDS
from returnable.domain.events import EVENTS, Part, encode
from returnable.domain.marks import Mark
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Choice, History, Rows, WholeCases
from returnable.projections.marked import leaves, marks
from returnable.projections.redaction import BLANK, Redaction
from returnable.testing import (
    Scenario,
    an_order,
    declined,
    deny_claim,
    finding,
    inspect_return,
    issue_label,
    link_account,
    notify_customer,
    override,
    receive_return,
    record_delivery,
    record_refund_result,
    record_return_shipment,
    record_send_back,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    void_label,
)
from returnable.testing.behaviour import World

KEY = b"a key"


def exports_of(services: Services, key: bytes = KEY) -> dict[str, bytes]:
    """Every format, redacted; Parquet as the values that are in it."""
    import pyarrow.parquet as pq

    found: dict[str, bytes] = {}
    for view, columns in (("facts", FACT_COLUMNS), ("clauses", CLAUSE_COLUMNS)):
        for form in ("jsonl", "csv", "parquet"):
            out = io.BytesIO()
            rows = Rows(History(services.store, Redaction(key)), services.handler.policy)
            writer = table(form, out, columns)
            for row in rows.events(Choice()) if view == "facts" else rows.clauses(Choice()):
                writer.write(row)
            writer.end()
            found[f"{view}.{form}"] = out.getvalue()
            if form == "parquet":
                found[f"{view}.values"] = repr(pq.read_table(io.BytesIO(out.getvalue())).to_pylist()).encode()
    out = io.BytesIO()
    history = History(services.store, Redaction(key))
    write_scenario(out, history, WholeCases(history, Choice()), services.handler.policy)
    return found | {"scenario": out.getvalue()}


def personal_story(who: dict[str, str]) -> Scenario:
    """A story with every personal field and every free text in it; ``who`` gives what they say."""
    story = Scenario()
    actor = {"role": "care", "id": who["actor"]}
    customer = {"customer_id": who["customer"], "account_id": None, "name": who["name"], "email": who["email"]}
    line = {"line_id": "1", "sku": "SKU-1", "unit_price": "300.00", "quantity": 2, "description": who["text"]}
    payments = [{"payment_id": who["payment"], "method": "card", "amount": "600.00"}]
    for order_id in ("A-1", "A-2"):
        story.given(
            an_order(
                order_id,
                confirmed="2026-03-02 10:00",
                actor=actor,
                customer=customer,
                lines=[line],
                payments=payments,
                command_id=f"{who['email']}/{order_id}",
            )
        )
    story.given(
        declined(request_cancellation("A-2", channel="phone", order_reference=who["text"], at="2026-03-02 11:00")),
        record_shipment(who["tracking"], tracking_number=who["tracking"], at="2026-03-03 09:00"),
    )
    told = story.tell(
        record_shipment(
            who["tracking"], tracking_number=f"{who['tracking']}9", shipped_at="2026-03-03 08:00", at="2026-03-03 10:00"
        )
    )
    assert told["events"][-1]["type"] == "ExceptionRaised"
    story.given(
        record_delivery(who["tracking"], at="2026-03-05 14:00"),
        link_account(account_id=who["account"], at="2026-03-05 15:00"),
        override("returns.portal", reason=who["text"], approved_by=who["boss"], at="2026-03-06 09:00"),
        notify_customer(notice=who["text"]),
    )
    lines = [{"line_id": "1", "quantity": 2, "reason": who["text"]}]
    assert story.tell(request_return(lines=lines, channel="phone", at="2026-03-09 12:00"))["outcome"] == "accepted"
    for label in (who["label"], f"{who['label']}2"):
        story.given(issue_label(label, tracking_number=who["tracking"], at="2026-03-09 13:00"))
        if label == who["label"]:
            story.given(void_label(label, reason=who["text"]))
    story.given(
        record_return_shipment(f"{who['label']}2", tracking_number=who["tracking"], at="2026-03-10 16:00"),
        receive_return(at="2026-03-13 11:00"),
    )
    good, bad = finding(quantity=1), finding(quantity=1, tags_attached=False)
    findings = [{**good, "notes": who["text"]}, {**bad, "notes": who["text"]}]
    story.given(inspect_return(findings=findings, at="2026-03-16 10:00"))
    for refund_id, result in (("F-1", "failed"), ("F-2", "succeeded")):
        reason = {"reason": who["text"]} if result == "failed" else {}
        answered = record_refund_result(
            who["payment"], result, refund_id=refund_id, reference=who["reference"], **reason
        )
        story.given(request_refund(refund_id))
        assert story.tell(answered)["outcome"] == "accepted"
    story.given(
        record_send_back(tracking_number=who["tracking"]),
        report_wrong_item(attachments=[]),
        deny_claim(reason=who["text"]),
    )
    return story


NAMES = ("actor", "customer", "name", "email", "payment", "tracking", "account", "boss", "label", "reference", "text")

PEOPLE = st.fixed_dictionaries(
    {
        name: st.text("ΩЖ漢é zqxjk'\"<;=@+-", min_size=6, max_size=20)
        .map(lambda text: f"Ж{text.strip()}Ж")
        .map(lambda text, name=name: f"{text}{name}")
        for name in NAMES
    }
)


@given(PEOPLE)
@settings(max_examples=12)
def test_no_personal_value_is_anywhere_in_what_is_written(who: dict[str, str]) -> None:
    story = personal_story(who)

    written = exports_of(story.services)

    for place, content in written.items():
        text = content.decode("utf-8", "replace")
        for name, value in who.items():
            for said in (
                value,
                json.dumps(value)[1:-1],
                json.dumps(value, ensure_ascii=False)[1:-1],
                repr(value)[1:-1],
            ):
                assert said not in text, (place, name)


@given(PEOPLE)
@settings(max_examples=8)
def test_a_redacted_scenario_plays_as_is_expected(who: dict[str, str]) -> None:
    story = personal_story(who)

    lines = list(play(assemble("memory:"), read_scenario(exports_of(story.services)["scenario"], "export")))

    assert [line.mismatches for line in lines if line.mismatches] == []
    assert sum(line.outcome is not None for line in lines) >= 22


@given(st.lists(st.integers(0, 2**32 - 1), min_size=5, max_size=50))
@settings(max_examples=20)
def test_any_redacted_history_plays_as_is_expected(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    content = exports_of(world.services)["scenario"]

    lines = list(play(assemble("memory:"), read_scenario(content, "export"))) if content else []

    assert [line.mismatches for line in lines if line.mismatches] == []


def who_is() -> dict[str, str]:
    return {name: f"secret {name}" for name in NAMES}


def test_the_same_person_is_the_same_pseudonym_everywhere_and_another_is_another() -> None:
    story = personal_story(who_is())
    other = {"customer_id": "secret other", "account_id": "secret account"}
    story.given(an_order("A-3", confirmed="2026-04-01 10:00", customer=other))

    rows = [json.loads(line) for line in exports_of(story.services)["facts.jsonl"].splitlines()]

    customers = [row["content"]["customer"] for row in rows if row["type"] == "Confirmed"]
    assert customers[0] == customers[1]
    assert customers[0]["customer_id"] != customers[2]["customer_id"]
    linked = next(row["content"]["account_id"] for row in rows if row["type"] == "AccountLinked")
    assert customers[2]["account_id"] == linked
    shipped = [row["content"] for row in rows if row["type"] == "Shipped"]
    assert shipped[0]["parcel_id"] == shipped[1]["parcel_id"] == shipped[0]["tracking_number"]
    (raised,) = (row["content"]["reasons"][0] for row in rows if row["type"] == "ExceptionRaised")
    assert raised.startswith(f"parcel {shipped[0]['parcel_id']} is already known")
    assert f"by fedex {shipped[0]['tracking_number']}; now told" in raised
    assert raised.endswith(f"by fedex {shipped[1]['tracking_number']}")


def test_rulings_say_pseudonyms_and_blanks_too_and_ids_of_orders_and_returns_stay() -> None:
    story = personal_story(who_is())

    rows = [json.loads(line) for line in exports_of(story.services)["facts.jsonl"].splitlines()]

    authorized = next(row for row in rows if row["type"] == "ReturnAuthorized")
    clauses = {clause["clause"]: clause for clause in authorized["ruling"]}
    granted = next(row for row in rows if row["type"] == "OverrideGranted")["content"]
    override = clauses["returns.portal"]["facts"]["override"]
    assert override["approved_by"] == granted["approved_by"] != "secret boss"
    assert override["reason"] == granted["reason"] == BLANK
    assert f"Set aside by {granted['approved_by']} at " in clauses["returns.portal"]["because"]
    assert (authorized["stream"], authorized["case_id"]) == ("return/R-1", "A-1")
    asked = [row["content"] for row in rows if row["type"] == "CancellationRequested"]
    assert [content["order_reference"] for content in asked] == [BLANK]


def test_amounts_and_clauses_are_what_they_were() -> None:
    story = personal_story(who_is())
    plain = Rows(History(story.services.store), story.services.handler.policy)

    shown = [json.loads(line) for line in exports_of(story.services)["facts.jsonl"].splitlines()]

    same = ("position", "type", "outcome", "failed", "overridden", "currency", "amount")
    assert [[row[name] for name in same] for row in shown] == [
        [row[name] for name in same] for row in plain.events(Choice())
    ]
    assert [row["amount"] for row in shown if row["type"] == "RefundSettled"] == ["280.00"]


def test_an_order_reference_that_is_the_order_id_stays() -> None:
    story = Scenario().given(an_order(), request_cancellation(order_reference="A-1"))

    assert b'"order_reference":"A-1"' in exports_of(story.services)["facts.jsonl"]


def test_one_key_gives_the_same_pseudonyms_and_another_key_others() -> None:
    story = personal_story(who_is())

    first, same, other = (exports_of(story.services, key)["facts.jsonl"] for key in (KEY, KEY, b"another"))

    assert first == same
    assert Redaction(KEY).pseudonym("secret name") in first.decode()
    assert Redaction(KEY).pseudonym("secret name") not in other.decode()


def test_a_tracking_number_that_begins_another_one_is_not_mistaken_for_it() -> None:
    story = Scenario().given(
        an_order(),
        record_shipment("P", tracking_number="1", carrier="ups"),
        record_shipment("P", tracking_number="12", carrier="ups", at="2026-03-02 11:00"),
    )

    rows = [json.loads(line) for line in exports_of(story.services)["facts.jsonl"].splitlines()]

    redaction = Redaction(KEY)
    (reason,) = rows[-1]["content"]["reasons"]
    assert reason.endswith(f" by ups {redaction.pseudonym('12')}")
    assert f" by ups {redaction.pseudonym('1')}; now told" in reason


# ---- nothing is forgotten --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*EVENTS.values(), *COMMANDS.values()], ids=lambda model: model.__name__)
def test_every_field_of_every_event_and_command_has_exactly_one_mark(model: type[BaseModel]) -> None:
    marked = list(leaves(model, set()))

    assert marked
    assert [name for name, of_leaf in marked if len(of_leaf) != 1] == []


def test_a_field_name_has_the_same_mark_everywhere() -> None:
    names = {name for model in (*EVENTS.values(), *COMMANDS.values()) for name, _ in leaves(model, set())}

    assert names == marks().keys()


def test_a_text_and_a_number_of_unknown_meaning_have_no_mark() -> None:
    class Novel(Part):
        nickname: str
        ages: tuple[int, ...] = ()
        shoes: Annotated[str, Mark.HARMLESS, Mark.PERSONAL] = ""

    assert dict(leaves(Novel, set())) == {"nickname": (), "ages": (), "shoes": (Mark.HARMLESS, Mark.PERSONAL)}


def text_keys_of(value: Any, key: str = "") -> Iterator[str]:
    """The key of every text in a JSON value."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from text_keys_of(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from text_keys_of(one, key)
    elif isinstance(value, str):
        yield key


def test_every_fact_of_a_ruling_has_a_mark_too() -> None:
    voided = Scenario().given(a_labelled_return(), declined(issue_label("L-2", at="2026-03-20 12:00")))
    stored = [*personal_story(who_is()).services.store.read(0, 1000), *voided.services.store.read(0, 1000)]
    for first in range(0, 900, 60):
        world = World()
        for seed in range(first, first + 60):
            world.step(seed)
        stored += world.log()

    keys = {key for entry in stored for key in text_keys_of(from_json(encode(entry.event)[1]))}

    assert keys - marks().keys() == {"id"}
    assert {"labels_used", "approved_by", "voided_label_id"} <= keys


def test_what_has_no_mark_is_not_let_through() -> None:
    redaction = Redaction(KEY)

    shown = redaction._walk("", {"shoe_size": "44", "nested": {"shoe_size": ["44"]}, "id": "somebody"}, "A-1")

    assert shown == {"shoe_size": BLANK, "nested": {"shoe_size": [BLANK]}, "id": BLANK}
