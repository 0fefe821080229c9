"""``returnable statistics``: how each clause decided, and the money at stake."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import click

from returnable.adapters.cli.lists import answering, list_options, print_rows
from returnable.adapters.cli.options import instant_option


@click.command()
@instant_option("--from", "since", "Only decisions at this instant or later")
@instant_option("--to", "until", "Only decisions before this instant")
@list_options
def statistics(since: datetime | None, until: datetime | None, as_json: bool, **source: Any) -> None:
    """How often each clause failed or passed. Also how often it was set aside or did not apply, and the amounts at stake.

    "alone" counts decisions that only this clause declined. The amount is what is at stake: the price and tax of the
    units for a return, a label or a claim, those of the rejected units for an inspection, the payments for a
    cancellation, the tenders for a refund, and the fee for returns.label_fee.

    \b
    returnable statistics
    returnable statistics --from 2026-01-01T00:00:00-05:00 --to 2026-04-01T00:00:00-04:00 --json
    """
    with answering("clauses", **source) as (stored, questions, as_of, known_at):
        asked = (
            stored.statistics if stored is not None else partial(questions.statistics, as_of=as_of, known_at=known_at)
        )
        found = asked(since, until)
        if as_json:
            print_rows((), found, as_json)
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
        print_rows(("clause", "currency", *names, "passed", "not_applicable"), flat, as_json, right=numbers)
