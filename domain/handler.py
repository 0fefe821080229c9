"""The command handler: load, decide, append.

``handle`` loads the case of a command, lets the policy and the lifecycles judge it, and appends the resulting events in one
transaction. When another writer was faster, it loads and decides again. When the command id is recorded already, it returns
the stored outcome. A command is recorded completely or not at all, and at most once under one id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from typing import Generic, TypeVar

from returnable.domain.case import Case, evolve, fold, unknown
from returnable.domain.commands import (
    AssignArrival,
    Command,
    ConfirmOrder,
    NotifyCustomer,
    Override,
    RecordArrival,
    RunDeadlines,
)
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.decisions import decide
from returnable.domain.due import DueCases
from returnable.domain.errors import (
    CalendarExhausted,
    CommandSeen,
    HistoryBroken,
    Impossible,
    NameTaken,
    PolicyInvalid,
    PolicyMissing,
    Stale,
    StoreBusy,
)
from returnable.domain.events import Event, Who
from returnable.domain.ids import Kind, RegisteredKind, StreamId
from returnable.domain.order.confirm import confirm
from returnable.domain.outcome import Outcome
from returnable.domain.policy import Policy, PolicyBook, policy_of_document
from returnable.domain.ports import Batch, CommandReceipt, Entry, EventStore, Recorded
from returnable.domain.recorded_commands import ruling_of
from returnable.domain.ruling import ClauseResult
from returnable.domain.timetable import due_events

K = TypeVar("K")
V = TypeVar("V")

ATTEMPTS = 200
"""How often a command is decided again because other writers were faster, before the handler raises ``StoreBusy``."""


class CommandHandler:
    """Decides commands on the events of a store, under the policies of a book. Safe to use from many threads."""

    def __init__(self, store: EventStore, policies: PolicyBook, cached_cases: int = 1024) -> None:
        self.store = store
        self.policies = policies
        self.due = DueCases(store)
        self._cases: _Cache[str, Case] = _Cache(cached_cases)
        self._case_ids: _Cache[StreamId, str] = _Cache(4 * cached_cases)
        self._policies: dict[str, Policy] = {}

    # ---- the way of a command ---------------------------------------------------------------------------------------

    def handle(self, command: Command, at: datetime) -> Outcome:
        """Carry out a command at an instant (aware; the system's clock).

        Raises :class:`Impossible` for a malformed or impossible command, and :class:`StoreBusy` when the store could not be
        written in time. Then nothing was recorded.
        """
        if at.utcoffset() is None:
            raise Impossible("command.invalid", "is naive: an instant needs an offset", field="at")
        at = at.astimezone(UTC)
        try:
            command.check_own_times(at)
        except Impossible:
            # The command may be recorded already, if this clock is behind the clock of the first time.
            receipt = self._receipt(command)
            if receipt is None or receipt.digest != command.digest:
                raise
            return self._answer_again(command)
        # Judged first on the cached case, then on the store. The append compares both, so only a command that appends
        # nothing (an impossible one, or one that repeats a known report) must be judged on the store.
        fresh = isinstance(command, RunDeadlines)  # it reads every case from the store
        for _ in range(ATTEMPTS):
            try:
                return self._decide_and_save(command, at, fresh)
            except CommandSeen:
                return self._answer_again(command)
            except Impossible as error:
                # An unknown order has been looked up in the store.
                if fresh or error.code == "order.unknown":
                    # The first run of a command may make the second impossible, so its receipt comes first.
                    if self._receipt(command) is not None:
                        return self._answer_again(command)
                    raise
            except Stale as stale:
                self._cases.forget(stale.case_id)
            except (_NothingToSave, NameTaken):
                pass
            fresh = True
        raise StoreBusy(f"{command.command}: other writers were faster {ATTEMPTS} times")

    def _decide_and_save(self, command: Command, at: datetime, fresh: bool) -> Outcome:
        try:
            if isinstance(command, RunDeadlines):
                policy, decided, cases = self._run_deadlines(command, at)
            else:
                policy, decided, cases = self._decide(command, at, fresh)
        except CalendarExhausted as error:
            raise Impossible("command.invalid", str(error), field="at") from None
        receipt = None
        if command.command_id is not None:
            receipt = CommandReceipt(command.command_id, command.digest, command.command, at, decided.outcome)
        if decided.counted is None:
            placed = self._save(cases, decided, receipt)
        else:
            placed = self._count(cases[0], decided.counted, at, receipt)
        return Outcome(command.command, at, decided.outcome, placed, decided.ruling, policy)

    def _save(
        self, cases: Sequence[Case], decided: DecisionResult, receipt: CommandReceipt | None
    ) -> tuple[tuple[str, int, Event], ...]:
        """Append the events of a decision; returns them with their streams and versions."""
        batches, after, placed = _placed(cases, decided.events)
        if batches or receipt is not None:
            positions = self._append(batches, decided, receipt)
            ends = accumulate(len(batch.entries) for batch in batches)
            last = {
                batch.case_id: _last_of(batch, positions[end - 1]) for batch, end in zip(batches, ends, strict=True)
            }
            for case in after:
                case.last = last[case.case_id]
                known = self._cases.get(case.case_id)
                if known is None or known.seq <= case.seq:
                    self._cases.keep(case.case_id, case)
            for name in decided.reserved_ids:
                if name.kind != "tracking":
                    self._case_ids.keep(StreamId(name.kind, name.name), name.case_id)
        return placed

    def _append(
        self, batches: Sequence[Batch], decided: DecisionResult, receipt: CommandReceipt | None
    ) -> Sequence[int]:
        """Append; returns the positions of the events."""
        append = partial(self.store.append, batches, reserved_ids=decided.reserved_ids, receipt=receipt)
        policy = decided.begun_under
        if policy is None:
            return append()
        try:
            return append(pinned=policy.sha256)
        except PolicyMissing:
            # Sent only now, because a policy is long and nearly always there. A kept policy without an order is harmless.
            self.store.keep_policy(policy.sha256, policy.document)
            return append(pinned=policy.sha256)

    def _count(
        self, case: Case, event: Recorded, at: datetime, receipt: CommandReceipt | None
    ) -> tuple[tuple[str, int, Event], ...]:
        """Count a refusal in the event that counts it; returns that event with its stream and version."""
        if receipt is not None:
            receipt = replace(receipt, judged_on=case.seq)
        self.store.refusals.count(case.case_id, event.case_seq, known=case.seq, tip=case.tip, at=at, receipt=receipt)
        return ((event.stream, event.version, event.event),)

    def _receipt(self, command: Command) -> CommandReceipt | None:
        """The receipt under the id of a command, if there is one."""
        return None if command.command_id is None else self.store.receipt(command.command_id)

    def _answer_again(self, command: Command) -> Outcome:
        """The stored outcome of a command that is recorded already."""
        receipt = self._receipt(command)
        if receipt is None:
            raise HistoryBroken(f"command {command.command_id!r} is recorded, but its receipt is missing")
        if receipt.digest != command.digest:
            raise Impossible(
                "command.conflict",
                f"{receipt.command_id!r} was used before for another command ({receipt.command} at "
                f"{receipt.at.isoformat()})",
                field="command_id",
            )
        stored: Sequence[Recorded] = ()
        if receipt.last:
            count = receipt.last - receipt.first + 1
            stored = self.store.read(receipt.first - 1, count, receipt.last)
        findings = ruling_of(entry.event for entry in stored)
        if receipt.judged_on and stored:
            findings = self._ruling_when_counted(command, receipt, stored[0].case_id)
        if stored:
            judged = next((entry for entry in stored if entry.event.ruling), stored[0])
            policy = self.policy_of(self.case(judged.case_id, fresh=True))
        elif isinstance(command, RunDeadlines):
            policy = self.policies.versions[-1]
        else:  # it repeated a known report: nothing was recorded, but its case is known
            policy = self.policy_of(self._case_of_command(command, fresh=True))
        events = tuple((entry.stream, entry.version, entry.event) for entry in stored)
        return Outcome(receipt.command, receipt.at, receipt.outcome, events, findings, policy, replayed=True)

    def _ruling_when_counted(
        self, command: Command, receipt: CommandReceipt, case_id: str
    ) -> tuple[ClauseResult, ...] | None:
        """The ruling of a counted refusal. It is not stored; it is decided again on the events the case had then."""
        case = fold(case_id, self.store.load(case_id)[: receipt.judged_on])
        now = DecisionContext(receipt.at, self.policy_of(case), _who(command), command.command_id)
        return decide(case, command, now).ruling

    # ---- cases and policies -------------------------------------------------------------------------------------------

    def case(self, case_id: str, *, fresh: bool = False) -> Case:
        """The case of an order; raises ``order.unknown``.

        Unless ``fresh``, it may come from the cache. The cache can be behind the store, or hold a history that no longer
        exists because the store was restored to an older copy. The append notices both.
        """
        case = None if fresh else self._cases.get(case_id)
        if case is None:
            stored = self.store.load(case_id)
            if not stored:
                self._cases.forget(case_id)
                raise unknown("order", case_id)
            case = fold(case_id, stored)
            self._cases.keep(case_id, case)
        return case

    def case_with(self, kind: RegisteredKind, name: str, *, fresh: bool = False) -> Case:
        """The case of a return, claim, refund or arrival; raises ``return.unknown`` and so on.

        ``fresh`` is as in :meth:`case`. Raises ``HistoryBroken`` when the store names a case that does not hold it.
        """
        key = StreamId(kind, name)
        case_id = None if fresh else self._case_ids.get(key)
        if case_id is not None:
            try:
                case = self.case(case_id)
                if case.knows(kind, name):
                    return case
            except Impossible:  # the case no longer exists
                pass
        case_id = self.store.case_of(kind, name)
        if case_id is None:
            self._case_ids.forget(key)
            raise unknown(kind, name)
        case = self.case(case_id, fresh=True)
        if not case.knows(kind, name):
            raise HistoryBroken(f"{key} leads to case {case_id!r}, which holds no events of it")
        self._case_ids.keep(key, case_id)
        return case

    def policy_of(self, case: Case) -> Policy:
        """The policy that was in force when the case began. Raises ``HistoryBroken`` for a case that never began."""
        if case.pins is None:
            raise HistoryBroken(f"case {case.case_id!r} has neither an order nor an arrival")
        return self.policy(case.pins.sha256)

    def policy(self, sha256: str) -> Policy:
        """The policy with that hash, from the book or as the store keeps it."""
        policy = self._policies.get(sha256) or self.policies.by_sha256(sha256)
        if policy is None:
            document = self.store.policy(sha256)
            if document is None:
                raise HistoryBroken(f"the policy {sha256} is pinned but was not kept")
            policy = policy_of_document(document, sha256)
        self._policies[sha256] = policy
        return policy

    # ---- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, command: Command, at: datetime, fresh: bool) -> tuple[Policy, DecisionResult, list[Case]]:
        if isinstance(command, ConfirmOrder):
            return self._confirm(command, at, fresh)
        if isinstance(command, RecordArrival):
            return self._record_arrival(command, at, fresh)
        if isinstance(command, AssignArrival):
            return self._assign_arrival(command, at, fresh)
        case = self._case_of_command(command, fresh)
        policy = self.policy_of(case)
        now = DecisionContext(at, policy, _who(command), command.command_id)
        decided = decide(case, command, now)
        if not decided.events and decided.counted is None and not fresh:
            raise _NothingToSave
        for name in decided.free:
            if name.kind != "tracking" and self.store.case_of(name.kind, name.name) is not None:
                raise _exists(name.kind, name.name)
        return policy, decided, [case]

    def _record_arrival(
        self, command: RecordArrival, at: datetime, fresh: bool
    ) -> tuple[Policy, DecisionResult, list[Case]]:
        name = command.arrival_id
        try:
            case = self.case_with("arrival", name, fresh=fresh)
        except Impossible:
            case = Case(str(StreamId("arrival", name)))
        if case.seq:
            policy = self.policy_of(case)
        elif fresh and self.store.load(case.case_id):  # an order has that id
            raise _exists("arrival", name)
        else:
            policy = self._policy_in_force(command.arrived_at or at, "arrived_at")
        decided = decide(case, command, DecisionContext(at, policy, _who(command), command.command_id))
        if case.seq:
            if not fresh:
                raise _NothingToSave
        else:
            decided.begun_under = policy
        return policy, decided, [case]

    def _assign_arrival(
        self, command: AssignArrival, at: datetime, fresh: bool
    ) -> tuple[Policy, DecisionResult, list[Case]]:
        """Assign the arrival, and decide on what it is assigned to the report that follows."""
        parked = self._case_of_command(command, fresh)
        who, arrival = _who(command), parked.arrival
        if arrival is None:
            raise HistoryBroken(f"case {parked.case_id!r} is no arrival")
        decided = decide(parked, command, DecisionContext(at, self.policy_of(parked), who, command.command_id))
        if not decided.events:
            if not fresh:
                raise _NothingToSave
            return self.policy_of(parked), decided, [parked]
        report = arrival.report(command)
        case = self._case_of_command(report, fresh)
        policy = self.policy_of(case)
        try:
            reported = decide(case, report, DecisionContext(at, policy, who, command.command_id))
        except Impossible as error:
            if error.field in report.own_times:  # the time is that of the arrival
                raise Impossible(error.code, f"it came too early: {error.reason}", field="arrival_id") from None
            raise
        reported.events[:0] = decided.events
        return policy, reported, [parked, case]

    def _policy_in_force(self, at: datetime, field: str) -> Policy:
        try:
            return self.policies.in_force(at)
        except PolicyInvalid as error:
            raise Impossible("command.invalid", str(error), field=field) from None

    def _confirm(self, command: ConfirmOrder, at: datetime, fresh: bool) -> tuple[Policy, DecisionResult, list[Case]]:
        if fresh and self.store.load(command.order_id):
            raise _exists("order", command.order_id)
        policy = self._policy_in_force(command.confirmed_at or at, "confirmed_at")
        decided = confirm(command, DecisionContext(at, policy, _who(command), command.command_id))
        decided.begun_under = policy
        return policy, decided, [Case(command.order_id)]

    def _case_of_command(self, command: Command, fresh: bool) -> Case:
        """The case of a command's target; raises ``return.exists`` and so on where its new id is taken."""
        target, new = command.target, command.creates
        if target is None:
            raise AssertionError(f"{command.command} has no target")
        kind, name = target
        try:
            case = self.case(name, fresh=fresh) if kind == "order" else self.case_with(kind, name, fresh=fresh)
            if kind == "order" and case.arrival is not None:  # the name of its stream is no order
                raise unknown(kind, name)
        except Impossible:
            field = "subject.id" if isinstance(command, NotifyCustomer | Override) else None
            raise unknown(kind, name, field) from None
        if new is not None and new != "label":
            new_id: str = getattr(command, f"{new}_id")
            known = case.knows(new, new_id)
            if known and command.fact:  # it may be told again: the decision compares
                return case
            if known or (fresh and self.store.case_of(new, new_id) is not None):
                raise _exists(new, new_id)
        return case

    def _run_deadlines(self, command: Command, at: datetime) -> tuple[Policy, DecisionResult, list[Case]]:
        """The deadlines that passed in any case, in their order.

        A case with unreadable events is skipped and logged, so that it does not block the others.
        """
        self.due.catch_up()
        self.due.retry_parked()
        due: list[tuple[str, Event]] = []
        cases: list[Case] = []
        for case_id in self.due.table.due_by(at):
            case, events = self._due_in(case_id, at, _who(command), command.command_id)
            if case is not None and events:
                due += events
                cases.append(case)
        if not due:
            return self.policies.versions[-1], DecisionResult(), []
        due.sort(key=lambda entry: (entry[1].occurred_at, entry[0]))
        first = next(case for case in cases if due[0][0] in _streams(case))
        return self.policy_of(first), DecisionResult(events=due), cases

    def record_due(self, case_id: str, at: datetime, who: Who | None = None) -> Outcome | None:
        """Record the deadlines of one case that passed at or before an instant (aware); ``None`` if all are recorded.

        ``run_deadlines`` does this for all cases in one transaction; workers share the cases among them and use this.
        Raises :class:`StoreBusy`.
        """
        at = at.astimezone(UTC)
        for _ in range(ATTEMPTS):
            case, events = self._due_in(case_id, at, who, None)
            if case is None or not events:
                return None
            try:
                placed = self._save([case], DecisionResult(events=events), None)
            except Stale:
                continue
            return Outcome("run_deadlines", at, "accepted", placed, None, self.policy_of(case))
        raise StoreBusy(f"run_deadlines: other writers of case {case_id!r} were faster {ATTEMPTS} times")

    def _due_in(
        self, case_id: str, at: datetime, who: Who | None, command_id: str | None
    ) -> tuple[Case | None, list[tuple[str, Event]]]:
        """A case as the store has it, and its deadlines that passed. A case that cannot be read is parked: ``None``."""
        case = self.due.sound_case(case_id)
        if case is None:
            return None, []
        try:
            policy = self.policy_of(case)
        except (HistoryBroken, PolicyInvalid) as error:
            self.due.park(case_id, error)
            return None, []
        events = due_events(case, DecisionContext(at, policy, who, command_id))
        return case, sorted(events, key=lambda entry: (entry[1].occurred_at, entry[0]))


def _exists(kind: Kind, name: str) -> Impossible:
    return Impossible(f"{kind}.exists", f"{kind} {name!r} exists already", field=f"{kind}_id")  # type: ignore[arg-type]


class _NothingToSave(Exception):
    """Judge once more, on the store instead of the cache."""


def _who(command: Command) -> Who | None:
    actor = command.actor
    return Who(role=actor.role, id=actor.id) if actor is not None else None


def _placed(
    cases: Sequence[Case], events: Sequence[tuple[str, Event]]
) -> tuple[list[Batch], list[Case], tuple[tuple[str, int, Event], ...]]:
    """Number each new event within its stream and case, and apply it, so that an event its lifecycle forbids fails here.

    Returns the batches to append, the cases after them, and the numbered events.
    """
    # An event whose stream is in no case yet begins that stream in the only case there is.
    owner = {stream: case for case in cases for stream in _streams(case)} if len(cases) > 1 else {}
    only = cases[0] if len(cases) == 1 else None
    versions: dict[str, int] = {}
    entries: dict[str, list[Recorded]] = {case.case_id: [] for case in cases}
    runs: list[tuple[Case, int, list[Entry]]] = []
    for stream, event in events:
        case = only or owner.get(stream)
        if case is None:
            raise AssertionError(f"{stream} is in none of the cases")
        version = versions[stream] = versions.get(stream, case.version_of(stream)) + 1
        of_case = entries[case.case_id]
        if not runs or runs[-1][0] is not case:
            runs.append((case, case.seq + len(of_case), []))
        runs[-1][2].append(Entry(stream, version, event))
        of_case.append(Recorded(0, case.case_id, case.seq + len(of_case) + 1, stream, version, event))
    batches = [Batch(case.case_id, seq, tuple(run), case.tip if seq == case.seq else None) for case, seq, run in runs]
    after = [evolve(case, entries[case.case_id]) for case in cases if entries[case.case_id]]
    placed = tuple((entry.stream, entry.version, entry.event) for batch in batches for entry in batch.entries)
    return batches, after, placed


def _last_of(batch: Batch, position: int) -> Recorded:
    """The last event of a batch as the store holds it."""
    entry, case_seq = batch.entries[-1], batch.after + len(batch.entries)
    return Recorded(position, batch.case_id, case_seq, entry.stream, entry.version, entry.event, entry.encoded[1])


def _streams(case: Case) -> list[str]:
    if case.arrival is not None:
        return [case.arrival.stream]
    return [
        case.order.stream,
        *(ret.stream for ret in case.returns.values()),
        *(claim.stream for claim in case.claims.values()),
    ]


class _Cache(Generic[K, V]):
    """An LRU cache of immutable values, safe for threads. A stale value is harmless, because the append notices it."""

    def __init__(self, size: int) -> None:
        self._size = size
        # Without a lock, because a forked child could inherit it locked. Each operation is atomic in the interpreter;
        # between two of them another thread may drop the key.
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._kept.get(key)
        if value is not None:
            try:  # noqa: SIM105 (on the path of every command)
                self._kept.move_to_end(key)
            except KeyError:
                pass
        return value

    def keep(self, key: K, value: V) -> None:
        self._kept[key] = value
        try:
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        except KeyError:
            pass

    def forget(self, key: K) -> None:
        self._kept.pop(key, None)
