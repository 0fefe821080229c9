"""What must be true of a shop that has come to rest. Each oracle gives a sentence for everything that is not.

They look at the facts, at the gateway's books and at what was answered, and count everything a second time.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from bench.proofs.invariants import violations
from bench.proofs.reference import views_unlike_a_rebuild
from bench.proofs.simulator.shop import Shop, answer_of, book, payment_at_the_gateway
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.case import Case, fold
from returnable.domain.commands import RunDeadlines
from returnable.domain.deciding import DecisionContext
from returnable.domain.effects.payments import refund_key
from returnable.domain.errors import ReturnableError
from returnable.domain.events import (
    Cancelled,
    ContactMissed,
    Event,
    ExceptionRaised,
    LabelIssued,
    LabelVoided,
    OverrideGranted,
    RefundFailed,
    RefundOverdue,
    RefundRequested,
    Shipped,
    Who,
    encode,
)
from returnable.domain.handler import CommandHandler
from returnable.domain.money import to_major
from returnable.domain.ports import Batch, CommandReceipt, Entry, Recorded
from returnable.domain.timetable import due_events
from returnable.projections import ledger
from returnable.projections.redecided import redecide_store
from returnable.projections.stored import VIEWS


def log_of(shop: Shop) -> Sequence[Recorded]:
    return shop.disk.store.read(0, 1_000_000)


def digest_of(shop: Shop) -> str:
    """Of the trace and of every fact: two runs that are the same have the same."""
    told = hashlib.sha256()
    for line in shop.scheduler.trace:
        told.update(line.encode())
    for entry in log_of(shop):
        told.update(repr((entry.position, entry.case_seq, entry.event_id)).encode())
        told.update(encode(entry.event)[1])
    for view in VIEWS:
        with shop.views.reading() as reading:
            told.update(reading.digest(view).encode())
    return told.hexdigest()


# ---- commands -------------------------------------------------------------------------------------------------------


def acknowledged_is_on_record(shop: Shop) -> Iterator[str]:
    """Whatever was answered is what its receipt leads to, fact by fact."""
    for command_id, told in shop.told.items():
        receipt = shop.disk.store.receipt(command_id)
        if told.answer is None:
            continue
        if receipt is None:
            yield f"acknowledged and lost: {command_id} {told.command.command}"
            continue
        events = () if not receipt.last else shop.disk.store.read(receipt.first - 1, 1000, receipt.last)
        stored = tuple((entry.stream, entry.version, entry.event) for entry in events)
        if (receipt.outcome, receipt.at, stored) != (
            told.answer.outcome,
            told.answer.at,
            tuple(told.answer.recorded_events),
        ):
            yield f"acknowledged is not what is on record: {command_id} {told.command.command}"


def commands_are_whole(shop: Shop) -> Iterator[str]:
    """The facts of a command stand together, once, and its receipt says where."""
    seen: set[str] = set()
    for command_id, events in _by_command(log_of(shop)):
        if command_id in seen:
            yield f"a command happened twice: {command_id}"
            continue
        seen.add(command_id)
        receipt = shop.disk.store.receipt(command_id)
        if receipt is None:
            yield f"half a command: {command_id} has facts and no receipt"
        elif [*range(receipt.first, receipt.last + 1)] != [entry.position for entry in events]:
            yield f"half a command: {command_id} has facts that its receipt does not know"


def a_sequence_explains_it(shop: Shop) -> Iterator[str]:
    """The commands of the log, told one after the other to one fresh desk, come to the same facts.

    A run of deadlines does not look at all cases at one instant: what it records of a case must be all that was due there.
    """
    store = shop.beginning()
    desk = CommandHandler(store, book())
    for command_id, events in _by_command(shop.disk.store.read(store.head(), 1_000_000)):
        told, receipt = shop.told.get(command_id), shop.disk.store.receipt(command_id)
        if told is None or receipt is None:
            yield f"nobody told {command_id}"
            return
        if isinstance(told.command, RunDeadlines):
            yield from _record_due(store, desk, events, receipt)
            continue
        try:
            came = desk.handle(told.command, receipt.at)
        except ReturnableError as error:
            yield f"no sequence explains {command_id} {told.command.command}: {error}"
            return
        stored = tuple((entry.stream, entry.version, entry.event) for entry in events)
        if (came.outcome, tuple(came.recorded_events)) != (receipt.outcome, stored):
            yield f"no sequence explains {command_id} {told.command.command}: {answer_of(came)} but {stored}"
            return


def _record_due(
    store: CaseStore, desk: CommandHandler, events: Sequence[Recorded], receipt: CommandReceipt
) -> Iterator[str]:
    recorded: defaultdict[str, list[Recorded]] = defaultdict(list)
    for entry in events:
        recorded[entry.case_id].append(entry)
    for case_id, of_case in recorded.items():
        case = fold(case_id, store.load(case_id))
        actor = of_case[0].event.actor
        now = DecisionContext(receipt.at, desk.policy_of(case), actor and Who(**actor.model_dump()), receipt.command_id)
        due = sorted(due_events(case, now), key=lambda each: (each[1].occurred_at, each[0]))
        if due != [(entry.stream, entry.event) for entry in of_case]:
            yield f"{receipt.command_id}: what it records of {case_id} is not what was due there"
        entries = tuple(Entry(entry.stream, entry.version, entry.event) for entry in of_case)
        store.append([Batch(case_id, case.seq, entries)])


def _by_command(log: Sequence[Recorded]) -> Iterator[tuple[str, list[Recorded]]]:
    for command_id, events in groupby(log, key=lambda entry: entry.event.command_id):
        yield command_id or "", list(events)


def redecided_is_the_same(shop: Shop) -> Iterator[str]:
    for case in redecide_store(shop.disk.store, CommandHandler(shop.disk.store, book()).policy):
        for difference in case.differences:
            yield f"decided again it comes out otherwise: {difference.event} {difference.differences}"


# ---- races ----------------------------------------------------------------------------------------------------------


def races_have_one_winner(shop: Shop) -> Iterator[str]:
    """One live label for a return, either cancelled or shipped; and no invariant is broken, at any request of a refund."""
    for case_id in shop.disk.store.case_ids():
        events = shop.disk.store.load(case_id)
        yield from _cancelled_or_shipped(events)
        for count, entry in enumerate(events, start=1):
            if isinstance(entry.event, RefundRequested | LabelIssued) or count == len(events):
                yield from _one_winner(fold(case_id, events[:count]), events[:count])


def _cancelled_or_shipped(events: Sequence[Recorded]) -> Iterator[str]:
    """What is known to have left is not cancelled; what leaves nevertheless is shown to somebody."""
    seen: set[type[Event]] = set()
    for nth, entry in enumerate(events):
        if isinstance(entry.event, Cancelled) and Shipped in seen and OverrideGranted not in seen:
            yield f"{entry.case_id} is cancelled after it was shipped"
        told = any(isinstance(other.event, ExceptionRaised) for other in events[nth + 1 : nth + 2])
        if isinstance(entry.event, Shipped) and Cancelled in seen and not told:
            yield f"{entry.case_id} is shipped after it was cancelled, and nobody is told"
        seen.add(type(entry.event))


def _one_winner(case: Case, events: Sequence[Recorded]) -> Iterator[str]:
    last = events[-1]
    if isinstance(last.event, LabelIssued):
        labels = [label for ret in case.ways_back if ret.stream == last.stream for label in ret.labels.values()]
        if sum(label.status_at(last.event.recorded_at) == "issued" for label in labels) > 1:
            yield f"two live labels of {last.stream}"
    policy = None if case.pins is None else book().by_sha256(case.pins.sha256)
    assert policy is not None
    yield from (f"{case.case_id}: {each}" for each in violations(case, events, policy, last.event.recorded_at))


def deadlines_are_recorded_once(shop: Shop) -> Iterator[str]:
    """Each of them, and none is missing after a last run."""
    seen: set[tuple[str, str, str]] = set()
    for entry in log_of(shop):
        if isinstance(entry.event, LabelVoided | ContactMissed | RefundOverdue):
            about = getattr(entry.event, "refund_id", None) or getattr(entry.event, "label_id", "")
            key = (entry.stream, entry.event.type, f"{about} {entry.event.occurred_at.isoformat()}")
            if entry.event.occurred_at > entry.event.recorded_at:
                yield f"a deadline is recorded before it came: {key}"
            if key in seen and not _by_hand(entry):
                yield f"a deadline is recorded twice: {key}"
            seen.add(key)
    for case_id in shop.disk.store.case_ids():
        case = shop.stored_case(case_id)
        policy = None if case.pins is None else book().by_sha256(case.pins.sha256)
        if policy is not None and (due := due_events(case, DecisionContext(shop.now(), policy))):
            yield f"deadlines of {case_id} are not recorded: {due}"


def _by_hand(entry: Recorded) -> bool:
    return isinstance(entry.event, LabelVoided) and entry.event.cause == "by_hand"


# ---- money ----------------------------------------------------------------------------------------------------------


def the_books_agree(shop: Shop) -> Iterator[str]:
    """What the desk says was captured and paid back is what the gateway says: payment by payment, and tender by tender."""
    paid: Counter[str] = Counter()
    for receipt in shop.gateway.refunds():
        if receipt.result == "succeeded":
            paid[receipt.key] += receipt.amount
    for case_id in shop.disk.store.case_ids():
        case = shop.stored_case(case_id)
        yield from _sums_agree(shop, case)
        for refund in case.refunds.values():
            for tender in refund.tenders.values() if refund.elsewhere is None else ():
                key = refund_key(refund.refund_id, tender.payment_id)
                here, there = tender.settled, paid.pop(key, 0)
                if tender.pending:
                    yield f"a refund is forgotten: {key}, {tender.pending} are pending"
                if here != there:
                    yield f"{there} were paid back under {key} at the gateway, {here} at the desk"
                if there > tender.asked:
                    yield f"paid back twice: {key}, {there} instead of {tender.asked}"
        yield from _failures_agree(shop, case_id)
    yield from (f"the gateway paid what the desk does not know: {key}, {amount}" for key, amount in paid.items())


def _failures_agree(shop: Shop, case_id: str) -> Iterator[str]:
    """Whatever failed by the desk failed at the gateway, or came back."""
    failed = {receipt.key for receipt in shop.gateway.refunds() if receipt.result == "failed"}
    for entry in shop.disk.store.load(case_id):
        event = entry.event
        key = refund_key(event.refund_id, event.payment_id) if isinstance(event, RefundFailed) else None
        if key is not None and key not in failed:
            yield f"the desk says that {key} failed; the gateway does not know of it"


def _sums_agree(shop: Shop, case: Case) -> Iterator[str]:
    for balance in ledger.balances(case):
        name = payment_at_the_gateway(case.case_id, balance.payment_id)
        for what in ("captured", "refunded"):
            here, there = to_major(getattr(balance, what), balance.currency), getattr(shop.gateway, what)(name)
            if here != there:
                yield f"{there} of {name} are {what} at the gateway, {here} at the desk"


# ---- followers ------------------------------------------------------------------------------------------------------


def readers_saw_everything(shop: Shop, seen: Sequence[Sequence[Recorded]]) -> Iterator[str]:
    log = [(entry.position, entry.event_id) for entry in log_of(shop)]
    for nth, entries in enumerate(seen, start=1):
        read = [(entry.position, entry.event_id) for entry in entries]
        if read != log:
            missed = [each for each in log if each not in read][:3]
            yield f"reader {nth} saw {len(read)} of {len(log)} facts; missed {missed}"


def views_equal_a_rebuild(shop: Shop) -> Iterator[str]:
    """The stored views are what a projector makes that begins now."""
    yield from views_unlike_a_rebuild(shop.disk.store, CommandHandler(shop.disk.store, book()).policy, shop.views)


ORACLES: tuple[Callable[[Shop], Iterator[str]], ...] = (
    acknowledged_is_on_record,
    commands_are_whole,
    the_books_agree,
    races_have_one_winner,
    deadlines_are_recorded_once,
    views_equal_a_rebuild,
    a_sequence_explains_it,
    redecided_is_the_same,
)
"""What looks at the shop alone, the cheap first."""
