"""``returnable verify``: checks everything that is stored."""

from __future__ import annotations

import click

from returnable.adapters.backups import verify_store
from returnable.adapters.cli.options import json_option, store_option
from returnable.adapters.cli.progress import progress
from returnable.adapters.printable import printable
from returnable.domain.wording import counted
from returnable.projections.verified import Problem, TimelineView, Verified


@click.command()
@store_option
@json_option
def verify(store: str, as_json: bool) -> int:
    """Check that everything in a store fits together. It reads the whole store and changes nothing.

    It checks the pages and indexes of the file, the positions of the events, gaps in cases and streams, receipts of
    commands, ids of returns, claims and refunds, policies, checkpoints and deadlines. Then it makes every decision
    again, like `returnable redecide --all`. Each problem is one line, and the exit status is 1 if there is one; warnings
    do not count.

    \b
    returnable verify
    returnable verify --store sqlite:///backup.db --json
    """

    def report(problem: Problem) -> None:
        if not as_json:
            click.echo(f"{printable(problem.where)}: {printable(problem.what)}")

    with progress("verifying", None) as advance:
        verified = verify_store(store, report, advance)
    if as_json:
        click.echo(verified.model_dump_json(indent=2))
    else:
        _show(verified)
    return 1 if verified.problems else 0


def _show(verified: Verified) -> None:
    for timeline in verified.timelines:
        if timeline.cause != "created":
            click.echo(f"note: {_timeline(timeline)}")
    for warning in verified.warnings:
        click.echo(f"warning: {printable(warning)}")
    found = counted(len(verified.problems), "problem") if verified.problems else "all is well"
    click.echo(
        f"{counted(verified.facts, 'event')} of {counted(verified.cases, 'case')}, "
        f"{counted(verified.commands, 'command')} with {counted(verified.rulings, 'ruling')}, "
        f"up to position {verified.head}: {found}"
    )


def _timeline(timeline: TimelineView) -> str:
    if timeline.cause != "restored":
        return f"a copy became this store at {timeline.began_at}: a desk opened it for the first time"
    replaced = (
        "a store that could not be read" if timeline.replaced_head is None else f"position {timeline.replaced_head}"
    )
    return (
        f"restored at {timeline.began_at} from {printable(timeline.file or '')} up to position {timeline.head} (sha256 "
        f"{timeline.sha256}), in place of {replaced}"
    )
