"""Policies for tests: the bundled one with some of its numbers changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from returnable.adapters.wiring import policy_book
from returnable.domain.policy import Policy, PolicyBook, policy_from


def a_policy(
    clauses: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    base: PolicyBook | str | Path | None = None,
    id: str | None = None,
    effective: date | str | None = None,
    version: str | None = None,
    zone: str | None = None,
    closed_also: Sequence[date | str] | None = None,
) -> Policy:
    """The newest version of a policy (default: the bundled one) with parameters of its clauses changed.

    ``clauses``: clause id → parameter → value; ``applies`` is a parameter of every clause. ``effective`` and ``version`` make
    it another version, ``id`` another merchant's policy; ``closed_also`` are further days off. Raises
    :class:`~returnable.domain.errors.PolicyInvalid` for an unknown clause, parameter or value, and ``ValueError`` if nothing
    changes, because the test would not test another policy.

    >>> a_policy({"returns.window": {"days": 30}}).clauses.returns_window.days
    30
    """
    content: dict[str, Any] = from_json(policy_book(base).versions[-1].document)
    for clause, changes in (clauses or {}).items():
        content["clauses"][clause] = content["clauses"].get(clause, {}) | from_json(to_json(changes))
    if closed_also is not None:
        content["calendar"]["closed_also"] = [str(day) for day in closed_also]
    changed = {"id": id, "effective": effective and str(effective), "version": version, "zone": zone}
    content |= {name: value for name, value in changed.items() if value is not None}
    policy = policy_from(content, "a_policy()")
    if clauses and policy.document == policy_book(base).versions[-1].document:
        raise ValueError(f"a_policy(): nothing changes: {policy.id} {policy.version} has {dict(clauses)!r} already")
    return policy
