"""``returnable orders``, ``returns``, ``refunds`` and ``claims``, and the parts that every list uses."""

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
    json_lines_option,
    opened,
    report_damage,
    store_option,
)
from returnable.adapters.cli.printing import cell, print_json
from returnable.adapters.clock import system_clock
from returnable.adapters.printable import identifier, printable
from returnable.adapters.wiring import stored_views
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.ports import Damage
from returnable.domain.wording import counted
from returnable.projections.follow import ViewStatus, status_of
from returnable.projections.lists import StoredLists, Values
from returnable.projections.questions import Questions

MEASURED_ROWS = 500
"""These first rows decide the widths of the columns; the rows after them are printed one by one."""

Answering: TypeAlias = tuple[StoredLists | None, Questions, datetime | None, datetime | None]


def views_option(command: F) -> F:
    """``--views``: the file of the stored views."""
    return click.option(
        "--views",
        metavar="URL",
        envvar="RETURNABLE_STORE_VIEWS",
        help="The stored views. Default: a file next to the store, shop.db -> shop-views.db.",
    )(command)


def list_options(command: F) -> F:
    """The options of every list."""
    from_events = click.option(
        "--facts", "from_events", is_flag=True, help="Answer from the events, even if there is a stored view."
    )
    return store_option(views_option(from_events(as_of_options(json_lines_option(command)))))


def _list_command(name: str, text: str, columns: tuple[str, ...], example: str) -> click.Command:
    """A command that lists orders, returns, refunds or claims."""

    @click.command(
        name,
        help=f"{text}\n\nSorted by the id of the order. The answer comes from the stored view if there is one (see "
        f"`returnable project`), else from the events.\n\n\b\nreturnable {name}\nreturnable {name} {example}\n"
        f"returnable {name} --json | head",
    )
    @click.option("--status", metavar="STATUS", help="Only entries in this state.")
    @click.option("--limit", type=click.IntRange(0), metavar="N", help="Only the first N.")
    @list_options
    def command(status: str | None, limit: int | None, as_json: bool, **source: Any) -> None:
        at = system_clock()
        with answering(name, **source) as (stored, questions, as_of, known_at):
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
    view: str, store: str, views: str | None, from_events: bool, as_of: datetime | None, known_at: datetime | None
) -> Iterator[Answering]:
    """The stored lists, if they can answer, and the questions. Prints on stderr which of them answers, and parked cases."""
    with opened(store) as services, ExitStack() as stack:
        damaged: list[Damage] = []
        questions = services.questions
        questions.damaged = damaged.append
        stored = None
        if not from_events and as_of is None and known_at is None:
            stored = _stored(stack, view, store, views, questions)
        yield stored, questions, as_of, known_at
        for damage in damaged:
            report_damage(damage)


def _stored(stack: ExitStack, view: str, store: str, views: str | None, questions: Questions) -> StoredLists | None:
    """The stored lists, or ``None`` without a finished stored view: then the events answer."""
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
        if views is not None and kept is None:  # the file that --views names cannot be opened
            raise
        click.echo(printable(f"from the events: {error}"), err=True)
        return None
    if status.state in ("missing", "being built", "ahead"):
        click.echo(f"from the events: the stored view {view!r} is {status.state}", err=True)
        return None
    click.echo(_progress(status), err=True)
    for damage in status.parked:
        report_damage(damage)
    return StoredLists(reading)


def _progress(status: ViewStatus) -> str:
    if not status.behind:
        return "stored view, up to date"
    return f"stored view, {counted(status.behind, 'event')} behind; `returnable project` brings it up to date"


# ---- printing ---------------------------------------------------------------------------------------------------------


def print_rows(columns: Sequence[str], values: Iterable[Values], as_json: bool, right: Sequence[str] = ()) -> None:
    """Print a list as JSON Lines or as a table."""
    if as_json:
        for one in values:
            print_json(to_json(one))
        return
    if not print_table(columns, values, right):
        click.echo("none", err=True)


def print_table(columns: Sequence[str], values: Iterable[Mapping[str, Any]], right: Sequence[str] = ()) -> int:
    """Print a header and the rows, one by one; return the number of rows."""
    rows = ([_cell(one.get(name)) for name in columns] for one in values)
    first = list(islice(rows, MEASURED_ROWS))
    if not first:
        return 0
    widths = [max(len(cell) for cell in column) for column in zip(columns, *first, strict=True)]
    count = 0

    def print_line(cells: Sequence[str]) -> None:
        padded = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(cells, widths, columns, strict=True)
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")

    print_line([name.replace("_", " ") for name in columns])
    for group in (first, rows):
        for cells in group:
            print_line(cells)
            count += 1
    return count


def _cell(value: Any) -> str:
    return identifier(cell(", ".join(map(_short, value)) or None) if isinstance(value, list) else cell(value))


def _short(value: Any) -> str:
    """An element of a list in a cell: an order line as ``2 x 1``, a label or a parcel by its id and state."""
    if not isinstance(value, Mapping):
        return str(value)
    if "line_id" in value:
        return f"{value['quantity']} x {value['line_id']}"
    if "label_id" in value:
        return f"{value['label_id']} {value['status']}"
    return f"{value['parcel_id']}{' delivered' if value['delivered_at'] else ''}"
