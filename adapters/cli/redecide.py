"""``returnable redecide``: makes every decision again from its pins."""

from __future__ import annotations

from collections.abc import Iterable

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import json_option, opened, store_option
from returnable.adapters.cli.printing import print_json
from returnable.adapters.cli.progress import progress
from returnable.adapters.printable import identifier, printable
from returnable.domain.wording import counted
from returnable.projections.redecided import Difference, Redecided, redecide_store, redecide_stored
from returnable.projections.subjects import find_subject

SHOWN = 20
"""How many differences are shown to people; ``--json`` has all."""


@click.command()
@click.argument("subject", required=False)
@click.option("--all", "everything", is_flag=True, help="Every case of the store; the default without SUBJECT.")
@store_option
@json_option
def redecide(subject: str | None, everything: bool, store: str, as_json: bool) -> int:
    """Decide everything on record again; report differences. There should be none.

    SUBJECT is an order (with its returns, claims and refunds), a return or a claim. Every recorded command is decided
    again on the case as it was then, at the same instant, under the policy, calendar and deadlines that the decision is
    pinned to. Exit status 1 and a report if a decision differs or a case cannot be read.

    \b
    returnable redecide --all
    returnable redecide return/R-1 --json
    """
    if subject is not None and everything:
        raise click.UsageError("SUBJECT and --all exclude each other")
    commands = rulings = events = cases = 0
    differences: list[Difference] = []
    with opened(store) as services:
        policy = services.handler.policy
        again: Iterable[Redecided]
        if subject is None:
            again, total = redecide_store(services.store, policy), services.store.head()
        else:
            found = find_subject(services.store, policy, subject, damaged=lambda damage: None, arrivals=True)
            stream = None if found.kind == "order" else found.stream
            again, total = [redecide_stored(services.store, policy, found.case_id, stream)], len(found.events)
        with progress("deciding again", total) as advance:
            for case in again:
                cases, commands = cases + 1, commands + case.commands
                rulings, events = rulings + case.rulings, events + case.facts
                differences += case.differences
                advance(case.facts)
    if as_json:
        listed = [difference.model_dump(mode="json") for difference in differences]
        counts = {"cases": cases, "commands": commands, "rulings": rulings, "facts": events}
        print_json(to_json(counts | {"differences": listed}, indent=2))
        return 1 if differences else 0
    for difference in differences[:SHOWN]:
        click.echo(f"{identifier(difference.event)} {difference.type}:")
        for line in difference.differences:
            click.echo(f"    {printable(line)}")
    if len(differences) > SHOWN:
        click.echo(f"… and {len(differences) - SHOWN} more (--json has all)")
    result = counted(len(differences), "difference") if differences else "no differences"
    click.echo(
        f"{counted(events, 'event')} of {counted(cases, 'case')}, {counted(commands, 'command')} with "
        f"{counted(rulings, 'ruling')} decided again: {result}"
    )
    return 1 if differences else 0
