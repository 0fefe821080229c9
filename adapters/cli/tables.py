"""Answers as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from returnable.adapters.cli.console import STYLES, console_for_output, in_words
from returnable.adapters.cli.printing import cell, plain, shown_in
from returnable.adapters.printable import identifier
from returnable.domain.policy import CLAUSE_IDS, Policy
from returnable.projections.lookalikes import ids_in, looking_alike
from returnable.projections.views import AnyView, AuditView


def show(answer: AnyView) -> None:
    """Print an answer."""
    console = console_for_output()
    if isinstance(answer, AuditView):
        _audit(console, answer)
        return
    stated = answer.model_dump(mode="json", by_alias=True)
    values = shown_in(stated)
    _values(console, values)
    for key, value in values.items():
        if isinstance(value, list) and value:
            _list(console, key, value)
        elif isinstance(value, Mapping) and "clauses" in value:
            _ruling(console, key, value)
        elif value == []:
            console.print(f"{key}: none")
    for found in looking_alike(ids_in(stated)):
        ids = found.in_words(identifier)
        console.print(escape(f"These ids look the same but are different: {ids}"), style="yellow", highlight=False)


def _audit(console: Console, audit: AuditView) -> None:
    console.print(f"[bold]{escape(identifier(audit.stream))}[/bold]")
    for entry in audit.entries:
        recorded = "" if entry.recorded_at == entry.occurred_at else f", recorded {entry.recorded_at}"
        moved = entry.after if entry.before == entry.after else f"{entry.before or 'nothing'} → {entry.after}"
        by = f", by {entry.actor.role} {identifier(entry.actor.id)}" if entry.actor else ""
        console.print(
            f"{entry.version:>3}  [bold]{entry.type}[/bold]  {escape(moved)}\n"
            f"     occurred {entry.occurred_at}{recorded}{escape(by)}",
            highlight=False,
        )
        if entry.details:
            details = "  ".join(f"{key}={plain(value)}" for key, value in shown_in(entry.details).items())
            console.print(f"     {escape(details)}", style="dim", highlight=False)
        for clause in entry.clauses:
            _clause(console, clause.model_dump(), "     ")


def _clause(console: Console, clause: Mapping[str, Any], indent: str) -> None:
    style = STYLES[clause["verdict"]]
    verdict = f"[{style}]{clause['verdict']:<14}[/{style}]"
    console.print(f"{indent}{verdict} {clause['clause']:<24} {in_words(clause['because'])}", highlight=False)


def _values(console: Console, values: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in values.items():
        if not isinstance(value, list) and not (isinstance(value, Mapping) and "clauses" in value):
            table.add_row(f"[bold]{key}[/bold]", _cell(value))
    if table.row_count:
        console.print(table)


def _list(console: Console, key: str, elements: Sequence[Any]) -> None:
    if not isinstance(elements[0], Mapping):
        console.print(f"[bold]{key}[/bold]  {escape(', '.join(str(element) for element in elements))}")
        return
    if any(isinstance(value, Mapping) and "clauses" in value for value in elements[0].values()):
        for element in elements:
            console.print(f"[bold]{key}[/bold]  {_cell(next(iter(element.values())))}")
            for name, value in element.items():
                if isinstance(value, Mapping):
                    _ruling(console, name, value)
        return
    table = Table(title=key, title_justify="left", title_style="bold")
    for name in elements[0]:
        table.add_column(name, overflow="fold")
    for element in elements:
        table.add_row(*(_cell(value) for value in element.values()))
    console.print(table)


def _ruling(console: Console, key: str, ruling: Mapping[str, Any]) -> None:
    verdict = "[green]yes[/green]" if ruling["allowed"] else "[red]no[/red]"
    more = "  ".join(
        f"{name}: {_cell(value)}" for name, value in ruling.items() if name not in ("allowed", "clauses", "error")
    )
    console.print(f"  [bold]{key}[/bold]  {verdict}  {more}")
    if ruling.get("error"):
        console.print(f"    {escape(ruling['error']['message'])}")
    for clause in ruling["clauses"]:
        _clause(console, clause, "    ")


def _cell(value: Any) -> str:
    return escape(cell(value))


def show_policy(policy: Policy) -> None:
    """Print a policy, clause by clause."""
    console = console_for_output()
    named = f"[bold]{escape(identifier(policy.id))}[/bold] {escape(identifier(policy.version))}"
    console.print(f"{named}, in force from {policy.effective}")
    console.print(escape(policy.source), style="dim")
    console.print(
        f"zone {policy.zone}, calendar {escape(identifier(policy.days.name))}/{escape(identifier(policy.days.version))}, "
        f"amounts in {policy.currency}"
    )
    console.print(f"sha256 {policy.sha256}\n")
    for clause_id in CLAUSE_IDS:
        clause = policy.clause(clause_id)
        console.print(f"[bold]{clause_id}[/bold]{'' if clause.applies else '  (does not apply)'}")
        if clause.quote:
            console.print(f"  “{escape(clause.quote)}”", style="italic")
        parameters = shown_in(
            clause.model_dump(mode="json", exclude={"quote", "reading", "applies"}, exclude_none=True)
        )
        for name, value in parameters.items():
            shown = ", ".join(str(entry) for entry in value) if isinstance(value, list) else _cell(value)
            console.print(f"  {name} = {shown}", highlight=False, markup=False)
        console.print(f"  {escape(clause.reading)}\n", style="dim")
