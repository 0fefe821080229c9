"""A process that serves one customer after the other at a desk, as a host does, and keeps a ledger of the answers.

``outages_worker URL FOLDER NTH OF STRATEGY`` serves the ``NTH`` of every ``OF`` customers until there is a file ``stop`` in
the folder, and then the one it is at to the end. A line is in the ledger, and on the disk, before the next command is given.

The strategy says who repeats. ``store``: the store waits for a lost server, and finds out itself what became of what it had
sent. ``store-without-ids``: the same, and as the commands have no ids, nothing else can find out. ``host``: the store gives
up at once, and the host gives the command again under its id. ``host-without-ids``: the same, which is wrong.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic_core import to_json

from bench.proofs.journeys import journey
from bench.proofs.reference import without_ids
from returnable.adapters.eventstore.postgres import PostgresStore
from returnable.adapters.eventstore.postgres_connections import Limits
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.scenario import Played, play
from returnable.adapters.wiring import Services, policy_book
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.handler import CommandHandler

RetryStrategy: TypeAlias = Literal["store", "store-without-ids", "host", "host-without-ids"]

_AGAIN_SECONDS = 0.03


def lines_of(customer: int, strategy: RetryStrategy) -> list[bytes]:
    """What is told of a customer, line by line."""
    lines = journey(customer)
    return [to_json(line) for line in (without_ids(lines) if strategy.endswith("without-ids") else lines)]


def answer_of(played: Played) -> dict[str, Any]:
    """What a ledger keeps of an answer: all of it as a hash, and what is counted in plain words."""
    given = played.as_dict()
    return {
        "hash": hashlib.sha256(to_json(given)).hexdigest(),
        "command": given["command"],
        "outcome": given["outcome"],
        "error": given["error"] and given["error"]["code"],
        "facts": [[event["stream"], event["version"], event["type"]] for event in given["events"]],
    }


def _serve(services: Services, content: bytes, number: int) -> tuple[Played, int]:
    """The answer to a command, and how often it was given."""
    for given in count(1):
        try:
            (played,) = play(services, [(number, content)])
            return played, given
        except (StoreUnusable, StoreBusy):
            time.sleep(_AGAIN_SECONDS)
    raise AssertionError


def main(url: str, where: str, nth: str, of: str, strategy: RetryStrategy) -> None:
    folder = Path(where)
    limits = Limits() if strategy.startswith("store") else Limits(patience_seconds=0.0)
    store = PostgresStore(place_of(url), limits=limits)
    services = Services(store, CommandHandler(store, policy_book(None)))
    with (folder / f"{nth}.ledger").open("wb", buffering=0) as ledger:
        print("opened", flush=True)
        for customer in count(int(nth), int(of)):
            if (folder / "stop").exists():
                break
            for number, content in enumerate(lines_of(customer, strategy), start=1):
                played, given = _serve(services, content, number)
                again = played.outcome is not None and played.outcome.replayed
                line = {"customer": customer, "number": number, "given": given, "again": again} | answer_of(played)
                ledger.write(to_json(line) + b"\n")
                os.fsync(ledger)
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
