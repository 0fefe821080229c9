"""One command for many cases, such as a recall or a lost trailer. Each case is decided on its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.outcome import Outcome, error_view


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case: its outcome, accepted or declined, or the error that made the command impossible."""

    case: Mapping[str, Any]
    """The fields that name the case, as given."""
    command_id: str
    """The idempotency key that was derived for the case."""
    outcome: Outcome | None
    error: Impossible | None

    @property
    def result(self) -> str:
        """``accepted``, ``declined`` or ``error``."""
        return "error" if self.outcome is None else self.outcome.outcome

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        shown: dict[str, Any] = {"case": from_json(to_json(self.case)), "command_id": self.command_id}
        if self.error is not None:
            return shown | {"outcome": "error", "error": error_view(self.error).model_dump(mode="json")}
        assert self.outcome is not None
        return shown | self.outcome.as_dict()


def handle_many(
    handle: Callable[[Command], Outcome],
    template: Mapping[str, Any],
    cases: Iterable[Mapping[str, Any]],
    command_id: str,
) -> Iterator[CaseResult]:
    """Carry out the command of the template once for each case, with the fields of the case added to it.

    An impossible command does not stop the others. The ``command_id`` of each follows from the one given and the fields of
    the case: repeat the call with the same one, in any order and with more cases, and each case is handled once.
    """
    for case in cases:
        content = json.dumps(from_json(to_json(case)), sort_keys=True)
        of_case = f"{command_id}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        try:
            outcome = handle(parse_command({**template, **case, "command_id": of_case}))
        except Impossible as error:
            yield CaseResult(case, of_case, None, error)
        else:
            yield CaseResult(case, of_case, outcome, None)
