"""``why``, ``replay`` and ``edges``, run as an auditor runs them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tzdata
from terminal import one_line, returnable
from usual import a_labelled_return

from returnable.adapters.wiring import assemble
from returnable.testing import Scenario, confirm_order


def lines(*entries: dict[str, Any]) -> bytes:
    """A scenario."""
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def confirm(order_id: str = "A-1") -> dict[str, Any]:
    """A line that confirms the usual order."""
    return line("2026-03-02T10:00:00-05:00", "confirm_order", **confirm_order(order_id).arguments)


def line(at: str, command: str, **fields: Any) -> dict[str, Any]:
    """A command of a scenario."""
    return {"at": at, "command": command, **fields}


def a_return() -> list[dict[str, Any]]:
    """The usual order, delivered, and a return that is labelled on Monday, 9 March 2026."""
    on_order = {"order_id": "A-1"}
    parcel = {**on_order, "parcel_id": "P-1"}
    return [
        confirm(),
        line("2026-03-03T09:00:00-05:00", "record_shipment", carrier="fedex", tracking_number="T-1", **parcel),
        line("2026-03-05T14:00:00-05:00", "record_delivery", **parcel),
        line(
            "2026-03-09T12:00:00-04:00",
            "request_return",
            return_id="R-1",
            lines=[{"line_id": "1", "quantity": 1}],
            channel="portal",
            command_id="portal-77",
            **on_order,
        ),
        line(
            "2026-03-09T12:30:00-04:00",
            "issue_label",
            return_id="R-1",
            label_id="L-1",
            carrier="fedex",
            tracking_number="RT-1",
        ),
    ]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with an order and a labelled return."""
    url = f"sqlite:///{tmp_path}/shop.db"
    assert returnable("play", "-", "--store", url, given=lines(*a_return()))[0] == 0
    return url


def as_text(*arguments: str, store: str) -> str:
    """What a command that succeeds prints."""
    status, out, err = returnable(*arguments, RETURNABLE_STORE=store)
    assert (status, err) == (0, "")
    return out


def test_why_tells_the_ruling_as_a_tree_with_quotes_reasons_and_the_events_behind_each_value(store: str) -> None:
    out = as_text("why", "return/R-1", "--event", "2", store=store)

    assert out.startswith("return/R-1#2  ReturnAuthorized  ACCEPTED\n")
    assert "command request_return (command id portal-77); it recorded return/R-1#1, return/R-1#2" in out
    assert "PASS  returns.window  Requested at Mon 2026-03-09 12:00 EDT" in out
    assert "“Items marked as sale are final sale and cannot be returned.”" in out
    assert "deadline 2026-03-20T00:00:00-04:00 (from then on too late): 10 days 12 h left" in out
    assert "delivered_at = 2026-03-05T14:00:00-05:00  ← order/A-1#3 Delivered" in out
    assert "channels = portal  ← the policy" in out
    assert "other decisions: return/R-1#3 LabelIssued (accepted)" in out


def test_an_event_id_is_a_subject_for_why(store: str) -> None:
    out = as_text("why", "order/A-1#3", store=store)

    assert out.startswith("order/A-1#3  Delivered\n")
    assert "return_before 2026-03-20T00:00:00-04:00  returns.window" in out
    assert "14 calendar days after the delivery of parcel P-1" in out


def test_why_tells_an_override_with_who_and_why_and_a_refund_with_its_money(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    at = "2026-03-12T10:00:00-04:00"
    on_return = {"return_id": "R-1"}
    found = {"line_id": "1", "quantity": 1, "original_packaging": True, "tags_attached": True}
    story = [
        *a_return(),
        line("2026-03-10T10:00:00-04:00", "record_return_shipment", label_id="L-1", **on_return),
        line(at, "receive_return", **on_return),
        line(
            at,
            "override",
            subject={"kind": "return", "id": "R-1"},
            clause="returns.condition",
            reason="A [bold]good[/bold] customer.",
            approved_by="Ann",
        ),
        line(at, "inspect_return", findings=[found | {"same_condition": False}], **on_return),
        line(at, "request_refund", refund_id="F-1", **on_return),
    ]
    returnable("play", "-", "--store", url, given=lines(*story))

    inspected = as_text("why", "R-1#7", store=url)
    refund = as_text("why", "F-1", store=url)

    assert "OVERRIDDEN  returns.condition" in inspected
    assert "set aside by Ann at 2026-03-12T10:00:00-04:00: A [bold]good[/bold] customer." in inspected
    assert "← return/R-1#6 OverrideGranted" in inspected
    assert "refund F-1  750.00 USD" in refund
    assert "750.00 to p-1 (card)" in refund
    assert "expected from 2026-03-26 to 2026-04-02" in refund


def test_why_and_the_report_say_which_release_of_the_zone_data_judged(store: str) -> None:
    zone = f"America/New_York (tzdata {tzdata.IANA_VERSION})"

    assert f"zone {zone}, engine 1" in " ".join(as_text("why", "R-1", "--event", "2", store=store).split())
    assert zone in " ".join(as_text("report", "R-1", "--format", "text", store=store).split())
    assert json.loads(as_text("why", "R-1", "--json", store=store))["pins"]["tzdata"] == tzdata.IANA_VERSION


def test_why_as_json_names_every_source_and_every_event(store: str) -> None:
    view = json.loads(as_text("why", "R-1", "--event", "2", "--json", store=store))

    window = next(clause for clause in view["clauses"] if clause["clause"] == "returns.window")
    assert (view["event"], view["outcome"], len(view["pins"]["sha256"])) == ("return/R-1#2", "accepted", 64)
    assert window["deadline"]["margin"] == "10 days 12 h left"
    assert {"key": "requested_at", "value": "2026-03-09T12:00:00-04:00", "sources": ["return/R-1#1"]} in window["facts"]
    assert [event["event"] for event in view["events"]] == ["order/A-1#1", "order/A-1#3", "return/R-1#1"]


def test_replay_tells_step_by_step_what_happened_to_states_deadlines_and_money(store: str) -> None:
    out = as_text("replay", "A-1", "--as-of", "2026-03-10T00:00:00-04:00", store=store)

    assert "   1  order/A-1#1  Confirmed  nothing → confirmed" in out
    assert "! passed order/A-1 cancel_by 2026-03-02T12:00:00-05:00  cancellation.window" in out
    assert "+ set order/A-1 return_before of line 1 in parcel P-1 2026-03-20T00:00:00-04:00" in out
    assert "money captured 750.00, refunded 0.00, pending 0.00, remaining 750.00 USD" in out
    assert "reached  order/A-1 delivered, return/R-1 labelled" in out
    assert "open return/R-1 void_at of label L-1 2026-03-12T00:00:00-04:00" in out
    assert all(len(text) <= 140 for text in out.splitlines())


def test_replay_stops_where_it_is_told_to(store: str) -> None:
    by_number = json.loads(as_text("replay", "A-1", "--until", "3", "--json", store=store))
    by_instant = json.loads(as_text("replay", "A-1", "--until", "2026-03-05T14:00:00-05:00", "--json", store=store))
    text = as_text("replay", "R-1", "--until", "2", store=store)

    assert [step["event"] for step in by_number["steps"]] == ["order/A-1#1", "order/A-1#2", "order/A-1#3"]
    assert by_instant["steps"] == by_number["steps"]
    assert by_number["reached"]["streams"] == [{"stream": "order/A-1", "status": "delivered"}]
    assert "… 1 later events are left out" in text


@pytest.mark.at("2026-03-10")
def test_edges_are_told_in_order_of_time_and_as_seen_from_the_clock(store: str) -> None:
    out, coming = as_text("edges", "A-1", store=store), as_text("edges", "A-1", "--next", store=store)

    assert "after Mon 2026-03-02T12:00:00-05:00" in out
    assert "7 days 11 h ago" in out
    assert "cancellation" not in coming
    whats = ["label L-1 voids by itself", "the time to report a wrong item", "the return window of line 1 closes"]
    assert sorted(coming.index(what) for what in whats) == [coming.index(what) for what in whats]
    assert "in 2 days" in coming
    assert "return/R-1  returns.ship_by" in coming


def test_edges_as_json_and_of_what_time_does_not_change(store: str) -> None:
    early = json.loads(as_text("edges", "A-1", "--as-of", "2026-03-02T11:00:00-05:00", "--json", store=store))
    none = as_text("edges", "R-1", "--next", "--as-of", "2026-04-01T00:00:00-04:00", store=store)

    assert early["at"] == "2026-03-02T11:00:00-05:00"
    (edge,) = early["edges"]
    assert (edge["deadline"], edge["inclusive"], edge["clause"], edge["distance"]) == (
        "2026-03-02T12:00:00-05:00",
        True,
        "cancellation.window",
        "in 1 h",
    )
    assert none == "return/R-1: no answer still to come changes by itself.\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("why", "nope"), "subject: there is no order, return, claim, refund or arrival 'nope'"),
        (("why", "nope#3"), "subject: there is no order, return, claim, refund or arrival 'nope'"),
        (("why", "A-1"), "nothing was decided by the policy on order/A-1 itself (in its case: return/R-1#2"),
        (("why", "A-1#2"), "Shipped holds no ruling and sets no deadline; can be explained: 1 Confirmed, 3 Delivered"),
        (("why", "R-1", "--event", "9"), "return/R-1 has no event 9 that counts"),
        (("why", "R-1", "--event", "0"), "Invalid value for '--event'"),
        (("why", "R-1", "--as-of", "2026-03-09"), "--as-of: '2026-03-09' is not an RFC 3339 instant"),
        (("replay", "R-1", "--until", "noon"), "--until: 'noon' is not an RFC 3339 instant"),
        (("replay", "R-1", "--until", "0"), "until: the first event of return/R-1 is 1"),
        (("replay", "return/R-9"), "there is no return 'R-9'"),
        (("edges", "R-1", "--known-at", "x"), "--known-at: 'x' is not an RFC 3339 instant"),
        (("edges", "R-1", "--store", "sqlite:///not/there.db"), "there is no store here"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(
    arguments: tuple[str, ...], expected: str, store: str, tmp_path: Path
) -> None:
    status, out, err = returnable(*arguments, folder=tmp_path, RETURNABLE_STORE=store)

    assert (status, out) == (2, "")
    assert expected in one_line(err)


@pytest.mark.parametrize("command", ["why", "replay", "edges"])
def test_text_of_the_record_is_no_markup(command: str, tmp_path: Path) -> None:
    url, name = f"sqlite:///{tmp_path}/shop.db", "[red]A[/red]#1"
    asked = {"order_id": name, "channel": "phone", "actor": {"role": "care", "id": "[b]ann[/b]"}, "command_id": "[i]"}
    late = line("2026-03-02T12:00:01-05:00", "request_cancellation", **asked)
    returnable("play", "-", "--store", url, given=lines(confirm(name), late))

    out = as_text(command, f"order/{name}", store=url)

    assert name in out
    if command != "edges":
        assert "by care [b]ann[/b]" in out
        assert "command id [i]" in out
    assert "2026-03-02T10:00:00-05:00" in as_text("replay", name, store=url)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("why", "return/R-1"), "ReturnAuthorized"),
        (("replay", "order/A-1"), "return/R-1#2"),
        (("edges", "order/A-1"), "the cancellation window closes"),
        (("report", "return/R-1", "--format", "text"), "nothing counts from here on: return/R-1#3: events of type"),
    ],
)
def test_a_damaged_case_is_shown_up_to_the_damage_which_is_told(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(a_labelled_return())
    story.services.store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET type = 'label.LabelPainted/1' WHERE stream = 'return/R-1' AND version = 3")
    connection.commit()
    connection.close()

    status, out, err = returnable(*arguments, "--store", f"sqlite:///{path}")

    assert status == 0
    assert says in out
    assert "parked: case A-1 stops before return/R-1#3 (position 6): events of type 'label.LabelPainted/1'" in err
