"""The disposition of units that came back: what becomes of them, as the warehouse tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from returnable.domain.commands import RecordDisposition
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.events import DisposedUnits, DispositionRecorded
from returnable.domain.returns.state import Return
from returnable.domain.wording import plural, units


def record_disposition(ret: Return, command: RecordDisposition, now: DecisionContext) -> DecisionResult:
    """Record what becomes of units; with an exception where they are more than came and stayed."""
    ret.check_lines((line.line_id for line in command.lines), "lines[{}].line_id")
    event = DispositionRecorded(
        **now.envelope(command.disposed_at), lines=tuple(DisposedUnits(**dict(line)) for line in command.lines)
    )
    return now.fact(ret.stream, event, list(_too_many(ret, event)))


def _too_many(ret: Return, event: DispositionRecorded) -> Iterator[str]:
    told = Counter[str]()
    for line in event.lines:
        told[line.line_id] += line.quantity
    for line_id, count in told.items():
        total, here = count + sum(ret.dispositions(line_id).values()), ret.here(line_id)
        if total > here:
            have = plural(total, "has", "have")
            yield (
                f"{units(total)} of line {line_id} {have} a disposition, but {here} {plural(here, 'was', 'were')} "
                "received and not sent back"
            )
