"""A redacted export names nobody, keeps who is whom, and is decided as the original was."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Story, finding
from pydantic import BaseModel
from pydantic_core import from_json
from world import World

from returnable.adapters.export.scenario import write_scenario
from returnable.adapters.export.tables import table
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import Parts, assemble
from returnable.domain.events import FACTS, Fact, encode
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Choice, History, Rows, WholeCases
from returnable.projections.redaction import BLANK, DERIVED, FREE_TEXT, HARMLESS, PERSONAL, Redaction

KEY = b"a key"


def exports_of(parts: Parts, key: bytes = KEY) -> dict[str, bytes]:
    """Every format, redacted; Parquet as the values that are in it."""
    import pyarrow.parquet as pq

    found: dict[str, bytes] = {}
    for view, columns in (("facts", FACT_COLUMNS), ("clauses", CLAUSE_COLUMNS)):
        for form in ("jsonl", "csv", "parquet"):
            out = io.BytesIO()
            rows = Rows(History(parts.store, Redaction(key)), parts.desk.policy)
            writer = table(form, out, columns)
            for row in rows.facts(Choice()) if view == "facts" else rows.clauses(Choice()):
                writer.write(row)
            writer.end()
            found[f"{view}.{form}"] = out.getvalue()
            if form == "parquet":
                found[f"{view}.values"] = repr(pq.read_table(io.BytesIO(out.getvalue())).to_pylist()).encode()
    out = io.BytesIO()
    history = History(parts.store, Redaction(key))
    write_scenario(out, history, WholeCases(history, Choice()), parts.desk.policy)
    return found | {"scenario": out.getvalue()}


def personal_story(who: dict[str, str]) -> Story:
    """A story with every personal field and every free text in it; ``who`` gives what they say."""
    story = Story()
    actor = {"role": "care", "id": who["actor"]}
    customer = {"customer_id": who["customer"], "account_id": None, "name": who["name"], "email": who["email"]}
    line = {"line_id": "1", "sku": "SKU-1", "unit_price": "300.00", "quantity": 2, "description": who["text"]}
    payments = [{"payment_id": who["payment"], "method": "card", "amount": "600.00"}]
    for order_id in ("A-1", "A-2"):
        order = {
            "customer": customer,
            "lines": [line],
            "payments": payments,
            "command_id": f"{who['email']}/{order_id}",
        }
        story.confirmed(order_id, at="2026-03-02T10:00:00-05:00", actor=actor, **order)
    asked = {"order_id": "A-2", "channel": "phone", "order_reference": who["text"]}
    story.tell("request_cancellation", "2026-03-02T11:00:00-05:00", **asked)
    parcel: dict[str, Any] = {"order_id": "A-1", "parcel_id": who["tracking"], "carrier": "fedex"}
    story.tell("record_shipment", "2026-03-03T09:00:00-05:00", tracking_number=who["tracking"], **parcel)
    again: dict[str, Any] = {"tracking_number": f"{who['tracking']}9", "shipped_at": "2026-03-03T08:00:00-05:00"}
    told = story.tell("record_shipment", "2026-03-03T10:00:00-05:00", **parcel, **again)
    assert told["events"][-1]["type"] == "ExceptionRaised"
    story.tell("record_delivery", "2026-03-05T14:00:00-05:00", order_id="A-1", parcel_id=who["tracking"])
    story.tell("link_account", "2026-03-05T15:00:00-05:00", order_id="A-1", account_id=who["account"])
    about: dict[str, Any] = {"subject": {"kind": "order", "id": "A-1"}}
    override: dict[str, Any] = {"clause": "returns.portal", "reason": who["text"], "approved_by": who["boss"]}
    story.tell("override", "2026-03-06T09:00:00-05:00", **about, **override)
    story.tell("notify_customer", notice=who["text"], **about)
    lines = [{"line_id": "1", "quantity": 2, "reason": who["text"]}]
    wanted = {"return_id": "R-1", "order_id": "A-1", "lines": lines, "channel": "phone"}
    assert story.tell("request_return", "2026-03-09T12:00:00-04:00", **wanted)["outcome"] == "accepted"
    for label in (who["label"], f"{who['label']}2"):
        issued = {"return_id": "R-1", "label_id": label, "carrier": "fedex", "tracking_number": who["tracking"]}
        story.tell("issue_label", "2026-03-09T13:00:00-04:00", **issued)
        if label == who["label"]:
            story.tell("void_label", return_id="R-1", label_id=label, reason=who["text"])
    sent = {"label_id": f"{who['label']}2", "tracking_number": who["tracking"]}
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", **sent)
    story.tell("receive_return", "2026-03-13T11:00:00-04:00", return_id="R-1")
    good, bad = finding(quantity=1), finding(quantity=1, tags_attached=False)
    findings = [{**good, "notes": who["text"]}, {**bad, "notes": who["text"]}]
    story.tell("inspect_return", "2026-03-16T10:00:00-04:00", return_id="R-1", findings=findings)
    for refund_id, result in (("F-1", "failed"), ("F-2", "succeeded")):
        story.tell("request_refund", refund_id=refund_id, return_id="R-1")
        reason = {"reason": who["text"]} if result == "failed" else {}
        answer = {"payment_id": who["payment"], "result": result, "reference": who["reference"], **reason}
        assert story.tell("record_refund_result", refund_id=refund_id, **answer)["outcome"] == "accepted"
    back = {"lines": [{"line_id": "1", "quantity": 1}], "tracking_number": who["tracking"]}
    story.tell("record_send_back", return_id="R-1", **back)
    claim = {"claim_id": "C-1", "order_id": "A-1", "line_id": "1", "channel": "email"}
    story.tell("report_wrong_item", "2026-03-17T10:00:00-04:00", **claim)
    story.tell("deny_claim", claim_id="C-1", reason=who["text"])
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

    written = exports_of(story.parts)

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

    lines = list(play(assemble("memory:"), read_scenario(exports_of(story.parts)["scenario"], "export")))

    assert [line.mismatches for line in lines if line.mismatches] == []
    assert sum(line.outcome is not None for line in lines) >= 22


@given(st.lists(st.integers(0, 2**32 - 1), min_size=5, max_size=50))
@settings(max_examples=20)
def test_any_redacted_history_plays_as_is_expected(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    content = exports_of(world.parts)["scenario"]

    lines = list(play(assemble("memory:"), read_scenario(content, "export"))) if content else []

    assert [line.mismatches for line in lines if line.mismatches] == []


def who_is() -> dict[str, str]:
    return {name: f"secret {name}" for name in NAMES}


def test_the_same_person_is_the_same_pseudonym_everywhere_and_another_is_another() -> None:
    story = personal_story(who_is())
    other = {"customer_id": "secret other", "account_id": "secret account"}
    story.confirmed("A-3", at="2026-04-01T10:00:00-04:00", customer=other)

    rows = [json.loads(line) for line in exports_of(story.parts)["facts.jsonl"].splitlines()]

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

    rows = [json.loads(line) for line in exports_of(story.parts)["facts.jsonl"].splitlines()]

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
    plain = Rows(History(story.parts.store), story.parts.desk.policy)

    shown = [json.loads(line) for line in exports_of(story.parts)["facts.jsonl"].splitlines()]

    same = ("position", "type", "outcome", "failed", "overridden", "currency", "amount")
    assert [[row[name] for name in same] for row in shown] == [
        [row[name] for name in same] for row in plain.facts(Choice())
    ]
    assert [row["amount"] for row in shown if row["type"] == "RefundSettled"] == ["280.00"]


def test_an_order_reference_that_is_the_order_id_stays() -> None:
    story = Story()
    story.confirmed()
    story.tell("request_cancellation", order_id="A-1", channel="email", order_reference="A-1")

    assert b'"order_reference":"A-1"' in exports_of(story.parts)["facts.jsonl"]


def test_one_key_gives_the_same_pseudonyms_and_another_key_others() -> None:
    story = personal_story(who_is())

    first, same, other = (exports_of(story.parts, key)["facts.jsonl"] for key in (KEY, KEY, b"another"))

    assert first == same
    assert Redaction(KEY).pseudonym("secret name") in first.decode()
    assert Redaction(KEY).pseudonym("secret name") not in other.decode()


def test_a_tracking_number_that_begins_another_one_is_not_mistaken_for_it() -> None:
    story = Story()
    story.confirmed()
    parcel: dict[str, Any] = {"order_id": "A-1", "parcel_id": "P", "carrier": "ups"}
    story.tell("record_shipment", tracking_number="1", **parcel)
    story.tell("record_shipment", "2026-03-02T11:00:00-05:00", tracking_number="12", **parcel)

    rows = [json.loads(line) for line in exports_of(story.parts)["facts.jsonl"].splitlines()]

    redaction = Redaction(KEY)
    (reason,) = rows[-1]["content"]["reasons"]
    assert reason.endswith(f" by ups {redaction.pseudonym('12')}")
    assert f" by ups {redaction.pseudonym('1')}; now told" in reason


# ---- nothing is forgotten --------------------------------------------------------------------------------------------

LISTED = PERSONAL | FREE_TEXT | DERIVED | HARMLESS


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def fields_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """The fields of a model and of all models in it."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield "actor.id" if (model.__name__, name) == ("Who", "id") else name
        for inner in models_in(field.annotation):
            yield from fields_of(inner, seen)


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: fact.__name__)
def test_every_field_of_every_fact_is_listed_as_personal_or_as_harmless(fact: type[Fact]) -> None:
    unlisted = set(fields_of(fact, set())) - LISTED

    assert unlisted == set()


def test_no_field_is_listed_twice() -> None:
    assert sum(map(len, (PERSONAL, FREE_TEXT, DERIVED, HARMLESS))) == len(LISTED)


def keys_of(value: Any) -> Iterator[str]:
    """Every key in a JSON value."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from keys_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from keys_of(one)


def test_every_fact_of_a_ruling_is_listed_too() -> None:
    voided = Story()
    voided.labelled()
    label = {"return_id": "R-1", "label_id": "L-2", "carrier": "fedex", "tracking_number": "RT-2"}
    voided.tell("issue_label", "2026-03-20T12:00:00-04:00", **label)
    stored = [*personal_story(who_is()).parts.store.read(0, 1000), *voided.parts.store.read(0, 1000)]
    for first in range(0, 900, 60):
        world = World()
        for seed in range(first, first + 60):
            world.step(seed)
        stored += world.log()

    keys = {key for entry in stored for key in keys_of(from_json(encode(entry.fact)[1]))}

    assert keys - LISTED - {"id"} == set()
    assert {"labels_used", "override", "voided_label_id"} <= keys


def test_what_is_not_listed_is_not_let_through() -> None:
    redaction = Redaction(KEY)

    shown = redaction._walk("", {"shoe_size": "44", "nested": {"shoe_size": ["44"]}, "id": "somebody"}, "A-1")

    assert shown == {"shoe_size": BLANK, "nested": {"shoe_size": [BLANK]}, "id": BLANK}
