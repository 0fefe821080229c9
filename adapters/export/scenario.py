"""Writes stored cases as a scenario that plays back to the same events and the same views.

The lines are in the order of the log. Its clock may step back, because another process recorded an event or an import came
later. Such a line is marked with ``steps_back`` and keeps its time, so that it gives the same events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from returnable.adapters.files import NotWritten, Sink, written_whole
from returnable.domain.case import Case, fold
from returnable.domain.errors import PolicyInvalid
from returnable.domain.events import ArrivalRecorded, Confirmed
from returnable.domain.policy import Policy, PolicyBook, PolicyOf, bundled_policies
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.projections.claims import claim_view
from returnable.projections.exports import History, WholeCases, expectation
from returnable.projections.orders import order_view
from returnable.projections.refunds import refund_view
from returnable.projections.returns import return_view
from returnable.projections.views import AnyView


@dataclass(slots=True)
class Written:
    """The counts of a written scenario, and the policies that it needs."""

    cases: int = 0
    commands: int = 0
    facts: int = 0
    views: int = 0
    steps_back: int = 0
    """Commands whose time is before that of the command above."""
    policies: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """Hash of a pinned policy → the first and the last case that began under it."""

    def counts(self) -> dict[str, int]:
        """The counts of commands, events, views and steps back."""
        return {name: getattr(self, name) for name in ("commands", "facts", "views", "steps_back")}


def write_scenario(
    sink: Sink,
    history: History,
    cases: WholeCases,
    policy_of: PolicyOf,
    views: bool = True,
    advance: Callable[[int], None] = lambda count: None,
) -> Written:
    """Write the commands of the cases with their expectations, and at the end the view of each case."""
    written = Written()
    clock: datetime | None = None
    last: datetime | None = None
    for command in recorded_commands(cases.log(advance)):
        line: dict[str, Any] = {"at": command.at}
        if clock is not None and command.at < clock:
            line["steps_back"] = True
            written.steps_back += 1
        sink.write(to_json(line | command.fields | {"expect": expectation(command)}) + b"\n")
        clock, last = command.at, max(command.at, last or command.at)
        _count(command, written)
    if views and last is not None:
        for case_id in cases.case_ids():
            events = history.case(case_id)
            case = fold(case_id, events)
            if case.pins is not None and case.arrival is None:
                for question in _view_lines(case, policy_of(case.pins.sha256), last):
                    sink.write(to_json(question) + b"\n")
                    written.views += 1
            advance(len(events))
    return written


def _count(command: RecordedCommand, written: Written) -> None:
    written.commands += 1
    written.facts += len(command.entries)
    first = command.entries[0].event
    if isinstance(first, Confirmed | ArrivalRecorded):
        written.cases += 1
        begin, end = written.policies.get(first.pins.sha256, (first.occurred_at, first.occurred_at))
        written.policies[first.pins.sha256] = (min(begin, first.occurred_at), max(end, first.occurred_at))


def _view_lines(case: Case, policy: Policy, at: datetime) -> Iterator[dict[str, Any]]:
    def line(query: str, key: str, name: str, view: AnyView) -> dict[str, Any]:
        return {"at": at, "query": query, key: name, "expect": view.model_dump(mode="json", by_alias=True)}

    yield line("order", "order_id", case.order.order_id, order_view(case, policy))
    for return_id, ret in case.returns.items():
        yield line("return", "return_id", return_id, return_view(ret, policy, at))
    for claim_id, claim in case.claims.items():
        yield line("claim", "claim_id", claim_id, claim_view(claim, policy, at))
    for refund_id, refund in case.refunds.items():
        yield line("refund", "refund_id", refund_id, refund_view(refund, policy, at))


# ---- its policies ----------------------------------------------------------------------------------------------------


def chooses(book: PolicyBook, pinned: Mapping[str, tuple[datetime, datetime]]) -> bool:
    """Whether the book chooses, for every order, the policy that the order is pinned to."""
    try:
        return all(book.in_force(at).sha256 == sha256 for sha256, period in pinned.items() for at in period)
    except PolicyInvalid:
        return False


def bundled_suffices(written: Written) -> bool:
    """Whether the scenario plays under the bundled policy."""
    return chooses(bundled_policies(), written.policies)


def write_policies(folder: str, written: Written, policy_of: PolicyOf) -> list[str]:
    """Write the canonical documents of the pinned policies, one file each, and return the names of the files.

    A file's name holds the first digits of the policy's hash. This is not the hash of the file: it covers the document and
    the calendar that it names. Versions of one policy go into the folder, different policies into folders of their own.
    Raises :class:`NotWritten` if a file of that name has other content.
    """
    pinned = [policy_of(sha256) for sha256 in written.policies]
    apart = len({version.id for version in pinned}) > 1
    files = []
    for version in pinned:
        place = Path(folder) / _file_name(version.id) if apart else Path(folder)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = place / f"{_file_name(version.id)}-{_file_name(version.version)}-{version.sha256[:12]}.json"
        content = version.document.encode()
        if not file.exists() or file.read_bytes() != content:
            with written_whole(str(file), force=False) as out:
                out.write(content)
        files.append(str(file))
    return files


def _file_name(text: str) -> str:
    kept = "".join(one if one.isalnum() or one in "-_." else "-" for one in text)
    if not kept.strip("."):
        raise NotWritten(f"{text!r} cannot be part of a file name")
    return kept[:60]


def why_policies_conflict(written: Written, policy_of: PolicyOf) -> str | None:
    """Why the pinned policies, used together, would not be chosen as recorded; ``None`` if they would."""
    pinned = [policy_of(sha256) for sha256 in written.policies]
    if not pinned:
        return None
    try:
        book = PolicyBook(pinned)
    except PolicyInvalid as error:
        return str(error)
    if chooses(book, written.policies):
        return None
    return "an order was confirmed under another version than the one that was in force by these policies"
