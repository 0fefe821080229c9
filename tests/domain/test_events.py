"""Stored events stay readable for ever: one golden file for every version of every event ever released.

A golden file holds the stored JSON exactly as it was written. It is never changed. When one is missing, the failing test
prints what to commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, create_model

from returnable.domain import events
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import (
    EVENTS,
    AccountLinked,
    Allotment,
    ArrivalAssigned,
    ArrivalDismissed,
    ArrivalRecorded,
    BoughtLine,
    Buyer,
    CancellationDeclined,
    CancellationRequested,
    Cancelled,
    ClaimContacted,
    ClaimDenied,
    ClaimOpened,
    ClaimResolved,
    Confirmed,
    ContactMissed,
    Credit,
    CustomerNotified,
    Deduction,
    Delivered,
    DeliveryTakenBack,
    DisposedUnits,
    DispositionRecorded,
    Event,
    EvidenceAdded,
    ExceptionClosed,
    ExceptionRaised,
    FindingsDisputed,
    FoundUnits,
    Inspected,
    InspectedUnits,
    InspectionCorrected,
    LabelDeclined,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    OutboundLost,
    OverrideGranted,
    PaidElsewhere,
    ParcelLost,
    ParcelRejected,
    Payment,
    PaymentCaptured,
    PayoutNamed,
    Pins,
    Received,
    RefundDeclined,
    Refunded,
    RefundFailed,
    RefundItem,
    RefundOverdue,
    RefundRecorded,
    RefundRequested,
    RefundReversed,
    RefundSettled,
    RefusalsCounted,
    ResolutionDeclined,
    ReturnAuthorized,
    ReturnDeclined,
    ReturnedToSender,
    ReturnLine,
    ReturnReduced,
    ReturnRequested,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Shipped,
    Tender,
    Units,
    UnitsCancelled,
    Who,
    decode,
    encode,
)
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.ports import CommandReceipt
from returnable.domain.ruling import ClauseResult

GOLDEN = Path(__file__).parent / "golden"


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


ENVELOPE: dict[str, Any] = {
    "occurred_at": at("2026-03-08T01:59:59.123456-05:00"),
    "recorded_at": at("2026-03-09T12:00:00-04:00"),
    "actor": Who(role="care", id="Zoë “Z” O'Hara/7"),
    "command_id": "8e3c6f8e-5a1b-4c0e-9a0a-1f2e3d4c5b6a",
}
PINS = Pins(
    policy="allu-usa", version="2026-01", sha256="ab" * 32, calendar="us-federal/2026.1", zone="America/New_York"
)
RULING = (
    ClauseResult(
        clause="returns.window",
        verdict="fail",
        facts={
            "requested_at": "2026-03-20T04:00:00.000001Z",
            "deadline": "2026-03-20T04:00:00Z",
            "margin_seconds": -0.000001,
            "lines": [{"line_id": "1", "quantity": 2, "in_time": False, "undelivered": 1}],
        },
    ),
    ClauseResult(
        clause="returns.portal",
        verdict="overridden",
        facts={
            "channel": "phone",
            "channels": ["portal"],
            "override": {
                "approved_by": "Ann",
                "reason": "…",
                "granted_at": "2026-03-01T00:00:00Z",
                "fact": "order/A-1#4",
            },
        },
    ),
    ClauseResult(clause="returns.account", verdict="not_applicable", facts={}),
    ClauseResult(clause="returns.no_exchanges", verdict="pass", facts={"resolution": "refund"}),
)
DECISION: dict[str, Any] = {**ENVELOPE, "pins": PINS, "ruling": RULING}

FOUND: dict[str, Any] = {
    "line_id": "1",
    "quantity": 2,
    "same_condition": True,
    "original_packaging": False,
    "tags_attached": True,
    "notes": "The box is missing",
}

SAMPLES: list[Event] = [
    Confirmed(
        **ENVELOPE,
        order_id="A-1001",
        customer=Buyer(customer_id="cu-1", account_id="acc-1", name="Renée Müller", email="renee@example.org"),
        currency="USD",
        lines=(
            BoughtLine(
                line_id="1", sku="BAG-1", unit_price=47999, quantity=2, tax=7103, final_sale=True, description="Bag"
            ),
            BoughtLine(line_id="2", sku="鞄", unit_price=0, quantity=1),
        ),
        shipping_charged=1500,
        shipping_tax=133,
        payments=(
            Payment(payment_id="p-1", method="card", amount=100000, captured=60000),
            Payment(payment_id="p-2", method="gift_card", amount=4734),
        ),
        placed_at=at("2026-03-06T04:00:00-04:00"),
        cancel_by=at("2026-03-08T04:59:59.123456-04:00"),
        pins=PINS,
    ),
    Shipped(
        **ENVELOPE,
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="7946",
        lines=(Units(line_id="1", quantity=2), Units(line_id="2", quantity=1)),
    ),
    Delivered(
        **ENVELOPE,
        parcel_id="P-1",
        return_before=at("2026-03-23T00:00:00-04:00"),
        report_before=at("2026-03-18T00:00:00-04:00"),
        pins=PINS,
    ),
    AccountLinked(**ENVELOPE, account_id="acc-1"),
    OutboundLost(**ENVELOPE, parcel_id="P-1"),
    ReturnedToSender(**ENVELOPE, parcel_id="P-1"),
    DeliveryTakenBack(
        **ENVELOPE,
        parcel_id="P-1",
        moved_to=at("2026-03-07T11:00:00-05:00"),
        reason="The carrier took the scan back",
        decisions=("return/R-1#2",),
    ),
    PaymentCaptured(**ENVELOPE, payment_id="p-1", amount=40000, currency="USD"),
    UnitsCancelled(**ENVELOPE, lines=(Units(line_id="1", quantity=1),), reason="Out of stock", elsewhere=True),
    PayoutNamed(
        **ENVELOPE,
        payment_id="p-1",
        payout_id="wire-1",
        method="bank_transfer",
        reason="The card is closed",
        approved_by="Ann",
    ),
    CancellationRequested(**ENVELOPE, channel="email", order_reference="A-1001", order_copy=True, incomplete=True),
    Cancelled(**DECISION),
    CancellationDeclined(**DECISION),
    ReturnRequested(
        **ENVELOPE,
        return_id="R-1",
        order_id="A-1001",
        lines=(
            ReturnLine(
                line_id="1",
                quantity=2,
                reason="Too small",
                parcel_id="P-1",
                parcels=(Allotment(parcel_id="P-1", quantity=1), Allotment(parcel_id=None, quantity=1)),
            ),
        ),
        channel="portal",
        resolution="exchange",
        cancelled=True,
    ),
    ReturnAuthorized(**DECISION, remind_at=at("2026-04-06T00:00:00-04:00")),
    ReturnDeclined(**DECISION),
    LabelIssued(
        **DECISION,
        label_id="L-1",
        carrier="fedex",
        tracking_number="RT-1",
        received_at=at("2026-03-09T11:00:00-04:00"),
        void_at=at("2026-03-12T00:00:00-04:00"),
        box_id="1",
    ),
    LabelDeclined(**DECISION, label_id="L-2", box_id="1"),
    LabelReceived(**ENVELOPE, label_id="L-1", void_at=at("2026-03-12T00:00:00-04:00"), pins=PINS),
    LabelVoided(**ENVELOPE, label_id="L-1", cause="by_hand", reason="The wrong carrier"),
    ReturnShipped(**ENVELOPE, label_id="L-1", tracking_number="RT-1", proof="counter_receipt", box_id="1"),
    Received(**DECISION, box_id="1"),
    ParcelRejected(**DECISION, box_id="1"),
    Inspected(
        **DECISION,
        findings=(InspectedUnits(**FOUND, accepted=False),),
    ),
    FindingsDisputed(**ENVELOPE, findings=(FoundUnits(**FOUND),)),
    InspectionCorrected(
        **DECISION, findings=(InspectedUnits(**FOUND, accepted=False),), reason="The boxes were mixed up"
    ),
    SentBack(**ENVELOPE, lines=(Units(line_id="1", quantity=2),), tracking_number="ST-1"),
    ParcelLost(**ENVELOPE),
    ReturnReduced(**ENVELOPE, lines=(Units(line_id="1", quantity=1),)),
    DispositionRecorded(**ENVELOPE, lines=(DisposedUnits(line_id="1", quantity=2, disposition="refurbish"),)),
    ReturnWithdrawn(**ENVELOPE),
    RefundRequested(
        **DECISION,
        refund_id="F-1",
        currency="USD",
        items=(RefundItem(line_id="1", quantity=2, merchandise=95998, tax=7103, deducted=2000),),
        shipping=1633,
        deductions=(
            Deduction(
                clause="returns.label_fee",
                amount=2000,
                facts={"labels_used": ["L-1"], "fee": "20.00", "threshold": "500.00", "lines": ["1"]},
            ),
        ),
        settled_before=100,
        credits=(Credit(refund_id="G-1", amount=100),),
        voided=200,
        tenders=(Tender(payment_id="p-1", amount=99700, payout_id="wire-1"), Tender(payment_id="p-2", amount=2634)),
        expected_from=date(2026, 3, 23),
        expected_to=date(2026, 3, 30),
        overdue_at=at("2026-03-31T00:00:00-04:00"),
    ),
    RefundDeclined(**DECISION),
    RefundSettled(**ENVELOPE, refund_id="F-1", payment_id="p-1", amount=100000, currency="USD", reference="re_1"),
    RefundFailed(
        **ENVELOPE,
        refund_id="F-1",
        payment_id="p-2",
        amount=2634,
        currency="USD",
        reference="re_2",
        reason="The card is closed",
    ),
    RefundReversed(
        **ENVELOPE,
        refund_id="F-1",
        payment_id="p-1",
        amount=50000,
        currency="USD",
        reference="re_1",
        reason="The account is closed",
    ),
    RefundRecorded(
        **ENVELOPE,
        refund_id="G-1",
        kind="dispute",
        currency="USD",
        tenders=(PaidElsewhere(payment_id="p-1", amount=2500, reference="dp_1", payout_id="bank-1"),),
        lines=(Units(line_id="1", quantity=1),),
        reason="Not received",
    ),
    Refunded(**ENVELOPE, refund_id="F-1"),
    RefundOverdue(**ENVELOPE, refund_id="F-1"),
    ClaimOpened(
        **DECISION,
        claim_id="C-1",
        order_id="A-1001",
        line_id="2",
        quantity=1,
        parcels=(Allotment(parcel_id="P-1", quantity=1),),
        channel="email",
        evidence=("item_picture", "order_confirmation"),
        contact_by=at("2026-03-09T02:59:59.123456-04:00"),
    ),
    ClaimDenied(**DECISION, reason="It is the right item"),
    EvidenceAdded(**ENVELOPE, evidence=("item_picture",)),
    ClaimContacted(**ENVELOPE),
    ContactMissed(**ENVELOPE),
    ClaimResolved(**DECISION, remedy="both", quantity=1, parcels=(Allotment(parcel_id="P-1", quantity=1),)),
    ResolutionDeclined(**DECISION, remedy="refund", quantity=1),
    ArrivalRecorded(
        **ENVELOPE,
        arrival_id="D-1",
        carrier="fedex",
        tracking_number="794012345678",
        order_reference="A-1001",
        notes="A red box without a slip.",
        pins=PINS,
    ),
    ArrivalAssigned(**ENVELOPE, assigned_to="order/A-1001", parcel_id="P-1", box_id="2"),
    ArrivalDismissed(**ENVELOPE, reason="It is for the neighbour."),
    CustomerNotified(**ENVELOPE, notice="Your order is cancelled."),
    OverrideGranted(
        **ENVELOPE,
        clause="returns.window",
        reason="A good customer",
        approved_by="Ann",
        lines=("1", "2"),
        expires_at=at("2026-04-01T00:00:00-04:00"),
        once=False,
    ),
    ExceptionRaised(**ENVELOPE, reasons=("One.", "Two.")),
    ExceptionClosed(**ENVELOPE, reason="Seen.", exception_id="return/R-1#7"),
    RefusalsCounted(
        **DECISION,
        command="request_return",
        repeats="return/R-1#1",
        request={
            "return_id": "R-21",
            "order_id": "A-1001",
            "lines": [{"line_id": "1", "quantity": 2, "reason": "Too small"}],
            "channel": "portal",
            "resolution": "refund",
        },
    ),
]


def golden(stored_as: str) -> Path:
    """Where the golden file of a stored name is."""
    name, _, version = stored_as.rpartition("/")
    return GOLDEN / f"{name}.{version}.json"


# ---- the golden files -----------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_event() -> None:
    assert {sample.stored_as for sample in SAMPLES} == set(EVENTS)


@pytest.mark.parametrize("stored_as", sorted(EVENTS))
def test_every_version_of_every_event_has_a_golden_file(stored_as: str) -> None:
    file = golden(stored_as)
    (sample,) = [sample for sample in SAMPLES if sample.stored_as == stored_as]

    assert file.exists(), f"commit this as {file}:\n{encode(sample)[1].decode()}"


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_what_was_once_stored_is_read_and_means_the_same(file: Path) -> None:
    name, _, version = file.stem.rpartition(".")
    content = file.read_bytes().removesuffix(b"\n")

    event = decode(f"{name}/{version}", content)

    assert (encode(event) == (f"{name}/{version}", content)) or f"{name}/{version}" not in EVENTS
    (sample,) = [sample for sample in SAMPLES if sample.stored_as == event.stored_as]
    assert event == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_a_golden_file_says_something_in_every_field(sample: Event) -> None:
    content = json.loads(golden(sample.stored_as).read_bytes())

    assert set(content) == set(type(sample).model_fields)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_every_event_says_which_parcel_and_which_refund_it_is_about(sample: Event) -> None:
    content = json.loads(golden(sample.stored_as).read_bytes())

    assert (sample.parcel_id, sample.refund_id) == (content.get("parcel_id"), content.get("refund_id"))


CODES = GOLDEN.parent / "golden-codes.json"
"""Every code an event, a receipt or a ruling was ever stored with, by its place. Codes are added and never taken away."""


def _codes_in(annotation: Any) -> set[str]:
    """The codes an annotation allows."""
    if get_origin(annotation) is Literal:
        return {str(code) for code in get_args(annotation)}
    return {code for argument in get_args(annotation) for code in _codes_in(argument)}


def _parts_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts_in(argument)]


def _coded(model: type[BaseModel], place: str) -> Iterator[tuple[str, set[str]]]:
    for name, field in model.model_fields.items():
        if codes := _codes_in(field.annotation):
            yield f"{place}.{name}", codes
        for part in _parts_in(field.annotation):
            yield from _coded(part, f"{place}.{name}")


def known_codes() -> dict[str, list[str]]:
    """Place → every code that is understood there."""
    found = dict(place for stored_as, event in EVENTS.items() for place in _coded(event, stored_as))
    found["clause"] = set(CLAUSE_IDS)
    found["receipt.outcome"] = _codes_in(get_type_hints(CommandReceipt)["outcome"])
    found["stored name"] = {*EVENTS, *events.UPCASTERS}
    return {place: sorted(codes) for place, codes in sorted(found.items())}


def test_every_code_that_was_ever_stored_is_understood() -> None:
    stored: dict[str, list[str]] = json.loads(CODES.read_text())
    known = known_codes()

    for place, codes in stored.items():
        assert set(codes) <= set(known.get(place, ())), place


def test_every_code_that_may_be_stored_is_in_the_golden_file() -> None:
    assert json.loads(CODES.read_text()) == known_codes(), (
        f"commit this as {CODES}:\n{json.dumps(known_codes(), indent=2)}"
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_a_field_that_was_taken_away_or_renamed_is_noticed(sample: Event) -> None:
    content = golden(sample.stored_as).read_bytes()
    fields = {name: (field.annotation, field) for name, field in type(sample).model_fields.items()}
    create_model("Whole", __base__=events.Part, **fields).model_validate_json(content)  # type: ignore[call-overload]

    for name in fields:
        rest = {other: field for other, field in fields.items() if other != name}
        for changed in (rest, rest | {f"{name}_2": fields[name]}):
            model = create_model("Changed", __base__=events.Part, **changed)  # type: ignore[call-overload]
            with pytest.raises(ValidationError, match=name):
                model.model_validate_json(content)


# ---- the registry ---------------------------------------------------------------------------------------------------


def test_a_stored_name_says_where_the_event_belongs_what_it_is_and_which_version() -> None:
    for stored_as, event in EVENTS.items():
        kind, _, rest = stored_as.partition(".")
        name, _, version = rest.partition("/")
        assert kind in ("order", "return", "label", "refund", "claim", "arrival", "note")
        assert name == event.__name__
        assert version.isdecimal()


def test_an_event_cannot_be_changed() -> None:
    event = SAMPLES[0]

    with pytest.raises(ValidationError, match="frozen"):
        event.occurred_at = at("2026-01-01T00:00:00Z")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_what_is_optional_and_absent_stays_absent(sample: Event) -> None:
    bare = {name: getattr(sample, name) for name, field in type(sample).model_fields.items() if field.is_required()}
    event = type(sample)(**bare)

    stored_as, content = encode(event)

    assert b"null" not in content
    assert decode(stored_as, content) == event


def _bare_parts(part: Any) -> Any:
    """The same part with nothing but what it must say; every nested part too."""
    if isinstance(part, events.Part):
        fields = type(part).model_fields
        kept = {name: _bare_parts(getattr(part, name)) for name, field in fields.items() if field.is_required()}
        nothing = {name: None for name in kept if "None" in str(fields[name].annotation)}
        return type(part)(**(kept | nothing))
    if isinstance(part, tuple):
        return tuple(_bare_parts(entry) for entry in part)
    return part


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_what_may_be_nothing_is_nothing_after_it_was_stored_however_deep(sample: Event) -> None:
    event = _bare_parts(sample)

    assert decode(*encode(event)) == event


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored_as", ["", "order.Shipped", "order.Shipped/2", "order.shipped/1", "os.system/1", "Shipped/1"]
)
def test_an_unknown_type_is_never_guessed(stored_as: str) -> None:
    with pytest.raises(HistoryBroken, match="unknown to this version"):
        decode(stored_as, encode(SAMPLES[1])[1])


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"\x00" * 10, b'{"occurred_at": NaN}', b"[" * 100_000],
)
@pytest.mark.parametrize("stored_as", ["order.Shipped/1", "return.ReturnAuthorized/1"])
def test_damaged_content_is_an_error_and_no_crash(stored_as: str, content: bytes) -> None:
    with pytest.raises(HistoryBroken, match="cannot be read"):
        decode(stored_as, content)


@given(st.sampled_from(SAMPLES), st.data())
def test_content_that_was_cut_off_is_an_error(sample: Event, data: st.DataObject) -> None:
    stored_as, content = encode(sample)
    cut = data.draw(st.integers(0, len(content) - 1))

    with pytest.raises(HistoryBroken):
        decode(stored_as, content[:cut])


@given(st.sampled_from(SAMPLES), st.data())
def test_content_with_a_changed_byte_is_read_as_something_or_an_error(sample: Event, data: st.DataObject) -> None:
    stored_as, content = encode(sample)
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + bytes([data.draw(st.integers(0, 255))]) + content[place + 1 :]

    try:
        event = decode(stored_as, changed)
    except HistoryBroken as error:
        assert len(str(error)) < 1000
    else:
        assert encode(event)[0] == stored_as


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_a_field_too_many_or_too_few_or_of_another_type_is_an_error(sample: Event) -> None:
    stored_as, content = encode(sample)
    good = json.loads(content)

    for bad in (
        {**good, "colour": "red"},
        {**good, "occurred_at": 1772434800},
        {**good, "occurred_at": "yesterday"},
        {**good, "recorded_at": None},
        {**good, "actor": {"role": "king", "id": "x"}},
        {**good, "actor": {**good["actor"], "colour": "red"}},
        {**good, "command_id": 7},
        {name: value for name, value in good.items() if name != "recorded_at"},
    ):
        with pytest.raises(HistoryBroken, match="cannot be read"):
            decode(stored_as, json.dumps(bad).encode())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stored_as)
def test_nothing_is_coerced_when_an_event_is_read(sample: Event) -> None:
    stored_as, content = encode(sample)
    good = json.loads(content)

    for name, value in good.items():
        field = type(sample).model_fields[name]
        wrong: Any = 1.5 if not isinstance(value, int) or isinstance(value, bool) else str(value)
        with pytest.raises(HistoryBroken):
            decode(stored_as, json.dumps({**good, name: wrong}).encode())
        if field.is_required():
            with pytest.raises(HistoryBroken):
                decode(stored_as, json.dumps({**good, name: None}).encode())


def test_a_stored_instant_without_an_offset_is_damage() -> None:
    stored_as, content = encode(AccountLinked(**ENVELOPE, account_id="acc-1"))
    naive = json.loads(content) | {"occurred_at": "2026-03-08T06:59:59"}

    with pytest.raises(HistoryBroken):
        decode(stored_as, json.dumps(naive).encode())


def test_an_error_names_the_place_and_not_the_personal_data() -> None:
    stored_as, content = encode(SAMPLES[0])
    damaged = content.replace(b'"customer_id":"cu-1"', b'"customer_id":7')
    assert damaged != content

    with pytest.raises(HistoryBroken, match="customer_id") as broken:
        decode(stored_as, damaged)

    assert "Müller" not in str(broken.value)
    assert "renee@example.org" not in str(broken.value)


# ---- the clock and the years ----------------------------------------------------------------------------------------


def test_a_frozen_clock_can_be_stored() -> None:
    with freeze_time("2026-03-02T15:00:00.000001Z"):
        now = datetime.now(UTC)
        assert type(now).__name__ == "FakeDatetime"
        event = AccountLinked(occurred_at=now, recorded_at=now, account_id="acc-1")
        stored = encode(event)

    assert b'"occurred_at":"2026-03-02T15:00:00.000001Z"' in stored[1]
    assert decode(*stored) == event


def test_instants_are_stored_in_utc_to_the_microsecond() -> None:
    _, content = encode(SAMPLES[1])

    assert json.loads(content)["occurred_at"] == "2026-03-08T06:59:59.123456Z"


def test_a_retired_version_is_read_as_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_a_carrier(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "order.Shipped/0.9", {**values, "carrier": "unknown"}

    def rename_the_parcel(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "order.Shipped/1", {name.replace("parcel", "parcel_id"): value for name, value in values.items()}

    monkeypatch.setitem(events.UPCASTERS, "order.Shipped/0.8", add_a_carrier)
    monkeypatch.setitem(events.UPCASTERS, "order.Shipped/0.9", rename_the_parcel)
    old = {
        "occurred_at": "2026-03-03T14:00:00Z",
        "recorded_at": "2026-03-03T14:00:00Z",
        "parcel": "P-1",
        "tracking_number": "T-1",
        "lines": [{"line_id": "1", "quantity": 1}],
    }

    event = decode("order.Shipped/0.8", json.dumps(old).encode())

    assert isinstance(event, Shipped)
    assert (event.parcel_id, event.carrier, event.occurred_at) == ("P-1", "unknown", at("2026-03-03T14:00:00Z"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"parcel": 7}'])
def test_a_damaged_retired_version_is_an_error_too(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setitem(
        events.UPCASTERS, "order.Shipped/0.9", lambda values: ("order.Shipped/1", {"parcel_id": values["parcel"]})
    )

    with pytest.raises(HistoryBroken):
        decode("order.Shipped/0.9", content)


def test_an_upcaster_that_leads_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(events.UPCASTERS, "order.Shipped/0.9", lambda values: ("order.Shipped/77", values))

    with pytest.raises(HistoryBroken, match="unknown to this version"):
        decode("order.Shipped/0.9", b"{}")
