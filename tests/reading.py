"""What outcomes, books and the worklist say, for tests that look closer than given, when, then does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from returnable.domain.events import ExceptionRaised
from returnable.testing import Scenario


def types(outcome: Mapping[str, Any]) -> list[str]:
    """The type names of an outcome's events."""
    return [event["type"] for event in outcome["events"]]


def failed(outcome: Mapping[str, Any]) -> list[str]:
    """The clauses of an outcome that failed, sorted."""
    ruling = outcome["ruling"] or {"clauses": []}
    return sorted(clause["clause"] for clause in ruling["clauses"] if clause["verdict"] == "fail")


def clause(outcome: Mapping[str, Any], clause_id: str) -> dict[str, Any]:
    """The one finding on a clause: in an outcome's ruling, or in a part of an eligibility answer."""
    ruling = outcome.get("ruling", outcome)
    (found,) = [finding for finding in ruling["clauses"] if finding["clause"] == clause_id]
    return dict(found)


def verdicts(outcome: Mapping[str, Any]) -> dict[str, str]:
    """Clause id → verdict of an outcome's ruling."""
    return {finding["clause"]: finding["verdict"] for finding in outcome["ruling"]["clauses"]}


def code(outcome: Mapping[str, Any]) -> str | None:
    """The error code of an outcome, which then recorded nothing."""
    if outcome["error"] is None:
        return None
    assert outcome["outcome"] == "error"
    assert outcome["events"] == []
    return str(outcome["error"]["code"])


def ledger(story: Scenario) -> list[tuple[str, str, str, str, str]]:
    """Payment, captured, refunded, pending and remaining of the order A-1."""
    rows = story.services.questions.ledger("A-1")
    return [(row["payment_id"], row["captured"], row["refunded"], row["pending"], row["remaining"]) for row in rows]


def work(story: Scenario, **fields: Any) -> list[tuple[str, str]]:
    """The kind of each task on the worklist, and the id of its subject."""
    return [(item["kind"], item["subject"]["id"]) for item in story.ask("worklist", **fields)["items"]]


def last_reasons(story: Scenario) -> list[str]:
    """What the last event of the order A-1 says is contradicted: nothing, unless that event is an exception."""
    stream = story.services.store.load("A-1")[-1].stream
    (*_, last) = story.ask(f"audit/{stream}")["entries"]
    return list(last["details"]["reasons"]) if last["type"] == "ExceptionRaised" else []


def was_contradicted(events: Any) -> bool:
    """Whether an exception is among these events of a case."""
    return any(isinstance(entry.event, ExceptionRaised) for entry in events)
