"""``returnable why``, ``replay`` and ``edges``: one subject, explained to whoever has to answer for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from returnable.adapters.cli.options import instant, opened, question_options, say_damaged
from returnable.adapters.cli.printing import say_json, shown_in
from returnable.adapters.printable import identifier, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from returnable.adapters.wiring import Parts
    from returnable.projections.explained import (
        ClauseWhy,
        DeadlineChange,
        EdgesView,
        EdgeView,
        FactSource,
        HistoryStep,
        HistoryView,
        RefundWhy,
        ResolvedDeadline,
        StandingDeadline,
        WhyView,
    )
    from returnable.projections.subjects import Subject
    from returnable.projections.views import MoneyView

_STYLES = {"pass": "green", "fail": "red", "overridden": "yellow", "not_applicable": "dim"}
_WITH_EVENT = re.compile(r"(.+)#(\d{1,9})\Z")


def _clock(as_of: datetime | None) -> datetime:
    from returnable.adapters.clock import system_clock

    return as_of or system_clock()


# ---- why ------------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("subject")
@click.option(
    "--event", type=click.IntRange(min=1), metavar="N", help="The N-th fact of its stream (default: the last decision)."
)
@question_options
def why(subject: str, event: int | None, store: str, as_of: str | None, known_at: str | None, as_json: bool) -> None:
    """Why a decision came out as it did: each clause with its quote, its reason and the events it rests on.

    SUBJECT is an order, a return, a claim or a refund (order/A-1, return/R-1, or just R-1), or an event id such as
    return/R-1#2. A fact that sets a deadline without a ruling, such as a delivery, is explained by where the deadline
    comes from.

    \b
    returnable why return/R-1
    returnable why return/R-1 --event 2 --json
    returnable why order/A-1#3
    """
    from returnable.projections.why import why as explain

    at, known = instant("as-of", as_of), instant("known-at", known_at)
    with opened(store) as parts:
        found, number = _subject_and_event(parts, subject, at, known)
        view = explain(found, parts.desk.policy, number if event is None else event)
    if as_json:
        say_json(view.model_dump_json(indent=2))
        return
    _show_why(view)


def _subject_and_event(
    parts: Parts, text: str, as_of: datetime | None, known_at: datetime | None
) -> tuple[Subject, int | None]:
    """The subject, and the number of the event where the text is an event id; an id may itself hold a ``#``."""
    from returnable.domain.errors import Impossible
    from returnable.projections.subjects import find_subject

    try:
        return find_subject(parts.store, parts.desk.policy, text, as_of, known_at, say_damaged), None
    except Impossible as error:
        event = _WITH_EVENT.match(text)
        if event is None or not error.code.endswith(".unknown"):
            raise
        found = find_subject(parts.store, parts.desk.policy, event[1], as_of, known_at, say_damaged)
        return found, int(event[2])


def _show_why(view: WhyView) -> None:
    from rich.tree import Tree

    from returnable.adapters.cli.printing import console_for_output

    style = "green" if view.outcome == "accepted" else "red"
    outcome = f"  [{style}]{view.outcome.upper()}[/{style}]" if view.clauses else ""
    tree = Tree(f"[bold]{_safe(view.event)}[/bold]  {view.type}{outcome}", highlight=False, guide_style="dim")
    for line in _circumstances(view):
        tree.add(line)
    for clause in view.clauses:
        _add_clause(tree, clause, {event.event: event.type for event in view.events})
    if view.reason is not None:
        tree.add(f"decided by hand, not by the policy: {_words(view.reason)}")
    shown = {clause.clause for clause in view.clauses}
    for deadline in view.deadlines:
        _add_deadline(tree, deadline, in_full=deadline.clause not in shown)
    if view.refund is not None:
        _add_refund(tree, view.refund)
    decisions = [f"{_safe(one.event)} {one.type} ({one.outcome})" for one in view.others if one.outcome]
    rest = [f"{_safe(one.event)} {one.type}" for one in view.others if not one.outcome]
    if decisions:
        tree.add(f"[dim]other decisions:[/dim] {', '.join(decisions)}")
    if rest:
        tree.add(f"[dim]can be explained, too:[/dim] {', '.join(rest)}")
    console_for_output().print(tree, highlight=False)


def _circumstances(view: WhyView) -> Iterator[str]:
    by = f", by {view.actor.role} {_safe(view.actor.id)}" if view.actor else ""
    learnt = "" if view.occurred_at == view.recorded_at else f", recorded {view.recorded_at}"
    command_id = f" (command id {_safe(view.command_id)})" if view.command_id else ""
    yield f"[dim]occurred[/dim] {view.occurred_at}{learnt}{by}"
    yield f"[dim]command[/dim] {view.command}{command_id}; it recorded {', '.join(map(_safe, view.recorded))}"
    pins = view.pins
    yield (
        f"[dim]policy[/dim] {_safe(pins.policy)} {_safe(pins.version)}, calendar {_safe(pins.calendar)}, zone "
        f"{_safe(pins.zone)}, engine {_safe(pins.engine)}\n[dim]sha256 {_safe(pins.sha256)}[/dim]"
    )


def _add_clause(tree: Tree, clause: ClauseWhy, types: Mapping[str, str]) -> None:
    style = _STYLES[clause.verdict]
    verdict = clause.verdict.replace("_", " ").upper()
    node = tree.add(f"[{style}]{verdict}[/{style}]  [bold]{clause.clause}[/bold]  {_words(clause.because)}")
    if clause.quote:
        node.add(f"[italic]“{_words(clause.quote)}”[/italic]")
    node.add(f"[dim]read as:[/dim] {_words(clause.reading)}")
    if clause.deadline is not None:
        kind = "the last instant in time" if clause.deadline.inclusive else "from then on too late"
        margin = f": {clause.deadline.margin}" if clause.deadline.margin else ""
        node.add(f"[dim]deadline[/dim] {clause.deadline.at} ({kind}){margin}")
    if clause.override is not None:
        override = clause.override
        node.add(
            f"[yellow]set aside[/yellow] by {_safe(override.approved_by)} at {override.granted_at}: "
            f"{_words(override.reason)}  [cyan]← {_safe(override.event)} OverrideGranted[/cyan]"
        )
    facts = node.add("[dim]rests on[/dim]")
    for fact in clause.facts:
        if not fact.key.startswith("override."):
            facts.add(_fact(fact, types))


def _fact(fact: FactSource, types: Mapping[str, str]) -> str:
    sources = ", ".join(
        f"{_safe(source)} {types[source]}" if source in types else _MARKS[source] for source in fact.sources
    )
    return f"{_safe(fact.key)} = {_safe(_plain(fact.value))}  [cyan]← {sources}[/cyan]"


_MARKS = {"policy": "the policy", "absence": "nothing on record"}


def _add_deadline(tree: Tree, deadline: ResolvedDeadline, *, in_full: bool) -> None:
    node = tree.add(f"[bold]{deadline.name}[/bold] {deadline.at}  [bold]{deadline.clause}[/bold]")
    node.add(f"{_words(deadline.because)}  [cyan]← {_safe(deadline.anchor)}[/cyan]")
    if in_full and deadline.quote:
        node.add(f"[italic]“{_words(deadline.quote)}”[/italic]")
    if in_full:
        node.add(f"[dim]read as:[/dim] {_words(deadline.reading)}")


def _add_refund(tree: Tree, refund: RefundWhy) -> None:
    node = tree.add(f"[bold]refund {_safe(refund.refund_id)}[/bold]  {refund.total} {refund.currency}")
    for item in refund.items:
        deducted = f", less {item.deducted}" if item.deducted.strip("0.") else ""
        node.add(f"line {_safe(item.line_id)}: {item.quantity} × = {item.merchandise}, tax {item.tax}{deducted}")
    if refund.shipping.strip("0."):
        node.add(f"outbound shipping {refund.shipping}")
    for deduction in refund.deductions:
        node.add(f"less {deduction.amount}, {deduction.clause}: {_words(deduction.because)}")
    if refund.settled_before.strip("0."):
        node.add(f"less {refund.settled_before}, which an earlier attempt paid")
    for tender in refund.tenders:
        node.add(
            f"{tender.amount} to {_safe(tender.payment_id)}{f' ({_safe(tender.method)})' if tender.method else ''}"
        )
    first, last = refund.expected_between
    node.add(f"expected from {first} to {last}, overdue at {refund.overdue_at}")


# ---- replay ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("subject")
@click.option("--until", metavar="INSTANT|N", help="Stop at what was recorded by then (RFC 3339), or at step N.")
@question_options
def replay(subject: str, until: str | None, store: str, as_of: str | None, known_at: str | None, as_json: bool) -> None:
    """Step through a history: what every fact did to states, deadlines and money.

    An order replays its whole case, with its returns, claims and refunds. Deadlines are set (+), moved (~), settled or
    reopened; one that ran out since the step before is marked (!).

    \b
    returnable replay order/A-1
    returnable replay return/R-1 --until 3
    returnable replay A-1 --until 2026-03-12T00:00:00-04:00 --json
    """
    from returnable.projections.history import history
    from returnable.projections.subjects import find_subject

    at, known, stop = instant("as-of", as_of), instant("known-at", known_at), _until(until)
    with opened(store) as parts:
        found = find_subject(parts.store, parts.desk.policy, subject, at, known, say_damaged)
        view = history(found, _clock(at), stop)
    if as_json:
        say_json(view.model_dump_json(indent=2))
        return
    _show_history(view)


def _until(text: str | None) -> datetime | int | None:
    if text is not None and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return instant("until", text)


def _show_history(view: HistoryView) -> None:
    from returnable.adapters.cli.printing import console_for_output

    console = console_for_output()
    console.print(f"[bold]{_safe(view.subject)}[/bold]", highlight=False)
    for step in view.steps:
        heading, *lines = _step(step)
        console.print(heading, highlight=False)
        for line in lines:
            _indented(console, line)
    if view.left_out:
        console.print(f"[dim]… {view.left_out} later facts are left out[/dim]", highlight=False)
    _show_reached(console, view)


def _step(step: HistoryStep) -> Iterator[str]:
    moved = step.after if step.before == step.after else f"{step.before or 'nothing'} → {step.after}"
    yield f"{step.number:>4}  [bold]{_safe(step.event)}  {step.type}[/bold]  {moved}"
    happened = "" if step.occurred_at == step.recorded_at else f", occurred {step.occurred_at}"
    by = f", by {step.actor.role} {_safe(step.actor.id)}" if step.actor else ""
    command_id = f", command id {_safe(step.command_id)}" if step.command_id else ""
    yield f"recorded {step.recorded_at}{happened}{by}{command_id}"
    if step.details:
        said = "  ".join(f"{key}={_plain(value)}" for key, value in shown_in(step.details).items())
        yield f"[dim]{_words(said)}[/dim]"
    for verdict, clauses in (("FAIL", step.failed), ("OVERRIDDEN", step.overridden)):
        if clauses:
            yield f"[{_STYLES[verdict.lower()]}]{verdict}[/] {', '.join(clauses)}"
    yield from (_deadline_change(change) for change in step.deadlines)
    if step.money is not None:
        yield _money(step.money)


_SIGNS = {"set": "+", "moved": "~", "settled": "✓", "reopened": "↺", "passed": "!"}


def _deadline_change(change: DeadlineChange) -> str:
    style = "red" if change.change == "passed" else "cyan"
    when = f"{change.before} → {change.after}" if change.change == "moved" else change.after or change.before
    done = f"[{style}]{_SIGNS[change.change]} {change.change}[/{style}]"
    return f"{done} {_deadline_name(change)} {when}  [dim]{change.clause}[/dim]"


def _deadline_name(deadline: DeadlineChange | StandingDeadline) -> str:
    return f"{_safe(deadline.subject)} {deadline.name}{f' of {_safe(deadline.of)}' if deadline.of else ''}"


def _money(money: MoneyView) -> str:
    return (
        f"[green]money[/green] captured {money.captured}, refunded {money.refunded}, pending {money.pending}, "
        f"remaining {money.remaining} {money.currency}"
    )


def _show_reached(console: Console, view: HistoryView) -> None:
    reached = view.reached
    states = ", ".join(f"{_safe(one.stream)} {one.status}" for one in reached.streams)
    console.print(f"[bold]reached[/bold]  {states}  [dim]by the clock {reached.at}[/dim]", highlight=False)
    for deadline in reached.deadlines:
        if deadline.state != "settled":
            style = "red" if deadline.state == "passed" else "cyan"
            state = f"[{style}]{deadline.state}[/{style}]"
            _indented(console, f"{state} {_deadline_name(deadline)} {deadline.at}")
    _indented(console, _money(reached.money))


def _indented(console: Console, line: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text.from_markup(line), (0, 0, 0, 6), expand=False))


# ---- edges ----------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("subject")
@click.option("--next", "to_come", is_flag=True, help="Only those that are still to come.")
@question_options
def edges(subject: str, to_come: bool, store: str, as_of: str | None, known_at: str | None, as_json: bool) -> None:
    """Every instant at which an answer flips by the passing of time, if nothing else happens.

    Windows open and close, labels void, promises and refunds become overdue: in order of time, with the clause, from the
    facts that are known. An order has the edges of its whole case. --as-of moves the clock, too.

    \b
    returnable edges order/A-1
    returnable edges return/R-1 --next
    returnable edges A-1 --as-of 2026-03-06T09:00:00-05:00 --json
    """
    from returnable.projections.edges import edges_view
    from returnable.projections.subjects import find_subject

    at, known = instant("as-of", as_of), instant("known-at", known_at)
    with opened(store) as parts:
        found = find_subject(parts.store, parts.desk.policy, subject, at, known, say_damaged)
        view = edges_view(found, _clock(at), to_come)
    if as_json:
        say_json(view.model_dump_json(indent=2))
        return
    _show_edges(view, to_come)


def _show_edges(view: EdgesView, to_come: bool) -> None:
    from rich.table import Table

    from returnable.adapters.cli.printing import console_for_output

    console = console_for_output()
    if not view.edges:
        still = "still to come " if to_come else ""
        console.print(f"{_safe(view.subject)}: no answer {still}flips by the passing of time.", highlight=False)
        return
    table = Table(
        title=f"{_safe(view.subject)}, seen from {view.at}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for name, whole in (("when", True), ("", True), ("what", False), ("answer", False)):
        table.add_column(name, overflow="fold", header_style="dim", no_wrap=whole)
    for edge in view.edges:
        table.add_row(*_edge(edge), style="" if edge.to_come else "dim")
    console.print(table)


def _edge(edge: EdgeView) -> Sequence[str]:
    day = datetime.fromisoformat(edge.deadline)
    when = f"{'after' if edge.inclusive else 'from'} {day:%a} {edge.deadline}"
    also = [f"{change.answer}: {change.before} → {change.after}" for change in edge.also]
    answer = "\n".join([f"{edge.before} → {edge.after}", *also])
    what = f"{_safe(edge.what)}\n[dim]{_safe(edge.subject)}  {edge.clause}[/dim]"
    return when, edge.distance, what, _words(answer)


# ---- words ----------------------------------------------------------------------------------------------------------


def _safe(text: str) -> str:
    """An id, or a value of the record, as it may go to a terminal: nothing unseen, no markup."""
    from rich.markup import escape

    return escape(identifier(text))


def _words(text: str) -> str:
    """What people wrote in their own words, as it may go to a terminal."""
    from rich.markup import escape

    return escape(printable(text, keep="\n"))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({' '.join(f'{key}={_plain(entry)}' for key, entry in value.items())})"
    if isinstance(value, list):
        return ", ".join(_plain(entry) for entry in value) or "none"
    return "yes" if value is True else "no" if value is False else "nothing" if value is None else str(value)
