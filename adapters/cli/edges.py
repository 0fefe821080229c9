"""``returnable edges``: the instants at which an answer changes although nothing happens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click
from rich.table import Table

from returnable.adapters.cli.console import console_for_output, in_words, safe
from returnable.adapters.cli.options import find, opened, print_answer, question_options
from returnable.adapters.clock import system_clock
from returnable.projections.audit_models import EdgesView, EdgeView
from returnable.projections.edges import edges_view


@click.command()
@click.argument("subject")
@click.option("--next", "to_come", is_flag=True, help="Only instants that are still to come.")
@question_options
def edges(
    subject: str, to_come: bool, store: str, as_of: datetime | None, known_at: datetime | None, as_json: bool
) -> None:
    """The instants at which an answer changes by itself. Nothing has to happen: time passes.

    Windows open and close, labels become void, promises and refunds become overdue. The list is in order of time, with the
    clause behind each change. For an order it covers the whole case. --as-of sets the clock, too.

    \b
    returnable edges order/A-1
    returnable edges return/R-1 --next
    returnable edges A-1 --as-of 2026-03-06T09:00:00-05:00 --json
    """
    with opened(store) as services:
        view = edges_view(find(services, subject, as_of, known_at), as_of or system_clock(), to_come)
    print_answer(view, as_json, lambda view: _show_edges(view, to_come))


def _show_edges(view: EdgesView, to_come: bool) -> None:
    console = console_for_output()
    if not view.edges:
        still = "still to come " if to_come else ""
        console.print(f"{safe(view.subject)}: no answer {still}changes by itself.", highlight=False)
        return
    table = Table(
        title=f"{safe(view.subject)}, seen from {view.at}",
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
    answer = "\n".join(map(in_words, [f"{edge.before} → {edge.after}", *also]))
    what = f"{safe(edge.what)}\n[dim]{safe(edge.subject)}  {edge.clause}[/dim]"
    return when, edge.distance, what, answer
