"""``returnable what-if``: decides the recorded history under another policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from pydantic_core import to_json
from rich.markup import escape
from rich.table import Table

from returnable.adapters.cli.console import console_for_output
from returnable.adapters.cli.options import json_option, opened, store_option
from returnable.adapters.cli.printing import print_json, say
from returnable.adapters.cli.progress import progress
from returnable.adapters.printable import identifier, printable
from returnable.adapters.wiring import policy_book
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.wording import counted
from returnable.projections.subjects import every_case, find_subject
from returnable.projections.what_if import Amount, DryRun, Flip, WhatIf, candidates_of

CHANNELS = ("cancellation.by_email", "returns.portal", "wrong_item.by_email")
"""The clauses about the channel of a request."""


@click.command("what-if")
@click.argument("subject", required=False)
@click.option(
    "--policy",
    metavar="FILE",
    required=True,
    help="The candidate: a policy (TOML), a directory of versions, or the name of a bundled one (allu-usa-earlier).",
)
@click.option("--keep", "kept", multiple=True, metavar="CLAUSE", help="Keep this clause as it was; may be repeated.")
@click.option("--flips", is_flag=True, help="List every decision that changes.")
@store_option
@json_option
def what_if(subject: str | None, policy: str, kept: tuple[str, ...], flips: bool, store: str, as_json: bool) -> int:
    """What another policy would have decided. Lists which decisions change, by which clause, and the money at stake.

    Every case, or one SUBJECT, is decided again from its beginning under the candidate policy; nothing is recorded.
    The candidate sets the deadlines, and a request that the candidate declines has no consequences. A single
    version judges every order, whenever it takes effect; from a directory, the version in force judges. Exit status 1
    if a case cannot be read.

    \b
    returnable what-if --policy allu-usa-earlier
    returnable what-if --policy allu-usa-earlier --keep returns.portal --flips
    returnable what-if order/A-1 --policy my-policy.toml --json
    """
    for clause in kept:
        if clause not in CLAUSE_IDS:
            raise click.UsageError(f"--keep: {clause!r} is not a clause; there are {', '.join(CLAUSE_IDS)}")
    book = policy_book(policy)
    listed: list[Flip] = []
    with opened(store) as services:
        trial = DryRun(candidates_of(book), services.handler.policy, tuple(dict.fromkeys(kept)))
        about = None
        if subject is not None:
            about = find_subject(services.store, services.handler.policy, subject, damaged=lambda damage: None)
        with progress("deciding again", sum(1 for _ in every_case(services.store)) if about is None else 1) as advance:
            for _, of_case in trial.run(services.store, about):
                if flips:
                    listed += of_case
                advance(1)
    result = trial.result()
    if as_json:
        content = result.model_dump(mode="json")
        if flips:
            content["flips"] = [flip.model_dump(mode="json") for flip in listed]
        print_json(to_json(content, indent=2))
    else:
        _show(result, listed)
    return 1 if result.unreadable else 0


def _show(result: WhatIf, flips: Iterable[Flip]) -> None:
    console = console_for_output()
    versions = ", ".join(f"{version.id} {version.version}" for version in result.candidates) or "nothing"
    kept = f", with {', '.join(result.kept)} as before" if result.kept else ""
    console.print(escape(f"Candidate: {versions}{kept}. Nothing was recorded."), highlight=False)
    console.print(
        f"{counted(result.decisions, 'decision')} in {counted(result.cases, 'case')}, {result.flipped} would change.\n",
        highlight=False,
    )
    for flip in flips:
        _flip(flip)
    _print_table(
        "Clauses (where both decided on the same state)",
        ("clause", "passes → fails", "at stake", "fails → passes", "at stake"),
        [
            (row.clause, _count(row.refuses), _sum(row.refuses_amounts), _count(row.allows), _sum(row.allows_amounts))
            for row in result.clauses
        ],
    )
    columns = ("command", "same", "accepted → declined", "at stake", "declined → accepted", "at stake")
    _print_table(
        "Decisions",
        (*columns, "not possible", "of these follow from another"),
        [
            (
                line.command,
                f"{line.same:,}",
                _count(line.accepted_to_declined),
                _sum(line.accepted_to_declined_amounts),
                _count(line.declined_to_accepted),
                _sum(line.declined_to_accepted_amounts),
                _count(line.no_longer_possible),
                _count(line.consequences),
            )
            for line in result.commands
        ],
    )
    _print_table(
        "Refunds requested",
        ("currency", "on record", "amount", "candidate", "amount", "difference", "of another amount"),
        [
            (
                each.currency,
                f"{each.recorded:,}",
                each.recorded_amount,
                f"{each.candidate:,}",
                each.candidate_amount,
                each.difference,
                _count(each.amount_changed),
            )
            for each in result.refunds
        ],
    )
    for clause in result.clauses:
        if clause.clause in CHANNELS and clause.refuses:
            console.print(
                f"{clause.clause} declines requests that came by another channel; --keep {clause.clause} asks as if they had "
                "come by the right one.",
                highlight=False,
            )
    for reason in result.unreadable:
        say(f"not decided again: {reason}")


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left")
    for row in rows:
        table.add_row(*row)
    console_for_output().print(table)


def _flip(flip: Flip) -> None:
    follows = ", follows from another" if flip.consequence else ""
    candidate = flip.candidate.replace("_", " ")
    amount = f"{flip.amount} {flip.currency}"
    if flip.candidate_amount is not None and flip.candidate_amount != flip.amount:
        amount += f" → {flip.candidate_amount} {flip.currency}"
    click.echo(f"{identifier(flip.event)}  {flip.at}  {flip.command}: {flip.recorded} → {candidate}  {amount}{follows}")
    for change in flip.clauses:
        click.echo(
            f"    {change.clause}: {change.recorded or '–'} → {change.candidate or '–'}  {printable(change.because)}"
        )


def _count(count: int) -> str:
    return f"{count:,}" if count else "–"


def _sum(amounts: Iterable[Amount]) -> str:
    return ", ".join(f"{each.amount} {each.currency}" for each in amounts) or "–"
