"""The desk that a host service holds: every command and every question as a typed method.

    desk = returnable.open("sqlite:///shop.db")
    outcome = desk.request_return(return_id="R-1", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal")

Each method builds the command or question of the same name; the fields have the meaning of the scenario format.
A test keeps the signatures equal to the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from returnable.adapters.bulk import CaseResult, handle_many
from returnable.adapters.clock import system_clock
from returnable.adapters.eventstore.forks import AtWork
from returnable.adapters.wiring import AnyPolicy, Services, assemble, policy_book, projector, stored_views
from returnable.domain import commands
from returnable.domain.errors import Impossible
from returnable.domain.fields import Actor, Evidence, Remedy, parse_instant
from returnable.domain.outcome import Outcome
from returnable.domain.policy import PolicyBook
from returnable.projections.views import (
    AnyView,
    ArrivalView,
    AuditView,
    ClaimView,
    ClauseStatistics,
    EligibilityView,
    LedgerEntry,
    OrderView,
    RefundView,
    ReturnView,
    WorklistView,
)

if TYPE_CHECKING:
    from returnable.adapters.backups import BackedUp
    from returnable.adapters.eventstore.postgres_connections import HostPool
    from returnable.adapters.operating.metrics import Meter
    from returnable.adapters.worker import DeadlineWorker
    from returnable.projections.audit_models import EdgesView, HistoryView, WhyView
    from returnable.projections.follow import ViewStatus
    from returnable.projections.redecided import Difference
    from returnable.projections.report.model import Report
    from returnable.projections.subjects import Subject
    from returnable.projections.verified import Verified
    from returnable.projections.what_if import WhatIf

V = TypeVar("V", bound=AnyView)

Fields = Mapping[str, Any]
"""A nested structure may be a model of :mod:`returnable.domain.commands` or a mapping of its fields."""
When = datetime | str
"""An aware ``datetime`` or RFC 3339 text with an offset."""
Who = Actor | Fields


def open(
    url: str = "sqlite:///returnable.db",
    *,
    policy: AnyPolicy = None,
    clock: Callable[[], datetime] = system_clock,
    pool: HostPool | None = None,
    connections: int = 8,
) -> Desk:
    """Open a desk on a store: ``memory:``, ``sqlite:///file.db`` (created when it does not exist) or ``postgresql://…``
    (created by ``returnable migrate``, in the schema ``returnable`` or the one of its parameter ``schema``).

    ``policy`` is a TOML file, a directory of versions, a policy or its versions; the default is the bundled policy.
    ``clock`` returns the current instant, aware; the default is the clock of the system. On PostgreSQL the desk opens at most
    ``connections`` connections, or takes them from the host's ``pool``, such as a ``psycopg_pool.ConnectionPool`` to the same
    database. Raises ``PolicyInvalid`` or ``StoreUnusable``.
    """
    return Desk(assemble(url, policy, pool=pool, connections=connections), clock, url)


class Desk:
    """A returns desk on a store. Safe to use from many threads; close it, or use it as a context manager.

    A command returns its :class:`~returnable.domain.outcome.Outcome`, accepted or declined, once it is durable. A malformed
    or impossible command raises :class:`~returnable.domain.errors.Impossible`, and nothing is recorded. Every command takes
    ``command_id``, an idempotency key: repeat a call that was cut off with the same key, and it happens once. ``actor`` is
    recorded with every event.
    """

    def __init__(self, services: Services, clock: Callable[[], datetime] = system_clock, url: str = "memory:") -> None:
        self.services = services
        self.clock = clock
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the store."""
        self.services.store.close()

    def handle(self, command: commands.Command | Fields, *, at: datetime | None = None) -> Outcome:
        """Carry out a command given as a model or as its fields (a scenario line without ``at`` and ``expect``).

        ``at`` is the instant of the command; it defaults to the clock.
        """
        with AtWork(None):  # a fork must not interrupt the lazy initialisation of libraries
            if not isinstance(command, commands.Command):
                command = commands.parse_command(command)
            return self.services.handler.handle(command, self._at(at))

    def handle_many(
        self, template: Fields, cases: Iterable[Fields], *, command_id: str, at: datetime | None = None
    ) -> list[CaseResult]:
        """Carry out one command for many cases, such as a recall or a lost trailer; one result for each case.

        ``template`` has the fields of the command; each of ``cases`` the fields that name one: ``{"return_id": "R-1"}``. Each
        case is decided on its own: one that is declined or impossible does not stop the others. The idempotency key of each
        is derived from ``command_id`` and the fields of the case, so a repeated call handles each case once.
        """
        return [*handle_many(partial(self.handle, at=at), template, cases, command_id)]

    def ask(self, question: commands.Question | Fields, *, at: datetime | None = None) -> AnyView:
        """Answer a question given as a model or as its fields (a scenario line without ``at`` and ``expect``).

        ``at`` is the instant of the question; it defaults to the clock.
        """
        with AtWork(None):
            if not isinstance(question, commands.Question):
                question = commands.parse_question(question)
            return self.services.questions.answer(question, self._at(at))

    def _at(self, at: datetime | None) -> datetime:
        try:
            return parse_instant(at if at is not None else self.clock())
        except ValueError as error:
            raise Impossible("command.invalid", str(error), field="at") from None

    def _do(self, command: str, fields: dict[str, Any]) -> Outcome:
        return self.handle({"command": command} | _given(fields))

    def _ask(self, view: type[V], query: str, fields: dict[str, Any]) -> V:
        answer = self.ask({"query": query} | _given(fields))
        assert isinstance(answer, view)
        return answer

    # ---- commands ------------------------------------------------------------------------------------------

    def confirm_order(
        self,
        *,
        order_id: str,
        customer: commands.Customer | Fields,
        currency: str,
        lines: Sequence[commands.OrderLine | Fields],
        payments: Sequence[commands.OrderPayment | Fields],
        shipping: commands.ShippingCharge | Fields | None = None,
        confirmed_at: When | None = None,
        placed_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The order confirmation reached the customer. The payments add up to merchandise, tax and shipping."""
        return self._do("confirm_order", locals())

    def request_cancellation(
        self,
        *,
        order_id: str,
        channel: str,
        order_reference: str | None = None,
        order_copy: bool = False,
        requested_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer asks to cancel the order; ``requested_at`` is when the request arrived."""
        return self._do("request_cancellation", locals())

    def record_shipment(
        self,
        *,
        order_id: str,
        parcel_id: str,
        carrier: str,
        tracking_number: str,
        lines: Sequence[commands.LineQuantity | Fields] | None = None,
        shipped_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The carrier took a parcel; without ``lines`` it holds all units that are not shipped or cancelled."""
        return self._do("record_shipment", locals())

    def record_delivery(
        self,
        *,
        order_id: str,
        parcel_id: str,
        delivered_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The carrier delivered a parcel to the customer."""
        return self._do("record_delivery", locals())

    def cancel_order(
        self,
        *,
        order_id: str,
        reason: str,
        lines: Sequence[commands.LineQuantity | Fields] | None = None,
        elsewhere: bool = False,
        cancelled_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The shop cancels units; without ``lines``, all that are not shipped. ``elsewhere``: outside the desk."""
        return self._do("cancel_order", locals())

    def link_account(
        self,
        *,
        order_id: str,
        account_id: str,
        linked_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer has an account now."""
        return self._do("link_account", locals())

    def request_return(
        self,
        *,
        return_id: str,
        order_id: str,
        lines: Sequence[commands.ReturnedLine | Fields],
        channel: str,
        resolution: Literal["refund", "exchange"] = "refund",
        requested_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer asks to return units; the request is decided as a whole."""
        return self._do("request_return", locals())

    def issue_label(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        label_id: str,
        carrier: str,
        tracking_number: str,
        issued_at: When | None = None,
        received_at: When | None = None,
        box_id: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A prepaid label was issued; ``received_at`` is when the customer received it, if that is known already.

        ``box_id`` names the box it is for, where the return travels in several.
        """
        return self._do("issue_label", locals())

    def record_label_received(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        label_id: str,
        received_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer received the label; its deadline runs from then."""
        return self._do("record_label_received", locals())

    def void_label(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        label_id: str,
        reason: str,
        voided_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A live label is voided by hand."""
        return self._do("void_label", locals())

    def record_return_shipment(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        tracking_number: str | None = None,
        label_id: str | None = None,
        shipped_at: When | None = None,
        proof: Literal["carrier_scan", "counter_receipt"] | None = None,
        box_id: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer handed the parcel over; without ``label_id`` the customer used their own label."""
        return self._do("record_return_shipment", locals())

    def receive_return(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        received_at: When | None = None,
        box_id: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The parcel is at the dock: it is received, or refused if it was handed over late.

        A refused parcel may be received again: the proofs that came since decide anew.
        """
        return self._do("receive_return", locals())

    def inspect_return(
        self,
        *,
        return_id: str,
        findings: Sequence[commands.InspectionFinding | Fields],
        inspected_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Units were inspected; rejected units are a finding, not an error.

        Findings on more units than are left change nothing, and wait for a person as an exception.
        """
        return self._do("inspect_return", locals())

    def correct_inspection(
        self,
        *,
        return_id: str,
        findings: Sequence[commands.InspectionFinding | Fields],
        reason: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A person replaces all findings of a return, before its refund is paid."""
        return self._do("correct_inspection", locals())

    def request_refund(
        self,
        *,
        refund_id: str,
        return_id: str | None = None,
        order_id: str | None = None,
        claim_id: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Request the refund for a return, a cancelled order or a claim settled by refund: exactly one of the three."""
        return self._do("request_refund", locals())

    def record_refund_result(
        self,
        *,
        refund_id: str,
        payment_id: str,
        result: Literal["succeeded", "failed"],
        amount: str | None = None,
        currency: str | None = None,
        settled_at: When | None = None,
        reference: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The payment provider answered for one tender of a refund: paid, not paid, or paid and sent back by the bank."""
        return self._do("record_refund_result", locals())

    def record_refund(
        self,
        *,
        refund_id: str,
        order_id: str,
        kind: Literal["goodwill", "dispute", "elsewhere", "past"],
        tenders: Sequence[commands.PaidTender | Fields],
        lines: Sequence[commands.LineQuantity | Fields] | None = None,
        reason: str | None = None,
        refunded_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Money went back that the desk did not ask for. What is owed later is less by it."""
        return self._do("record_refund", locals())

    def correct_delivery(
        self,
        *,
        order_id: str,
        parcel_id: str,
        reason: str,
        delivered_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A delivery that was reported was wrong: it is moved to ``delivered_at``, or taken back without it."""
        return self._do("correct_delivery", locals())

    def report_parcel_lost(
        self,
        *,
        order_id: str,
        parcel_id: str,
        reported_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A parcel was lost on its way to the customer."""
        return self._do("report_parcel_lost", locals())

    def record_parcel_returned(
        self,
        *,
        order_id: str,
        parcel_id: str,
        returned_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The carrier brought a parcel back to the sender."""
        return self._do("record_parcel_returned", locals())

    def record_capture(
        self,
        *,
        order_id: str,
        payment_id: str,
        amount: str | None = None,
        captured_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The payment provider took money that was authorised; without ``amount``, all that was not taken yet."""
        return self._do("record_capture", locals())

    def name_payout(
        self,
        *,
        order_id: str,
        payment_id: str,
        payout_id: str,
        method: str,
        reason: str,
        approved_by: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A person with authority names another way to pay back a payment that cannot be paid back."""
        return self._do("name_payout", locals())

    def record_send_back(
        self,
        *,
        return_id: str,
        lines: Sequence[commands.LineQuantity | Fields],
        tracking_number: str | None = None,
        sent_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Rejected units went back to the customer."""
        return self._do("record_send_back", locals())

    def record_disposition(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        lines: Sequence[commands.DisposedLine | Fields],
        disposed_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The warehouse tells what becomes of units that came back: ``restock``, ``refurbish``, ``scrap`` or ``vendor``."""
        return self._do("record_disposition", locals())

    def report_return_lost(
        self,
        *,
        return_id: str,
        reported_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The parcel was reported lost on its way back."""
        return self._do("report_return_lost", locals())

    def reduce_return(
        self,
        *,
        return_id: str,
        lines: Sequence[commands.LineQuantity | Fields],
        reduced_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer keeps the units in ``lines`` after all; the rest of the return keeps its time."""
        return self._do("reduce_return", locals())

    def withdraw_return(
        self,
        *,
        return_id: str,
        withdrawn_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer keeps the goods after all, or the shop closes a return that was never sent."""
        return self._do("withdraw_return", locals())

    def report_wrong_item(
        self,
        *,
        claim_id: str,
        order_id: str,
        line_id: str,
        channel: str,
        quantity: int = 1,
        attachments: Sequence[Evidence] | None = None,
        reported_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer reports that the wrong item came; ``reported_at`` is when the first notice arrived."""
        return self._do("report_wrong_item", locals())

    def add_claim_evidence(
        self,
        *,
        claim_id: str,
        attachments: Sequence[Evidence],
        added_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Evidence was supplied later."""
        return self._do("add_claim_evidence", locals())

    def record_claim_contact(
        self,
        *,
        claim_id: str,
        contacted_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Customer care contacted the customer."""
        return self._do("record_claim_contact", locals())

    def resolve_claim(
        self,
        *,
        claim_id: str,
        remedy: Remedy,
        quantity: int | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Settle an upheld claim; without ``quantity``, for all units that were reported."""
        return self._do("resolve_claim", locals())

    def deny_claim(
        self, *, claim_id: str, reason: str, command_id: str | None = None, actor: Who | None = None
    ) -> Outcome:
        """Deny a claim by hand."""
        return self._do("deny_claim", locals())

    def record_arrival(
        self,
        *,
        arrival_id: str,
        carrier: str | None = None,
        tracking_number: str | None = None,
        order_reference: str | None = None,
        notes: str | None = None,
        arrived_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A parcel is at the dock that nobody announced. It is parked until somebody assigns it."""
        return self._do("record_arrival", locals())

    def assign_arrival(
        self,
        *,
        arrival_id: str,
        return_id: str | None = None,
        claim_id: str | None = None,
        order_id: str | None = None,
        parcel_id: str | None = None,
        box_id: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A parked parcel is a box of a return, the wrong item of a claim, or an outbound parcel of an order that came back.

        What it is assigned to records the arrival, at the time at which the parcel came.
        """
        return self._do("assign_arrival", locals())

    def dismiss_arrival(
        self, *, arrival_id: str, reason: str, command_id: str | None = None, actor: Who | None = None
    ) -> Outcome:
        """A parked parcel is for no return, claim or order of the shop, or was sent away."""
        return self._do("dismiss_arrival", locals())

    def notify_customer(
        self,
        *,
        subject: commands.Subject | Fields,
        notice: str,
        notified_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A notice was sent to the customer."""
        return self._do("notify_customer", locals())

    def close_exception(
        self,
        *,
        subject: commands.Subject | Fields,
        reason: str,
        exception_id: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A person closes what contradicts earlier events: one exception, by its event id, or all that are open."""
        return self._do("close_exception", locals())

    def override(
        self,
        *,
        subject: commands.OverrideSubject | Fields,
        clause: str,
        reason: str,
        approved_by: str,
        lines: Sequence[str] | None = None,
        expires_at: When | None = None,
        once: bool = True,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A person with authority sets a named clause aside for one order, return or claim, or for some ``lines`` of it.

        The first accepted decision that cites it uses it up, unless ``once`` is false. It ends at ``expires_at`` (exclusive).
        """
        return self._do("override", locals())

    def run_deadlines(
        self, now: When | None = None, *, command_id: str | None = None, actor: Who | None = None
    ) -> Outcome:
        """Record the deadlines due at or before ``now`` (default: the clock) in every case, each once, in one transaction.

        For a scheduler of the host. A :meth:`deadline_worker` records them case by case, together with other workers.
        """
        command = {"command": "run_deadlines"} | _given({"command_id": command_id, "actor": actor})
        return self.handle(command, at=_instant("now", now))

    def deadline_worker(
        self,
        *,
        every_seconds: float = 1.0,
        claim_seconds: float = 60.0,
        name: str | None = None,
        meter: Meter | None = None,
    ) -> DeadlineWorker:
        """A worker that records deadlines by this desk's clock: call its ``run(stop)`` in a thread or a process of the host.

        Any number of workers may work on a store. If a worker dies, its claimed cases wait ``claim_seconds`` for another one.
        ``name`` is the actor of the events that it records; ``meter`` is a meter of OpenTelemetry, or like it.
        """
        from returnable.adapters.worker import DeadlineWorker

        return DeadlineWorker(
            self.services.handler,
            self.clock,
            every_seconds=every_seconds,
            claim_seconds=claim_seconds,
            name=name,
            meter=meter,
        )

    # ---- questions ------------------------------------------------------------------------------------------

    def order(self, *, order_id: str, as_of: When | None = None, known_at: When | None = None) -> OrderView:
        """The state of an order."""
        return self._ask(OrderView, "order", locals())

    def return_(self, *, return_id: str, as_of: When | None = None, known_at: When | None = None) -> ReturnView:
        """The state of a return."""
        return self._ask(ReturnView, "return", locals())

    def refund(
        self,
        *,
        refund_id: str | None = None,
        return_id: str | None = None,
        order_id: str | None = None,
        claim_id: str | None = None,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> RefundView:
        """The state of a refund, or the amount due for a return, a cancelled order or a claim before it is requested."""
        return self._ask(RefundView, "refund", locals())

    def claim(self, *, claim_id: str, as_of: When | None = None, known_at: When | None = None) -> ClaimView:
        """The state of a wrong-item claim."""
        return self._ask(ClaimView, "claim", locals())

    def arrival(self, *, arrival_id: str, as_of: When | None = None, known_at: When | None = None) -> ArrivalView:
        """The state of a parcel that nobody announced, and what it may be for."""
        return self._ask(ArrivalView, "arrival", locals())

    def eligibility(self, *, order_id: str, as_of: When | None = None, known_at: When | None = None) -> EligibilityView:
        """What could be cancelled, returned or claimed now, with the rulings that the commands would get."""
        return self._ask(EligibilityView, "eligibility", locals())

    def worklist(
        self,
        *,
        kinds: Sequence[
            Literal[
                "notify_customer",
                "contact_customer",
                "void_label",
                "inspect",
                "request_refund",
                "refund_short",
                "refund_overdue",
                "send_back",
                "unsent_return",
                "assign_arrival",
                "exception",
            ]
        ]
        | None = None,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> WorklistView:
        """The work that waits for somebody, the most urgent first."""
        return self._ask(WorklistView, "worklist", locals())

    def audit(self, *, stream: str, as_of: When | None = None, known_at: When | None = None) -> AuditView:
        """The events of a stream (``order/ID``, ``return/ID``, ``claim/ID`` or ``arrival/ID``)."""
        return self._ask(AuditView, "audit", locals())

    # ---- lists -----------------------------------------------------------------------------------------------

    def orders(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[OrderView]:
        """Every order, or those with a ``status``, sorted by id; read from the events."""
        return self._list(OrderView, "orders", status, as_of, known_at)

    def returns(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[ReturnView]:
        """Every return, or those with a ``status``, sorted by the id of the order; read from the events."""
        return self._list(ReturnView, "returns", status, as_of, known_at)

    def refunds(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[RefundView]:
        """Every refund, or those with a ``status``, sorted by the id of the order; read from the events."""
        return self._list(RefundView, "refunds", status, as_of, known_at)

    def claims(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[ClaimView]:
        """Every wrong-item claim, or those with a ``status``, sorted by the id of the order; read from the events."""
        return self._list(ClaimView, "claims", status, as_of, known_at)

    def ledger(
        self, *, order_id: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[LedgerEntry]:
        """Every payment of every order, or of one: captured, refunded, pending and remaining; read from the events."""
        found = self.services.questions.ledger(order_id, *self._times(as_of, known_at))
        return (LedgerEntry.model_validate(values) for values in found)

    def statistics(
        self,
        *,
        since: When | None = None,
        until: When | None = None,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> Iterator[ClauseStatistics]:
        """How often each clause failed, was set aside or passed, with the amounts at stake; read from the events.

        It counts decisions from ``since`` on and before ``until``.
        """
        period = (_instant("since", since), _instant("until", until))
        found = self.services.questions.statistics(*period, *self._times(as_of, known_at))
        return (ClauseStatistics.model_validate(values) for values in found)

    def project(self, *, views: str | None = None) -> tuple[ViewStatus, ...]:
        """Bring the stored views up to date with the events, and return their status with the parked cases.

        ``views`` is the URL of their file; the default is a file next to the store. No answer of the desk depends on them:
        they are for the lists of the command line and for tools that read tables.
        """
        stored = stored_views(self.url, views)
        assert stored is not None
        with closing(stored):
            work = projector(self.services, stored)
            work.run()
            return tuple(work.statuses())

    def views_status(self, *, views: str | None = None) -> tuple[ViewStatus, ...]:
        """The status of every stored view: position, distance to the head, parked cases. Empty without stored views."""
        stored = stored_views(self.url, views, create=False)
        if stored is None:
            return ()
        with closing(stored):
            return tuple(projector(self.services, stored).statuses())

    def _list(
        self, view: type[V], name: str, status: str | None, as_of: When | None, known_at: When | None
    ) -> Iterator[V]:
        at, (true_at, recorded_by) = self._at(None), self._times(as_of, known_at)
        found = self.services.questions.listed(name, at, true_at, recorded_by, status)
        return (cast(V, view.model_validate(values)) for values in found)

    # ---- for auditors ----------------------------------------------------------------------------------------

    def why(
        self, subject: str, *, event: int | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> WhyView:
        """Why the last decision on a subject came out as it did, or the explanation of its ``event``-th event.

        ``subject``: ``order/A-1``, ``return/R-1``, ``claim/C-1``, ``refund/F-1``, or the id alone.
        """
        from returnable.projections.why import why

        return why(self._find(subject, as_of, known_at), self.services.handler.policy, event)

    def replay(
        self, subject: str, *, until: When | int | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> HistoryView:
        """The history of a subject, event by event: states, deadlines and money before and after.

        ``until``: the last instant of recording, or the number of the last event.
        """
        from returnable.projections.replay import history

        last = until if type(until) is int else _instant("until", cast("When | None", until))
        return history(self._find(subject, as_of, known_at), self._at(None), last)

    def edges(
        self, subject: str, *, to_come: bool = False, as_of: When | None = None, known_at: When | None = None
    ) -> EdgesView:
        """Every instant at which an answer about a subject changes by itself; with ``to_come`` only those still to come."""
        from returnable.projections.edges import edges_view

        return edges_view(self._find(subject, as_of, known_at), self._at(None), to_come)

    def report(self, subject: str, *, as_of: When | None = None, known_at: When | None = None) -> Report:
        """The audit report of a subject; :mod:`returnable.adapters.report` renders it as a page or as text."""
        from returnable.projections.report.build import make_report

        times = self._times(as_of, known_at)
        return make_report(self.services.store, self.services.handler.policy, subject, self._at(None), *times)

    def redecide(self, subject: str | None = None) -> tuple[Difference, ...]:
        """Make every recorded decision again, from its pins, and return the differences and the cases that cannot be read.

        ``subject``: an order with its whole case, a return, a claim or an arrival, such as ``order/A-1``; the default is the
        whole store.
        """
        from returnable.projections.redecided import redecide_store, redecide_stored

        store, policy = self.services.store, self.services.handler.policy
        if subject is None:
            again = redecide_store(store, policy)
        else:
            found = self._find(subject, arrivals=True)
            stream = None if found.kind == "order" else found.stream
            again = iter([redecide_stored(store, policy, found.case_id, stream)])
        return tuple(difference for case in again for difference in case.differences)

    def what_if(
        self, policy: PolicyBook | str | Path, *, subject: str | None = None, keep: Sequence[str] = ()
    ) -> WhatIf:
        """What a candidate policy would have decided; nothing is recorded.

        ``policy`` is a TOML file, a directory of versions, a book, or the name of a bundled one
        (``"allu-usa-earlier"``); ``keep`` names clauses to leave as they were pinned.
        """
        from returnable.projections.what_if import DryRun, candidates_of

        trial = DryRun(candidates_of(policy_book(policy)), self.services.handler.policy, tuple(keep))
        for _ in trial.run(self.services.store, None if subject is None else self._find(subject)):
            pass
        return trial.result()

    def verify(self) -> Verified:
        """Check that everything that is stored fits together, and that every decision comes out the same again.

        It reads the whole store and changes nothing. The store is sound if the answer has no ``problems``; ``warnings`` do
        not count. The problems include the differences that :meth:`redecide` finds.
        """
        from returnable.adapters.backups import verify_parts

        return verify_parts(self.services.store, self.services.handler.policy, self.url)

    # ---- for operators ---------------------------------------------------------------------------------------

    def backup(self, file: str | Path, *, force: bool = False) -> BackedUp:
        """Copy a store in an SQLite file into ``file``. The copy holds the state at one moment; commands may run meanwhile.

        The copy is verified and durable when this returns. ``force`` overwrites an existing file. To restore the copy, close
        every desk and call :func:`returnable.adapters.backups.restore`. Raises ``StoreUnusable`` for a store that is not in a
        file or is damaged, and ``ReturnableError`` if ``file`` cannot be written.
        """
        from returnable.adapters.backups import back_up

        return back_up(self.url, file, force=force)

    def _find(
        self, subject: str, as_of: When | None = None, known_at: When | None = None, *, arrivals: bool = False
    ) -> Subject:
        from returnable.projections.subjects import find_subject

        store, policy_of, times = self.services.store, self.services.handler.policy, self._times(as_of, known_at)
        return find_subject(store, policy_of, subject, *times, arrivals=arrivals)

    def _times(self, as_of: When | None, known_at: When | None) -> tuple[datetime | None, datetime | None]:
        return _instant("as_of", as_of), _instant("known_at", known_at)


def _instant(name: str, time: When | None) -> datetime | None:
    try:
        return None if time is None else parse_instant(time)
    except ValueError as error:
        raise Impossible("command.invalid", str(error), field=name) from None


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "self" and value is not None}
