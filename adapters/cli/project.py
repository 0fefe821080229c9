"""``returnable project``: the stored views, brought up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import click
from pydantic_core import to_json

from returnable.adapters.cli.lists import print_table, views_option
from returnable.adapters.cli.options import json_option, opened, report_damage, store_option
from returnable.adapters.cli.printing import print_json
from returnable.adapters.cli.progress import progress
from returnable.adapters.cli.service import stopped_by_signal
from returnable.adapters.wiring import projector, stored_views
from returnable.projections.follow import Projector, ViewStatus
from returnable.projections.stored import VIEWS

POLL_SECONDS = 0.05
"""How long ``--follow`` waits before it looks for new events again."""

SHOWN_PARKED = 20

_DAMAGE = ("case_id", "stream", "version", "position", "reason")


@click.command()
@click.option("--follow", is_flag=True, help="Keep running and follow new events, until Ctrl-C or SIGTERM.")
@click.option(
    "--rebuild", "rebuilt", multiple=True, metavar="NAME", help="Build this view again (or all); may be repeated."
)
@click.option("--status", is_flag=True, help="Only show how far each view is, and which cases are parked.")
@store_option
@views_option
@json_option
def project(follow: bool, rebuilt: tuple[str, ...], status: bool, store: str, views: str | None, as_json: bool) -> int:
    """Bring the stored views up to date with the events. The views: orders, returns, refunds, claims, worklist, audit,
    ledger, clauses.

    They are kept in a separate file, which you may delete at any time. It is safe to kill this command and start it
    again, and to run it twice at once. A case with an event that cannot be read is parked before that event and reported;
    all other cases continue. Exit status 1 while a case is parked.

    \b
    returnable project --store sqlite:///shop.db
    returnable project --follow
    returnable project --rebuild ledger --rebuild clauses
    returnable project --status --json
    """
    if status and (follow or rebuilt):
        raise click.UsageError("--status excludes --follow and --rebuild")
    unknown = [name for name in rebuilt if name not in VIEWS and name != "all"]
    if unknown:
        raise click.UsageError(f"--rebuild: there is no view {unknown[0]!r}; there are {', '.join(VIEWS)}, and all")
    with opened(store) as services, ExitStack() as stack:
        kept = stored_views(store, views, create=not status, anew="all" in rebuilt)
        if kept is None:
            return _print_statuses(_never_projected(services.store.head()), as_json)
        stack.callback(kept.close)
        working = projector(services, kept)
        if not status:
            if rebuilt:
                working.rebuild(tuple(VIEWS) if "all" in rebuilt else tuple(dict.fromkeys(rebuilt)))
            _run(working, follow)
        return _print_statuses(working.statuses(), as_json)


def _never_projected(head: int) -> list[ViewStatus]:
    return [ViewStatus(name, None, head, ()) for name in VIEWS]


def _run(working: Projector, follow: bool) -> None:
    left = sum(status.behind for status in working.statuses())
    if not follow:
        with progress("projecting", left) as advance:
            working.run(advance)
        return
    with stopped_by_signal() as stop:
        with progress("projecting", left) as advance:
            working.run(advance, stop.is_set)
        if not stop.is_set():
            click.echo("following (Ctrl-C ends)", err=True)
            parked = _ParkedReporter(working)
            working.follow(parked.wait, stop.is_set, parked.advance)


class _ParkedReporter:
    """Reports each parked case on stderr, once, whenever the projector is idle."""

    def __init__(self, working: Projector) -> None:
        self._working = working
        self._moved = True
        self._reported: set[tuple[str, int]] = set()

    def advance(self, count: int) -> None:
        """Note that the projector has moved on."""
        self._moved = True

    def wait(self) -> None:
        """Report newly parked cases, and wait for events."""
        if self._moved:
            self._moved = False
            parked = {(damage.case_id, damage.position): damage for _, damage in self._working.views.parked()}
            for key in sorted(parked.keys() - self._reported):
                report_damage(parked[key])
            self._reported.update(parked)
        time.sleep(POLL_SECONDS)


def _print_statuses(statuses: Sequence[ViewStatus], as_json: bool) -> int:
    parked = {(d.case_id, d.position): d for status in statuses for d in status.parked}
    rows: list[dict[str, Any]] = [
        {
            "view": status.view,
            "state": status.state,
            "position": status.mark.position if status.mark else 0,
            "head": status.head,
            "behind": status.behind,
            "parked": [{name: getattr(damage, name) for name in _DAMAGE} for damage in status.parked],
        }
        for status in statuses
    ]
    if as_json:
        print_json(to_json({"views": rows}, indent=2))
        return 1 if parked else 0
    numbers = ("position", "behind", "parked")
    flat = ({**row, "parked": len(row["parked"])} for row in rows)
    cells = (row | {name: f"{row[name]:,}" for name in numbers} for row in flat)
    print_table(("view", "state", *numbers), cells, right=numbers)
    for damage in list(parked.values())[:SHOWN_PARKED]:
        report_damage(damage, err=False)
    if len(parked) > SHOWN_PARKED:
        click.echo(f"… and {len(parked) - SHOWN_PARKED:,} more parked cases (--json has all)")
    return 1 if parked else 0
