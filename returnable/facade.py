"""The desk that a host service holds: every command and every question as a typed method.

    desk = returnable.open("sqlite:///shop.db")
    outcome = desk.request_return(return_id="R-1", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal")

Each method builds the command or question model of the same name; fields mean what they mean in the scenario format.
A test keeps the signatures equal to the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

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

    ``policy`` is a TOML file, a directory of versions, a policy or its versions; the bundled one when absent. ``clock``
    returns the current instant, aware; the system's when absent. On PostgreSQL ``connections`` is how many to
    have at most; or they are taken from the host's ``pool``, such as a ``psycopg_pool.ConnectionPool`` to the same database.
    Raises ``PolicyInvalid`` or ``StoreUnusable``.
    """
    return Desk(assemble(url, policy, pool=pool, connections=connections), clock, url)


class Desk:
    """A returns desk on a store. Safe to use from many threads; close it, or use it as a context manager.

    A command returns its :class:`~returnable.domain.outcome.Outcome`, accepted or declined, once it is durable. One that
    is malformed or impossible raises :class:`~returnable.domain.errors.Impossible`, and nothing was recorded.
    Every command takes ``command_id``, an idempotency key: repeat a call that was cut off under the same id, and it
    happens once. ``actor`` is recorded with every fact.
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
        with AtWork(None):  # what the libraries below us do once, at the first use, must not be cut in two by a fork
            if not isinstance(command, commands.Command):
                command = commands.parse_command(command)
            return self.services.handler.handle(command, self._at(at))

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
        """The carrier took a parcel; without ``lines``, all units not yet shipped."""
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

    def link_account(
        self,
        *,
        order_id: str,
        account_id: str,
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
        """The customer asks to return units; decided as a whole."""
        return self._do("request_return", locals())

    def issue_label(
        self,
        *,
        return_id: str,
        label_id: str,
        carrier: str,
        tracking_number: str,
        issued_at: When | None = None,
        received_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A prepaid label was issued; ``received_at`` is when the customer received it, where that is known already."""
        return self._do("issue_label", locals())

    def record_label_received(
        self,
        *,
        return_id: str,
        label_id: str,
        received_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer received the label: its clock runs from there."""
        return self._do("record_label_received", locals())

    def void_label(
        self,
        *,
        return_id: str,
        label_id: str,
        reason: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A live label is voided by hand."""
        return self._do("void_label", locals())

    def record_return_shipment(
        self,
        *,
        return_id: str,
        tracking_number: str | None = None,
        label_id: str | None = None,
        shipped_at: When | None = None,
        proof: Literal["carrier_scan", "counter_receipt"] | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer handed the parcel over; without ``label_id`` on a label of the customer's own."""
        return self._do("record_return_shipment", locals())

    def receive_return(
        self,
        *,
        return_id: str,
        received_at: When | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The parcel is at the dock: taken in, or refused when it was handed over late."""
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
        """Units were inspected; rejected units are a finding, not an error."""
        return self._do("inspect_return", locals())

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
        """Pay back what is owed for a return, a cancelled order or a claim settled by refund: exactly one of the three."""
        return self._do("request_refund", locals())

    def record_refund_result(
        self,
        *,
        refund_id: str,
        payment_id: str,
        result: Literal["succeeded", "failed"],
        reference: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The payment provider answered for one tender of a refund."""
        return self._do("record_refund_result", locals())

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

    def withdraw_return(
        self,
        *,
        return_id: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """The customer keeps the goods after all."""
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
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Settle an upheld claim."""
        return self._do("resolve_claim", locals())

    def deny_claim(
        self,
        *,
        claim_id: str,
        reason: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Deny a claim by hand."""
        return self._do("deny_claim", locals())

    def notify_customer(
        self,
        *,
        subject: commands.Subject | Fields,
        notice: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A notice was sent to the customer."""
        return self._do("notify_customer", locals())

    def override(
        self,
        *,
        subject: commands.OverrideSubject | Fields,
        clause: str,
        reason: str,
        approved_by: str,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """A person with authority sets a named clause aside for one order, return or claim."""
        return self._do("override", locals())

    def run_deadlines(
        self,
        now: When | None = None,
        *,
        command_id: str | None = None,
        actor: Who | None = None,
    ) -> Outcome:
        """Record what fell due at or before ``now`` (the clock's instant when absent) in every case, each once, as a whole.

        For a scheduler of the host's; :meth:`deadline_worker` does it case by case, beside others.
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
        """A worker that records deadlines on this desk's clock: ``run(stop)`` it in a thread or a process of the host's.

        Any number may work on a store. What a worker that died had claimed is left alone for ``claim_seconds``. ``name`` is
        the actor of what it records; ``meter`` is one of OpenTelemetry's, or like it.
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

    def order(
        self,
        *,
        order_id: str,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> OrderView:
        """How an order stands."""
        return self._ask(OrderView, "order", locals())

    def return_(
        self,
        *,
        return_id: str,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> ReturnView:
        """How a return stands."""
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
        """How a refund stands, or what is due for a return, a cancelled order or a claim before it is requested."""
        return self._ask(RefundView, "refund", locals())

    def claim(
        self,
        *,
        claim_id: str,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> ClaimView:
        """How a wrong-item claim stands."""
        return self._ask(ClaimView, "claim", locals())

    def eligibility(
        self,
        *,
        order_id: str,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> EligibilityView:
        """What could be cancelled, returned or claimed now, with the rulings the commands would give."""
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
                "refund_overdue",
                "send_back",
                "exception",
            ]
        ]
        | None = None,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> WorklistView:
        """What waits for somebody."""
        return self._ask(WorklistView, "worklist", locals())

    def audit(
        self,
        *,
        stream: str,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> AuditView:
        """What was recorded in a stream (``order/ID``, ``return/ID`` or ``claim/ID``), fact by fact."""
        return self._ask(AuditView, "audit", locals())

    # ---- lists -----------------------------------------------------------------------------------------------

    def orders(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[OrderView]:
        """Every order, in order of its id, from the facts; ``status`` leaves the others out."""
        return self._list(OrderView, "orders", status, as_of, known_at)

    def returns(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[ReturnView]:
        """Every return, in order of the order's id, from the facts; ``status`` leaves the others out."""
        return self._list(ReturnView, "returns", status, as_of, known_at)

    def refunds(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[RefundView]:
        """Every refund, in order of the order's id, from the facts; ``status`` leaves the others out."""
        return self._list(RefundView, "refunds", status, as_of, known_at)

    def claims(
        self, *, status: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[ClaimView]:
        """Every wrong-item claim, in order of the order's id, from the facts; ``status`` leaves the others out."""
        return self._list(ClaimView, "claims", status, as_of, known_at)

    def ledger(
        self, *, order_id: str | None = None, as_of: When | None = None, known_at: When | None = None
    ) -> Iterator[LedgerEntry]:
        """Every payment of every order, or of one: captured, refunded, pending and remaining, from the facts."""
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
        """How often each clause failed, was set aside or passed, with the amounts at stake, from the facts.

        Of what was decided from ``since`` on and before ``until``.
        """
        period = (_instant("since", since), _instant("until", until))
        found = self.services.questions.statistics(*period, *self._times(as_of, known_at))
        return (ClauseStatistics.model_validate(values) for values in found)

    def project(self, *, views: str | None = None) -> tuple[ViewStatus, ...]:
        """Bring the stored views up to date with the facts, and say how they stand and what is parked.

        ``views``: the URL of their file; beside the store when absent. No answer of the desk depends on them: they are for
        lists and for tools that read tables.
        """
        stored = stored_views(self.url, views)
        assert stored is not None
        try:
            work = projector(self.services, stored)
            work.run()
            return tuple(work.statuses())
        finally:
            stored.close()

    def views_standing(self, *, views: str | None = None) -> tuple[ViewStatus, ...]:
        """How far every stored view is, how many facts it is behind, and what is parked; empty where none is stored."""
        stored = stored_views(self.url, views, create=False)
        if stored is None:
            return ()
        try:
            return tuple(projector(self.services, stored).statuses())
        finally:
            stored.close()

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
        """Why the last decision on a subject came out as it did, or what its ``event``-th fact says and sets.

        ``subject``: ``order/A-1``, ``return/R-1``, ``claim/C-1``, ``refund/F-1``, or the id alone.
        """
        from returnable.projections.why import why

        return why(self._find(subject, as_of, known_at), self.services.handler.policy, event)

    def replay(
        self,
        subject: str,
        *,
        until: When | int | None = None,
        as_of: When | None = None,
        known_at: When | None = None,
    ) -> HistoryView:
        """What happened to a subject, fact by fact: states, deadlines and money before and after.

        ``until``: the last instant of recording, or the last event's number.
        """
        from returnable.projections.replay import history

        last = until if type(until) is int else _instant("until", cast("When | None", until))
        return history(self._find(subject, as_of, known_at), self._at(None), last)

    def edges(
        self, subject: str, *, to_come: bool = False, as_of: When | None = None, known_at: When | None = None
    ) -> EdgesView:
        """Every instant at which an answer about a subject flips by the passing of time; ``to_come``: only those ahead."""
        from returnable.projections.edges import edges_view

        return edges_view(self._find(subject, as_of, known_at), self._at(None), to_come)

    def report(self, subject: str, *, as_of: When | None = None, known_at: When | None = None) -> Report:
        """The audit report of a subject; :mod:`returnable.adapters.report` makes a page or a text of it."""
        from returnable.projections.report.build import make_report

        times = self._times(as_of, known_at)
        return make_report(self.services.store, self.services.handler.policy, subject, self._at(None), *times)

    def redecide(self, subject: str | None = None) -> tuple[Difference, ...]:
        """Decide again what is on record, from its pins; what comes out otherwise, or cannot be read. Empty: all is well.

        ``subject``: an order with all that came of it, a return or a claim, such as ``order/A-1``; all of the store when
        absent.
        """
        from returnable.projections.redecided import redecide_store, redecide_stored

        store, policy = self.services.store, self.services.handler.policy
        if subject is None:
            again = redecide_store(store, policy)
        else:
            found = self._find(subject)
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
        """Whether everything that is stored fits together, and every decision comes out the same again.

        It reads the whole store and changes nothing. All is well where the answer has no ``problems``; ``warnings`` do not
        count. What :meth:`redecide` finds is among the problems.
        """
        from returnable.adapters.backups import verify_parts

        return verify_parts(self.services.store, self.services.handler.policy, self.url)

    # ---- for operators ---------------------------------------------------------------------------------------

    def backup(self, file: str | Path, *, force: bool = False) -> BackedUp:
        """Copy a store in an SQLite file into ``file``, as it stands at one moment; commands may go on meanwhile.

        The copy is verified and durable when this returns. ``force`` overwrites a file that exists. To put it back is
        :func:`returnable.adapters.backups.restore`, once every desk is closed. Raises ``StoreUnusable`` for a store that
        is in no file or is damaged, and ``ReturnableError`` where ``file`` cannot be written.
        """
        from returnable.adapters.backups import back_up

        return back_up(self.url, file, force=force)

    def _find(self, subject: str, as_of: When | None = None, known_at: When | None = None) -> Subject:
        from returnable.projections.subjects import find_subject

        return find_subject(self.services.store, self.services.handler.policy, subject, *self._times(as_of, known_at))

    def _times(self, as_of: When | None, known_at: When | None) -> tuple[datetime | None, datetime | None]:
        return _instant("as_of", as_of), _instant("known_at", known_at)


def _instant(name: str, time: When | None) -> datetime | None:
    try:
        return None if time is None else parse_instant(time)
    except ValueError as error:
        raise Impossible("command.invalid", str(error), field=name) from None


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "self" and value is not None}
