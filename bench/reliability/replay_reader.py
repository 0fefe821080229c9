"""A process that says everything a store has to say: ``replay_reader URL POLICY MANNER JOURNEYS SHIFT``.

A line is a name, a tabulator and an answer in JSON. ``POLICY`` is a file with what is in force; the customers live ``SHIFT``
days later than usual. ``MANNER`` is ``sound``; ``resolved-anew`` is a mistake that must be noticed: deadlines are not taken
from the record, but follow once more from clause, zone and calendar.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import to_json

from bench.reliability.journeys import as_file, scenario
from returnable.adapters.eventstore import store as eventstore
from returnable.adapters.eventstore.viewstore import SQLiteViews
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import Parts, assemble, projector
from returnable.domain import events
from returnable.domain.commands import parse_question
from returnable.domain.deadlines import Deadlines
from returnable.domain.errors import ReturnableError
from returnable.domain.events import Delivered, LabelIssued, LabelReceived, encode
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded
from returnable.projections.edges import edges_view
from returnable.projections.history import history
from returnable.projections.redecided import redecide_store
from returnable.projections.stored import VIEWS
from returnable.projections.subjects import find_subject
from returnable.projections.why import why

LATER = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
"""When it is asked."""


def everything(parts: Parts, journeys: int, shift: timedelta) -> Iterator[tuple[str, Any]]:
    """What there is to say: the answers to all commands, given again, and to all questions."""
    for played in play(parts, read_scenario(as_file(told(journeys, shift)), "journeys")):
        yield f"command {played.line}", played.as_dict()
    for case_id in parts.store.case_ids(limit=100_000):
        yield from _of_case(parts, case_id)
    for name in ("orders", "returns", "refunds", "claims"):
        for values in parts.questions.listed(name, LATER):
            yield f"list of {name}", values
    for values in parts.questions.ledger():
        yield "ledger", values
    for values in parts.questions.statistics():
        yield "statistics", values
    yield "worklist", parts.questions.answer(parse_question({"query": "worklist"}), LATER).model_dump(mode="json")
    for case in redecide_store(parts.store, parts.desk.policy):
        yield f"decided again {case.case_id}", [difference.model_dump(mode="json") for difference in case.differences]
    with closing(SQLiteViews(None)) as views:
        projector(parts, views).run()
        with views.reading() as reading:
            for name, view in VIEWS.items():
                columns = tuple(column for column, _ in view.columns)
                for row in reading.rows(name, columns):
                    yield f"stored {name}", row


def told(journeys: int, shift: timedelta) -> list[dict[str, Any]]:
    """The lines of many customers, so much later than usual."""
    lines = scenario(journeys)
    return [
        {name: moved(value, shift) if name.endswith("at") else value for name, value in line.items()} for line in lines
    ]


def moved(value: str, shift: timedelta) -> str:
    """An instant so much later."""
    return (datetime.fromisoformat(value) + shift).isoformat()


def _of_case(parts: Parts, case_id: str) -> Iterator[tuple[str, Any]]:
    policy = parts.desk.policy
    recorded = parts.store.load(case_id)
    for one in recorded:
        yield (
            f"fact {one.event}",
            [one.case_seq, *(part.decode() if isinstance(part, bytes) else part for part in encode(one.event))],
        )
    for kind, name in _subjects(case_id, recorded):
        text = f"{kind}/{name}"
        question = parse_question({"query": kind, f"{kind}_id": name})
        yield text, parts.questions.answer(question, LATER).model_dump(mode="json")
        if kind != "refund":
            audit = parts.questions.answer(parse_question({"query": "audit", "stream": text}), LATER)
            yield f"audit {text}", audit.model_dump(mode="json")
        subject = find_subject(parts.store, policy, text)
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


def resolve_anew(parts: Parts) -> None:
    """The mistake: every deadline follows from local time once more, whenever its fact is read."""
    policy_of_order: Policy = parts.desk.policies.versions[-1]

    def decode(stored_as: str, content: bytes) -> Any:
        event = events.decode(stored_as, content)
        deadlines = Deadlines(policy_of_order)
        if isinstance(event, Delivered):
            before, report = deadlines.of_delivery(event.occurred_at)
            return event.model_copy(update={"return_before": before, "report_before": report})
        if isinstance(event, LabelIssued | LabelReceived):
            return event.model_copy(update={"void_at": deadlines.of_label(event.occurred_at, None)})
        return event

    eventstore.decode = decode  # type: ignore[attr-defined]


def main(url: str, policy: str, manner: str, journeys: str, shift_days: str) -> None:
    """Say everything."""
    parts = assemble(url, policy)
    if manner == "resolved-anew":
        resolve_anew(parts)
    for name, answer in everything(parts, int(journeys), timedelta(days=int(shift_days))):
        sys.stdout.buffer.write(name.encode() + b"\t" + to_json(answer) + b"\n")
    parts.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
