"""A process that says everything a store has to say, or prints a hash of everything of each kind.

``determinism_worker say URL CONTROL JOURNEYS POLICY SHIFT``: a line is a name, a tabulator and an answer in JSON. ``POLICY``
is a file with what is in force; the customers live ``SHIFT`` days later than usual. ``determinism_worker hash URL CONTROL
JOURNEYS`` lives through a history. ``CONTROL`` is ``-``, or a mistake that must be noticed.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from pydantic_core import to_json

from bench.proofs.journeys import as_file, scenario
from bench.proofs.mutants import Mutants
from returnable.adapters.eventstore import store as eventstore
from returnable.adapters.eventstore.open import migrate_store, on_a_server
from returnable.adapters.export.scenario import write_scenario
from returnable.adapters.export.tables import table
from returnable.adapters.report.html import report_html
from returnable.adapters.report.text import report_text
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble, policy_book, projector
from returnable.domain.commands import parse_question
from returnable.domain.deadlines import Deadlines
from returnable.domain.errors import ReturnableError
from returnable.domain.events import encode
from returnable.domain.ports import Recorded
from returnable.projections.edges import edges_view
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Choice, History, Rows, WholeCases
from returnable.projections.redecided import redecide_store
from returnable.projections.replay import history
from returnable.projections.report.build import make_report
from returnable.projections.stored import VIEWS
from returnable.projections.subjects import find_subject
from returnable.projections.why import why

CONTROLS = Mutants()

LATER = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
"""When it is asked."""


def everything(services: Services, journeys: int, shift: timedelta) -> Iterator[tuple[str, Any]]:
    """What there is to say: the answers to all commands, given again, and to all questions."""
    for played in play(services, read_scenario(as_file(journeys_later(journeys, shift)), "journeys")):
        yield f"command {played.line}", played.as_dict()
    for case_id in services.store.case_ids(limit=100_000):
        yield from _of_case(services, case_id)
    for name in ("orders", "returns", "refunds", "claims"):
        for values in services.questions.listed(name, LATER):
            yield f"list of {name}", values
    for values in services.questions.ledger():
        yield "ledger", values
    for values in services.questions.statistics():
        yield "statistics", values
    yield "worklist", services.questions.answer(parse_question({"query": "worklist"}), LATER).model_dump(mode="json")
    for case in redecide_store(services.store, services.handler.policy):
        yield f"decided again {case.case_id}", [difference.model_dump(mode="json") for difference in case.differences]
    with closing(SQLiteViews(None)) as views:
        projector(services, views).run()
        with views.reading() as reading:
            for name, view in VIEWS.items():
                columns = tuple(column for column, _ in view.columns)
                for row in reading.rows(name, columns):
                    yield f"stored {name}", row


def journeys_later(journeys: int, shift: timedelta) -> list[dict[str, Any]]:
    """The lines of so many customers, who live so much later than usual."""

    def moved(value: str) -> str:
        return (datetime.fromisoformat(value) + shift).isoformat()

    return [
        {name: moved(value) if name.endswith("at") else value for name, value in line.items()}
        for line in scenario(journeys)
    ]


def _of_case(services: Services, case_id: str) -> Iterator[tuple[str, Any]]:
    policy = services.handler.policy
    recorded = services.store.load(case_id)
    for one in recorded:
        yield (
            f"fact {one.event_id}",
            [one.case_seq, *(part.decode() if isinstance(part, bytes) else part for part in encode(one.event))],
        )
    for kind, name in _subjects(case_id, recorded):
        text = f"{kind}/{name}"
        question = parse_question({"query": kind, f"{kind}_id": name})
        yield text, services.questions.answer(question, LATER).model_dump(mode="json")
        if kind != "refund":
            audit = services.questions.answer(parse_question({"query": "audit", "stream": text}), LATER)
            yield f"audit {text}", audit.model_dump(mode="json")
        subject = find_subject(services.store, policy, text)
        yield f"history {text}", history(subject, LATER).model_dump(mode="json")
        yield f"edges {text}", edges_view(subject, LATER, False).model_dump(mode="json")
        for one in recorded:
            if one.stream == subject.stream:
                try:
                    yield f"why {text}#{one.version}", why(subject, policy, one.version).model_dump(mode="json")
                except ReturnableError as error:
                    yield f"why {text}#{one.version}", str(error)


def _subjects(case_id: str, recorded: list[Recorded] | Any) -> Iterator[tuple[str, str]]:
    yield "order", case_id
    for one in recorded:
        event: Any = one.event
        if event.type == "ReturnRequested":
            yield "return", event.return_id
        elif event.type == "ClaimOpened":
            yield "claim", event.claim_id
        elif event.type == "RefundRequested":
            yield "refund", event.refund_id


def things(services: Services, journeys: int) -> Iterator[tuple[str, bytes]]:
    for played in play(services, read_scenario(as_file(journeys_later(journeys, timedelta(0))), "journeys")):
        yield "outcomes", to_json(played.as_dict())
    for name, answer in everything(services, journeys, timedelta(0)):
        kind, _, which = name.partition(" ")
        if kind.startswith(("order/", "return/", "claim/", "refund/")):
            kind = "answers"
        yield name if kind in ("list", "stored") else kind, f"{which}\t".encode() + to_json(answer)
    yield from _exports(services)
    for case_id in services.store.case_ids(limit=100_000):
        report = make_report(services.store, services.handler.policy, f"order/{case_id}", LATER)
        yield "report, HTML", report_html(report).encode()
        yield "report, text", report_text(report).encode()


def _exports(services: Services) -> Iterator[tuple[str, bytes]]:
    history, policy = History(services.store), services.handler.policy
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


# ---- controls -----------------------------------------------------------------------------------------------------------


@CONTROLS.replaces(eventstore, "decode")
def _resolved_anew(decode: Any, stored_as: str, content: bytes) -> Any:
    """Every deadline follows once more from clause, zone and calendar, whenever its fact is read."""
    event = decode(stored_as, content)
    policy = policy_book(sys.argv[5]).versions[-1]
    days, of = Deadlines(policy), policy.clauses
    counted = {"return_before": of.returns_window, "report_before": of.wrong_item_window, "void_at": of.returns_ship_by}
    fields = [name for name in counted if hasattr(event, name)]
    return event.model_copy(update={name: days.end(counted[name], event.occurred_at, name) for name in fields})


@CONTROLS.register
def _out_of_a_set(patches: ExitStack) -> None:
    """The rows of a view come in the order of a set."""
    view = VIEWS["audit"]
    unordered: Any = replace(view, of_case=lambda history, policy: set(view.of_case(history, policy)))
    patches.enter_context(patch.dict(VIEWS, {"audit": unordered}))


def main(what: str, url: str, control: str, journeys: str, policy: str | None = None, shift_days: str = "0") -> None:
    if on_a_server(url):
        migrate_store(url)
    services = assemble(url, policy)
    with CONTROLS.switched_on(None if control == "-" else control), closing(services.store):
        if what == "say":
            for name, answer in everything(services, int(journeys), timedelta(days=int(shift_days))):
                sys.stdout.buffer.write(name.encode() + b"\t" + to_json(answer) + b"\n")
        else:
            hashes: dict[str, hashlib._Hash] = {}
            for kind, content in things(services, int(journeys)):
                hashes.setdefault(kind, hashlib.sha256()).update(content + b"\n")
            print(json.dumps({kind: found.hexdigest() for kind, found in hashes.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
