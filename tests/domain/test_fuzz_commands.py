"""Hostile input: every field of every command refuses what it cannot mean, by name, briefly, and nothing is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from returnable.adapters.scenario import play
from returnable.adapters.wiring import Services, assemble
from returnable.domain.commands import COMMANDS, QUESTIONS, parse_command, parse_question
from returnable.domain.errors import Impossible
from returnable.domain.events import ExceptionRaised
from returnable.testing import confirm_order

AT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
LONGEST = 800
"""A message may list what is allowed (the commands, the clauses), never what was given."""

SEEN = "2026-03-02T14:00:00Z"
ON_RETURN = {"return_id": "R-1"}
ON_LABEL = {"return_id": "R-1", "label_id": "L-1"}
SUBJECT = {"kind": "order", "id": "A-1"}
FINDING = {"line_id": "1", "quantity": 1, "same_condition": True, "original_packaging": True, "tags_attached": True}

SAMPLES: dict[str, dict[str, Any]] = {
    "confirm_order": confirm_order("A-2").arguments
    | {
        "customer": {"customer_id": "c", "account_id": None, "name": "Ann", "email": "ann@example.org"},
        "lines": [
            {"line_id": "1", "sku": "S", "unit_price": "749.00", "quantity": 1, "tax": "1.00", "final_sale": False}
            | {"description": "A bag"}
        ],
        "shipping": {"charged": "0.00", "tax": "0.00"},
        "payments": [{"payment_id": "p-1", "method": "card", "amount": "750.00", "captured": "1.00"}],
        "placed_at": SEEN,
        "confirmed_at": SEEN,
    },
    "request_cancellation": {"order_id": "A-1", "channel": "email", "order_reference": "A-1", "order_copy": True}
    | {"requested_at": SEEN},
    "record_shipment": {"order_id": "A-1", "parcel_id": "P-1", "carrier": "ups", "tracking_number": "T"}
    | {"lines": [{"line_id": "1", "quantity": 1}], "shipped_at": SEEN},
    "record_delivery": {"order_id": "A-1", "parcel_id": "P-1", "delivered_at": SEEN},
    "cancel_order": {"order_id": "A-1", "reason": "Out of stock", "lines": [{"line_id": "1", "quantity": 1}]}
    | {"elsewhere": True, "cancelled_at": SEEN},
    "correct_delivery": {"order_id": "A-1", "parcel_id": "P-1", "delivered_at": SEEN, "reason": "The wrong house"},
    "report_parcel_lost": {"order_id": "A-1", "parcel_id": "P-1", "reported_at": SEEN},
    "record_parcel_returned": {"order_id": "A-1", "parcel_id": "P-1", "returned_at": SEEN},
    "link_account": {"order_id": "A-1", "account_id": "acc", "linked_at": SEEN},
    "request_return": {"return_id": "R-1", "order_id": "A-1", "channel": "portal", "resolution": "refund"}
    | {"lines": [{"line_id": "1", "quantity": 1, "reason": "Too small"}], "requested_at": SEEN},
    "issue_label": ON_LABEL
    | {"carrier": "ups", "tracking_number": "T", "issued_at": SEEN, "received_at": SEEN}
    | {"box_id": "1"},
    "record_label_received": ON_LABEL | {"received_at": SEEN},
    "void_label": ON_LABEL | {"reason": "Wrong", "voided_at": SEEN},
    "record_return_shipment": ON_LABEL
    | {"tracking_number": "T", "shipped_at": SEEN, "proof": "carrier_scan"}
    | {"box_id": "1"},
    "receive_return": ON_RETURN | {"received_at": SEEN, "box_id": "1"},
    "inspect_return": ON_RETURN | {"findings": [FINDING | {"notes": "Fine"}], "inspected_at": SEEN},
    "correct_inspection": ON_RETURN | {"findings": [FINDING | {"notes": "Fine"}], "reason": "Mixed up"},
    "request_refund": {"refund_id": "F-1", "return_id": "R-1"},
    "record_refund_result": {"refund_id": "F-1", "payment_id": "p-1", "result": "failed", "reference": "r"}
    | {"reason": "Closed", "amount": "1.00", "currency": "USD", "settled_at": SEEN},
    "record_refund": {
        "refund_id": "F-1",
        "order_id": "A-1",
        "kind": "goodwill",
        "reason": "A scratch",
        "refunded_at": SEEN,
    }
    | {
        "tenders": [{"payment_id": "p-1", "amount": "1.00", "reference": "r"}],
        "lines": [{"line_id": "1", "quantity": 1}],
    },
    "record_capture": {"order_id": "A-1", "payment_id": "p-1", "amount": "1.00", "captured_at": SEEN},
    "name_payout": {"order_id": "A-1", "payment_id": "p-1", "payout_id": "g", "method": "gift_card", "reason": "Closed"}
    | {"approved_by": "Ann"},
    "record_send_back": ON_RETURN
    | {"lines": [{"line_id": "1", "quantity": 1}], "tracking_number": "T", "sent_at": SEEN},
    "record_disposition": ON_RETURN
    | {"lines": [{"line_id": "1", "quantity": 1, "disposition": "restock"}], "disposed_at": SEEN},
    "report_return_lost": ON_RETURN | {"reported_at": SEEN},
    "reduce_return": ON_RETURN | {"lines": [{"line_id": "1", "quantity": 1}], "reduced_at": SEEN},
    "withdraw_return": ON_RETURN | {"withdrawn_at": SEEN},
    "report_wrong_item": {"claim_id": "C-1", "order_id": "A-1", "line_id": "1", "quantity": 1, "channel": "email"}
    | {"attachments": ["item_picture"], "reported_at": SEEN},
    "add_claim_evidence": {"claim_id": "C-1", "attachments": ["item_picture"], "added_at": SEEN},
    "record_claim_contact": {"claim_id": "C-1", "contacted_at": SEEN},
    "resolve_claim": {"claim_id": "C-1", "remedy": "refund", "quantity": 1},
    "deny_claim": {"claim_id": "C-1", "reason": "No"},
    "record_arrival": {"arrival_id": "D-1", "carrier": "ups", "tracking_number": "T", "order_reference": "A-1"}
    | {"notes": "A red box", "arrived_at": SEEN},
    "assign_arrival": {"arrival_id": "D-1", "return_id": "R-1", "box_id": "1"},
    "dismiss_arrival": {"arrival_id": "D-1", "reason": "It is for the neighbour"},
    "notify_customer": {"subject": SUBJECT, "notice": "Hello", "notified_at": SEEN},
    "close_exception": {"subject": SUBJECT, "reason": "Seen", "exception_id": "order/A-1#2"},
    "override": {"subject": SUBJECT, "clause": "returns.window", "reason": "Nice", "approved_by": "Ann"}
    | {"lines": ["1"], "expires_at": "2026-03-03T14:00:00Z", "once": False},
    "run_deadlines": {},
}


def sample(command: str) -> dict[str, Any]:
    """A valid command, with all of its optional fields."""
    common = {"command_id": "c-1", "actor": {"role": "care", "id": "ann"}}
    return {"command": command, **deepcopy(SAMPLES[command]), **common}


Place = tuple[str | int, ...]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def places(model: type[BaseModel], values: Any, place: Place = ()) -> Iterator[tuple[Place, FieldInfo]]:
    """Every field of a model and of the models in it, with its place in ``values``."""
    for name, field in model.model_fields.items():
        here = (*place, name)
        yield here, field
        for part in models_in(field.annotation):
            value = values.get(name)
            if isinstance(value, list):
                yield from places(part, value[0], (*here, 0))
            elif isinstance(value, dict):
                yield from places(part, value, here)


def written(place: Place) -> str:
    """A place as an error names it."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def put(values: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The values with another one in that place."""
    changed: Any = deepcopy(values)
    inner = changed
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return dict(changed)


def drop(values: dict[str, Any], place: Place) -> dict[str, Any]:
    """The values without that one."""
    changed: Any = deepcopy(values)
    inner = changed
    for part in place[:-1]:
        inner = inner[part]
    del inner[place[-1]]
    return dict(changed)


FIELDS = [
    pytest.param(command, place, field, id=f"{command}-{written(place)}")
    for command, model in COMMANDS.items()
    for place, field in places(model, sample(command))
    if place != ("command",)
]
every_field = pytest.mark.parametrize(("command", "place", "field"), FIELDS)

SERVICES = assemble("memory:")
SERVICES.handler.handle(parse_command({**confirm_order("A-1").fields, "confirmed_at": SEEN}), AT)


def refused(fields: Any, place: Place | None = None, services: Services = SERVICES) -> Impossible:
    """Tell it and see that it is refused by name, briefly, with nothing recorded."""
    head = services.store.head()

    with pytest.raises(Impossible) as error:
        services.handler.handle(parse_command(fields), AT)

    assert error.value.code == "command.invalid", error.value.message
    assert len(error.value.message) < LONGEST
    assert error.value.message.isprintable()
    assert error.value.field
    assert services.store.head() == head
    if place is not None:
        assert error.value.field.startswith(written(place)), error.value.message
        assert error.value.message.startswith(f"{error.value.field}: ")
    return error.value


def nested(levels: int) -> list[Any]:
    """A list in a list in a list …"""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


# ---- the samples are good -------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_command_that_says_everything_it_can() -> None:
    assert set(SAMPLES) == set(COMMANDS)
    for command, model in COMMANDS.items():
        said = set(sample(command))
        if {"return_id", "claim_id"} <= set(model.model_fields):  # it names exactly one of them
            said |= {"order_id", "return_id", "claim_id"} & set(model.model_fields)
        if command == "assign_arrival":  # of an order it names the parcel
            said.add("parcel_id")
        assert said == set(model.model_fields)
        assert parse_command(sample(command)).command == command


@every_field
def test_what_is_optional_may_be_left_out(command: str, place: Place, field: FieldInfo) -> None:
    values = sample(command)
    if place == ("return_id",) and "claim_id" in COMMANDS[command].model_fields:  # one of them is needed
        values["claim_id"] = "C-1"
    if command == "record_refund_result" and place == ("amount",):
        del values["currency"]  # it is that of the amount
    try:
        without = drop(values, place)
    except KeyError:
        return

    if field.is_required():
        assert "is missing" in refused(without, place).message
    else:
        parse_command(without)


# ---- one wrong thing at a time --------------------------------------------------------------------------------------


class Stranger:
    """An object of a class that no field knows."""

    def __repr__(self) -> str:
        return "x" * 10_000_000


WRONG_FOR_ALL: list[Any] = [
    1.5,
    float("nan"),
    float("inf"),
    -1,
    b"bytes",
    Stranger(),
    {"a": 1},
    {"$ref": "#"},
    [None],
    [[]],
    "",
    " ",
    "\n",
    "a\x00b",
    "a\x1b[31m",
    "\u202e",
    "\ud800",
    "x" * 129 * 16,
    object,
    print,
]


@every_field
def test_a_value_of_another_kind_is_refused_by_name(command: str, place: Place, field: FieldInfo) -> None:
    for wrong in WRONG_FOR_ALL:
        error = refused(put(sample(command), place, wrong), place)
        assert "xxxxxxxxxx" not in error.message


@every_field
def test_null_is_refused_where_something_has_to_be(command: str, place: Place, field: FieldInfo) -> None:
    nothing = put(sample(command), place, None)
    if command == "record_refund_result" and place == ("amount",):
        del nothing["currency"]  # it is that of the amount
    if type(None) in get_args(field.annotation):
        if place != ("return_id",) or "claim_id" not in COMMANDS[command].model_fields:
            parse_command(nothing)
    else:
        refused(nothing, place)


HUGE: list[Any] = [nested(100), nested(100_000), "9" * 10_000_000, 10**4000]


@every_field
def test_a_huge_or_deeply_nested_value_is_refused_by_name(command: str, place: Place, field: FieldInfo) -> None:
    for wrong in HUGE:
        error = refused(put_shallow(sample(command), place, wrong), place)
        assert "9999999999" not in error.message
        assert "[[[[[[" not in error.message


def put_shallow(values: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """Like :func:`put`; the samples are made afresh, so that what is put is never copied."""
    inner: Any = values
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return values


@pytest.mark.parametrize("command", COMMANDS)
def test_a_field_that_no_command_has_is_refused_by_name(command: str) -> None:
    for name in ("colour", "At", "order_id ", "__class__", "model_config", "x" * 50):
        refused({**sample(command), name: 1}, (name,))
    for name in ("\x00", "a\nb", "x" * 1_000_000):
        refused({**sample(command), name: 1})
    refused({**sample(command), "at": SEEN}, ("at",))


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_a_field_whose_name_cannot_be_said_is_named_somehow(name: str) -> None:
    refused({**sample("link_account"), name: 1})


@every_field
def test_a_field_too_many_is_refused_at_any_depth(command: str, place: Place, field: FieldInfo) -> None:
    for part in models_in(field.annotation):
        value = sample(command)
        for step in place:
            value = value[step]
        here = (*place, 0) if isinstance(value, list) else place
        assert part
        refused(put(sample(command), (*here, "colour"), "red"), (*here, "colour"))


@pytest.mark.parametrize(
    "name", [None, 7, "", "confirm", "CONFIRM_ORDER", "__init__", "\x00", ["confirm_order"], {}, True, "\ud800"]
)
def test_a_command_of_no_known_name_is_refused(name: Any) -> None:
    refused({**sample("confirm_order"), "command": name}, ("command",))


def test_a_line_without_a_name_is_refused() -> None:
    refused({}, ("command",))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(nested(100), id="deep"),
        pytest.param(nested(100_000), id="deeper"),
        pytest.param("x" * 10_000_000, id="long"),
        pytest.param(Stranger(), id="odd"),
    ],
)
def test_a_hostile_name_of_a_command_is_refused(name: Any) -> None:
    refused({"command": name}, ("command",))


# ---- ids, texts and quantities --------------------------------------------------------------------------------------


def of_kind(kind: str) -> list[Any]:
    """The fields whose sample looks like one of that kind."""
    found = []
    for parameter in FIELDS:
        command, place, _ = parameter.values
        value: Any = sample(str(command))
        try:
            for part in place:  # type: ignore[union-attr]
                value = value[part]
        except KeyError:
            continue
        name = str(place[-1])  # type: ignore[index]
        kinds = {
            "id": name in ("id", "sku", "method", "carrier", "tracking_number", "reference") or name.endswith("_id"),
            "text": name in ("reason", "notice", "notes", "description", "name", "email"),
            "money": name in ("unit_price", "tax", "charged", "amount"),
            "quantity": name == "quantity",
            "instant": name.endswith("_at"),
            "flag": isinstance(value, bool),
            "list": isinstance(value, list),
        }
        if kinds[kind]:
            found.append(parameter)
    return found


@pytest.mark.parametrize(("command", "place", "field"), of_kind("id"))
def test_an_id_has_1_to_128_characters_that_can_be_seen(command: str, place: Place, field: FieldInfo) -> None:
    parse_command(put(sample(command), place, "x" * 128))
    parse_command(put(sample(command), place, "Zoë/鞄 #7"))
    for wrong in (
        "",
        "x" * 129,
        "a\tb",
        "a\u2028b",
        "a\x7fb",
        "\ufeff",
        "\u200b",
        " ",
        "\u00a0",
        "A-1\u3164",
        "❤\ufe0f",
    ):
        refused(put(sample(command), place, wrong), place)


@pytest.mark.parametrize(("command", "place", "field"), of_kind("text"))
def test_a_text_has_1_to_2000_characters_and_a_name_one_line(command: str, place: Place, field: FieldInfo) -> None:
    parse_command(put(sample(command), place, "x" * 2000))
    parse_command(put(sample(command), place, "山田\u3000太郎 \U0001fae8"))
    lines = "two\r\nlines\u2028or\nmore"
    if place[-1] in ("name", "email"):
        refused(put(sample(command), place, lines), place)
    else:
        parse_command(put(sample(command), place, lines))
    for wrong in ("", "x" * 2001, "\x85", "a\tb", "a\vb", "a\x0cb", "\u200b \u3164"):
        refused(put(sample(command), place, wrong), place)


@pytest.mark.parametrize(("command", "place", "field"), of_kind("list"))
def test_a_list_of_wrong_elements_is_given_up_at_the_first(command: str, place: Place, field: FieldInfo) -> None:
    """Millions of them would otherwise be millions of errors, each kept in memory."""
    for many in ([1.5] * 10_000, range(10_000)):
        with pytest.raises(ValidationError) as error:
            COMMANDS[command].model_validate(put(sample(command), place, many))

        assert error.value.error_count() <= 2  # the other: after that there are too few


@pytest.mark.parametrize(("command", "place", "field"), of_kind("quantity"))
def test_a_quantity_is_a_whole_number_of_at_least_one(command: str, place: Place, field: FieldInfo) -> None:
    for wrong in (0, -1, 1.0, "1", True, Decimal(1), 10**6 + 1, 10**30):
        refused(put(sample(command), place, wrong), place)


@pytest.mark.parametrize(("command", "place", "field"), of_kind("flag"))
def test_a_flag_is_true_or_false_and_nothing_like_it(command: str, place: Place, field: FieldInfo) -> None:
    for wrong in (0, 1, "true", "yes", "on", "", []):
        refused(put(sample(command), place, wrong), place)


@pytest.mark.parametrize(("command", "place", "field"), of_kind("money"))
def test_money_is_a_decimal_string_and_never_a_number(command: str, place: Place, field: FieldInfo) -> None:
    for wrong in (
        0, 1, 749.0, -0.0, True, "-1.00", "-0.01", "+1.00", "1e2", "1.", ".5", "1,00", "0x10", "01.00", "1.005", "1.0001",
        "NaN", "Infinity", "1000000000000.00", "9" * 30, "1.00 ", " 1.00", "１.00", Decimal("NaN"), Decimal("-1"),
        Decimal("sNaN"), Decimal("1E+1000000"), Decimal("1E-1000000"), Decimal(10) / 3, "0." + "0" * 39,
    ):  # fmt: skip
        refused(put(sample(command), place, wrong), place)


def test_money_may_come_as_an_exact_decimal_in_python() -> None:
    order = confirm_order("A-7", price=Decimal("749.00")).arguments

    assert parse_command({"command": "confirm_order", **order})


def test_an_astronomical_decimal_is_refused_and_not_written_out() -> None:
    place: Place = ("lines", 0, "unit_price")

    refused(put(sample("confirm_order"), place, Decimal("1E+999999999999")), place)


# ---- instants -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "place", "field"), of_kind("instant"))
def test_an_instant_is_real_has_an_offset_and_is_not_in_the_future(
    command: str, place: Place, field: FieldInfo
) -> None:
    for wrong in (
        "2026-03-02", "2026-03-02T14:00:00", "2026-03-02 14:00", "2026-03-02T14:00Z", "20260302T140000Z", "14:00:00Z",
        "2026-02-30T14:00:00Z", "2026-13-01T14:00:00Z", "2026-03-02T24:00:00Z", "2026-03-02T14:60:00Z",
        "2026-03-02T23:59:60Z", "2026-03-02T14:00:00+24:00", "2026-03-02T14:00:00+0000", "2026-03-02T14:00:00,123Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "1989-12-31T23:59:59Z", "2099-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59", "2026-03-02T14:00:00Z\n", "２026-03-02T14:00:00Z", "now", "1772460000", 1772460000,
        1772460000.0, datetime(2026, 3, 2, 14, 0), datetime.min.replace(tzinfo=UTC), AT.date(),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))), timedelta(0),
    ):  # fmt: skip
        refused(put(sample(command), place, wrong), place)
    values = sample(command)
    if place == ("expires_at",):  # what ends must not have ended
        for past in (AT, "2026-03-02T14:59:59Z"):
            assert "not later" in refused(put(values, place, past), place).message
        return
    if place == ("placed_at",):
        del values["confirmed_at"]
    if place == ("issued_at",):
        del values["received_at"]
    for future in ("2026-03-02T15:00:00.000001Z", "2026-03-02T10:00:01-05:00", AT + timedelta(days=1)):
        assert "future" in refused(put(values, place, future), place).message


def test_a_label_is_not_received_before_it_was_issued() -> None:
    refused(sample("issue_label") | {"received_at": "2026-03-02T13:59:59Z"}, ("received_at",))


# ---- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "place", "field"), of_kind("list"))
def test_a_list_has_some_elements_and_not_too_many(command: str, place: Place, field: FieldInfo) -> None:
    values = sample(command)
    element = values[str(place[0])][0]

    refused(put(values, place, [element] * 1001), place)
    if (command, place) not in (("confirm_order", ("payments",)), ("report_wrong_item", ("attachments",))):
        refused(put(values, place, []), place)


@pytest.mark.parametrize(
    ("command", "place", "name"),
    [
        ("confirm_order", "lines", "line_id"),
        ("confirm_order", "payments", "payment_id"),
        ("record_shipment", "lines", "line_id"),
        ("request_return", "lines", "line_id"),
        ("record_send_back", "lines", "line_id"),
    ],
)
def test_an_id_that_stands_there_twice_is_named_where_it_does(command: str, place: str, name: str) -> None:
    values = sample(command)
    twice = "x{field}{id}" + "y" * 116
    (one,) = values[place]

    error = refused(
        values | {place: [one, one | {name: twice}, one | {name: "z"}, one | {name: twice}]}, (place, 3, name)
    )

    assert "appears more than once" in error.message


@pytest.mark.parametrize(
    "given_ids", [{}, {"return_id": "R", "order_id": "A"}, {"return_id": "R", "order_id": "A", "claim_id": "C"}]
)
def test_a_refund_is_for_exactly_one_thing(given_ids: dict[str, str]) -> None:
    error = refused({"command": "request_refund", "refund_id": "F-1", **given_ids})

    assert "exactly one of return_id, order_id, claim_id" in error.message


def test_an_override_names_a_clause_of_the_policy() -> None:
    for wrong in ("returns.kindness", "x" * 128, "returns.window "):
        refused(sample("override") | {"clause": wrong}, ("clause",))


def test_an_exception_does_not_list_a_thousand_payments() -> None:
    services = assemble("memory:")
    payments = [{"payment_id": f"{'p' * 120}{number}", "method": "card", "amount": "1.00"} for number in range(1000)]
    order = confirm_order("A-1", price="1000.00").arguments | {"payments": payments}
    services.handler.handle(parse_command({"command": "confirm_order", **order}), AT)
    cancel = {"command": "request_cancellation", "order_id": "A-1", "channel": "email", "order_copy": True}
    services.handler.handle(parse_command(cancel), AT)
    services.handler.handle(parse_command({"command": "request_refund", "refund_id": "F-1", "order_id": "A-1"}), AT)

    answer = {"payment_id": "other", "result": "succeeded", "settled_at": "2026-03-02T15:00:00Z"}
    came = services.handler.handle(parse_command(sample("record_refund_result") | answer), AT)

    (raised,) = [event for _, _, event in came.recorded_events if isinstance(event, ExceptionRaised)]
    assert len(raised.reasons[0]) < LONGEST
    assert raised.reasons[0].endswith(f"{'p' * 120}1, payment {'p' * 120}2 and 997 more")


# ---- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUESTIONS)
def test_a_question_is_as_strict_as_a_command(query: str) -> None:
    good = {
        "order": {"order_id": "A-1"},
        "eligibility": {"order_id": "A-1"},
        "return": {"return_id": "R-1"},
        "refund": {"refund_id": "F-1"},
        "claim": {"claim_id": "C-1"},
        "arrival": {"arrival_id": "D-1"},
        "worklist": {"kinds": ["inspect"]},
        "audit": {"stream": "order/A-1"},
    }[query]
    assert parse_question({"query": query, **good})
    (name,) = good

    for wrong in [*WRONG_FOR_ALL, nested(100_000), "x" * 10_000_000]:
        with pytest.raises(Impossible) as error:
            parse_question({"query": query, name: wrong})
        assert error.value.code == "command.invalid"
        assert str(error.value.field).startswith(name)
        assert len(error.value.message) < LONGEST
    for name in ("as_of", "known_at"):
        for wrong in ("2026-03-02T14:00:00", "2100-01-01T00:00:00Z", 7, nested(100)):
            with pytest.raises(Impossible) as error:
                parse_question({"query": query, **good, name: wrong})
            assert error.value.field == name


# ---- as text --------------------------------------------------------------------------------------------------------


def played(line: bytes) -> dict[str, Any]:
    """What comes of one line of a scenario."""
    (came,) = play(SERVICES, [(1, line)])
    return came.as_dict()


@pytest.mark.parametrize("levels", [65, 1_000, 100_000])
@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_deeply_nested_line_is_refused_by_the_name_of_the_field(levels: int, open_: bytes, close: bytes) -> None:
    value = open_ * levels + b"1" + close * levels

    came = played(
        b'{"at": "2026-03-02T15:00:00Z", "command": "link_account", "order_id": ' + value + b', "account_id": "x"}'
    )

    assert (came["outcome"], came["error"]["code"], came["error"]["field"]) == ("error", "command.invalid", "order_id")
    assert len(came["error"]["message"]) < 200


def test_a_nesting_that_a_string_only_speaks_of_is_none() -> None:
    fields = {
        "at": "2026-03-02T15:00:00Z",
        "command": "link_account",
        "order_id": "A-1",
        "account_id": '[{"' * 30 + "\\",
    }

    assert played(json.dumps(fields).encode())["outcome"] == "accepted"


@pytest.mark.parametrize(
    "number",
    [
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-0.0",
        pytest.param(b"9" * 5000, id="long"),
    ],
)
def test_an_odd_number_in_a_line_is_refused(number: bytes) -> None:
    came = played(
        b'{"at": "2026-03-02T15:00:00Z", "command": "link_account", "order_id": "A-1", "account_id": ' + number + b"}"
    )

    assert (came["outcome"], came["error"]["field"]) == ("error", "account_id")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_no_value_in_any_place_does_anything_but_be_refused_or_taken(command: str, data: st.DataObject) -> None:
    values = sample(command)
    spots = [place for place, _ in places(COMMANDS[command], values)]
    changed = values
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(spots))
        try:
            changed = put(changed, place, data.draw(VALUES))
        except (TypeError, IndexError, KeyError):
            continue
    head = SERVICES.store.head()

    try:
        SERVICES.handler.handle(parse_command(changed), AT)
    except Impossible as error:
        assert len(error.message) < 1500
        assert SERVICES.store.head() == head


@given(st.dictionaries(st.text(max_size=15) | st.sampled_from(["command", "query", "order_id"]), VALUES, max_size=6))
def test_no_line_at_all_does_anything_but_be_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Impossible):
        parse_command(fields)
    with pytest.raises(Impossible):
        parse_question(fields)
