"""``returnable bulk``: one command for many cases."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Any

import click
from pydantic_core import from_json, to_json

from returnable.adapters.bulk import handle_many
from returnable.adapters.cli.options import content_of, store_option
from returnable.adapters.cli.printing import print_json
from returnable.adapters.clock import system_clock
from returnable.adapters.wiring import assemble
from returnable.domain.errors import Impossible
from returnable.domain.wording import counted, listed


@click.command()
@click.argument("file")
@click.option("--command-id", required=True, help="The idempotency key from which that of each case is derived.")
@store_option
def bulk(file: str, command_id: str, store: str) -> int:
    """Carry out one command for many cases. FILE is JSON Lines, or - for standard input.

    The first line is the command without the fields that name a case; every other line has these fields. Each case is
    decided on its own: one that is declined or impossible does not stop the others. One result for each case goes to
    stdout as JSON Lines, a summary goes to stderr. Run it again with the same key, and each case is handled once. Exit
    status 1 if a command was impossible.

    \b
    {"command": "report_return_lost", "reported_at": "2026-03-12T09:00:00-04:00"}
    {"return_id": "R-1"}
    {"return_id": "R-2"}

    \b
    returnable bulk lost-trailer.jsonl --command-id trailer-7 --store sqlite:///shop.db
    """
    template, *cases = _lines(file)
    results: Counter[str] = Counter()
    services = assemble(store, create=store == "memory:")
    with closing(services.store):
        for result in handle_many(
            lambda command: services.handler.handle(command, system_clock()), template, cases, command_id
        ):
            print_json(to_json(result.as_dict()))
            results[result.result] += 1
    summary = [f"{results[name]} {name}" for name in ("accepted", "declined") if results[name]]
    summary += [counted(results["error"], "error")] if results["error"] else []
    click.echo(f"{counted(results.total(), 'case')}: {listed(summary) if summary else 'nothing to do'}", err=True)
    return 1 if results["error"] else 0


def _lines(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(content_of(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = from_json(line)
        except ValueError as error:
            raise Impossible("command.invalid", f"line {number} is not JSON: {error}", field="file") from None
        if not isinstance(fields, dict):
            raise Impossible("command.invalid", f"line {number} is not a JSON object", field="file")
        found.append(fields)
    if not found:
        raise Impossible("command.invalid", "it has no line; the first one is the command", field="file")
    return found
