"""``returnable redecide`` and ``returnable what-if``: history decided again, from its pins or under another policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from returnable.adapters.cli.options import json_option, opened, progress, store_option
from returnable.adapters.cli.printing import say, say_json
from returnable.adapters.cli.words import counted
from returnable.adapters.printable import identifier, printable

if TYPE_CHECKING:
    from returnable.domain.ports import EventStore
    from returnable.projections.redecided import Difference, Redecided
    from returnable.projections.what_if import Amount, Flip, WhatIf

CHANNELS = ("cancellation.by_email", "returns.portal", "wrong_item.by_email")
"""The clauses about the way a request comes in."""

SHOWN = 20
"""How many differences are shown to people; ``--json`` has all."""


@click.command()
@click.argument("subject", required=False)
@click.option("--all", "everything", is_flag=True, help="Every case of the store; the default without SUBJECT.")
@store_option
@json_option
def redecide(subject: str | None, everything: bool, store: str, as_json: bool) -> int:
    """Decide again what is on record, from its pins: it must come out the same.

    SUBJECT is an order (with all that came of it), a return or a claim. Every command is told again from its facts and
    decided again on the case as it stood, at its instant, under the policy, calendar and deadlines it is pinned to.
    Exit status 1 and a report if anything comes out otherwise, or cannot be read.

    \b
    returnable redecide --all
    returnable redecide return/R-1 --json
    """
    from pydantic_core import to_json

    from returnable.projections.redecided import redecide_store, redecide_stored
    from returnable.projections.subjects import find_subject

    if subject is not None and everything:
        raise click.UsageError("SUBJECT and --all exclude each other")
    commands = rulings = facts = cases = 0
    differences: list[Difference] = []
    with opened(store) as parts:
        policy = parts.desk.policy
        again: Iterable[Redecided]
        if subject is None:
            again, total = redecide_store(parts.store, policy), parts.store.head()
        else:
            found = find_subject(parts.store, policy, subject, damaged=lambda damage: None)
            stream = None if found.kind == "order" else found.stream
            again, total = [redecide_stored(parts.store, policy, found.case_id, stream)], len(found.facts)
        with progress("deciding again", total) as advance:
            for case in again:
                cases, commands = cases + 1, commands + case.commands
                rulings, facts = rulings + case.rulings, facts + case.facts
                differences += case.differences
                advance(case.facts)
    if as_json:
        found_out = [difference.model_dump(mode="json") for difference in differences]
        counts = {"cases": cases, "commands": commands, "rulings": rulings, "facts": facts}
        say_json(to_json(counts | {"differences": found_out}, indent=2))
        return 1 if differences else 0
    for difference in differences[:SHOWN]:
        click.echo(f"{identifier(difference.event)} {difference.type}:")
        for line in difference.differences:
            click.echo(f"    {printable(line)}")
    if len(differences) > SHOWN:
        click.echo(f"… and {len(differences) - SHOWN} more (--json has all)")
    result = f"{len(differences)} come out otherwise" if differences else "all come out the same"
    click.echo(
        f"{counted(facts, 'fact')} of {counted(cases, 'case')}, {counted(commands, 'command')} with "
        f"{counted(rulings, 'ruling')} decided again: {result}"
    )
    return 1 if differences else 0


@click.command("what-if")
@click.argument("subject", required=False)
@click.option(
    "--policy",
    metavar="FILE",
    required=True,
    help="The candidate: a policy (TOML), a directory of versions, or the name of a bundled one (allu-usa-earlier).",
)
@click.option(
    "--keep",
    "kept",
    multiple=True,
    metavar="CLAUSE",
    help="Leave this clause as it was pinned; may be repeated.",
)
@click.option("--flips", is_flag=True, help="List every decision that comes out otherwise.")
@store_option
@json_option
def what_if(subject: str | None, policy: str, kept: tuple[str, ...], flips: bool, store: str, as_json: bool) -> int:
    """What a candidate policy would have decided: which decisions flip, by which clause, and for how much money.

    History is told again under the candidate, from the first order on or for one SUBJECT; nothing is appended.
    Deadlines end where the candidate says, and what it refuses has no sequel. A single version judges every order,
    whenever it takes effect; of a directory of versions the one in force does. Exit status 1 if a case cannot be read.

    \b
    returnable what-if --policy allu-usa-earlier
    returnable what-if --policy allu-usa-earlier --keep returns.portal --flips
    returnable what-if order/A-1 --policy my-policy.toml --json
    """
    from pydantic_core import to_json

    from returnable.adapters.wiring import policy_book
    from returnable.domain.policy import CLAUSE_IDS
    from returnable.projections.subjects import find_subject
    from returnable.projections.what_if import Trial, candidates_of

    for clause in kept:
        if clause not in CLAUSE_IDS:
            raise click.UsageError(f"--keep: {clause!r} is not a clause; there are {', '.join(CLAUSE_IDS)}")
    book = policy_book(policy)
    listed: list[Flip] = []
    with opened(store) as parts:
        trial = Trial(candidates_of(book), parts.desk.policy, tuple(dict.fromkeys(kept)))
        about = None
        if subject is not None:
            about = find_subject(parts.store, parts.desk.policy, subject, damaged=lambda damage: None)
        with progress("telling again", _cases(parts.store) if about is None else 1) as advance:
            for _, of_case in trial.run(parts.store, about):
                if flips:
                    listed += of_case
                advance(1)
    result = trial.result()
    if as_json:
        content = result.model_dump(mode="json")
        if flips:
            content["flips"] = [flip.model_dump(mode="json") for flip in listed]
        say_json(to_json(content, indent=2))
    else:
        _show(result, listed)
    return 1 if result.unreadable else 0


def _cases(store: EventStore) -> int:
    from returnable.projections.subjects import every_case

    return sum(1 for _ in every_case(store))


def _show(result: WhatIf, flips: Iterable[Flip]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from returnable.adapters.cli.printing import console_for_output

    console = console_for_output()
    versions = ", ".join(f"{version.id} {version.version}" for version in result.candidates) or "nothing"
    kept = f", with {', '.join(result.kept)} as pinned" if result.kept else ""
    console.print(escape(f"Candidate: {versions}{kept}. Nothing was appended."), highlight=False)
    console.print(
        f"{counted(result.decisions, 'decision')} in {counted(result.cases, 'case')}, "
        f"{result.flipped} come out otherwise.\n",
        highlight=False,
    )
    for flip in flips:
        _flip(flip)
    if result.clauses:
        table = Table(title="Clauses (where both found things in the same state)", title_justify="left")
        for name in ("clause", "passes → fails", "at stake", "fails → passes", "at stake"):
            table.add_column(name, justify="left" if name == "clause" else "right")
        for row in result.clauses:
            table.add_row(
                row.clause, _count(row.refuses), _sum(row.refuses_amounts), _count(row.allows), _sum(row.allows_amounts)
            )
        console.print(table)
    if result.commands:
        table = Table(title="Decisions", title_justify="left")
        columns = ("command", "same", "accepted → declined", "at stake", "declined → accepted", "at stake")
        for name in (*columns, "not possible", "of these follow from another"):
            table.add_column(name, justify="left" if name == "command" else "right")
        for line in result.commands:
            table.add_row(
                line.command,
                f"{line.same:,}",
                _count(line.accepted_to_declined),
                _sum(line.accepted_to_declined_amounts),
                _count(line.declined_to_accepted),
                _sum(line.declined_to_accepted_amounts),
                _count(line.no_longer_possible),
                _count(line.consequences),
            )
        console.print(table)
    if result.refunds:
        table = Table(title="Refunds requested", title_justify="left")
        for name in ("currency", "on record", "amount", "candidate", "amount", "difference", "of another amount"):
            table.add_column(name, justify="left" if name == "currency" else "right")
        for each in result.refunds:
            table.add_row(
                each.currency,
                f"{each.recorded:,}",
                each.recorded_amount,
                f"{each.candidate:,}",
                each.candidate_amount,
                each.difference,
                _count(each.amount_changed),
            )
        console.print(table)
    for clause in result.clauses:
        if clause.clause in CHANNELS and clause.refuses:
            console.print(
                f"What came another way than {clause.clause} wants is refused; --keep {clause.clause} asks as if it had "
                "come the right way.",
                highlight=False,
            )
    for reason in result.unreadable:
        say(f"not told again: {reason}")


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
