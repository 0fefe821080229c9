"""``returnable why``: a decision with its clauses, their reasons, and the events they rest on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import click
from rich.tree import Tree

from returnable.adapters.cli.console import STYLES, console_for_output, in_words, safe
from returnable.adapters.cli.options import find, opened, print_answer, question_options
from returnable.adapters.cli.printing import plain
from returnable.adapters.wiring import Services
from returnable.domain.errors import Impossible
from returnable.projections.audit_models import (
    ClauseWhy,
    EventSource,
    OverrideWhy,
    RefundWhy,
    ResolvedDeadline,
    WhyView,
)
from returnable.projections.subjects import Subject
from returnable.projections.why import why as explain

_WITH_EVENT = re.compile(r"(.+)#(\d{1,9})\Z")
_MARKS = {"policy": "the policy", "absence": "nothing on record"}


@click.command()
@click.argument("subject")
@click.option(
    "--event",
    type=click.IntRange(min=1),
    metavar="N",
    help="Explain the N-th event of its stream (default: the last decision).",
)
@question_options
def why(
    subject: str, event: int | None, store: str, as_of: datetime | None, known_at: datetime | None, as_json: bool
) -> None:
    """Why a decision came out as it did. Shows each clause with its quote, its reason and the events behind it.

    SUBJECT is an order, a return, a claim or a refund (order/A-1, return/R-1, or just R-1), or an event id such as
    return/R-1#2. For an event that sets a deadline without a ruling, such as a delivery, it shows the clause behind the
    deadline.

    \b
    returnable why return/R-1
    returnable why return/R-1 --event 2 --json
    returnable why order/A-1#3
    """
    with opened(store) as services:
        found, number = _subject_and_event(services, subject, as_of, known_at)
        view = explain(found, services.handler.policy, number if event is None else event)
    print_answer(view, as_json, _show_why)


def _subject_and_event(
    services: Services, text: str, as_of: datetime | None, known_at: datetime | None
) -> tuple[Subject, int | None]:
    """The subject, and the number of the event if the text is an event id. The id of a subject may hold a ``#``, too."""
    try:
        return find(services, text, as_of, known_at), None
    except Impossible as error:
        event = _WITH_EVENT.match(text)
        if event is None or not error.code.endswith(".unknown"):
            raise
        return find(services, event[1], as_of, known_at), int(event[2])


def _show_why(view: WhyView) -> None:
    style = "green" if view.outcome == "accepted" else "red"
    outcome = f"  [{style}]{view.outcome.upper()}[/{style}]" if view.clauses else ""
    tree = Tree(f"[bold]{safe(view.event)}[/bold]  {view.type}{outcome}", highlight=False, guide_style="dim")
    for line in _circumstances(view):
        tree.add(line)
    for clause in view.clauses:
        _add_clause(tree, clause, {event.event: event.type for event in view.events})
    if view.reason is not None:
        tree.add(f"decided by hand, not by the policy: {in_words(view.reason)}")
    shown = {clause.clause for clause in view.clauses}
    for deadline in view.deadlines:
        _add_deadline(tree, deadline, in_full=deadline.clause not in shown)
    if view.refund is not None:
        _add_refund(tree, view.refund)
    decisions = [f"{safe(one.event)} {one.type} ({one.outcome})" for one in view.others if one.outcome]
    rest = [f"{safe(one.event)} {one.type}" for one in view.others if not one.outcome]
    if decisions:
        tree.add(f"[dim]other decisions:[/dim] {', '.join(decisions)}")
    if rest:
        tree.add(f"[dim]other events with an explanation:[/dim] {', '.join(rest)}")
    console_for_output().print(tree, highlight=False)


def _circumstances(view: WhyView) -> Iterator[str]:
    by = f", by {view.actor.role} {safe(view.actor.id)}" if view.actor else ""
    learnt = "" if view.occurred_at == view.recorded_at else f", recorded {view.recorded_at}"
    command_id = f" (command id {safe(view.command_id)})" if view.command_id else ""
    yield f"[dim]occurred[/dim] {view.occurred_at}{learnt}{by}"
    yield f"[dim]command[/dim] {view.command}{command_id}; it recorded {', '.join(map(safe, view.recorded))}"
    pins = view.pins
    data = f" (tzdata {safe(pins.tzdata)})" if pins.tzdata is not None else ""
    yield (
        f"[dim]policy[/dim] {safe(pins.policy)} {safe(pins.version)}, calendar {safe(pins.calendar)}, zone "
        f"{safe(pins.zone)}{data}, engine {safe(pins.engine)}\n[dim]sha256 {safe(pins.sha256)}[/dim]"
    )


def _add_clause(tree: Tree, clause: ClauseWhy, types: Mapping[str, str]) -> None:
    style = STYLES[clause.verdict]
    verdict = clause.verdict.replace("_", " ").upper()
    node = tree.add(f"[{style}]{verdict}[/{style}]  [bold]{clause.clause}[/bold]  {in_words(clause.because)}")
    if clause.quote:
        node.add(f"[italic]“{in_words(clause.quote)}”[/italic]")
    node.add(f"[dim]read as:[/dim] {in_words(clause.reading)}")
    if clause.deadline is not None:
        kind = "the last instant in time" if clause.deadline.inclusive else "from then on too late"
        margin = f": {clause.deadline.margin}" if clause.deadline.margin else ""
        node.add(f"[dim]deadline[/dim] {clause.deadline.at} ({kind}){margin}")
    if clause.override is not None:
        override = clause.override
        node.add(
            f"[yellow]set aside[/yellow] by {safe(override.approved_by)} at {override.granted_at}: "
            f"{in_words(override.reason)}{_limits(override)}  "
            f"[cyan]← {safe(override.event)} OverrideGranted[/cyan]"
        )
    events = node.add("[dim]rests on[/dim]")
    for ground in clause.facts:
        if not ground.key.startswith("override."):
            events.add(_ground(ground, types))


def _limits(override: OverrideWhy) -> str:
    limits = [f"lines {', '.join(map(safe, override.lines))}"] if override.lines else []
    if override.expires_at is not None:
        limits.append(f"until {override.expires_at}")
    if not override.once:
        limits.append("for every decision")
    return f" ({'; '.join(limits)})" if limits else ""


def _ground(ground: EventSource, types: Mapping[str, str]) -> str:
    sources = ", ".join(
        f"{safe(source)} {types[source]}" if source in types else _MARKS[source] for source in ground.sources
    )
    return f"{safe(ground.key)} = {safe(plain(ground.value))}  [cyan]← {sources}[/cyan]"


def _add_deadline(tree: Tree, deadline: ResolvedDeadline, *, in_full: bool) -> None:
    node = tree.add(f"[bold]{deadline.name}[/bold] {deadline.at}  [bold]{deadline.clause}[/bold]")
    node.add(f"{in_words(deadline.because)}  [cyan]← {safe(deadline.anchor)}[/cyan]")
    if in_full and deadline.quote:
        node.add(f"[italic]“{in_words(deadline.quote)}”[/italic]")
    if in_full:
        node.add(f"[dim]read as:[/dim] {in_words(deadline.reading)}")


def _add_refund(tree: Tree, refund: RefundWhy) -> None:
    node = tree.add(f"[bold]refund {safe(refund.refund_id)}[/bold]  {refund.total} {refund.currency}")
    for item in refund.items:
        deducted = f", less {item.deducted}" if item.deducted.strip("0.") else ""
        node.add(f"line {safe(item.line_id)}: {item.quantity} × = {item.merchandise}, tax {item.tax}{deducted}")
    if refund.shipping.strip("0."):
        node.add(f"outbound shipping {refund.shipping}")
    for deduction in refund.deductions:
        node.add(f"less {deduction.amount}, {deduction.clause}: {in_words(deduction.because)}")
    if refund.settled_before.strip("0."):
        node.add(f"less {refund.settled_before}, which earlier attempts paid or are paying")
    for credit in refund.credits:
        node.add(f"less {credit.amount}, which refund {safe(credit.refund_id)} paid already")
    if refund.voided.strip("0."):
        node.add(f"less {refund.voided}, which was authorised and never captured")
    for tender in refund.tenders:
        method = f" ({safe(tender.method)})" if tender.method else ""
        instead = f", by {safe(tender.payout_id)}" if tender.payout_id else ""
        node.add(f"{tender.amount} to {safe(tender.payment_id)}{method}{instead}")
    first, last = refund.expected_between
    node.add(f"expected from {first} to {last}, overdue at {refund.overdue_at}")
