"""Counts, and the results of a scenario, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from returnable.adapters.cli.printing import shown_in
from returnable.adapters.printable import identifier, printable
from returnable.adapters.scenario import Played, Summary
from returnable.domain.money import to_major
from returnable.domain.wording import counted


def checked(name: str, lines: str, summary: Summary) -> str:
    """The result of checking one scenario or several."""
    met = "all met" if not summary.unmet else f"{counted(summary.unmet, 'line')} not as expected"
    errors = f"; {counted(summary.unexpected, 'error')} that nothing expects" if summary.unexpected else ""
    return f"{name}: {lines}, {summary.expectations} with expectations: {met}{errors}"


def explained(played: Played) -> Iterator[str]:
    """A played line for people: the outcome, the recorded events, and the reasons of a refusal."""
    if played.query is not None:
        yield f"{played.line:>4}  {played.at}  ? {played.query} {identifier(played.subject)}".rstrip()
        if played.error is not None:
            yield f"      {played.error.code}: {played.error.message}"
        else:
            yield from (
                f"      {line}"
                for line in answer_in_words(
                    shown_in(played.answer) if isinstance(played.answer, Mapping) else played.answer
                )
            )
        return
    outcome = played.outcome
    if outcome is None:
        yield f"{played.line:>4}  {played.at}  {played.command or 'line'} {identifier(played.subject)}: ERROR"
        if played.error is not None:
            yield f"      {played.error.code}: {played.error.message}"
        return
    view = outcome.view(played.line)
    again = "  on record already" if outcome.replayed else ""
    subject = f" {identifier(played.subject)}" if played.subject else ""
    events = ", ".join(event.type for event in view.events) or "nothing new"
    yield f"{played.line:>4}  {view.at}  {outcome.command}{subject}: {outcome.outcome.upper()}  ({events}){again}"
    for clause in view.ruling.clauses if view.ruling else ():
        if clause.verdict in ("fail", "overridden"):
            yield f"      {clause.verdict.upper()} {clause.clause}: {printable(clause.because)}"
            if clause.quote and clause.verdict == "fail":
                yield f"           “{clause.quote}”"


def answer_in_words(answer: Any) -> Iterator[str]:
    """The plain values of an answer on one line, then its lists, one element a line."""
    if not isinstance(answer, Mapping):
        yield str(answer)
        return
    plain = [f"{key}={value}" for key, value in answer.items() if not isinstance(value, list | Mapping)]
    if plain:
        yield "  ".join(plain)
    for key, value in answer.items():
        if isinstance(value, list) and all(isinstance(element, str) for element in value):
            yield f"  {key}: {', '.join(value) or 'none'}"
        elif isinstance(value, list):
            for element in value:
                yield f"  {key}: {_inline(element)}"


def _inline(element: Any) -> str:
    if not isinstance(element, Mapping):
        return str(element)
    shown = []
    for key, value in element.items():
        if isinstance(value, Mapping) and set(value) == {"kind", "id"}:
            shown.append(f"{key}={value['kind']}/{value['id']}")
        elif isinstance(value, Mapping):
            shown.append(f"{key}.allowed={value.get('allowed')}" if "allowed" in value else f"{key}=…")
        elif not isinstance(value, list):
            shown.append(f"{key}={value}")
    return "  ".join(shown)


def summary_lines(summary: Summary) -> Iterator[str]:
    """The result of a whole scenario."""
    yield (
        f"{counted(summary.lines, 'line')}: {summary.accepted} accepted, {summary.declined_commands} declined, "
        f"{counted(sum(summary.errors.values()), 'error')}, {counted(summary.answers, 'question')} answered; "
        f"{counted(summary.events, 'event')} recorded"
    )
    for clause, count in sorted(summary.declined.items(), key=lambda entry: (-entry[1], entry[0])):
        yield f"  declined by {clause}: {count}"
    for code, count in sorted(summary.errors.items(), key=lambda entry: (-entry[1], entry[0])):
        yield f"  error {code}: {count}"
    if summary.repeated:
        yield f"  on record already under their command id: {summary.repeated}"
    if summary.exceptions:
        yield f"  conflicting events raised as exceptions: {summary.exceptions}"
    for currency, (count, total) in sorted(summary.refunds.items()):
        yield f"  refunds requested: {count}, {to_major(total, currency)} {currency}"
    if summary.expectations:
        yield f"  expectations: {counted(summary.expectations, 'line')}, {summary.unmet} not met (--check lists them)"
