"""``python -m bench.proofs.histories``: random histories of orders, in which everybody does what they may do.

A seed is a history: commands that make sense, and some that do not, around every deadline; parcels, returns, claims and
cancellations; and money that goes back in part, twice, late, in another currency, or without the desk's asking. After every
event the invariants of :mod:`bench.proofs.invariants` must hold. In the end every question, list, report and export must
answer, as of any instant, and every decision must come out the same again.

With ``--control`` a mistake is switched on, which must be noticed; ``--mutants`` tries them all.
"""

from __future__ import annotations

import gc
import io
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any
from unittest.mock import patch

import returnable
from bench.proofs import invariants
from bench.proofs.invariants import (
    Found,
    arrivals_lead_somewhere,
    violations,
    what_an_error_allows_can_be_done,
    what_is_allowed_can_be_done,
)
from bench.proofs.learning import differences, windows
from bench.proofs.mutants import Mutants
from bench.proofs.processes import in_parcels
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main, option
from bench.proofs.simulator.history import hurrying
from bench.speed.measure import table
from returnable.adapters.export.scenario import write_scenario
from returnable.adapters.report.html import report_html
from returnable.adapters.report.text import report_text
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import assemble
from returnable.domain import decisions
from returnable.domain.aggregate import allowed_commands
from returnable.domain.arrivals import UnannouncedArrival
from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.commands import parse_question
from returnable.domain.errors import Impossible
from returnable.domain.events import BoughtLine
from returnable.domain.order.state import Held, Order, return_before
from returnable.domain.outcome import Outcome
from returnable.domain.refunds import elsewhere, owed, request, results, tenders
from returnable.domain.refunds.state import Refund, RefundSubject, TenderState
from returnable.domain.returns.state import Return
from returnable.projections import questions, worklist
from returnable.projections.exports import Choice, History, Rows, WholeCases
from returnable.testing.behaviour import World

STEPS = 60
"""How many commands a history has."""

AT_ONCE = 25
"""Histories in one parcel of a process."""

LISTS = ("orders", "returns", "refunds", "claims", "ledger", "statistics")


@dataclass
class Lived(Tally):
    """What was seen in all histories."""

    histories: int = counted("histories")
    seen: Counter[str] = counted_each("{}")
    violations: int = counted("histories with a violation")
    unnoticed: int = counted("mutants that were not noticed")


def live(seed: int, steps: int = STEPS, show: bool = False) -> tuple[Counter[str], list[str]]:
    """A history of a seed: what was seen in it, and what was wrong after its last command."""
    dice, world = Random(seed), World()
    for _ in range(steps):
        try:
            wrong = list(_step(world, dice.getrandbits(32), show))
        except Exception as failure:  # whatever the library raises here, nobody expects it
            wrong = [f"{type(failure).__name__}: {failure}"]
        if wrong:
            return world.seen, [
                f"after {len(world.told)} commands, the last {world.told[-1]}: {each}" for each in wrong
            ]
    try:
        return world.seen, [*_wrongly_allowed(world), *unanswered(world, dice)]
    except Exception as failure:
        return world.seen, [f"{type(failure).__name__}: {failure}"]


def _step(world: World, seed: int, show: bool) -> Iterator[str]:
    fields, command, came = world.step(seed)
    if show:
        told = came.message if isinstance(came, Impossible) else [event.type for _, _, event in came.recorded_events]
        print(world.at.isoformat(), fields, told)
    if isinstance(came, Outcome) and came.recorded_events:
        store = world.services.store
        found = _found(world, store.read(store.head() - 1, 1)[0].case_id)
        yield from violations(found.case, found.events, found.policy, found.at)
    elif isinstance(came, Impossible) and came.allowed and command is not None:
        stream = came.about or str(command.target)
        (case_id,) = (case.case_id for case in (*world.cases, *world.arrivals) if case.version_of(stream))
        yield from what_an_error_allows_can_be_done(_found(world, case_id), stream, came)


def _wrongly_allowed(world: World) -> Iterator[str]:
    """What is allowed in the end on anything, and cannot be done."""
    for case in world.cases:
        streams = [each.stream for each in (case.order, *case.returns.values(), *case.claims.values())]
        yield from what_is_allowed_can_be_done(_found(world, case.case_id), streams)


def _found(world: World, case_id: str) -> Found:
    handler = world.services.handler
    case = handler.case(case_id)
    return Found(case, world.services.store.load(case_id), handler.policy_of(case), world.at)


# ---- what must answer -----------------------------------------------------------------------------------------------------


def unanswered(world: World, dice: Random) -> Iterator[str]:
    """What is asked at the end of a history and is not answered, or otherwise than before. Errors of the desk are raised."""
    desk = returnable.Desk(world.services, lambda: world.at)
    yield from arrivals_lead_somewhere(world.services, world.arrivals, world.at)
    yield from (f"decided again it comes out otherwise: {each.event} {each.differences}" for each in desk.redecide())
    if not world.cases:
        return
    instants = [world.at, *world.instants(), *(entry.event.recorded_at for entry in world.log())]
    back = {name: dice.choice(instants) for name in ("as_of", "known_at") if dice.random() < 0.7}
    for name in LISTS:
        list(getattr(desk, name)(**back))
    desk.worklist(**back)
    for question in _questions(world):
        with suppress(Impossible):  # nothing is known of it then, or nothing is owed
            world.services.questions.answer(parse_question({**question, **back}), world.at)
    case = dice.choice(world.cases)
    stream = dice.choice([each.stream for each in (case.order, *case.returns.values(), *case.claims.values())])
    with suppress(Impossible):  # nothing was decided there by the policy
        desk.why(stream)
    desk.replay(stream)
    render = dice.choice((report_html, report_text))
    render(desk.report(case.order.stream))
    yield from _exported(world)
    yield from _learnt_otherwise(world, dice)


def _learnt_otherwise(world: World, dice: Random) -> Iterator[str]:
    """Some facts of each order are learnt in another order."""
    handler, store = world.services.handler, world.services.store
    for case in world.cases:
        found = [*windows(store.load(case.case_id))]
        for each in differences(dice.choice(found), handler.policy_of(case), dice) if found else ():
            yield f"learnt in another order it is otherwise: {each}"


def _questions(world: World) -> Iterator[dict[str, Any]]:
    for case in world.cases:
        on_order = {"order_id": case.order.order_id}
        yield from ({"query": query, **on_order} for query in ("order", "eligibility", "refund"))
        yield from ({"query": query, "return_id": name} for name in case.returns for query in ("return", "refund"))
        yield from ({"query": query, "claim_id": name} for name in case.claims for query in ("claim", "refund"))
        yield from ({"query": "refund", "refund_id": name} for name in case.refunds)
    yield from ({"query": "arrival", "arrival_id": name} for name in world.arrival_ids)


def _exported(world: World) -> Iterator[str]:
    """The rows are read; the scenario comes out the same when it is played elsewhere."""
    policy_of = world.services.handler.policy
    rows = Rows(History(world.services.store), policy_of)
    list(rows.events(Choice()))
    list(rows.clauses(Choice()))
    history, out = History(world.services.store), io.BytesIO()
    write_scenario(out, history, WholeCases(history, Choice()), policy_of)
    if out.getvalue():
        for played in play(assemble("memory:"), read_scenario(out.getvalue(), "export")):
            yield from (f"line {played.line} of the exported scenario: {each}" for each in played.mismatches)


# ---- mistakes -------------------------------------------------------------------------------------------------------------

MUTANTS = Mutants()


@MUTANTS.register
def over_captured_without_exception(patches: ExitStack) -> None:
    """That more goes back to a payment than was captured is said to nobody."""
    for module in (results, elsewhere):
        patches.enter_context(patch.object(module, "over_captured", lambda *_: []))


@MUTANTS.replaces(tenders, "left_for")
def captured_twice(left_for: Any, about: RefundSubject) -> dict[str, int]:
    """A refund may take of a payment what another refund took already."""
    return dict(about.order.captured)


@MUTANTS.replaces(Order, "_note")
def later_capture_forgotten(note: Any, self: Order, event: Any, happened: Any) -> None:
    """A later capture is recorded and counts for nothing."""
    captured = dict(self.captured)
    note(self, event, happened)
    self.captured = captured


@MUTANTS.replaces(TenderState, "reverse")
def reversal_undoes_nothing(reverse: Any, self: TenderState, amount: int) -> TenderState:
    """Money that came back still counts as paid."""
    return self


@MUTANTS.replaces(worklist, "refund_due")
def completed_is_never_due_again(refund_due: Any, subject: RefundSubject, *more: Any) -> bool:
    """A refund that was complete once is never asked for again, even if the money comes back."""
    return not any(refund.completed for refund in subject.attempts) and bool(refund_due(subject, *more))


@MUTANTS.replaces(worklist, "refund_due")
def worklist_does_not_know_that_overrides_end(refund_due: Any, subject: RefundSubject, at: Any, policy: Any) -> bool:
    """A refund is on the worklist by an override that has ended."""
    return bool(refund_due(subject, subject.order.confirmed.recorded_at, policy))


@MUTANTS.replaces(worklist, "may_request")
def worklist_shows_what_is_refused(may_request: Any, *_: Any) -> str:
    """A refund is on the worklist although nothing is left to ask for, or too little of what was captured."""
    return "something"


@MUTANTS.replaces(Claim, "held")
def replaced_unit_stays_free(held: Any, self: Claim, line_id: str) -> Any:
    """A unit that was replaced can be returned, or claimed again, for another remedy."""
    return {} if self.remedy == "replacement" else held(self, line_id)


@MUTANTS.replaces(Order, "to_reship")
def replacement_forgotten(to_reship: Any, self: Order, *args: Any) -> Any:
    """Nobody is told to ship a replacement."""
    return [who for who in to_reship(self, *args) if who is None]


@MUTANTS.replaces(Order, "to_reship")
def lost_units_forgotten(to_reship: Any, self: Order, *args: Any) -> Any:
    """Nobody is told to ship again what was lost."""
    return [who for who in to_reship(self, *args) if who is not None]


@MUTANTS.replaces(Order, "return_end")
def window_of_units_that_are_taken(return_end: Any, self: Order, line_id: str, held: Held) -> Any:
    """An order shows the return window of units that are in a return already, for one that is still on its way."""
    return self.window_end(line_id, held, return_before)


@MUTANTS.replaces(Return, "_hand_over")
def late_scan_forgotten(hand_over: Any, self: Return, *told: Any) -> None:
    """A hand-over that is learnt after the arrival counts for nothing."""
    if self.received is None:
        hand_over(self, *told)


@MUTANTS.replaces(Order, "given_away")
def replacement_beside_a_refund_is_paid(given_away: Any, self: Order, claim_id: str) -> Any:
    """What was given beside a refund can be returned for money."""
    return {}


@MUTANTS.register
def short_refund_never_shown(patches: ExitStack) -> None:
    """Nobody is told that a tender was paid only in part."""
    patches.enter_context(patch.object(Refund, "paid_short", False))


@MUTANTS.replaces(tenders, "on_its_way")
def late_success_forgotten(on_its_way: Any, attempts: Any) -> int:
    """When a refund is asked for again, what was paid by a refund that had failed before does not count."""
    attempts = list(attempts)
    failed = [refund for refund in attempts if any(answer.result == "failed" for answer in refund.answers)]
    return int(on_its_way(attempts)) - sum(refund.settled for refund in failed)


@MUTANTS.replaces(results, "overpaid")
def overpaid_without_exception(overpaid: Any, *_: Any) -> list[str]:
    """That a customer is paid twice, because a failed refund went through after all, is said to nobody."""
    return []


@MUTANTS.replaces(tenders, "_credits")
def credits_ignored(credits: Any, *_: Any) -> tuple[()]:
    """What was paid elsewhere is paid again."""
    return ()


@MUTANTS.replaces(tenders, "_credits")
def credited_twice(credits: Any, about: RefundSubject, *more: Any) -> Any:
    """What was paid elsewhere is taken off everything that is owed, again and again."""
    ours = [refund for refund in about.refunds if refund.elsewhere is not None or refund.stream == about.stream]
    return credits(replace(about, refunds=ours), *more)


@MUTANTS.replaces(owed, "tax_of_units")
def tax_rounded_down(tax_of_units: Any, line: BoughtLine, start: int, count: int) -> int:
    """The tax of some units is cut at the cent, and the cents are lost."""
    return line.tax // line.quantity * count


@MUTANTS.replaces(owed, "_tax")
def tax_counted_from_the_first_unit(_: Any, about: RefundSubject, line: BoughtLine, count: int) -> int:
    """Every refund takes the tax of the first units of a line."""
    return owed.tax_of_units(line, 0, count)


@MUTANTS.register
def payout_ignored(patches: ExitStack) -> None:
    """A refund goes to the closed card, although a person named another payout."""
    payable = tenders.payable

    def by_the_card(*args: Any) -> tenders.Payable:
        found = payable(*args)
        plain = tuple(tender.model_copy(update={"payout_id": None}) for tender in found.tenders)
        return replace(found, tenders=plain)

    patches.enter_context(patch.object(request, "payable", by_the_card))


@MUTANTS.replaces(Return, "anything_uninspected")
def inspection_waits_for_ever(anything_uninspected: Any, self: Return) -> bool:
    """A return that is inspected waits for its inspection."""
    return True


@MUTANTS.replaces(UnannouncedArrival, "report")
def assigned_parcel_arrived_when_it_was_assigned(report: Any, self: UnannouncedArrival, command: Any) -> Any:
    """A parcel that is assigned counts as arrived only then."""
    return report(self, command).model_copy(update={"received_at": None, "returned_at": None})


@MUTANTS.replaces(decisions, "tracking_of")
def tracking_numbers_are_not_indexed(tracking_of: Any, event: Any) -> None:
    """No tracking number leads to a case."""


@MUTANTS.register
def parked_parcels_do_not_wait(patches: ExitStack) -> None:
    """A parcel that nobody announced is on no list."""
    waiting_in = worklist.waiting_in
    for module in (worklist, questions, invariants):
        patches.enter_context(
            patch.object(module, "waiting_in", lambda case, policy: [] if case.arrival else waiting_in(case, policy))
        )


@MUTANTS.replaces(decisions, "possible_commands")
def what_is_only_declined_is_allowed(possible: Any, case: Case, subject: Any, now: Any, decide: Any) -> tuple[str, ...]:
    """An error calls commands allowed that would be declined whatever their arguments."""
    return tuple(possible(case, subject, now, lambda *args: replace(decide(*args), outcome="accepted")))


@MUTANTS.replaces(decisions, "possible_commands")
def everything_in_the_lifecycle_is_allowed(_: Any, case: Case, subject: Any, *more: Any) -> tuple[str, ...]:
    """An error calls commands allowed that the data make impossible."""
    return allowed_commands(subject.lifecycle, subject.status)


@MUTANTS.replaces(decisions, "possible_commands")
def no_request_is_allowed(possible: Any, *args: Any) -> tuple[str, ...]:
    """An error does not say that a refund can be asked for."""
    return tuple(name for name in possible(*args) if name != "request_refund")


# ---- the proof ------------------------------------------------------------------------------------------------------------


def live_some(seeds: Sequence[int], mutant: str | None) -> list[tuple[int, Counter[str], list[str]]]:
    gc.collect()
    with MUTANTS.switched_on(mutant), hurrying():
        return [(seed, *live(seed)) for seed in seeds]


def try_mutants(seeds: range, tally: Lived) -> None:
    """Print the seed at which each of them is noticed, and how long that took."""
    rows: list[tuple[str, ...]] = []
    for name in MUTANTS.by_name:
        begin = time.perf_counter()
        for seed in seeds:
            ((_, _, wrong),) = live_some([seed], name)
            if wrong:
                break
        took = f"{time.perf_counter() - begin:.1f}"
        if wrong:
            rows.append((name, str(seed), took, wrong[0].rpartition("}): ")[2].replace("|", "/")[:90]))
        else:
            rows.append((name, f"not noticed up to {seeds[-1]}", took, ""))
            tally.trouble("unnoticed", name)
    print(f"{table(('mutant', 'noticed at seed', 'seconds', 'by'), rows)}\n")


def histories(run: Run) -> Lived:
    tally = Lived()
    seeds = range(run.seed, run.seed + run.rounds)
    if run.show:
        with MUTANTS.switched_on(run.control):
            wrong = live(run.seed, show=True)[1]
        print("\n".join(wrong))
        sys.exit(1 if wrong else 0)
    if run.mutants:
        try_mutants(seeds, tally)
        return tally
    for lived in in_parcels(partial(live_some, mutant=run.control), seeds, AT_ONCE, run.jobs):
        for seed, seen, wrong in lived:
            tally.histories += 1
            tally.seen += seen
            if wrong:
                tally.trouble("violations", f"seed {seed}: {'; '.join(wrong[:3])}")
    return tally


if __name__ == "__main__":
    main(
        Proof(
            histories,
            rounds=1000,
            seed=0,
            of="histories, or of them for each of --mutants",
            controls=MUTANTS.described(),
            options=[
                option("--jobs", 1, "in so many processes"),
                option("--mutants", False, "every mistake in turn, until it is noticed"),
                option("--show", False, "print the commands of --seed alone"),
            ],
        )
    )
