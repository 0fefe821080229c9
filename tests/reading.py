"""What the JSON values of an outcome say, for tests that look closer than given, when, then does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
