"""``returnable project``, and the lists: orders, returns, refunds, claims, the ledger and the clause statistics."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from returnable.adapters.cli.options import (
    F,
    as_of_options,
    instant,
    json_lines_option,
    json_option,
    opened,
    progress,
    say_damaged,
    store_option,
)
from returnable.adapters.cli.printing import say_json
from returnable.adapters.cli.staying import stopped_by_signal
from returnable.adapters.printable import identifier, printable

if TYPE_CHECKING:
    from datetime import datetime

    from returnable.domain.ports import Damage
    from returnable.projections.follow import Projector, Standing
    from returnable.projections.lists import StoredLists, Values
    from returnable.projections.questions import Questions

POLL_SECONDS = 0.05
"""How long ``--follow`` waits before it looks for new facts again."""

MEASURED_ROWS = 500
"""The first rows of a list decide how wide its columns are; the others are printed as they come."""

SHOWN_PARKED = 20


def views_option(command: F) -> F:
    """``--views``: where the stored views are."""
    return click.option(
        "--views",
        metavar="URL",
        envvar="RETURNABLE_STORE_VIEWS",
        help="Where the stored views are. Default: beside the store, shop.db -> shop-views.db.",
    )(command)


# ---- project ----------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--follow", is_flag=True, help="Stay and keep up, until Ctrl-C or SIGTERM.")
@click.option("--rebuild", "rebuilt", multiple=True, metavar="NAME", help="Build this view anew (or all); repeatable.")
@click.option("--status", is_flag=True, help="Only say how far each view is, and what is parked.")
@store_option
@views_option
@json_option
def project(follow: bool, rebuilt: tuple[str, ...], status: bool, store: str, views: str | None, as_json: bool) -> int:
    """Bring the stored views up to date with the facts: orders, returns, refunds, claims, worklist, audit, ledger, clauses.

    They are kept in a file of their own, which may be deleted at any time. Kill this command whenever you like and
    start it again; run it twice at once if you must. A case with a fact that cannot be read is parked before that fact
    and reported; all other cases go on. Exit status 1 while anything is parked.

    \b
    returnable project --store sqlite:///shop.db
    returnable project --follow
    returnable project --rebuild ledger --rebuild clauses
    returnable project --status --json
    """
    from returnable.adapters.wiring import projector, stored_views
    from returnable.projections.stored import VIEWS

    if status and (follow or rebuilt):
        raise click.UsageError("--status goes with neither --follow nor --rebuild")
    unknown = [name for name in rebuilt if name not in VIEWS and name != "all"]
    if unknown:
        raise click.UsageError(f"--rebuild: there is no view {unknown[0]!r}; there are {', '.join(VIEWS)}, and all")
    with opened(store) as parts, ExitStack() as stack:
        kept = stored_views(store, views, create=not status, anew="all" in rebuilt)
        if kept is None:
            return _say_standings(_never_projected(parts.store.head()), as_json)
        stack.callback(kept.close)
        working = projector(parts, kept)
        if not status:
            if rebuilt:
                working.rebuild(tuple(VIEWS) if "all" in rebuilt else tuple(dict.fromkeys(rebuilt)))
            _run(working, follow)
        return _say_standings(working.standings(), as_json)


def _never_projected(head: int) -> list[Standing]:
    from returnable.projections.follow import Standing
    from returnable.projections.stored import VIEWS

    return [Standing(name, None, head, ()) for name in VIEWS]


def _run(working: Projector, follow: bool) -> None:
    left = sum(standing.behind for standing in working.standings())
    if not follow:
        with progress("projecting", left) as advance:
            working.run(advance)
        return
    with stopped_by_signal() as stop:
        with progress("projecting", left) as advance:
            working.run(advance, stop.is_set)
        if not stop.is_set():
            click.echo("following (Ctrl-C ends)", err=True)
            told = _ToldParked(working)
            working.follow(told.wait, stop.is_set, told.advance)


class _ToldParked:
    """Says on stderr what was parked, once, whenever there is nothing else to do."""

    def __init__(self, working: Projector) -> None:
        self._working = working
        self._moved = True
        self._told: set[tuple[str, int]] = set()

    def advance(self, count: int) -> None:
        """Something was told."""
        self._moved = True

    def wait(self) -> None:
        """Say what is new, and wait for facts."""
        if self._moved:
            self._moved = False
            parked = {(damage.case_id, damage.position): damage for _, damage in self._working.views.parked()}
            for key in sorted(parked.keys() - self._told):
                say_damaged(parked[key])
            self._told.update(parked)
        time.sleep(POLL_SECONDS)


def _say_standings(standings: Sequence[Standing], as_json: bool) -> int:
    from pydantic_core import to_json

    parked = {(d.case_id, d.position): d for standing in standings for d in standing.parked}
    if as_json:
        rows = [
            {
                "view": standing.view,
                "state": standing.state,
                "position": standing.mark.position if standing.mark else 0,
                "head": standing.head,
                "behind": standing.behind,
                "parked": [_damage_values(damage) for damage in standing.parked],
            }
            for standing in standings
        ]
        say_json(to_json({"views": rows}, indent=2))
        return 1 if parked else 0
    columns = ("view", "state", "position", "behind", "parked")
    _print_table(
        columns,
        (
            {
                "view": standing.view,
                "state": standing.state,
                "position": f"{standing.mark.position if standing.mark else 0:,}",
                "behind": f"{standing.behind:,}",
                "parked": f"{len(standing.parked):,}",
            }
            for standing in standings
        ),
        right=("position", "behind", "parked"),
    )
    for damage in list(parked.values())[:SHOWN_PARKED]:
        say_damaged(damage, err=False)
    if len(parked) > SHOWN_PARKED:
        click.echo(f"… and {len(parked) - SHOWN_PARKED:,} more parked cases (--json has all)")
    return 1 if parked else 0


def _damage_values(damage: Damage) -> Mapping[str, Any]:
    return {
        "case_id": damage.case_id,
        "stream": damage.stream,
        "version": damage.version,
        "position": damage.position,
        "reason": damage.reason,
    }


# ---- lists ------------------------------------------------------------------------------------------------------------


def list_options(command: F) -> F:
    """What every list takes."""
    facts = click.option("--facts", is_flag=True, help="Answer from the facts, even where a stored view exists.")
    return store_option(views_option(facts(as_of_options(json_lines_option(command)))))


def _list_command(name: str, text: str, columns: tuple[str, ...], example: str) -> click.Command:
    """A command that lists orders, returns, refunds or claims."""

    @click.command(
        name,
        help=f"{text}\n\nIn order of the order's id; from the stored view where there is one (see `returnable project`), "
        f"else from the facts.\n\n\b\nreturnable {name}\nreturnable {name} {example}\nreturnable {name} --json | head",
    )
    @click.option("--status", metavar="STATUS", help="Only those in this state.")
    @click.option("--limit", type=click.IntRange(0), metavar="N", help="Only the first N.")
    @list_options
    def command(status: str | None, limit: int | None, as_json: bool, **where: Any) -> None:
        from returnable.adapters.clock import system_clock

        at = system_clock()
        with _answering(name, **where) as (stored, questions, as_of, known_at):
            if stored is not None:
                found = stored.listed(name, at, status, limit)
            else:
                found = questions.listed(name, at, as_of, known_at, status, limit)
            _print(columns, found, as_json)

    return command


orders = _list_command(
    "orders",
    "Every order, and how it stands.",
    ("order_id", "status", "confirmed_at", "currency", "lines", "parcels", "returns", "claims"),
    "--status delivered --as-of 2026-03-12T00:00:00-04:00",
)
returns = _list_command(
    "returns",
    "Every return, and how it stands.",
    ("return_id", "order_id", "status", "requested_at", "lines", "labels", "received_at", "inspected_at", "refund_id"),
    "--status in_transit",
)
refunds = _list_command(
    "refunds",
    "Every refund, and how it stands.",
    ("refund_id", "for", "status", "total", "currency", "issued_at", "overdue_at", "overdue"),
    "--status requested",
)
claims = _list_command(
    "claims",
    "Every wrong-item claim, and how it stands.",
    ("claim_id", "order_id", "line_id", "quantity", "status", "reported_at", "contact_by", "overdue", "refund_id"),
    "--status open",
)

_MONEY_COLUMNS = ("captured", "refunded", "pending", "remaining")
_LEDGER_COLUMNS = ("order_id", "payment_id", "method", "currency", *_MONEY_COLUMNS)


@click.command()
@click.argument("order_id", required=False)
@list_options
def ledger(order_id: str | None, as_json: bool, **where: Any) -> None:
    """What was captured by each payment of an order, what of it went back, what is asked back, and what remains.

    captured = refunded + remaining; requested is the part of remaining that was asked back and is not answered yet.

    \b
    returnable ledger
    returnable ledger A-1 --as-of 2026-03-17T00:00:00-04:00
    """
    from returnable.domain.case import unknown

    totals: dict[str, dict[str, Decimal]] = {}

    def added(values: Iterable[Values]) -> Iterator[Values]:
        for one in values:
            total = totals.setdefault(one["currency"], dict.fromkeys(_MONEY_COLUMNS, Decimal(0)))
            for name in _MONEY_COLUMNS:
                total[name] += Decimal(one[name])
            yield one
        if order_id is None and not as_json:
            for currency, total in sorted(totals.items()):
                sums = {name: str(total[name]) for name in _MONEY_COLUMNS}
                yield {"order_id": "TOTAL", "payment_id": None, "method": None, "currency": currency} | sums

    with _answering("ledger", **where) as (stored, questions, as_of, known_at):
        if order_id is not None and not any(questions.store.readable(order_id)):
            raise unknown("order", order_id)
        found = stored.ledger(order_id) if stored is not None else questions.ledger(order_id, as_of, known_at)
        _print(_LEDGER_COLUMNS, added(found), as_json, right=_MONEY_COLUMNS)


@click.command()
@click.option("--from", "since", metavar="INSTANT", help="Decided from this instant on (RFC 3339).")
@click.option("--to", "until", metavar="INSTANT", help="Decided before this instant (RFC 3339).")
@list_options
def statistics(since: str | None, until: str | None, as_json: bool, **where: Any) -> None:
    """How often each clause failed a decision, was set aside, passed, or had nothing to say, and the amounts at stake.

    alone: declined because of this clause only. The amount is the price of the units for a return, a label, an
    inspection or a claim, what was paid for a cancellation, what goes back for a refund, and the fee for
    returns.label_fee.

    \b
    returnable statistics
    returnable statistics --from 2026-01-01T00:00:00-05:00 --to 2026-04-01T00:00:00-04:00 --json
    """
    begin, end = instant("from", since), instant("to", until)
    with _answering("clauses", **where) as (stored, questions, as_of, known_at):
        asked = (
            stored.statistics if stored is not None else partial(questions.statistics, as_of=as_of, known_at=known_at)
        )
        found = asked(begin, end)
        if as_json:
            _print((), found, as_json)
            return
        verdicts = ("failed", "alone", "overridden", "passed", "not_applicable")
        flat = (
            {"clause": one["clause"], "currency": one["currency"]}
            | {name: f"{one[name]['decisions']:,}" for name in verdicts}
            | {f"{name} amount": one[name]["amount"] for name in verdicts[:3]}
            for one in found
        )
        numbers = (*verdicts, *(f"{name} amount" for name in verdicts[:3]))
        names = ("failed", "failed amount", "alone", "alone amount", "overridden", "overridden amount")
        _print(("clause", "currency", *names, "passed", "not_applicable"), flat, as_json, right=numbers)


_Answering = tuple["StoredLists | None", "Questions", "datetime | None", "datetime | None"]


@contextmanager
def _answering(
    view: str, store: str, views: str | None, facts: bool, as_of: str | None, known_at: str | None
) -> Iterator[_Answering]:
    """What answers: the stored lists where they can, and the questions; on stderr, which it is, and what is parked."""
    moments = instant("as-of", as_of), instant("known-at", known_at)
    with opened(store) as parts, ExitStack() as stack:
        damaged: list[Damage] = []
        questions = parts.questions
        questions.damaged = damaged.append
        stored = None
        if not facts and moments == (None, None):
            stored = _stored(stack, view, store, views, questions)
        yield stored, questions, *moments
        for damage in damaged:
            say_damaged(damage)


def _stored(stack: ExitStack, view: str, store: str, views: str | None, questions: Questions) -> StoredLists | None:
    """The stored lists, when there is a stored view that was built; never an obstacle to an answer from the facts."""
    from returnable.adapters.wiring import stored_views
    from returnable.domain.errors import StoreBusy, StoreUnusable
    from returnable.projections.follow import standing_of
    from returnable.projections.lists import StoredLists

    kept = None
    try:
        kept = stored_views(store, views, create=False)
        if kept is None:
            if views is not None:
                raise click.UsageError(f"--views: there are no stored views at {views}")
            return None
        stack.callback(kept.close)
        reading = stack.enter_context(kept.reading())
        standing = standing_of(view, questions.store, reading)
    except (StoreUnusable, StoreBusy) as error:
        if views is not None and kept is None:  # what was asked for by name cannot even be opened
            raise
        click.echo(printable(f"from the facts: {error}"), err=True)
        return None
    if standing.state in ("missing", "being built", "ahead"):
        click.echo(f"from the facts: the stored view {view!r} is {standing.state}", err=True)
        return None
    click.echo(_how_far(standing), err=True)
    for damage in standing.parked:
        say_damaged(damage)
    return StoredLists(reading)


def _how_far(standing: Standing) -> str:
    if not standing.behind:
        return "stored view, up to date"
    count = f"{standing.behind:,} fact{'' if standing.behind == 1 else 's'}"
    return f"stored view, {count} behind; `returnable project` brings it up to date"


# ---- printing ---------------------------------------------------------------------------------------------------------


def _print(columns: Sequence[str], values: Iterable[Values], as_json: bool, right: Sequence[str] = ()) -> None:
    from pydantic_core import to_json

    if as_json:
        for one in values:
            say_json(to_json(one))
        return
    if not _print_table(columns, values, right):
        click.echo("none", err=True)


def _print_table(columns: Sequence[str], values: Iterable[Mapping[str, Any]], right: Sequence[str] = ()) -> int:
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
