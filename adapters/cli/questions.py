"""Questions about one subject, and the worklist: ``order``, ``return``, ``claim``, ``refund``, ``arrival``,
``eligibility``, ``audit``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from returnable.adapters.cli.options import opened, print_answer, question_options, report_damage
from returnable.adapters.cli.tables import show
from returnable.adapters.clock import system_clock
from returnable.domain.commands import parse_question


def _ask(store: str, as_of: datetime | None, known_at: datetime | None, as_json: bool, **fields: Any) -> None:
    times = {"as_of": as_of, "known_at": known_at}
    question = parse_question(fields | {name: value for name, value in times.items() if value is not None})
    with opened(store) as services:
        services.questions.damaged = report_damage
        answer = services.questions.answer(question, system_clock())
    print_answer(answer, as_json, show)


def _question(name: str, field: str, text: str, example: str) -> click.Command:
    """A command that asks about one subject by its id."""

    @click.command(name, help=f"{text}\n\n\b\nreturnable {name} {example}\nreturnable {name} {example} --json")
    @click.argument(field)
    @question_options
    def command(store: str, as_of: datetime | None, known_at: datetime | None, as_json: bool, **given: str) -> None:
        _ask(store, as_of, known_at, as_json, query=name, **given)

    return command


order = _question("order", "order_id", "The state of an order.", "A-1")
return_ = _question("return", "return_id", "The state of a return.", "R-1 --as-of 2026-03-12T00:00:00-04:00")
claim = _question("claim", "claim_id", "The state of a wrong-item claim.", "W-1")
arrival = _question(
    "arrival", "arrival_id", "The state of a parcel that nobody announced, and what it may be for.", "D-1"
)
eligibility = _question("eligibility", "order_id", "What could be cancelled, returned or claimed, and why not.", "A-1")
audit = _question(
    "audit",
    "stream",
    "What was recorded in a stream. STREAM is order/ID, return/ID, claim/ID or arrival/ID.",
    "return/R-1",
)


@click.command()
@click.argument("refund_id", required=False)
@click.option("--return", "return_id", metavar="ID", help="The refund of this return, or the amount due.")
@click.option("--order", "order_id", metavar="ID", help="The refund of this cancelled order, or the amount due.")
@click.option("--claim", "claim_id", metavar="ID", help="The refund of this claim, or the amount due.")
@question_options
def refund(store: str, as_of: datetime | None, known_at: datetime | None, as_json: bool, **given: str | None) -> None:
    """The state of a refund. Give its own id, or the return, order or claim that it pays for.

    \b
    returnable refund F-1
    returnable refund --return R-1
    """
    _ask(store, as_of, known_at, as_json, query="refund", **{k: v for k, v in given.items() if v is not None})


@click.command()
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind; may be repeated.")
@question_options
def worklist(
    store: str, as_of: datetime | None, known_at: datetime | None, as_json: bool, kinds: tuple[str, ...]
) -> None:
    """Work that waits for somebody, the most urgent first.

    \b
    returnable worklist
    returnable worklist --kind inspect --kind refund_overdue
    """
    given = {"kinds": list(kinds)} if kinds else {}
    _ask(store, as_of, known_at, as_json, query="worklist", **given)
