"""A process that lives through a history and prints a hash of everything of each kind that can be had of it.

``same_bytes_worker URL JOURNEYS MANNER``. ``MANNER`` is ``sound``; ``out-of-a-set`` is a mistake that must be noticed: the
rows of a view come in the order of a set.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic_core import to_json

from bench.reliability.replay_reader import LATER, everything, told
from returnable.adapters.eventstore.open import migrate_store
from returnable.adapters.export.scenario import write_scenario
from returnable.adapters.export.tables import table
from returnable.adapters.report.html import report_html
from returnable.adapters.report.text import report_text
from returnable.adapters.scenario import play
from returnable.adapters.wiring import Parts, assemble
from returnable.projections import stored
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Choice, History, Rows, WholeCases
from returnable.projections.report.build import make_report


def things(parts: Parts, journeys: int) -> Iterator[tuple[str, bytes]]:
    """The kind and the bytes of everything there is."""
    lines = [(nth, to_json(line)) for nth, line in enumerate(told(journeys, timedelta(0)), start=1)]
    for played in play(parts, lines):
        yield "outcomes", to_json(played.as_dict())
    for name, answer in everything(parts, journeys, timedelta(0)):
        kind, _, which = name.partition(" ")
        if kind.startswith(("order/", "return/", "claim/", "refund/")):
            kind = "answers"
        yield name if kind in ("list", "stored") else kind, f"{which}\t".encode() + to_json(answer)
    yield from _exports(parts)
    for case_id in parts.store.case_ids(limit=100_000):
        report = make_report(parts.store, parts.desk.policy, f"order/{case_id}", LATER)
        yield "report, HTML", report_html(report).encode()
        yield "report, text", report_text(report).encode()


def _exports(parts: Parts) -> Iterator[tuple[str, bytes]]:
    history, policy = History(parts.store), parts.desk.policy
    rows = Rows(history, policy)
    for form in ("jsonl", "csv"):
        for name, chosen, columns in (("facts", rows.events, FACT_COLUMNS), ("clauses", rows.clauses, CLAUSE_COLUMNS)):
            sink = io.BytesIO()
            writer = table(form, sink, columns)
            for row in chosen(Choice(), lambda _: None):
                writer.write(row)
            writer.end()
            yield f"export of {name}, {form}", sink.getvalue()
    sink = io.BytesIO()
    write_scenario(sink, history, WholeCases(history, Choice()), policy)
    yield "export, scenario", sink.getvalue()


def order_by_a_set() -> None:
    """The mistake."""
    views: Any = stored.VIEWS
    view = views["audit"]
    views["audit"] = replace(view, of_case=lambda history, policy: set(view.of_case(history, policy)))


def main(url: str, journeys: str, manner: str) -> None:
    """Print the hash of each kind."""
    if manner == "out-of-a-set":
        order_by_a_set()
    if url.startswith("postgresql:"):
        migrate_store(url)
    parts = assemble(url)
    hashes: dict[str, hashlib._Hash] = {}
    for kind, content in things(parts, int(journeys)):
        hashes.setdefault(kind, hashlib.sha256()).update(content + b"\n")
    parts.store.close()
    print(json.dumps({kind: found.hexdigest() for kind, found in hashes.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
