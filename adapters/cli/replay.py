"""``returnable replay``: the history of a subject, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from returnable.adapters.cli.console import STYLES, console_for_output, in_words, safe
from returnable.adapters.cli.options import Instant, find, opened, print_answer, question_options
from returnable.adapters.cli.printing import plain, shown_in
from returnable.adapters.clock import system_clock
from returnable.projections.audit_models import DeadlineChange, HistoryStep, HistoryView, OpenDeadline
from returnable.projections.replay import history
from returnable.projections.views import MoneyView

_SIGNS = {"set": "+", "moved": "~", "settled": "✓", "reopened": "↺", "passed": "!", "dropped": "-"}


class _Until(Instant):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        return super().convert(value, param, ctx)


@click.command()
@click.argument("subject")
@click.option(
    "--until",
    type=_Until(),
    metavar="INSTANT|N",
    help="Stop at the last event recorded by then (RFC 3339), or at step N.",
)
@question_options
def replay(
    subject: str,
    until: datetime | int | None,
    store: str,
    as_of: datetime | None,
    known_at: datetime | None,
    as_json: bool,
) -> None:
    """Step through a history, event by event. Each step shows how the event changed states, deadlines and money.

    The history of an order is its whole case with returns, claims and refunds. A deadline is set (+), moved (~),
    settled (✓), reopened (↺) or dropped (-), or it has passed since the step before (!).

    \b
    returnable replay order/A-1
    returnable replay return/R-1 --until 3
    returnable replay A-1 --until 2026-03-12T00:00:00-04:00 --json
    """
    with opened(store) as services:
        view = history(find(services, subject, as_of, known_at), as_of or system_clock(), until)
    print_answer(view, as_json, _show_history)


def _show_history(view: HistoryView) -> None:
    console = console_for_output()
    console.print(f"[bold]{safe(view.subject)}[/bold]", highlight=False)
    for step in view.steps:
        heading, *lines = _step(step)
        console.print(heading, highlight=False)
        for line in lines:
            _indented(console, line)
    if view.left_out:
        console.print(f"[dim]… {view.left_out} later events are left out[/dim]", highlight=False)
    _show_reached(console, view)


def _step(step: HistoryStep) -> Iterator[str]:
    moved = step.after if step.before == step.after else f"{step.before or 'nothing'} → {step.after}"
    yield f"{step.number:>4}  [bold]{safe(step.event)}  {step.type}[/bold]  {moved}"
    happened = "" if step.occurred_at == step.recorded_at else f", occurred {step.occurred_at}"
    by = f", by {step.actor.role} {safe(step.actor.id)}" if step.actor else ""
    command_id = f", command id {safe(step.command_id)}" if step.command_id else ""
    yield f"recorded {step.recorded_at}{happened}{by}{command_id}"
    if step.details:
        details = "  ".join(f"{key}={plain(value)}" for key, value in shown_in(step.details).items())
        yield f"[dim]{in_words(details)}[/dim]"
    for verdict, clauses in (("FAIL", step.failed), ("OVERRIDDEN", step.overridden)):
        if clauses:
            yield f"[{STYLES[verdict.lower()]}]{verdict}[/] {', '.join(clauses)}"
    yield from (_deadline_change(change) for change in step.deadlines)
    if step.money is not None:
        yield _money(step.money)


def _deadline_change(change: DeadlineChange) -> str:
    style = "red" if change.change == "passed" else "cyan"
    when = f"{change.before} → {change.after}" if change.change == "moved" else change.after or change.before
    done = f"[{style}]{_SIGNS[change.change]} {change.change}[/{style}]"
    return f"{done} {_deadline_name(change)} {when}  [dim]{change.clause}[/dim]"


def _deadline_name(deadline: DeadlineChange | OpenDeadline) -> str:
    return f"{safe(deadline.subject)} {deadline.name}{f' of {safe(deadline.of)}' if deadline.of else ''}"


def _money(money: MoneyView) -> str:
    return (
        f"[green]money[/green] captured {money.captured}, refunded {money.refunded}, pending {money.pending}, "
        f"remaining {money.remaining} {money.currency}"
    )


def _show_reached(console: Console, view: HistoryView) -> None:
    reached = view.reached
    states = ", ".join(f"{safe(one.stream)} {one.status}" for one in reached.streams)
    console.print(f"[bold]reached[/bold]  {states}  [dim]by the clock {reached.at}[/dim]", highlight=False)
    for deadline in reached.deadlines:
        if deadline.state != "settled":
            style = "red" if deadline.state == "passed" else "cyan"
            state = f"[{style}]{deadline.state}[/{style}]"
            _indented(console, f"{state} {_deadline_name(deadline)} {deadline.at}")
    _indented(console, _money(reached.money))


def _indented(console: Console, line: str) -> None:
    console.print(Padding(Text.from_markup(line), (0, 0, 0, 6), expand=False))
