"""A decision with every clause it weighed: passed, failed, set aside or not applicable, and on which facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from returnable.domain.fields import to_text

if TYPE_CHECKING:
    from returnable.domain.policy import Policy

Verdict = Literal["pass", "fail", "not_applicable", "overridden"]


class Finding(BaseModel):
    """How one clause was judged, on which facts. The quote and the reason in plain English follow from these."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    clause: str
    verdict: Verdict
    facts: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Aside:
    """An override in force: who set the clause aside, why, and the fact that says so."""

    clause: str
    approved_by: str
    reason: str
    granted_at: datetime
    fact: str
    """Stream and version of the ``OverrideGranted``, such as ``order/A-1#4``."""


class Weighing:
    """Weighs clause after clause under one policy; what an override sets aside does not fail."""

    def __init__(self, policy: Policy, asides: Iterable[Aside] = ()) -> None:
        self.policy = policy
        self._asides = {aside.clause: aside for aside in asides}
        self.findings: list[Finding] = []

    @property
    def allowed(self) -> bool:
        """Whether nothing failed so far."""
        return all(finding.verdict != "fail" for finding in self.findings)

    def weigh(self, clause: str, holds: bool | None, facts: dict[str, JsonValue]) -> Verdict:
        """Judge a clause: ``holds`` is ``None`` where it has nothing to say. The verdict also goes on the list."""
        verdict: Verdict
        if not self.policy.clause(clause).applies:
            verdict = "not_applicable"
            facts["applies"] = False
        elif holds is None:
            verdict = "not_applicable"
        elif holds:
            verdict = "pass"
        else:
            aside = self._asides.get(clause)
            verdict = "overridden" if aside else "fail"
            if aside:
                facts["override"] = {
                    "approved_by": aside.approved_by,
                    "reason": aside.reason,
                    "granted_at": to_text(aside.granted_at),
                    "fact": aside.fact,
                }
        self.findings.append(Finding.model_construct(clause=clause, verdict=verdict, facts=facts))
        return verdict

    def set_aside(self, clause: str) -> bool:
        """Whether an override sets the clause aside."""
        return clause in self._asides

    @property
    def ruling(self) -> tuple[Finding, ...]:
        """The findings as a decision keeps them."""
        return tuple(self.findings)


def margin_seconds(deadline: datetime, instant: datetime) -> float | int:
    """Seconds left until the deadline; negative: that much too late. Whole numbers stay whole."""
    seconds = (deadline - instant).total_seconds()
    return int(seconds) if seconds.is_integer() else seconds
