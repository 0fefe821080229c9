"""``returnable orders``, ``returns``, ``refunds`` and ``claims``, and what every list has in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import (
    F,
    as_of_options,
    instant,
    json_lines_option,
    opened,
    say_damaged,
    store_option,
)
from returnable.adapters.cli.printing import say_json
from returnable.adapters.clock import system_clock
from returnable.adapters.printable import identifier, printable
from returnable.adapters.wiring import stored_views
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.ports import Damage
from returnable.projections.follow import ViewStatus, status_of
from returnable.projections.lists import StoredLists, Values
from returnable.projections.questions import Questions

MEASURED_ROWS = 500
"""The first rows of a list decide how wide its columns are; the others are printed as they come."""

Answering: TypeAlias = tuple[StoredLists | None, Questions, datetime | None, datetime | None]


def views_option(command: F) -> F:
    """``--views``: where the stored views are."""
    return click.option(
        "--views",
        metavar="URL",
        envvar="RETURNABLE_STORE_VIEWS",
        help="The stored views. Default: a file next to the store, shop.db -> shop-views.db.",
    )(command)


def list_options(command: F) -> F:
    """What every list takes."""
    from_events = click.option(
        "--facts", "from_events", is_flag=True, help="Answer from the events, even if there is a stored view."
    )
    return store_option(views_option(from_events(as_of_options(json_lines_option(command)))))


def _list_command(name: str, text: str, columns: tuple[str, ...], example: str) -> click.Command:
    """A command that lists orders, returns, refunds or claims."""

    @click.command(
        name,
        help=f"{text}\n\nSorted by the id of the order. The answer comes from the stored view if there is one (see "
        f"`returnable project`), else from the facts.\n\n\b\nreturnable {name}\nreturnable {name} {example}\n"
        f"returnable {name} --json | head",
    )
    @click.option("--status", metavar="STATUS", help="Only entries in this state.")
    @click.option("--limit", type=click.IntRange(0), metavar="N", help="Only the first N.")
    @list_options
    def command(status: str | None, limit: int | None, as_json: bool, **where: Any) -> None:
        at = system_clock()
        with answering(name, **where) as (stored, questions, as_of, known_at):
            if stored is not None:
                found = stored.listed(name, at, status, limit)
            else:
                found = questions.listed(name, at, as_of, known_at, status, limit)
            print_rows(columns, found, as_json)

    return command


orders = _list_command(
    "orders",
    "Every order with its state.",
    ("order_id", "status", "confirmed_at", "currency", "lines", "parcels", "returns", "claims"),
    "--status delivered --as-of 2026-03-12T00:00:00-04:00",
)
returns = _list_command(
    "returns",
    "Every return with its state.",
    ("return_id", "order_id", "status", "requested_at", "lines", "labels", "received_at", "inspected_at", "refund_id"),
    "--status in_transit",
)
refunds = _list_command(
    "refunds",
    "Every refund with its state.",
    ("refund_id", "for", "status", "total", "currency", "issued_at", "overdue_at", "overdue"),
    "--status requested",
)
claims = _list_command(
    "claims",
    "Every wrong-item claim with its state.",
    ("claim_id", "order_id", "line_id", "quantity", "status", "reported_at", "contact_by", "overdue", "refund_id"),
    "--status open",
)


@contextmanager
def answering(
    view: str, store: str, views: str | None, from_events: bool, as_of: str | None, known_at: str | None
) -> Iterator[Answering]:
    """What answers: the stored lists where they can, and the questions; on stderr, which it is, and what is parked."""
    moments = instant("as-of", as_of), instant("known-at", known_at)
    with opened(store) as services, ExitStack() as stack:
        damaged: list[Damage] = []
        questions = services.questions
        questions.damaged = damaged.append
        stored = None
        if not from_events and moments == (None, None):
            stored = _stored(stack, view, store, views, questions)
        yield stored, questions, *moments
        for damage in damaged:
            say_damaged(damage)


def _stored(stack: ExitStack, view: str, store: str, views: str | None, questions: Questions) -> StoredLists | None:
    """The stored lists, when there is a stored view that was built; never an obstacle to an answer from the facts."""
    kept = None
    try:
        kept = stored_views(store, views, create=False)
        if kept is None:
            if views is not None:
                raise click.UsageError(f"--views: there are no stored views at {views}")
            return None
        stack.callback(kept.close)
        reading = stack.enter_context(kept.reading())
        status = status_of(view, questions.store, reading)
    except (StoreUnusable, StoreBusy) as error:
        if views is not None and kept is None:  # what was asked for by name cannot even be opened
            raise
        click.echo(printable(f"from the facts: {error}"), err=True)
        return None
    if status.state in ("missing", "being built", "ahead"):
        click.echo(f"from the facts: the stored view {view!r} is {status.state}", err=True)
        return None
    click.echo(_how_far(status), err=True)
    for damage in status.parked:
        say_damaged(damage)
    return StoredLists(reading)


def _how_far(status: ViewStatus) -> str:
    if not status.behind:
        return "stored view, up to date"
    count = f"{status.behind:,} fact{'' if status.behind == 1 else 's'}"
    return f"stored view, {count} behind; `returnable project` brings it up to date"


# ---- printing ---------------------------------------------------------------------------------------------------------


def print_rows(columns: Sequence[str], values: Iterable[Values], as_json: bool, right: Sequence[str] = ()) -> None:
    if as_json:
        for one in values:
            say_json(to_json(one))
        return
    if not print_table(columns, values, right):
        click.echo("none", err=True)


def print_table(columns: Sequence[str], values: Iterable[Mapping[str, Any]], right: Sequence[str] = ()) -> int:
    """Print rows as they come, under a header; how many there were."""
    rows = ([_cell(one.get(name)) for name in columns] for one in values)
    first = list(islice(rows, MEASURED_ROWS))
    if not first:
        return 0
    widths = [max(len(cell) for cell in column) for column in zip(columns, *first, strict=True)]
    count = 0

    def say(cells: Sequence[str]) -> None:
        padded = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(cells, widths, columns, strict=True)
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")

    say([name.replace("_", " ") for name in columns])
    for group in (first, rows):
        for cells in group:
            say(cells)
            count += 1
    return count


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return identifier(f"{value['kind']} {value['id']}")
    if isinstance(value, list):
        return identifier(", ".join(_short(one) for one in value)) or "–"
    return identifier(str(value))


def _short(value: Any) -> str:
    """An element of a list in a cell: a line as ``2 x 1``, a label or a parcel by its id and state."""
    if not isinstance(value, Mapping):
        return str(value)
    if "line_id" in value:
        return f"{value['quantity']} x {value['line_id']}"
    if "label_id" in value:
        return f"{value['label_id']} {value['status']}"
    return f"{value['parcel_id']}{' delivered' if value['delivered_at'] else ''}"
