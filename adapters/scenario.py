"""Scenarios: JSON Lines of commands and questions, each at its own instant, with expectations that can be checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json

from returnable.adapters.printable import identifier
from returnable.adapters.wiring import Services, assemble
from returnable.domain.commands import invalid, parse_command, parse_question
from returnable.domain.errors import ErrorCode, Impossible, PolicyInvalid, ReturnableError, place_of
from returnable.domain.events import ExceptionRaised, RefundRequested
from returnable.domain.fields import Input, parse_instant
from returnable.domain.marks import Mark
from returnable.domain.outcome import Outcome, OutcomeView, error_view
from returnable.domain.policy import PolicyBook
from returnable.projections.marked import marks

DEEPEST = 64
"""A line nested deeper than this is refused; no command needs more than five levels."""

_TOKEN = re.compile(rb'[\[\]{}]|"(?P<text>(?:[^"\\]|\\.?)*+)(?:"(?P<colon>\s*:)?)?', re.DOTALL)
"""A bracket or a string of JSON. A string without an end reaches to the end of the line, so that the scan stays linear."""


class ScenarioUnreadable(ReturnableError):
    """A file that is not a scenario. The message names the file and the line. No line was played."""


class Expectation(Input):
    """The expectation of a line with a command. An absent field is not checked."""

    outcome: Literal["accepted", "declined", "error"] | None = None
    events: tuple[str, ...] | None = Field(default=None, fail_fast=True)
    """The types of the recorded events: exactly these, in this order."""
    failed: tuple[str, ...] | None = Field(default=None, fail_fast=True)
    """The ids of the clauses whose verdict is ``fail``: exactly these."""
    error: ErrorCode | None = Field(default=None)


@dataclass(slots=True)
class Played:
    """A played line and its result."""

    line: int
    outcome: Outcome | None = None
    """For a command that was accepted or declined."""
    error: Impossible | None = None
    command: str | None = None
    query: str | None = None
    answer: Any = None
    """For a question: the view as JSON values."""
    at: str = ""
    subject: str = ""
    """The id of the subject, for people."""
    expected: bool = False
    mismatches: list[str] = field(default_factory=list)
    unexpected: bool = False
    """Whether the line has an error and no expectation: not a mismatch, but probably a mistake."""

    @property
    def problems(self) -> list[str]:
        """The reasons why a test of the line fails: its mismatches, and an error that nothing expects."""
        if not self.unexpected or self.error is None:
            return self.mismatches
        return [*self.mismatches, f"error that nothing expects: {self.error.code} ({self.error.message})"]

    def as_dict(self) -> dict[str, Any]:
        """The line of output."""
        if self.outcome is not None:
            return self.outcome.view(self.line).model_dump(mode="json")
        error = error_view(self.error).model_dump(mode="json", exclude_none=True) if self.error else None
        if self.query is not None:
            return {"line": self.line, "at": self.at, "query": self.query, "answer": self.answer, "error": error}
        if self.error is None:
            return {}
        view = OutcomeView(
            line=self.line, at=self.at, command=self.command, outcome="error", error=error_view(self.error)
        )
        return view.model_dump(mode="json")


def read_scenario(content: bytes, name: str) -> list[tuple[int, bytes]]:
    """The numbered lines of a scenario. All lines are checked first, so that no part of a broken file is played.

    Raises :class:`ScenarioUnreadable` if it is empty or a line is not UTF-8, not JSON or not an object.
    """
    lines: list[tuple[int, bytes]] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            _check_line(line, f"{name}:{number}")
            lines.append((number, line))
    if not lines:
        raise ScenarioUnreadable(f"{name}:1: the scenario is empty")
    return lines


def _check_line(line: bytes, where: str) -> None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioUnreadable(f"{where}: not UTF-8: byte {error.start + 1} of the line") from None
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_int=_number)
    except RecursionError:
        return  # the line is played, and refused with a message of its own
    except ValueError as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise ScenarioUnreadable(f"{where}: not JSON: {reason}") from None
    if not isinstance(value, dict):
        raise ScenarioUnreadable(f"{where}: not a JSON object")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} appears more than once")
    return values


def _number(digits: str) -> int | float:
    # No field accepts a number of that length. Python refuses to read it as an integer.
    return int(digits) if len(digits) < 100 else float(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


# ---- a file and the policy next to it --------------------------------------------------------------------------------


def policies_folder(file: str | Path) -> Path:
    """The folder for the policies of a scenario: ``NAME.policies`` next to ``NAME.scenario.jsonl`` or ``NAME.jsonl``.

    >>> policies_folder("cases/order-A-1.scenario.jsonl").as_posix()
    'cases/order-A-1.policies'
    """
    place = Path(file)
    return place.with_name(f"{place.name.removesuffix('.jsonl').removesuffix('.scenario')}.policies")


def policy_beside(file: str | Path) -> Path | None:
    """The default policy of a scenario: the folder ``NAME.policies`` or the file ``NAME.policy.toml`` next to
    ``NAME.scenario.jsonl`` or ``NAME.jsonl``; ``None`` if there is neither.

    Raises :class:`PolicyInvalid` if there are both, because one of them must be chosen.
    """
    if not Path(file).name.endswith(".jsonl"):
        return None
    folder = policies_folder(file)
    document = folder.with_name(f"{folder.name.removesuffix('.policies')}.policy.toml")
    found = [place for place, there in ((folder, folder.is_dir()), (document, document.is_file())) if there]
    if len(found) > 1:
        raise PolicyInvalid(f"{file}: both {folder.name} and {document.name} are next to it; keep one")
    return found[0] if found else None


def play_file(file: str | Path, policy: PolicyBook | str | Path | None = None) -> list[Played]:
    """Play a scenario on a fresh store in memory and return its lines; ``mismatches`` holds their unmet expectations.

    The policy is ``policy``, or else the one next to the file, or else the bundled one. Raises :class:`ScenarioUnreadable`
    for a file that cannot be read or is not a scenario, and :class:`PolicyInvalid` for an invalid policy.
    """
    place = Path(file)
    try:
        if place.exists() and not place.is_file():  # reading a pipe would block
            raise ScenarioUnreadable(f"{file}: is not a regular file")
        content = place.read_bytes()
    except OSError as error:
        raise ScenarioUnreadable(f"{file}: {error.strerror or error}") from None
    return play_fresh(content, str(file), policy_beside(file) if policy is None else policy)


def play_fresh(content: bytes, name: str, policy: PolicyBook | str | Path | None) -> list[Played]:
    """Like :func:`play_file`, for a scenario in memory. Errors call it ``name``; there is no policy next to it."""
    lines = read_scenario(content, name)
    services = assemble("memory:", policy)
    with closing(services.store):
        return list(play(services, lines))


# ---- playing ---------------------------------------------------------------------------------------------------------


def play(services: Services, lines: Iterable[tuple[int, bytes]]) -> Iterator[Played]:
    """Play line by line, each with the clock at its ``at``, and compare each result with its expectation."""
    clock: datetime | None = None
    for number, line in lines:
        played = Played(number)
        expect: Any = None
        expectation = Expectation()
        try:
            fields = _fields(line)
            played.at = _shown_text(str(fields.get("at", "")))
            command, query = fields.get("command"), fields.get("query")
            played.command = _shown_text(command) if isinstance(command, str) else None
            played.query = _shown_text(query) if isinstance(query, str) and "command" not in fields else None
            played.subject = _subject(fields)
            expect = fields.pop("expect", None)
            played.expected = expect is not None
            if played.query is None:
                expectation = _expectation(expect)
            clock = at = _at(fields.pop("at", None), clock, fields.pop("steps_back", False))
            _play_line(services, fields, at, played)
        except Impossible as error:
            played.error = error
            if isinstance(error, _ExpectationInvalid):
                played.mismatches.append(error.message)
        if played.query is None:
            played.mismatches += _compare(expectation, played)
        elif expect is None or expect == {}:
            pass
        elif played.error is None:
            played.mismatches += differences(expect, played.answer, "")
        elif isinstance(expect, Mapping) and set(expect) == {"error"}:
            played.mismatches += differences(expect, {"error": played.error.code}, "")
        else:
            played.mismatches.append(f"expected an answer, came {played.error.code} ({played.error.message})")
        silent = expectation.outcome is None and expectation.error is None and (played.query is None or not expect)
        played.unexpected = played.error is not None and not played.mismatches and silent
        yield played


def _subject(fields: Mapping[str, Any]) -> str:
    for name in ("refund_id", "return_id", "claim_id", "order_id", "stream"):
        if isinstance(fields.get(name), str):
            return _shown_text(fields[name])
    subject = fields.get("subject")
    return _shown_text(f"{subject.get('kind')} {subject.get('id')}") if isinstance(subject, dict) else ""


def _shown_text(text: str) -> str:
    """Text of a line, shortened and safe to show."""
    return identifier(text[:64])


class _ExpectationInvalid(Impossible):
    """The expectation of a line is malformed."""


def _fields(line: bytes) -> dict[str, Any]:
    depth, key = _deepest(line)
    if depth > DEEPEST:
        place = place_of([key]) or "''"
        raise Impossible("command.invalid", f"is nested {depth} levels deep", field=place)
    try:
        fields: dict[str, Any] = from_json(line)
    except ValueError:
        fields = json.loads(line, parse_int=_number)
    return fields


def _deepest(line: bytes) -> tuple[int, str]:
    """How deep a line is nested, and under which of its keys."""
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return 1, ""
    depth, deepest, key, deepest_key = 0, 0, b"", b""
    for token in _TOKEN.finditer(line):
        if token[0] in b"[{":
            depth += 1
            if depth > deepest:
                deepest, deepest_key = depth, key
        elif token[0] in b"]}":
            depth -= 1
        elif token["colon"] is not None and depth == 1:
            key = token["text"]
    return deepest, deepest_key.decode("utf-8", "replace")


def _at(value: object, clock: datetime | None, steps_back: object) -> datetime:
    if not isinstance(steps_back, bool):
        raise Impossible("command.invalid", "must be true or false", field="steps_back")
    if value is None:
        raise Impossible("command.invalid", "is missing", field="at")
    if not isinstance(value, str):
        raise Impossible("command.invalid", "must be an RFC 3339 string with an offset", field="at")
    try:
        at = parse_instant(value)
    except ValueError as error:
        raise Impossible("command.invalid", str(error), field="at") from None
    if clock is not None and at < clock and not steps_back:
        raise Impossible("command.invalid", f"{value} is before the line above ({clock.isoformat()})", field="at")
    return at


def _play_line(services: Services, fields: dict[str, Any], at: datetime, played: Played) -> None:
    if ("command" in fields) == ("query" in fields):
        what = "both are given" if "command" in fields else "neither is given"
        raise Impossible("command.invalid", f"a line has one of command and query; {what}", field="command")
    if "command" in fields:
        played.outcome = services.handler.handle(parse_command(fields), at)
    else:
        view = services.questions.answer(parse_question(fields), at)
        played.answer = view.model_dump(mode="json", by_alias=True)


def _expectation(expect: Any) -> Expectation:
    if expect is None:
        return Expectation()
    try:
        return Expectation.model_validate(expect)
    except ValidationError as error:
        problem = invalid(error)
        field = "expect" if not isinstance(expect, dict) else f"expect.{problem.field}"
        raise _ExpectationInvalid("command.invalid", problem.reason, field=field) from None


def _compare(expected: Expectation, played: Played) -> Iterator[str]:
    came = played.outcome.outcome if played.outcome else "error"
    types = tuple(event.type for _, _, event in played.outcome.recorded_events) if played.outcome else ()
    failed = sorted(played.outcome.failed) if played.outcome else []
    code = played.error.code if played.error else None
    detail = f" ({played.error.message})" if played.error else f" (failed: {', '.join(failed)})" if failed else ""
    if expected.outcome is not None and expected.outcome != came:
        yield f"outcome: expected {expected.outcome}, came {came}{detail}"
    if expected.events is not None and expected.events != types:
        yield f"events: expected {_listed(expected.events)}, came {_listed(types)}{detail}"
    if expected.failed is not None and sorted(set(expected.failed)) != sorted(set(failed)):
        yield f"failed: expected {_listed(sorted(set(expected.failed)))}, came {_listed(failed)}"
    if expected.error is not None and expected.error != code:
        yield f"error: expected {expected.error}, came {code or came}{detail}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def differences(expected: Any, came: Any, where: str) -> list[str]:
    """The places where ``expected`` is not a subset of ``came``. Each expected key must be there and equal. Arrays must
    have the same length. Instants compare as instants, and money as decimals.

    >>> differences({"total": "5.0"}, {"total": "5.00", "tax": "0.00"}, "")
    []
    >>> differences({"total": "6"}, {"total": "5.00"}, "")
    ["total: expected '6', came '5.00'"]
    """
    if isinstance(expected, Mapping) and isinstance(came, Mapping):
        found: list[str] = []
        for key, value in expected.items():
            place = f"{where}.{_shown_text(key)}" if where else _shown_text(key)
            if key not in came:
                found.append(f"{place}: expected {_shown(value)}, but there is no such key")
            else:
                found += differences(value, came[key], place)
        return found
    if isinstance(expected, list) and isinstance(came, list):
        if len(expected) != len(came):
            return [f"{where}: expected {len(expected)} elements, came {len(came)}: {_shown(came)}"]
        return [
            difference
            for index, (one, other) in enumerate(zip(expected, came, strict=True))
            for difference in differences(one, other, f"{where}[{index}]")
        ]
    if _equal(expected, came, marks().get(where.rpartition(".")[2]) is Mark.MONEY):
        return []
    return [f"{where or 'answer'}: expected {_shown(expected)}, came {_shown(came)}"]


def _equal(expected: Any, came: Any, money: bool) -> bool:
    if type(expected) is type(came) and expected == came:
        return True
    if isinstance(expected, str) and isinstance(came, str):
        try:
            return parse_instant(expected) == parse_instant(came)
        except ValueError:
            pass
        try:
            return money and Decimal(expected) == Decimal(came)
        except InvalidOperation:
            return False
    return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


@dataclass(slots=True)
class Summary:
    """The result of a whole scenario."""

    lines: int = 0
    accepted: int = 0
    declined: dict[str, int] = field(default_factory=dict)
    """Clause id → how many commands it declined."""
    declined_commands: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    answers: int = 0
    repeated: int = 0
    """Commands that were already on record under their command id."""
    events: int = 0
    exceptions: int = 0
    refunds: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Currency → how many refunds were requested, and their sum in minor units."""
    expectations: int = 0
    unmet: int = 0
    unexpected: int = 0
    """Lines with an error that nothing expects."""

    def add(self, played: Played) -> None:
        """Count a line."""
        self.lines += 1
        self.expectations += played.expected
        self.unmet += bool(played.mismatches)
        self.unexpected += played.unexpected
        if played.error is not None:
            self.errors[played.error.code] = self.errors.get(played.error.code, 0) + 1
        elif played.outcome is None:
            self.answers += 1
        else:
            self._add_outcome(played.outcome)

    def _add_outcome(self, outcome: Outcome) -> None:
        if outcome.accepted:
            self.accepted += 1
        else:
            self.declined_commands += 1
            for clause in sorted(set(outcome.failed)):
                self.declined[clause] = self.declined.get(clause, 0) + 1
        if outcome.replayed:
            self.repeated += 1
            return
        self.events += len(outcome.recorded_events)
        for _, _, event in outcome.recorded_events:
            if isinstance(event, ExceptionRaised):
                self.exceptions += 1
            elif isinstance(event, RefundRequested):
                count, total = self.refunds.get(event.currency, (0, 0))
                amount = sum(tender.amount for tender in event.tenders)
                self.refunds[event.currency] = (count + 1, total + amount)
