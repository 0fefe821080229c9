"""Whatever happens, in whatever order, around whatever deadline: what must never be untrue.

Histories come from :class:`returnable.testing.behaviour.World`. :mod:`bench.proofs.invariants` counts the money and the units
a second time, from the stored events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from bench.proofs.invariants import violations
from returnable.domain import refusals
from returnable.domain.case import Case, fold
from returnable.domain.commands import COMMANDS, Command, parse_command, parse_question
from returnable.domain.errors import Impossible
from returnable.domain.events import BY_TYPE, EVENTS
from returnable.domain.handler import CommandHandler
from returnable.domain.lifecycles import CLAIM, NOTHING, ORDER, RETURN
from returnable.domain.outcome import Outcome
from returnable.domain.ports import Batch, EventStore
from returnable.testing.behaviour import START, World

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=50, max_size=80, unique=True)
TABLES = {"order": ORDER, "return": RETURN, "claim": CLAIM}


def questions(case: Case) -> list[dict[str, str]]:
    """Every question that can be asked about the things of a case."""
    order_id = case.order.order_id
    asked: list[dict[str, str]] = [
        {"query": "order", "order_id": order_id},
        {"query": "eligibility", "order_id": order_id},
        {"query": "refund", "order_id": order_id},
    ]
    asked += [{"query": query, "return_id": name} for name in case.returns for query in ("return", "refund")]
    asked += [{"query": query, "claim_id": name} for name in case.claims for query in ("claim", "refund")]
    asked += [{"query": "refund", "refund_id": name} for name in case.refunds]
    return asked


def streams(case: Case) -> list[str]:
    """The streams of a case."""
    returns, claims = [ret.stream for ret in case.returns.values()], [claim.stream for claim in case.claims.values()]
    return [case.order.stream, *returns, *claims]


def answer(world: World, question: Mapping[str, Any]) -> Any:
    """The answer as JSON values; what cannot be answered has to say so in an orderly way."""
    try:
        view = world.services.questions.answer(parse_question(question), world.at)
    except Impossible as error:
        return error.code
    return view.model_dump(mode="json", by_alias=True)


def everything(world: World) -> dict[str, Any]:
    """Every view there is, but the audits."""
    asked: list[dict[str, str]] = [{"query": "worklist"}]
    for case in world.cases:
        asked += questions(case)
    return {str(question): answer(world, question) for question in asked}


def check_steps(world: World, case: Case) -> None:
    """Every stored step is one that the table of its lifecycle knows; the audit tells the same story as the log."""
    for stream in streams(case):
        kind = stream.partition("/")[0]
        entries = answer(world, {"query": "audit", "stream": stream})["entries"]
        told = [
            (entry.version, entry.event.type)
            for entry in world.services.store.load(case.case_id)
            if entry.stream == stream
        ]
        assert [(entry["version"], entry["type"]) for entry in entries] == told
        assert [version for version, _ in told] == list(range(1, len(told) + 1))
        state = None
        for entry in entries:
            assert entry["before"] == state
            state = entry["after"]
            if not BY_TYPE[entry["type"]].moves:
                assert (entry["before"] or NOTHING) == state
            else:
                move = TABLES[kind].moves[entry["before"] or NOTHING, entry["type"]]
                assert state in move.targets


def check_cache(world: World, case: Case) -> None:
    """What the desk carries on with is what the stored facts say."""
    again = fold(case.case_id, world.services.store.load(case.case_id))
    assert case.seq == again.seq
    assert case.arrival == again.arrival
    assert case.arrival is not None or case.order == again.order
    assert list(case.returns.items()) == list(again.returns.items())
    assert list(case.claims.items()) == list(again.claims.items())
    assert list(case.refunds.items()) == list(again.refunds.items())
    assert case.held == again.held


def check_case(world: World, case: Case) -> None:
    """One case: nothing in it breaks an invariant, and it is what its events say."""
    events = world.services.store.load(case.case_id)
    assert [entry.case_seq for entry in events] == list(range(1, len(events) + 1))
    assert list(violations(case, events, world.services.handler.policy_of(case), world.at)) == []
    check_cache(world, case)


# ---- commands -------------------------------------------------------------------------------------------------------


def check_outcome(world: World, head: int, came: Outcome | Impossible) -> None:
    """An outcome tells exactly what was appended; an error appends nothing."""
    appended = [(entry.stream, entry.version, entry.event) for entry in world.services.store.read(head, 10_000)]
    if isinstance(came, Impossible):
        assert appended == []
    else:
        assert list(came.recorded_events) == appended
        records_findings = came.command in ("inspect_return", "correct_inspection")
        assert (came.outcome == "declined") == bool(came.failed) or records_findings
        came.as_dict()


def check_repeated(world: World, command: Command, came: Outcome) -> None:
    """Under its id a command happens once, and the id is good for no other command."""
    head = world.services.store.head()
    again = world.services.handler.handle(command, world.at)
    assert again.replayed
    assert again.as_dict() == came.as_dict()
    assert (again.recorded_events, again.findings) == (came.recorded_events, came.findings)
    other = parse_command(
        {"command": "link_account", "order_id": "A-1", "account_id": "x", "command_id": command.command_id}
    )
    with pytest.raises(Impossible) as refused:
        world.services.handler.handle(other, world.at)
    assert refused.value.code == "command.conflict"
    assert world.services.store.head() == head


class Unwritten:
    """A store that takes what is appended and forgets it: to see what a command would come to."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, batches: Sequence[Batch], **others: object) -> Sequence[int]:
        return [0 for batch in batches for _ in batch.entries]


def check_eligibility(world: World, case: Case) -> None:
    """What ``eligibility`` promises is what the commands then say."""
    dry = CommandHandler(Unwritten(world.services.store), world.services.handler.policies, cached_cases=0)  # type: ignore[arg-type]
    order_id = case.order.order_id
    promised = answer(world, {"query": "eligibility", "order_id": order_id})

    def really(ruling: Mapping[str, Any], command: str, **fields: Any) -> None:
        try:
            came = dry.handle(parse_command({"command": command, "order_id": order_id, **fields}), world.at)
        except Impossible as error:
            assert ruling["error"] is not None, error.message
            assert (ruling["allowed"], ruling["error"]["code"]) == (False, error.code)
        else:
            assert ruling["error"] is None
            assert ruling["allowed"] == came.accepted
            told = [(clause.clause, clause.verdict) for clause in came.ruling.clauses] if came.ruling else []
            assert [(clause["clause"], clause["verdict"]) for clause in ruling["clauses"]] == told

    how = {"channel": "email", "order_reference": order_id, "order_copy": True}
    really(promised["cancellation"], "request_cancellation", **how)
    for line in promised["lines"]:
        one = [{"line_id": line["line_id"], "quantity": 1}]
        really(line["return"], "request_return", return_id="R-new", lines=one, channel="portal")
        shown = ["order_confirmation", "item_picture"]
        wrong = {"claim_id": "C-new", "line_id": line["line_id"], "channel": "email", "attachments": shown}
        really(line["wrong_item"], "report_wrong_item", **wrong)


# ---- the histories --------------------------------------------------------------------------------------------------


def live(world: World, seeds: Iterable[int]) -> None:
    """Let one thing after the other happen and check after each."""
    for number, seed in enumerate(seeds):
        head = world.services.store.head()
        fields, command, came = world.step(seed)
        note(f"{world.at.isoformat()} {fields} -> {_told(came)}")
        check_outcome(world, head, came)
        touched = _case_of(world, came)
        if touched is not None:
            check_case(world, touched)
        if isinstance(came, Outcome) and command is not None and command.command_id is not None:
            check_repeated(world, command, came)
        if touched is not None and touched.arrival is None and number % 6 == 0:
            check_eligibility(world, touched)
    for case in world.cases:
        check_steps(world, case)
    everything(world)


def _told(came: Outcome | Impossible) -> str:
    if isinstance(came, Impossible):
        return f"{came.code}: {came.message}"
    return f"{came.outcome} {[event.type for _, _, event in came.recorded_events]} {list(came.failed)}"


def _case_of(world: World, came: Outcome | Impossible) -> Case | None:
    if isinstance(came, Impossible) or not came.recorded_events:
        return None
    last = world.services.store.read(world.services.store.head() - 1, 1)
    return world.services.handler.case(last[0].case_id)


@settings(max_examples=settings().max_examples // 2)
@given(HISTORIES)
def test_whatever_happens_no_money_and_no_unit_is_counted_twice(seeds: list[int]) -> None:
    world = World()

    live(world, seeds)

    for name in world.seen:
        if name.startswith(("accepted", "declined", "error")):
            event(name)


def test_the_usual_histories_reach_every_fact_and_every_kind_of_outcome() -> None:
    declined = (
        "request_cancellation request_return issue_label receive_return request_refund report_wrong_item resolve_claim"
    )
    codes = (
        "command.invalid order.unknown order.exists return.unknown return.exists claim.unknown claim.exists refund.unknown "
        "refund.exists line.unknown parcel.unknown label.unknown quantity.exceeded transition.not_allowed"
    )
    missing = {event.__name__ for event in EVENTS.values()} | {f"accepted {command}" for command in COMMANDS}
    missing |= {f"declined {command}" for command in declined.split()} | {f"error {code}" for code in codes.split()}

    for number in range(120):
        dice, world = Random(number), World()
        # No history of this length has twenty-one identical refusals.
        with patch.object(refusals, "RECORDED_SINGLY", 20 if number % 2 else 1):
            for _ in range(60):
                world.step(dice.getrandbits(32))
        missing -= set(world.seen)
        if not missing:
            break

    assert missing == set()


@settings(max_examples=settings().max_examples // 4)
@given(HISTORIES)
def test_that_a_deadline_passed_is_true_whether_or_not_somebody_recorded_it(seeds: list[int]) -> None:
    punctual, careless = World(), World()
    careless.order_ids = punctual.order_ids

    for number, seed in enumerate(seeds):
        fields, command, came = punctual.step(seed)
        careless.at = punctual.at
        if command is not None and not isinstance(command, COMMANDS["run_deadlines"]):
            try:
                other: Any = careless.services.handler.handle(command, careless.at)
            except Impossible as error:
                other = error
            note(f"{punctual.at.isoformat()} {fields} -> {_told(came)}")
            assert _told(came) == _told(other)
        before = everything(punctual) if number % 10 == 0 else None
        if punctual.cases:
            note(f"{punctual.at.isoformat()} run_deadlines")
            punctual.services.handler.handle(parse_command({"command": "run_deadlines"}), punctual.at)
        assert before is None or everything(punctual) == before

    assert told_apart_from_numbers(punctual) == told_apart_from_numbers(careless)


def told_apart_from_numbers(world: World) -> str:
    """Every view, without the number that an override has in its stream: a recorded deadline takes a number too."""
    return re.sub(r"#[0-9]+'", "#'", repr(everything(world)))


@settings(max_examples=settings().max_examples // 4)
@given(HISTORIES, st.integers(0, 2**32 - 1))
def test_every_question_can_be_answered_as_of_any_instant(seeds: list[int], looking_back: int) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    dice = Random(looking_back)
    instants = [START, world.at, *world.instants()]
    instants += [entry.event.occurred_at for entry in world.log()] + [entry.event.recorded_at for entry in world.log()]

    for _ in range(4):
        back: dict[str, datetime] = {}
        if dice.random() < 0.8:
            back["as_of"] = dice.choice(instants)
        if dice.random() < 0.6:
            back["known_at"] = dice.choice(instants)
        note(str(back))
        asked: list[dict[str, str]] = [{"query": "worklist"}]
        for case in world.cases:
            asked += questions(case) + [{"query": "audit", "stream": stream} for stream in streams(case)]
        for question in asked:
            answer(world, {**question, **back})


@settings(max_examples=settings().max_examples // 4)
@given(HISTORIES)
def test_looking_back_from_now_shows_what_is_now(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)

    for case in world.cases:
        for question in questions(case):
            now = answer(world, question)
            assert answer(world, {**question, "known_at": world.at}) == now
            assert answer(world, {**question, "as_of": world.at}) == now
