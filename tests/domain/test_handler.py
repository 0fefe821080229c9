"""The desk under pressure: other writers, lost races, failing stores, known command ids, stale memories."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from returnable.adapters.wiring import assemble, policy_book
from returnable.domain import handler as module
from returnable.domain.case import fold
from returnable.domain.commands import parse_command
from returnable.domain.errors import HistoryBroken, Impossible, NameTaken, PolicyInvalid, Stale, StoreBusy
from returnable.domain.events import ReturnRequested
from returnable.domain.handler import CommandHandler
from returnable.domain.outcome import Outcome
from returnable.domain.policy import PolicyBook, bundled_policies
from returnable.domain.ports import Batch, Entry, EventStore, ReservedId
from returnable.testing import a_policy, confirm_order, finding

BOOK = bundled_policies()
A_RETURN: dict[str, Any] = {
    "return_id": "R-1",
    "order_id": "A-1",
    "channel": "portal",
    "lines": [{"line_id": "1", "quantity": 1}],
}
A_CLAIM = {"claim_id": "C-1", "order_id": "A-1", "line_id": "1", "channel": "email"}


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


MARCH_6 = "2026-03-06T10:00:00-05:00"


def tell(desk: CommandHandler, command: str, when: str = MARCH_6, **fields: Any) -> Outcome:
    """Carry out a command."""
    return desk.handle(parse_command({"command": command, **fields}), at(when))


def refusal(desk: CommandHandler, command: str, when: str = MARCH_6, **fields: Any) -> Impossible:
    """The error of a command that cannot be carried out."""
    with pytest.raises(Impossible) as error:
        tell(desk, command, when, **fields)
    return error.value


def a_store(*order_ids: str) -> EventStore:
    """A store with orders that were delivered on 5 March 2026."""
    services = assemble("memory:")
    for order_id in order_ids or ("A-1",):
        tell(services.handler, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order(order_id).arguments)
        parcel = {"order_id": order_id, "parcel_id": "P-1"}
        tell(
            services.handler,
            "record_shipment",
            "2026-03-03T10:00:00-05:00",
            **parcel,
            carrier="ups",
            tracking_number="T",
        )
        tell(services.handler, "record_delivery", "2026-03-05T10:00:00-05:00", **parcel)
    return services.store


class Interrupted:
    """A store in which something else happens just before an append: once for each thing given."""

    def __init__(self, store: EventStore, *things: Callable[[], object]) -> None:
        self._store = store
        self._things = list(things)
        self.appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, batches: Sequence[Batch], **others: Any) -> Sequence[int]:
        self.appends += 1
        if self._things:
            self._things.pop(0)()
        return self._store.append(batches, **others)


def interrupted(store: EventStore, *things: Callable[[], object]) -> tuple[CommandHandler, Interrupted]:
    """A desk on such a store."""
    wrapped = Interrupted(store, *things)
    return CommandHandler(wrapped, BOOK), wrapped  # type: ignore[arg-type]


def failing(error: Exception) -> Callable[[], object]:
    """A thing that goes wrong."""

    def fail() -> object:
        raise error

    return fail


# ---- other writers --------------------------------------------------------------------------------------------------


def test_who_lost_the_race_decides_again_on_what_is_true_by_then() -> None:
    store = a_store()
    other = CommandHandler(store, BOOK)
    desk, wrapped = interrupted(store, lambda: tell(other, "request_return", **{**A_RETURN, "return_id": "R-2"}))

    error = refusal(desk, "request_return", **A_RETURN)

    assert (error.code, wrapped.appends) == ("quantity.exceeded", 1)


def test_a_race_about_something_else_is_run_again_and_won() -> None:
    store = a_store()
    other = CommandHandler(store, BOOK)
    desk, wrapped = interrupted(
        store,
        lambda: tell(other, "link_account", order_id="A-1", account_id="acc-2"),
        lambda: tell(other, "link_account", order_id="A-1", account_id="acc-3"),
    )

    outcome = tell(desk, "request_return", **A_RETURN)

    assert (outcome.outcome, wrapped.appends) == ("accepted", 3)
    assert desk.case("A-1").seq == 3 + 2 + 2
    assert desk.case("A-1").order == fold("A-1", store.load("A-1")).order


def test_a_cancellation_that_lost_the_race_to_a_shipment_is_declined_whatever_its_clock_says() -> None:
    store = assemble("memory:").store
    tell(CommandHandler(store, BOOK), "confirm_order", MARCH_6, **confirm_order("A-1").arguments)
    parcel = {"order_id": "A-1", "parcel_id": "P-1", "carrier": "ups", "tracking_number": "T"}
    a_moment_later = "2026-03-06T10:30:00.001-05:00"
    desk, wrapped = interrupted(
        store, lambda: tell(CommandHandler(store, BOOK), "record_shipment", a_moment_later, **parcel)
    )
    by_email = {"order_id": "A-1", "channel": "email", "order_copy": True}

    outcome = tell(desk, "request_cancellation", "2026-03-06T10:30:00-05:00", **by_email)

    assert (outcome.outcome, outcome.failed, wrapped.appends) == ("declined", ("cancellation.not_shipped",), 2)
    assert [entry.event.type for entry in store.load("A-1")][-3:] == [
        "Shipped",
        "CancellationRequested",
        "CancellationDeclined",
    ]


def test_a_race_lost_two_hundred_times_is_a_busy_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 7)
    store = a_store()
    desk, wrapped = interrupted(store, *[failing(Stale("A-1"))] * 50)

    with pytest.raises(StoreBusy, match="other writers were faster 7 times"):
        tell(desk, "request_return", **A_RETURN)

    assert wrapped.appends == 7
    assert store.case_of("return", "R-1") is None


def test_a_memory_that_fell_behind_never_makes_a_wrong_refusal() -> None:
    services = assemble("memory:")
    here, there = services.handler, CommandHandler(services.store, BOOK)
    tell(here, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order("A-1").arguments)
    parcel = {"order_id": "A-1", "parcel_id": "P-1"}
    tell(there, "record_shipment", "2026-03-03T10:00:00-05:00", **parcel, carrier="ups", tracking_number="T")
    tell(there, "record_delivery", "2026-03-05T10:00:00-05:00", **parcel)

    # Here nothing of a parcel is known; what is refused or declined has to be looked up first.
    assert tell(here, "request_return", **A_RETURN).accepted
    assert tell(there, "issue_label", return_id="R-1", label_id="L-1", carrier="ups", tracking_number="R").accepted
    assert tell(here, "void_label", return_id="R-1", label_id="L-1", reason="Wrong").accepted
    assert tell(there, "record_return_shipment", return_id="R-1").accepted
    assert tell(here, "receive_return", return_id="R-1").accepted
    assert tell(there, "inspect_return", return_id="R-1", findings=[finding()]).accepted
    assert tell(here, "request_refund", refund_id="F-1", return_id="R-1").accepted
    assert tell(there, "record_refund_result", refund_id="F-1", payment_id="p-1", result="failed").accepted
    assert tell(here, "request_refund", refund_id="F-2", return_id="R-1").accepted
    assert tell(there, "record_refund_result", refund_id="F-2", payment_id="p-1", result="succeeded").accepted


def test_a_memory_that_fell_behind_never_declines_on_record_what_is_allowed_by_now() -> None:
    store = a_store()
    here, there = CommandHandler(store, BOOK), CommandHandler(store, BOOK)
    by_phone = {**A_RETURN, "channel": "phone"}
    assert tell(here, "request_return", **{**by_phone, "return_id": "R-0"}).outcome == "declined"
    subject = {"kind": "order", "id": "A-1"}
    tell(there, "override", subject=subject, clause="returns.portal", reason="It was down.", approved_by="Ann")

    assert tell(here, "request_return", **by_phone).accepted


def test_a_fact_told_again_to_a_desk_that_does_not_know_it_is_not_appended_twice() -> None:
    store = a_store()
    here, there = CommandHandler(store, BOOK), CommandHandler(store, BOOK)
    here.case("A-1")
    told = {"order_id": "A-1", "parcel_id": "P-1", "delivered_at": "2026-03-06T09:00:00-05:00"}
    first = tell(there, "record_delivery", **told)
    head = store.head()

    again = tell(here, "record_delivery", **told)

    assert [event.type for _, _, event in first.recorded_events] == ["Delivered", "ExceptionRaised"]
    assert (again.outcome, again.recorded_events, store.head()) == ("accepted", (), head)


def test_a_fact_that_is_news_by_now_is_appended_by_a_desk_that_fell_behind() -> None:
    services = assemble("memory:")
    here, there = services.handler, CommandHandler(services.store, BOOK)
    tell(here, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order("A-1").arguments)
    there.case("A-1")
    tell(here, "record_shipment", order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T")

    wrong = {"order_id": "A-1", "parcel_id": "P-9", "reason": "Wrong."}
    assert refusal(there, "correct_delivery", **wrong).code == "parcel.unknown"
    assert tell(there, "record_delivery", order_id="A-1", parcel_id="P-1").events


def test_a_desk_that_remembers_only_one_case_says_the_same() -> None:
    store = a_store("A-1", "A-2", "A-3")
    desk = CommandHandler(store, BOOK, cached_cases=1)

    for round_ in range(2):
        for number in (1, 2, 3):
            name = f"C-{number}{round_}"
            outcome = tell(desk, "report_wrong_item", **{**A_CLAIM, "claim_id": name, "order_id": f"A-{number}"})
            assert outcome.accepted
            assert tell(desk, "record_claim_contact", claim_id=name).accepted


def test_recording_deadlines_is_decided_again_when_a_case_has_moved_on() -> None:
    store = a_store("A-1", "A-2")
    other = CommandHandler(store, BOOK)
    for number in (1, 2):
        tell(other, "report_wrong_item", claim_id=f"C-{number}", order_id=f"A-{number}", line_id="1", channel="email")
    contact = {"claim_id": "C-1", "contacted_at": "2026-03-06T11:00:00-05:00"}
    desk, _ = interrupted(store, lambda: tell(other, "record_claim_contact", "2026-03-08T10:00:00-04:00", **contact))

    outcome = tell(desk, "run_deadlines", "2026-03-08T10:00:00-04:00")

    assert [(stream, event.type) for stream, _, event in outcome.recorded_events] == [("claim/C-2", "ContactMissed")]


# ---- ids that somebody else took ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "fields", "elsewhere", "code"),
    [
        ("request_return", A_RETURN, {**A_RETURN, "order_id": "A-2"}, "return.exists"),
        ("report_wrong_item", A_CLAIM, {**A_CLAIM, "order_id": "A-2"}, "claim.exists"),
        ("confirm_order", confirm_order("A-9").arguments, confirm_order("A-9", price="1.00").arguments, "order.exists"),
        ("request_return", A_RETURN, A_RETURN, "return.exists"),
        ("report_wrong_item", A_CLAIM, A_CLAIM, "claim.exists"),
    ],
)
def test_an_id_taken_in_the_last_moment_exists_already(
    command: str, fields: dict[str, Any], elsewhere: dict[str, Any], code: str
) -> None:
    store = a_store("A-1", "A-2")
    other = CommandHandler(store, BOOK)
    desk, _ = interrupted(store, lambda: tell(other, command, **elsewhere))

    assert refusal(desk, command, **fields).code == code
    assert refusal(desk, command, **fields).code == code
    assert refusal(other, command, **fields).code == code


def test_a_refund_id_taken_in_the_last_moment_exists_already() -> None:
    store = a_store("A-1", "A-2")
    other = CommandHandler(store, BOOK)
    for number in (1, 2):
        tell(other, "request_return", **{**A_RETURN, "return_id": f"R-{number}", "order_id": f"A-{number}"})
        tell(other, "receive_return", return_id=f"R-{number}")
        tell(other, "inspect_return", return_id=f"R-{number}", findings=[finding()])
    desk, _ = interrupted(store, lambda: tell(other, "request_refund", refund_id="F-1", return_id="R-2"))

    assert refusal(desk, "request_refund", refund_id="F-1", return_id="R-1").code == "refund.exists"
    assert tell(desk, "request_refund", refund_id="F-2", return_id="R-1").accepted


def test_a_name_that_is_taken_and_taken_and_taken_is_a_busy_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 5)
    desk, _ = interrupted(a_store(), *[failing(NameTaken("return", "R-1"))] * 10)

    with pytest.raises(StoreBusy):
        tell(desk, "request_return", **A_RETURN)


# ---- command ids ----------------------------------------------------------------------------------------------------


def test_a_command_that_somebody_else_just_carried_out_is_answered_with_what_is_stored() -> None:
    store = a_store()
    other = CommandHandler(store, BOOK)
    first: list[Outcome] = []
    desk, _ = interrupted(store, lambda: first.append(tell(other, "request_return", **A_RETURN, command_id="c-1")))

    again = tell(desk, "request_return", **A_RETURN, command_id="c-1")

    assert again.replayed
    assert again.as_dict() == first[0].as_dict()
    assert len(store.load("A-1")) == 3 + 2


def test_a_command_id_that_somebody_else_just_used_for_another_command_is_a_conflict() -> None:
    store = a_store()
    other = CommandHandler(store, BOOK)
    desk, _ = interrupted(
        store, lambda: tell(other, "link_account", order_id="A-1", account_id="acc-2", command_id="c-1")
    )

    error = refusal(desk, "request_return", **A_RETURN, command_id="c-1")

    assert (error.code, error.field) == ("command.conflict", "command_id")
    assert "link_account" in error.message


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("link_account", {"order_id": "A-1", "account_id": "acc-2"}),
        ("request_return", A_RETURN),
        ("request_return", {**A_RETURN, "channel": "phone"}),
        ("report_wrong_item", A_CLAIM),
        ("report_wrong_item", {**A_CLAIM, "channel": "phone"}),
        ("request_cancellation", {"order_id": "A-1", "channel": "email", "order_copy": True}),
        ("confirm_order", confirm_order("A-2").arguments),
        ("record_delivery", {"order_id": "A-1", "parcel_id": "P-1", "delivered_at": "2026-03-05T10:00:00-05:00"}),
        ("notify_customer", {"subject": {"kind": "order", "id": "A-1"}, "notice": "Hello."}),
        ("run_deadlines", {}),
    ],
)
def test_a_command_repeated_under_its_id_happens_once_on_any_desk_at_any_time(
    command: str, fields: dict[str, Any]
) -> None:
    store = a_store()
    desk = CommandHandler(store, BOOK)
    first = tell(desk, command, **fields, command_id="c-1")
    head = store.head()

    for again in (desk, CommandHandler(store, BOOK), CommandHandler(store, BOOK, cached_cases=0)):
        for when in (MARCH_6, "2026-09-01T10:00:00-04:00"):
            outcome = tell(again, command, when, **fields, command_id="c-1")
            assert outcome.replayed
            assert outcome.as_dict() == first.as_dict()
            assert outcome.recorded_events == first.recorded_events
    assert store.head() == head


def test_the_actor_belongs_to_the_body_of_a_command_and_its_instant_does_not() -> None:
    desk = CommandHandler(a_store(), BOOK)
    by_ann = {"role": "care", "id": "ann"}
    tell(desk, "request_return", **A_RETURN, command_id="c-1", actor=by_ann)

    assert tell(
        desk, "request_return", "2026-03-07T10:00:00-05:00", **A_RETURN, command_id="c-1", actor=by_ann
    ).replayed
    other = {"role": "care", "id": "bob"}
    assert refusal(desk, "request_return", **A_RETURN, command_id="c-1", actor=other).code == "command.conflict"


def test_an_impossible_command_does_not_use_up_its_id() -> None:
    desk = CommandHandler(a_store(), BOOK)
    label = {"return_id": "R-1", "label_id": "L-1", "carrier": "ups", "tracking_number": "T"}
    assert refusal(desk, "issue_label", **label, command_id="c-1").code == "return.unknown"
    tell(desk, "request_return", **A_RETURN)

    assert tell(desk, "issue_label", **label, command_id="c-1").accepted


def test_a_command_id_is_known_before_its_command_is_judged() -> None:
    desk = CommandHandler(a_store(), BOOK)
    tell(desk, "request_return", **A_RETURN, command_id="c-1")

    assert refusal(desk, "receive_return", return_id="R-404", command_id="c-1").code == "command.conflict"
    assert (
        refusal(desk, "request_return", **{**A_RETURN, "order_id": "A-404"}, command_id="c-1").code
        == "command.conflict"
    )


def test_a_command_told_again_to_a_clock_that_is_behind_is_answered_with_what_is_stored() -> None:
    store, a_minute_earlier = a_store(), "2026-03-06T09:59:00-05:00"
    fields = {**A_RETURN, "requested_at": MARCH_6}
    first = tell(CommandHandler(store, BOOK), "request_return", **fields, command_id="c-1")

    again = tell(CommandHandler(store, BOOK), "request_return", a_minute_earlier, **fields, command_id="c-1")

    assert again.replayed
    assert again.recorded_events == first.recorded_events
    for other in ({"command_id": "c-2"}, {"command_id": "c-1", "channel": "phone"}):
        refused = refusal(CommandHandler(store, BOOK), "request_return", a_minute_earlier, **(fields | other))
        assert refused.code == "command.invalid", "what is dated in the future comes before a conflict"


def test_a_repeated_command_reads_the_same_under_a_book_of_several_zones() -> None:
    book = PolicyBook(
        [
            BOOK.versions[0],
            a_policy(version="2027-01", effective="2027-01-01", zone="America/Los_Angeles"),
        ]
    )
    store = a_store()
    desk = CommandHandler(store, book)
    tell(desk, "report_wrong_item", **A_CLAIM)
    told = {"order_id": "A-1", "parcel_id": "P-1", "delivered_at": "2026-03-05T10:00:00-05:00"}

    for command, fields in (("run_deadlines", {}), ("record_delivery", told)):
        first = tell(desk, command, "2026-03-09T10:00:00-04:00", **fields, command_id=command)
        again = tell(desk, command, "2026-03-09T10:00:00-04:00", **fields, command_id=command)
        assert again.as_dict() == first.as_dict()


# ---- a store that fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [StoreBusy("held"), OSError("disk"), KeyboardInterrupt()])
def test_what_could_not_be_saved_is_not_remembered(error: BaseException) -> None:
    store = a_store()
    desk, wrapped = interrupted(store, failing(error))  # type: ignore[arg-type]
    before = desk.case("A-1")

    with pytest.raises(type(error)):
        tell(desk, "request_return", **A_RETURN, command_id="c-1")

    assert desk.case("A-1") is before
    assert wrapped.appends == 1
    assert store.receipt("c-1") is None
    assert tell(desk, "request_return", **A_RETURN, command_id="c-1").accepted


def test_a_busy_store_is_reported_and_not_tried_again_by_the_desk() -> None:
    desk, wrapped = interrupted(a_store(), failing(StoreBusy("held")), failing(StoreBusy("held")))

    with pytest.raises(StoreBusy, match="held"):
        tell(desk, "request_return", **A_RETURN)

    assert wrapped.appends == 1


# ---- threads --------------------------------------------------------------------------------------------------------


def at_once(count: int, work: Callable[[int], Outcome]) -> tuple[list[Outcome], list[Impossible]]:
    """Let ``count`` threads do it at the same time; the outcomes, and the errors."""
    ready = threading.Barrier(count)
    outcomes: list[Outcome] = []
    errors: list[Impossible] = []
    odd: list[BaseException] = []

    def run(number: int) -> None:
        try:
            ready.wait()
            outcomes.append(work(number))
        except Impossible as error:
            errors.append(error)
        except BaseException as error:
            odd.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert odd == []
    return outcomes, errors


@pytest.mark.parametrize("desks", [1, 16])
def test_of_sixteen_requests_for_the_same_unit_one_is_authorized(desks: int) -> None:
    store = a_store()
    many = [CommandHandler(store, BOOK) for _ in range(desks)]

    outcomes, errors = at_once(
        16, lambda number: tell(many[number % desks], "request_return", **{**A_RETURN, "return_id": f"R-{number}"})
    )

    assert [outcome.outcome for outcome in outcomes] == ["accepted"]
    assert {error.code for error in errors} == {"quantity.exceeded"}
    assert len(fold("A-1", store.load("A-1")).returns) == 1


@pytest.mark.parametrize("desks", [1, 8])
def test_of_two_refunds_requested_at_once_one_is_issued(desks: int) -> None:
    store = a_store()
    many = [CommandHandler(store, BOOK) for _ in range(desks)]
    tell(many[0], "request_return", **A_RETURN)
    tell(many[0], "receive_return", return_id="R-1")
    tell(many[0], "inspect_return", return_id="R-1", findings=[finding()])

    outcomes, errors = at_once(
        8, lambda number: tell(many[number % desks], "request_refund", refund_id=f"F-{number}", return_id="R-1")
    )

    assert [outcome.outcome for outcome in outcomes] == ["accepted"]
    assert {error.code for error in errors} == {"transition.not_allowed"}
    (refund,) = fold("A-1", store.load("A-1")).refunds.values()
    assert refund.total == 75000


def test_sixteen_threads_with_the_same_command_id_carry_it_out_once() -> None:
    store = a_store()
    desk = CommandHandler(store, BOOK)

    outcomes, errors = at_once(16, lambda number: tell(desk, "request_return", **A_RETURN, command_id="c-1"))

    assert errors == []
    assert len({str(outcome.as_dict()) for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert len(store.load("A-1")) == 3 + 2


def test_deadlines_recorded_by_many_at_once_are_recorded_once() -> None:
    store = a_store("A-1", "A-2", "A-3")
    desk = CommandHandler(store, BOOK)
    for number in (1, 2, 3):
        tell(desk, "report_wrong_item", claim_id=f"C-{number}", order_id=f"A-{number}", line_id="1", channel="email")

    outcomes, errors = at_once(8, lambda number: tell(desk, "run_deadlines", "2026-03-09T10:00:00-04:00"))

    assert errors == []
    assert sum(len(outcome.recorded_events) for outcome in outcomes) == 3
    assert [entry.event.type for entry in store.read(0)].count("ContactMissed") == 3


def test_different_orders_do_not_disturb_each_other() -> None:
    store = a_store(*[f"A-{number}" for number in range(12)])
    desk = CommandHandler(store, BOOK, cached_cases=3)

    outcomes, errors = at_once(
        12,
        lambda number: tell(
            desk, "request_return", **{**A_RETURN, "return_id": f"R-{number}", "order_id": f"A-{number}"}
        ),
    )

    assert errors == []
    assert len(outcomes) == 12


# ---- policies -------------------------------------------------------------------------------------------------------


def test_an_order_keeps_the_policy_it_was_confirmed_under_when_the_book_has_moved_on() -> None:
    generous = a_policy({"returns.window": {"days": 30}}, version="2025-01")
    services = assemble("memory:", policy_book(generous))
    tell(services.handler, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order("A-1").arguments)
    tell(services.handler, "record_shipment", order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T")

    later = CommandHandler(services.store, BOOK)
    tell(later, "record_delivery", order_id="A-1", parcel_id="P-1")
    outcome = tell(later, "request_return", "2026-04-01T10:00:00-04:00", **A_RETURN)

    assert outcome.accepted
    assert outcome.policy == generous
    assert outcome.as_dict()["ruling"]["policy"]["version"] == "2025-01"


def test_a_policy_that_is_pinned_but_kept_nowhere_is_a_broken_history() -> None:
    store = a_store()

    class Forgetful(Interrupted):
        def policy(self, sha256: str) -> str | None:
            return None

    other_book = policy_book(a_policy(version="2027-01"))
    desk = CommandHandler(Forgetful(store), other_book)  # type: ignore[arg-type]

    with pytest.raises(HistoryBroken, match="pinned but was not kept"):
        tell(desk, "request_return", **A_RETURN)


def test_a_kept_policy_that_was_tampered_with_is_not_judged_by() -> None:
    store = a_store()

    class Tampered(Interrupted):
        def policy(self, sha256: str) -> str | None:
            document = self._store.policy(sha256)
            return document and document.replace('"days":14', '"days":99')

    other_book = policy_book(a_policy(version="2027-01"))
    desk = CommandHandler(Tampered(store), other_book)  # type: ignore[arg-type]

    with pytest.raises(PolicyInvalid, match="does not have the hash"):
        tell(desk, "request_return", **A_RETURN)


def test_an_order_confirmed_before_the_first_version_is_refused_by_name() -> None:
    desk = CommandHandler(assemble("memory:").store, policy_book(a_policy(effective="2026-03-02")))

    error = refusal(desk, "confirm_order", **confirm_order("A-1", confirmed_at="2026-03-01T23:59:59-05:00").arguments)

    assert (error.code, error.field) == ("command.invalid", "confirmed_at")
    assert tell(
        desk, "confirm_order", **confirm_order("A-1", confirmed_at="2026-03-02T00:00:00-05:00").arguments
    ).accepted


def test_a_deadline_past_the_end_of_the_calendar_is_refused_and_not_guessed() -> None:
    ever_closed = [date(2099, 1, 1) + timedelta(days=day) for day in range(365)]
    closed = policy_book(a_policy(closed_also=ever_closed))
    store = assemble("memory:").store
    desk, late = CommandHandler(store, closed), "2098-12-30T10:00:00-05:00"
    tell(desk, "confirm_order", late, **confirm_order("A-1").arguments)
    tell(desk, "record_shipment", late, order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T")
    head = store.head()

    error = refusal(desk, "record_delivery", late, order_id="A-1", parcel_id="P-1")

    assert (error.code, error.field, store.head()) == ("command.invalid", "at", head)
    assert "us-federal+allu-usa" in error.message


def test_a_clock_without_an_offset_is_refused() -> None:
    store = a_store()
    command = parse_command({"command": "request_return", **A_RETURN})

    with pytest.raises(Impossible, match="at: "):
        CommandHandler(store, BOOK).handle(command, datetime(2026, 3, 6, 15, 0))


# ---- a store that was put back to an older copy of itself ---------------------------------------------------------------


class PutBack:
    """A store in whose place another one can be put."""

    def __init__(self, store: EventStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def copy(self) -> EventStore:
        """A store that holds the facts, ids and policies of this one, without receipts."""
        copied = assemble("memory:").store
        for case_id, events in self.store.cases():
            entries = tuple(Entry(each.stream, each.version, each.event) for each in events)
            returns = {each.event.return_id for each in events if isinstance(each.event, ReturnRequested)}
            copied.append(
                [Batch(case_id, 0, entries)], reserved_ids=[ReservedId("return", each, case_id) for each in returns]
            )
        for policy in BOOK.versions:
            if self.store.policy(policy.sha256):
                copied.keep_policy(policy.sha256, policy.document)
        return copied


def desks_on(store: EventStore) -> tuple[PutBack, CommandHandler]:
    """A store that can be put back, and a desk that runs on it all the time."""
    put_back = PutBack(store)
    return put_back, CommandHandler(put_back, BOOK)  # type: ignore[arg-type]


def test_a_refund_is_not_paid_twice_when_the_store_was_put_back_under_a_running_desk() -> None:
    # given: a cancelled order, a copy, and three notices that only the running desk remembers
    place, running = desks_on(assemble("memory:").store)
    tell(running, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order("A-1").arguments)
    email = {"order_id": "A-1", "channel": "email", "order_reference": "A-1"}
    tell(running, "request_cancellation", "2026-03-02T10:30:00-05:00", **email)
    copy = place.copy()
    for nth in range(3):
        subject = {"kind": "order", "id": "A-1"}
        tell(running, "notify_customer", "2026-03-02T11:00:00-05:00", subject=subject, notice=f"note {nth}")

    # when: the copy is put back, and a new desk pays with three facts, too
    place.store = copy
    new = CommandHandler(copy, BOOK)
    assert tell(new, "request_refund", refund_id="F-1", order_id="A-1").accepted
    tell(new, "record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")
    assert copy.head() == 6

    # then
    error = refusal(running, "request_refund", refund_id="F-2", order_id="A-1")
    assert (error.code, error.state) == ("transition.not_allowed", "refunded")
    assert copy.head() == 6


def test_what_the_store_has_forgotten_is_unknown_to_a_running_desk() -> None:
    # given
    place, running = desks_on(a_store())
    copy = place.copy()
    tell(running, "request_return", **A_RETURN)
    tell(running, "receive_return", return_id="R-1")
    tell(running, "inspect_return", return_id="R-1", findings=[finding()])
    tell(running, "request_refund", refund_id="F-1", return_id="R-1")

    # when
    place.store = copy

    # then
    result = {"refund_id": "F-1", "payment_id": "p-1", "result": "succeeded"}
    assert refusal(running, "record_refund_result", **result).code == "refund.unknown"
    assert refusal(running, "receive_return", return_id="R-1").code == "return.unknown"
    assert tell(running, "request_return", **A_RETURN).accepted


def test_an_id_that_leads_to_another_order_by_now_is_followed_there() -> None:
    # given
    place, running = desks_on(a_store("A-1", "A-2"))
    copy = place.copy()
    tell(running, "request_return", **A_RETURN)

    # when
    place.store = copy
    tell(CommandHandler(copy, BOOK), "request_return", **{**A_RETURN, "order_id": "A-2"})

    # then
    assert tell(running, "receive_return", return_id="R-1").accepted
    assert copy.load("A-2")[-1].event.type == "Received"
    assert refusal(running, "request_return", **A_RETURN).code == "return.exists"


def test_an_order_that_the_store_has_forgotten_can_be_confirmed_again_and_its_policy_is_kept() -> None:
    # given
    place, running = desks_on(assemble("memory:").store)
    copy = place.copy()
    tell(running, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order("A-1").arguments)
    assert place.store.policy(BOOK.versions[-1].sha256)

    # when
    place.store = copy

    # then
    by_phone = {"order_id": "A-1", "channel": "phone"}
    assert refusal(running, "request_cancellation", **by_phone).code == "order.unknown"
    assert tell(running, "confirm_order", "2026-03-02T10:00:00-05:00", **confirm_order("A-1").arguments).accepted
    assert copy.policy(BOOK.versions[-1].sha256)


def test_an_id_that_leads_to_a_case_that_does_not_know_it_is_a_broken_history() -> None:
    # given
    store = a_store()
    store.append([], reserved_ids=[ReservedId("return", "R-1", "A-1")])

    # then
    with pytest.raises(HistoryBroken, match="return/R-1 leads to case 'A-1'"):
        tell(CommandHandler(store, BOOK), "receive_return", return_id="R-1")
