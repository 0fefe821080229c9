"""Facts that are learnt in another order: between the same decisions the case is the same, or an exception names why not.

A *window* is a run of facts of one case without a decision between them, as its events tell it (every default that a command
left to the desk is filled in by then). The facts of a window are learnt again in another order, on the case before it. What
anybody can ask is then the same. Where it is not, an exception of the two facts that changed places names the conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from returnable.domain.case import Case, evolve, fold
from returnable.domain.commands import Command, RecordRefundResult
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.decisions import decide
from returnable.domain.errors import Impossible
from returnable.domain.events import Event, ExceptionRaised, Shipped
from returnable.domain.ids import StreamId
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.projections.claims import claim_values
from returnable.projections.ledger import balances
from returnable.projections.orders import eligibility_view, order_values
from returnable.projections.refunds import refund_values
from returnable.projections.returns import return_values
from returnable.projections.worklist import waiting_in

MOST = 8
"""Of a longer run of facts the last so many are learnt again."""


@dataclass(frozen=True)
class Window:
    """Facts without a decision between them, and the events of the case before them."""

    before: Sequence[Recorded]
    facts: Sequence[Command]
    at: datetime
    """When all of them were known."""


def windows(events: Sequence[Recorded]) -> Iterator[Window]:
    """The runs of at least two facts of a case."""
    run: list[RecordedCommand] = []
    for command in [*recorded_commands(events), None]:
        if command is not None and is_fact(command):
            run.append(command)
            continue
        run = run[-MOST:]
        if len(run) > 1:
            begin = run[0].entries[0].case_seq - 1
            yield Window(events[:begin], [_dated(each) for each in run], run[-1].at)
        run = []


def is_fact(recorded: RecordedCommand) -> bool:
    """Whether a command tells what happened. One whose parcel holds nothing that is known does not tell what is in it."""
    fact, event = recorded.command.fact, recorded.decision
    told = fact is True or (isinstance(fact, str) and bool(getattr(recorded.command, fact)))
    return (
        told and recorded.command.command != "confirm_order" and (not isinstance(event, Shipped) or bool(event.lines))
    )


def _dated(recorded: RecordedCommand) -> Command:
    """The command with its own time, which it did not need when it was told at once."""
    command = recorded.command
    own = {
        name: recorded.entries[0].event.occurred_at
        for name in command.own_times[:1]
        if getattr(command, name) is None and command.command != "correct_delivery"
    }
    return command.model_copy(update=own)


def possible_order(window: Window, policy: Policy, dice: Random) -> list[Command]:
    """The facts in an order that the dice choose. A fact about something that is not known yet is learnt once it is."""
    case, left = fold(window.before[0].case_id, window.before), [*window.facts]
    dice.shuffle(left)
    found: list[Command] = []
    while left:
        for fact in left:
            if fact is left[-1] or _known(case, fact):
                try:
                    decided = decide(case, fact, DecisionContext(window.at, policy))
                except Impossible as error:
                    if fact is left[-1] or not _needs_another(fact, error):
                        raise
                    continue
                if not _too_early(fact, decided) or fact is left[-1]:
                    break
        left.remove(fact)
        found.append(fact)
        case = after(case, decided.events)
    return found


def _known(case: Case, fact: Command) -> bool:
    target = fact.target
    return target is None or target.kind == "order" or case.knows(target.kind, target.id)


def _at_once(one: Command, two: Command) -> bool:
    """Whether the provider gave two answers in one instant: of those the one that is told later is later."""
    if not isinstance(one, RecordRefundResult) or not isinstance(two, RecordRefundResult):
        return False
    return one.settled_at == two.settled_at


def _too_early(fact: Command, decided: DecisionResult) -> bool:
    """Whether a correction has nothing to correct yet."""
    return fact.command == "correct_delivery" and not decided.events


def _needs_another(fact: Command, error: Impossible) -> bool:
    corrects = fact.command == "correct_delivery" and error.code == "command.invalid"
    return corrects or error.code.endswith(".unknown")


def after(case: Case, decided: Iterable[tuple[str, Event]]) -> Case:
    """The case once these events are recorded."""
    for stream, event in decided:
        entry = Recorded(0, case.case_id, case.seq + 1, stream, case.version_of(stream) + 1, event)
        case = evolve(case, [entry])
    return case


def answers(case: Case, policy: Policy, at: datetime) -> Mapping[str, Mapping[str, Any]]:
    """What can be asked of a case at an instant, by stream. Exceptions depend on the order, so they are left out."""
    found: dict[str, dict[str, Any]] = {
        case.order.stream: {
            "order": order_values(case, policy),
            "eligibility": eligibility_view(case, policy, DecisionContext(at, policy)).model_dump(),
            "payments": [*balances(case)],
            "held": {line_id: dict(held) for line_id, held in case.held.items()},
            "coming back": {line_id: dict(held) for line_id, held in case.coming_back.items()},
        }
    }
    for ret in case.returns.values():
        found[ret.stream] = {"return": return_values(ret, policy)}
        attempts = case.refund_subject(ret.stream).attempts
        if attempts and attempts[-1].status == "failed":
            # Money is owed. Whether the refund was complete for a moment before depends on the order of its answers.
            found[ret.stream]["return"]["status"] = "refund_failed"
    for claim in case.claims.values():
        found[claim.stream] = {"claim": claim_values(claim, policy)}
    for refund in case.refunds.values():
        found.setdefault(refund.stream, {})[f"refund {refund.refund_id}"] = refund_values(refund, policy)
    for item in waiting_in(case, policy):
        if item.kind != "exception":
            stream = case.stream_with(StreamId(item.subject, item.name))
            found[stream].setdefault("work", set()).add(
                (item.kind, item.subject, item.name, item.due_at, item.shown_from, item.shown_until)
            )
    return found


def differences(window: Window, policy: Policy, dice: Random) -> Iterator[str]:
    """What comes out otherwise if two facts that follow each other are learnt the other way round, and no exception says so.

    Any order comes from any other by such steps. An exception says so where the two raise it, and what is told of them is not
    the same in both orders.
    """
    facts = possible_order(window, policy, dice)
    nth = dice.randrange(len(facts) - 1)
    one, two = facts[nth : nth + 2]
    case = _learn(fold(window.before[0].case_id, window.before), facts[:nth], window, policy).case
    if not _known(case, two) or _at_once(one, two):
        return
    try:
        there = _learn(case, [two, one], window, policy)
    except Impossible as error:
        if not _needs_another(two, error):
            yield f"{two.command} is refused before {one.command}: {error}"
        return
    here = _learn(case, [one, two], window, policy)
    if (
        there.too_early
        or here.set_aside
        or there.set_aside
        or (here.told != there.told and (here.disputed or there.disputed))
    ):
        return
    known, otherwise = (
        answers(_learn(learnt.case, facts[nth + 2 :], window, policy).case, policy, window.at)
        for learnt in (here, there)
    )
    for stream in known:
        for name in {*known[stream], *otherwise[stream]}:
            if known[stream].get(name) != otherwise[stream].get(name):
                what = _first_difference(known[stream].get(name), otherwise[stream].get(name))
                pair = f"{one.command} ({one.target}), {two.command} ({two.target})"
                yield f"{pair}: {name} of {stream}{what}"


@dataclass(frozen=True)
class Learnt:
    """A case after some facts; ``told``: what was recorded of each, and the sentences of its exceptions."""

    case: Case
    told: Mapping[str, object]
    disputed: bool
    """Whether an exception was raised."""
    too_early: bool
    """Whether a correction had nothing to correct yet."""
    set_aside: bool
    """Whether a clause had to be set aside at the dock. Of two parcels that need the same override, the first gets it."""


def _learn(case: Case, facts: Sequence[Command], window: Window, policy: Policy) -> Learnt:
    told = dict[str, object]()
    disputed = too_early = set_aside = False
    for fact in facts:
        decided = decide(case, fact, DecisionContext(window.at, policy))
        events = [event for _, event in decided.events]
        reasons = [reason for event in events if isinstance(event, ExceptionRaised) for reason in event.reasons]
        told[repr(fact)] = [event.type for event in events], reasons
        disputed = disputed or bool(reasons)
        too_early = too_early or _too_early(fact, decided)
        set_aside = set_aside or any(each.verdict == "overridden" for each in decided.ruling or ())
        case = after(case, decided.events)
    return Learnt(case, told, disputed, too_early, set_aside)


def _first_difference(one: Any, another: Any, at: str = "") -> str:
    if isinstance(one, Mapping) and isinstance(another, Mapping):
        for key in {**one, **another}:
            if one.get(key) != another.get(key):
                return _first_difference(one.get(key), another.get(key), f"{at}.{key}")
    if isinstance(one, list) and isinstance(another, list) and len(one) == len(another):
        for nth, (left, right) in enumerate(zip(one, another, strict=True)):
            if left != right:
                return _first_difference(left, right, f"{at}[{nth}]")
    return f"{at} is {one!r} or {another!r}"
