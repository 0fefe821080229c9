"""Hypothesis strategies: orders, policies, the next command, whole histories.

    @given(histories())
    def test_no_refund_is_paid_twice(history):
        scenario = given(*history)
        ...

Everything shrinks to the simplest case: the bundled policy, one order of one line, commands without own times, and as few
commands as possible. Nothing depends on the wall clock, and only Hypothesis makes random choices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hypothesis import strategies as st

from returnable.adapters.wiring import AnyPolicy, Services, assemble, policy_book
from returnable.domain.calendar import zone
from returnable.domain.case import Case
from returnable.domain.commands import COMMANDS, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.money import minor_unit_digits, to_minor
from returnable.domain.policy import CLAUSE_IDS, Policy, bundled_policies
from returnable.testing.behaviour import (
    PRICES,
    START,
    Behaviour,
    Dice,
    Fields,
    Possibility,
    SimplestDice,
    is_possible,
    order_fields,
)
from returnable.testing.instants import When
from returnable.testing.steps import Step

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from returnable.facade import Desk

T = TypeVar("T")

_PER_MILLE = st.integers(0, 999)

DETAILS = 0.4
"""How often a command has details that are not the simplest: own times, odd channels, several lines."""
GO_ON = 0.96
"""How often a history continues after its shortest length."""
NEAR_EDGES = 0.25
"""How often the next step of a history comes one tick before, at or after a deadline."""


class DrawnDice:
    """Dice drawn by Hypothesis, which draws simpler ones when a test fails."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def chance(self, probability: float) -> bool:
        return self._draw(_PER_MILLE) >= 1000 - round(probability * 1000)

    def choice(self, options: Sequence[T]) -> T:
        return options[self._draw(st.integers(0, len(options) - 1))] if len(options) > 1 else options[0]

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high)) if low < high else low

    def weighted(self, options: Sequence[tuple[float, T]]) -> T:
        options = [option for option in options if option[0] > 0]
        if len(options) == 1:
            return options[0][1]
        left = self._draw(_PER_MILLE) / 1000 * sum(weight for weight, _ in options)
        for weight, option in options:
            left -= weight
            if left < 0:
                return option
        return options[-1][1]


_SHARES = {
    "record_shipment": 10.0,
    "record_delivery": 14.0,
    "request_return": 6.0,
    "issue_label": 9.0,
    "record_return_shipment": 4.0,
    "receive_return": 4.0,
    "inspect_return": 8.0,
    "correct_inspection": 0.5,
    "request_refund": 6.0,
    "record_refund_result": 3.0,
    "request_cancellation": 2.5,
    "report_wrong_item": 2.0,
    "resolve_claim": 3.0,
    "add_claim_evidence": 3.0,
    "record_claim_contact": 2.0,
    "record_send_back": 3.0,
    "record_disposition": 1.0,
    "record_label_received": 3.0,
    "link_account": 1.5,
    "notify_customer": 1.0,
    "void_label": 1.0,
    "report_return_lost": 2.0,
    "reduce_return": 0.6,
    "withdraw_return": 0.6,
    "close_exception": 1.5,
    "deny_claim": 0.4,
    "override": 1.0,
    "run_deadlines": 1.5,
    "confirm_order": 0.5,
    "record_capture": 1.5,
    "record_refund": 0.5,
    "name_payout": 0.8,
}
_SHARES |= {name: 1.0 for name in COMMANDS if name not in _SHARES}
"""The commands, and the greatest weight of each."""
_ALL_SHARES = sum(_SHARES.values())
_PLACES = 1_000
_PLACE = st.integers(0, _PLACES - 1)


def _pick(draw: DrawFn, possibilities: Sequence[Possibility]) -> Possibility:
    """One possibility by weight, and the same command as far as possible when the others change.

    Every command has a fixed place among all commands. Otherwise a search that leaves a step out would turn every later step
    into another. A place whose command is impossible now selects any of the possible ones.
    """
    by_command: dict[str, list[tuple[float, Possibility]]] = {name: [] for name in _SHARES}
    for each in possibilities:
        by_command[each.command].append((each.weight, each))
    if sum(map(bool, by_command.values())) == 1:
        (only,) = filter(None, by_command.values())
        return DrawnDice(draw).weighted(only)
    place = draw(_PLACE) / _PLACES * _ALL_SHARES
    vacant = 0.0
    shares = {name: min(_SHARES[name], sum(weight for weight, _ in of)) for name, of in by_command.items()}
    for name, most in _SHARES.items():
        if place < shares[name]:
            return DrawnDice(draw).weighted(by_command[name])
        if place < most:
            place = (vacant + place - shares[name]) / (_ALL_SHARES - sum(shares.values())) * sum(shares.values())
            break
        place -= most
        vacant += most - shares[name]
    for name, share in shares.items():
        place -= share
        if place < 0 and share:
            return DrawnDice(draw).weighted(by_command[name])
    return possibilities[-1]


class _ShownInstant(datetime):
    """An instant whose ``repr`` is as on a line of a scenario."""

    def __repr__(self) -> str:
        return repr(self.isoformat())


def told_at(at: datetime, zone_name: str) -> datetime:
    """The same instant with the offset of a zone, and not the zone itself, whose differences would be those of the wall."""
    local = at.astimezone(zone(zone_name))
    wall = (local.year, local.month, local.day, local.hour, local.minute, local.second, local.microsecond)
    return _ShownInstant(*wall, tzinfo=timezone(local.utcoffset() or timedelta()))


def _step(fields: Fields, at: datetime | None, zone_name: str, outcome: str = "accepted") -> Step:
    """A step with its own times as text, without the fields that only repeat defaults."""
    said = {
        name: told_at(value, zone_name).isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
    }
    if said["command"] == "confirm_order":
        said = _tidy(said)
    return Step(said, None if at is None else told_at(at, zone_name), outcome)


def _tidy(fields: Fields) -> Fields:
    if isinstance(fields.get("lines"), list) and all(isinstance(line, dict) for line in fields["lines"]):
        fields = fields | {"lines": [_without_defaults(line) for line in fields["lines"]]}
    shipping = fields.get("shipping")
    if isinstance(shipping, dict):
        less = _without_defaults(shipping)
        if less.get("charged") is not None and not Decimal(less["charged"]) and "tax" not in less:
            return {name: value for name, value in fields.items() if name != "shipping"}
        return fields | {"shipping": less}
    return fields


def _without_defaults(part: Fields) -> Fields:
    less = {name: value for name, value in part.items() if not (name == "final_sale" and value is False)}
    if "tax" in less and not Decimal(less["tax"]):
        del less["tax"]
    return less


# ---- orders -----------------------------------------------------------------------------------------------------------


def orders(
    *,
    order_id: str | SearchStrategy[str] = "A-1",
    currency: str | SearchStrategy[str] = "USD",
    max_lines: int = 3,
    prices: SearchStrategy[str] | Sequence[str] | None = None,
    account: bool | None = None,
    final_sale: bool | None = None,
    at: When | None = None,
) -> SearchStrategy[Step]:
    """A valid, paid order: a step of ``confirm_order`` at ``at`` (``None``: at the time of the step before it).

    ``prices`` are unit prices in major units, as text; by default on both sides of the usual threshold of the label fee.
    ``account`` and ``final_sale`` fix whether the customer has an account and whether the lines are final sale. Shrinks to
    one unit of one line of 750.00, paid by one card.
    """
    if max_lines < 1:
        raise ValueError("an order has at least one line")

    @st.composite
    def order(draw: DrawFn) -> Step:
        code = _drawn(draw, currency)
        name = _drawn(draw, order_id)
        random = DrawnDice(draw)

        def price(random: Dice) -> int:
            if prices is None:
                return random.integer(0, 200_000) if random.chance(0.2) else random.choice(_prices_in(code))
            said = draw(prices) if isinstance(prices, st.SearchStrategy) else random.choice(prices)
            return to_minor(said, code)

        fields = order_fields(random, name, currency=code, max_lines=max_lines, price=price)
        if account is not None:
            fields["customer"]["account_id"] = "acc-1" if account else None
        if final_sale is not None:
            fields["lines"] = [line | {"final_sale": final_sale} for line in fields["lines"]]
        step = _step(fields, None, "UTC")
        return step if at is None else step.at(at)

    return order()


def _prices_in(currency: str, threshold: int | None = None) -> Sequence[int]:
    """Unit prices in minor units of the currency: the usual ones, the threshold, and one unit below it."""
    digits = minor_unit_digits(currency)
    usual = [price * 10**digits // 100 for price in PRICES]
    beside = [] if threshold is None else [threshold, threshold - 1]
    return list(dict.fromkeys(price for price in [usual[0], *beside, *usual[1:]] if price >= 0))


def _drawn(draw: DrawFn, value: T | SearchStrategy[T]) -> T:
    return draw(value) if isinstance(value, st.SearchStrategy) else value


# ---- policies -----------------------------------------------------------------------------------------------------------

ZONES = (
    *("America/New_York", "UTC", "Europe/Berlin", "Asia/Tokyo", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns"),
    *("Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Asia/Beirut"),
)
"""Zones with and without daylight saving, with whole and half hours; some skip midnight."""

_ONE_OF: dict[str, dict[str, tuple[Any, ...]]] = {
    "cancellation.window": {"hours": (2, 0, 1, 24, 48)},
    "cancellation.not_shipped": {"judged": ("when_decided", "when_requested")},
    "cancellation.full_refund": {"refunds_shipping": (True, False)},
    "returns.window": {"days": (14, 0, 1, 7, 15, 30, 100), "counting": ("calendar", "business")},
    "returns.account": {"required": (True, False)},
    "returns.ship_by": {"business_days": (2, 0, 1, 3, 10), "anchor": ("label_received", "label_issued")},
    "returns.label_fee": {"free_only_with_free_shipping": (False, True)},
    "returns.original_tender": {"allocation": ("pro_rata", "in_order")},
    "returns.refund_timing": {"business_days": ((10, 15), (0, 0), (1, 1), (0, 30))},
    "wrong_item.window": {"business_days": (7, 0, 1, 14)},
    "wrong_item.contact": {"hours": (24, 0, 1, 72)},
    "wrong_item.remedy": {"refunds_shipping_for_whole_order": (True, False)},
}
_PARTS_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "cancellation.by_email": {"channels": ("email", "portal", "phone"), "requires": ("order_reference", "order_copy")},
    "returns.portal": {"channels": ("portal", "email", "phone")},
    "returns.condition": {"requires": ("same_condition", "original_packaging", "tags_attached")},
    "wrong_item.by_email": {"channels": ("email", "portal", "phone")},
    "wrong_item.evidence": {"requires": ("order_confirmation", "item_picture")},
}


def policies(
    *, zones: Sequence[str] = ZONES, currencies: Sequence[str] = ("USD", "EUR", "JPY", "KWD")
) -> SearchStrategy[Policy]:
    """A valid policy of one version: the bundled one with other parameters, and with clauses that do not apply.

    It varies hours, days and how they are counted, anchors, thresholds and fees, channels, what is required, the zone, the
    currency and the merchant's own closed days. Shrinks to the bundled policy; the version of any other is ``drawn``.
    """

    @st.composite
    def drawn(draw: DrawFn) -> Policy:
        bundled = bundled_policies().versions[-1]
        random = DrawnDice(draw)
        content = bundled.model_dump(by_alias=True)
        clauses: dict[str, Any] = content["clauses"]
        # Every policy takes the same draws, used or not. So leaving one clause as it is moves no other, and a policy that
        # fails shrinks to the one clause that matters.
        for clause in (*_ONE_OF, *_PARTS_OF):
            varied = random.chance(0.25)
            changes = {name: random.choice(options) for name, options in _ONE_OF.get(clause, {}).items()}
            for name, parts in _PARTS_OF.get(clause, {}).items():
                some = tuple(_some(random, parts, 0.5))
                changes[name] = some or ((parts[0],) if name == "channels" else ())
            if varied:
                clauses[clause].update(changes)
        for clause in _some(random, CLAUSE_IDS, 0.06):
            clauses[clause]["applies"] = False
        content["currency"] = random.choice(currencies) if random.chance(0.2) else bundled.currency
        if content["currency"] != bundled.currency or random.chance(0.25):
            cent = Decimal(1).scaleb(-minor_unit_digits(content["currency"]))
            for name, amounts in (("threshold", (500, 0, 1, 300, 10_000)), ("fee", (20, 0, 1, 500))):
                less = cent if random.chance(0.4) else Decimal(0)
                clauses["returns.label_fee"][name] = max(Decimal(0), Decimal(random.choice(amounts)) - less).quantize(
                    cent
                )
        content["zone"] = random.choice(zones) if random.chance(0.3) else bundled.zone
        if random.chance(0.2):
            closed = {random.integer(0, 60) for _ in range(random.integer(1, 5))}
            content["calendar"]["closed_also"] = tuple(date(2026, 3, 2) + timedelta(days=day) for day in sorted(closed))
        policy = Policy.model_validate(content)
        if policy == bundled:
            return bundled
        return Policy.model_validate(content | {"version": "drawn"})

    return drawn()


def _some(random: Dice, of: Sequence[T], share: float) -> list[T]:
    return [each for each in of if random.chance(share)]


# ---- the next command -----------------------------------------------------------------------------------------------------


def commands(
    state: Desk | Services | Case,
    *,
    legal: bool = True,
    only: Collection[str] | None = None,
    at: datetime | None = None,
    later: bool = False,
    policy: AnyPolicy = None,
) -> SearchStrategy[Step]:
    """The next command for a desk or a case: a :class:`~returnable.testing.steps.Step` at ``at``.

    ``state``: a desk (``returnable.open(...)``), its ``services``, or one case. ``legal``: only commands that are accepted or
    declined; else also impossible and malformed ones, and those on things that do not exist. ``only``: the names of the
    commands to choose from. ``at``: an aware instant, by default the desk's clock; a case has none. ``later``: at that
    instant or later, often next to a deadline. ``policy``: for a case whose policy is not a bundled one.

    The strategy uses the state at the time it draws. Ids are the next ones: ``R-2`` after ``R-1``. Raises ``LookupError``
    when none of ``only`` is possible.
    """

    @st.composite
    def command(draw: DrawFn) -> Step:
        situation = Situation.of(state, at, policy)
        if later:
            situation.move(DrawnDice(draw))
        fields = situation.choose_legal(draw, only) if legal else situation.choose_any(draw, only)
        return _step(fields, situation.behaviour.at, situation.zone_name)

    return command()


def _found(likely: Sequence[Possibility], only: Collection[str] | None) -> Sequence[Possibility]:
    if not likely:
        raise LookupError(f"none of these is possible as things stand: {', '.join(sorted(only or ()))}")
    return likely


def _details(random: Dice) -> Dice:
    return random if random.chance(DETAILS) else SimplestDice()


class Situation:
    """The state of a desk or a case at an instant, and what might happen next."""

    def __init__(
        self,
        cases: Sequence[Case],
        at: datetime,
        policy_of: Callable[[Case], Policy],
        newest: Policy,
        max_orders: int = 1,
    ) -> None:
        self.policy_of = policy_of
        self.zone_name = newest.zone
        self._newest = newest
        self._cases = cases
        self._max_orders = max_orders
        self.behaviour = self._at(at)

    def _at(self, at: datetime) -> Behaviour:
        prices = _prices_in(self._newest.currency, self._newest.label_fee_minor[0])
        return Behaviour(self._cases, at, prices=prices, currency=self._newest.currency, max_orders=self._max_orders)

    def move(self, random: Dice) -> None:
        """Let some time pass, or none."""
        if self._cases:
            self.behaviour = self._at(self.behaviour.later(random, NEAR_EDGES))

    @staticmethod
    def of(
        state: Desk | Services | Case,
        at: datetime | None,
        policy: AnyPolicy = None,
        max_orders: int = 1,
    ) -> Situation:
        """The situation at ``at``, or at the clock of a desk."""
        if isinstance(state, Case):
            if at is None:
                raise TypeError("a case has no clock: say at=")
            if state.pins is None:
                raise TypeError("nothing happened in the case yet")
            pinned = state.pins.sha256
            found = policy_book(policy).by_sha256(pinned)
            if found is None:
                raise LookupError(f"the case was decided under another policy ({pinned[:12]}): say policy=")
            return Situation([state], at, lambda case: found, found, max_orders)
        services = state if isinstance(state, Services) else state.services
        if at is None:
            if isinstance(state, Services):
                raise TypeError("parts have no clock: say at=")
            at = state.clock()
        desk = services.handler
        cases = [desk.case(case_id) for case_id in services.store.case_ids(limit=1_000_000)]
        return Situation(cases, at, desk.policy_of, desk.policies.versions[-1], max_orders)

    def legal(self, only: Collection[str] | None = None) -> list[Possibility]:
        """The commands that would be accepted or declined."""
        return [each for each in self.behaviour.legal(self.policy_of) if only is None or each.command in only]

    def is_legal(self, possibility: Possibility) -> bool:
        """Whether it would be accepted or declined, in its simplest form."""
        return is_possible(possibility, possibility.fields(SimplestDice()), self.behaviour.at, self.policy_of)

    def choose_legal(self, draw: DrawFn, only: Collection[str] | None = None) -> Fields:
        """The fields of a command that is accepted or declined."""
        behaviour = self.behaviour
        likely = [each for each in behaviour.likely() if only is None or each.command in only]
        chosen = _pick(draw, _found(likely, only))
        if not self.is_legal(chosen):
            chosen = _pick(draw, _found(self.legal(only), only))
        return behaviour.filled_in(chosen, _details(DrawnDice(draw)), self.policy_of)

    def choose_any(self, draw: DrawFn, only: Collection[str] | None = None) -> Fields:
        """The fields of a command that may be impossible, or about nothing that exists."""
        behaviour, random = self.behaviour, DrawnDice(draw)
        likely = [each for each in behaviour.likely() if only is None or each.command in only]
        if self._cases and (not likely or random.chance(0.1)):
            unrelated = [each for each in behaviour.unrelated(random) if only is None or each.command in only]
            return random.choice(_found(unrelated or likely, only)).fields(_details(random))
        fields = _pick(draw, _found(likely, only)).fields(_details(random))
        return behaviour.mutated(random, fields) if self._cases and random.chance(0.1) else fields


# ---- histories ------------------------------------------------------------------------------------------------------------


def histories(
    *,
    legal: bool = True,
    min_size: int = 1,
    max_size: int = 20,
    max_orders: int = 1,
    policy: AnyPolicy | SearchStrategy[Policy] = None,
) -> SearchStrategy[tuple[Step, ...]]:
    """The history of an order (or of up to ``max_orders``), step by step, as ``given(*history)`` takes it.

    Every step has an aware instant ``when`` with the offset of the policy's zone, not earlier than the step before, in whole
    minutes except next to a deadline; and the ``outcome`` of a desk under ``policy``. With ``legal`` every step is
    ``accepted`` or ``declined``; without, some are an ``error``: impossible, malformed, or dated in the future.

    ``policy`` may be a strategy such as :func:`policies`, if the test need not know the policy. Shrinks to few steps, close
    together.
    """
    if not 0 <= min_size <= max_size:
        raise ValueError("a history has at least min_size steps, and at most max_size")

    @st.composite
    def history(draw: DrawFn) -> tuple[Step, ...]:
        book = policy_book(draw(policy) if isinstance(policy, st.SearchStrategy) else policy)
        services = assemble("memory:", book)
        steps: list[Step] = []
        at = START
        while len(steps) < max_size:
            # Whether there is one more step and which one is one draw, so that a search can leave out a whole step.
            step = draw(_next_steps(services, at, legal, max_orders, len(steps) >= min_size))
            if step is None:
                break
            steps.append(step)
            at = cast(datetime, step.when)
        services.store.close()
        return tuple(steps)

    return history()


@st.composite
def _next_steps(
    draw: DrawFn, services: Services, at: datetime, legal: bool, max_orders: int, may_end: bool
) -> Step | None:
    random = DrawnDice(draw)
    if may_end and not random.chance(GO_ON):
        return None
    situation = Situation.of(services, at, max_orders=max_orders)
    situation.move(random)
    fields = situation.choose_legal(draw) if legal else situation.choose_any(draw)
    at = situation.behaviour.at
    outcome = "error"
    try:
        outcome = _handle(services, fields, at)
    except Impossible:
        if legal:
            raise
    return _step(fields, at, situation.zone_name, outcome)


def _handle(services: Services, fields: Fields, at: datetime) -> str:
    return services.handler.handle(parse_command(fields), at).outcome
