"""Scenarios as tests: the pytest collector of files named ``….scenario.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from returnable.adapters.scenario import Played, ScenarioUnreadable, play_fresh, policy_beside, read_scenario
from returnable.domain.errors import ReturnableError

SHOWN = 12
"""How many of the lines before a failure are shown."""


class ScenarioFailed(Exception):
    """A line has another outcome than it expects."""


class ScenarioFile(pytest.File):
    """A scenario; each of its lines is a test.

    It is played as a whole, once in each process that runs a line of it, on a fresh store in memory. Its policy is the one
    next to it (``NAME.policies/`` or ``NAME.policy.toml``), else that of the setting ``returnable_policy``.
    """

    numbered: list[tuple[int, bytes]]
    """Its lines, each with its number."""
    policy: str | None = None
    """The setting ``returnable_policy``."""
    _played: dict[int, Played] | None = None

    def collect(self) -> Iterable[pytest.Item]:
        """A test for each line."""
        try:
            self.numbered = read_scenario(self.path.read_bytes(), str(self.path.name))
        except ScenarioUnreadable as error:
            raise self.CollectError(str(error)) from None
        for number, line in self.numbered:
            yield ScenarioLine.from_parent(self, name=_name(number, line), number=number)

    def played(self, number: int) -> Played:
        """The outcome of a line."""
        if self._played is None:
            beside = policy_beside(self.path)
            policy = self.policy if beside is None else beside
            self._played = {each.line: each for each in play_fresh(self.path.read_bytes(), self.path.name, policy)}
        return self._played[number]


class ScenarioLine(pytest.Item):
    """A line of a scenario."""

    def __init__(self, *, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def runtest(self) -> None:
        """Raise if the outcome is not as the line expects."""
        played = self.file.played(self.number)
        if played.problems:
            raise ScenarioFailed("\n".join(self._told(played)))

    @property
    def file(self) -> ScenarioFile:
        """The scenario of this line."""
        assert isinstance(self.parent, ScenarioFile)
        return self.parent

    def _told(self, played: Played) -> Iterator[str]:
        from returnable.adapters.cli.words import explained

        yield f"{self.path.name}:{self.number}: not as expected"
        yield ""
        yield from (f"    {mismatch}" for mismatch in played.problems)
        yield ""
        numbers = [number for number, _ in self.file.numbered if number <= self.number]
        first = next(number for number in numbers if self.file.played(number).problems)
        if first != self.number:
            yield f"Line {first} is the first that is not as expected, and may be why."
            return
        yield "What happened, up to this line:"
        for number in numbers[-SHOWN:]:
            yield from explained(self.file.played(number))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The text of a failure, for people, without a traceback."""
        if isinstance(excinfo.value, ScenarioFailed | ReturnableError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int, str]:
        """The file and the line."""
        return self.path, self.number - 1, f"{self.path.name}:{self.name}"


def _name(number: int, line: bytes) -> str:
    """The number of a line and its command, as the name of a test."""
    import json

    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return str(number)
    says = fields.get("command") or fields.get("query")
    subject = next((fields[key] for key in _SUBJECTS if isinstance(fields.get(key), str)), "")
    told = f"{number} {says} {subject}".strip() if isinstance(says, str) else str(number)
    return "".join(char if char.isprintable() and char not in "[]:" else "_" for char in told)[:100]


_SUBJECTS = ("refund_id", "return_id", "claim_id", "order_id", "stream")
