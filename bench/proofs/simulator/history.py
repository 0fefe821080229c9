"""The history of one seed: a shop is opened, lives through some moments, and comes to rest; then the oracles look at it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from random import Random
from typing import Any
from unittest.mock import patch

from bench.proofs.simulator.actors import (
    Conductor,
    Following,
    Host,
    NoticeReader,
    Outsider,
    PaymentWorker,
    Reader,
    Timer,
)
from bench.proofs.simulator.machine import CALM
from bench.proofs.simulator.oracles import ORACLES, digest_of, readers_saw_everything
from bench.proofs.simulator.scheduler import DAY, HOUR
from bench.proofs.simulator.shop import Shop, as_paid
from returnable.adapters.eventstore import store
from returnable.domain.commands import ConfirmOrder, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.events import decode
from returnable.testing.behaviour import SeededDice, order_fields

STRUCK = {
    "processes killed": "is killed",
    "power losses": "the power is lost",
    "answers of the store that were lost": "is not told",
    "appends that were refused": "is refused",
    "stalls": "is slow",
}
"""What can be read of it in the trace."""

MOST_ROUNDS_TO_REST = 80
"""So often the worker looks, eight hours apart, until every refund must have its answer."""


@dataclass(frozen=True, slots=True)
class History:
    """What came of a seed. ``violations`` is empty where all is well."""

    seed: int
    violations: tuple[str, ...]
    digest: str
    seen: Counter[str]
    trace: list[str]


class Cast:
    """Who acts in a shop, drawn by its dice."""

    def __init__(self, shop: Shop) -> None:
        dice = shop.dice("cast")
        self.hosts = [Host(f"host-{n}", shop) for n in range(1, 1 + dice.choice((2, 3, 3)))]
        self.workers = [PaymentWorker(f"worker-{n}", shop) for n in range(1, 1 + dice.choice((1, 1, 2)))]
        self.notices = [NoticeReader("notices", shop)]
        self.outsider = Outsider("outsider", shop)
        self.timers = [Timer(f"timer-{n}", shop) for n in range(1, 1 + dice.choice((1, 2)))]
        self.following = [Following(f"following-{n}", shop) for n in range(1, 1 + dice.choice((1, 1, 2)))]
        self.readers = [Reader(f"reader-{n}", shop) for n in range(1, 1 + dice.choice((1, 2)))]
        self.conductor = Conductor("conductor", shop, dice.choice((4, 8, 8, 12)))

    def act(self, shop: Shop) -> None:
        alone = [*self.workers, *self.notices, *self.timers, *self.following, *self.readers]
        for actor in (*self.hosts, *alone, self.outsider, self.conductor):
            shop.scheduler.add(actor.name, actor.play)
        shop.scheduler.run()

    def rest(self, shop: Shop) -> None:
        """Nothing strikes any more: let what is under way come to its end."""
        shop.set_troubles(CALM)
        worker = self.workers[0]
        for _ in range(MOST_ROUNDS_TO_REST):
            for actor in (*self.workers, *self.notices):
                actor.work()
            if not worker.open_refunds():
                break
            shop.scheduler.sleep(8 * HOUR)
        shop.scheduler.sleep(40 * DAY)  # what was told late outside comes as well
        for actor in (*self.notices, *self.timers):
            actor.work()
        for each in (*self.timers, *self.following, *self.readers):
            each.work()


def live(seed: int) -> History:
    """The history of a seed: the same whenever and wherever it is lived."""
    shop = Shop(seed)
    violations: list[str] = []
    try:
        violations += _live(shop)
    except Exception as failure:  # whatever the library raises here, nobody expects it
        violations.append(f"{type(failure).__name__}: {failure}")
    digest = digest_of(shop)
    _count(shop)
    shop.views.close()
    return History(seed, tuple(violations), digest, shop.seen, shop.scheduler.trace)


def _live(shop: Shop) -> Iterator[str]:
    open_with(shop, shop.dice("opening"))
    cast = Cast(shop)
    cast.act(shop)
    cast.rest(shop)
    yield from readers_saw_everything(shop, [reader.read for reader in cast.readers])
    for oracle in ORACLES:
        yield from oracle(shop)


def _count(shop: Shop) -> None:
    """What struck the shop, and what it came through."""
    shop.seen["histories"] = 1
    shop.seen["facts"] = shop.disk.store.head()
    shop.seen["turns"] = len(shop.scheduler.trace)
    for name, said in STRUCK.items():
        shop.seen[name] = sum(said in line for line in shop.scheduler.trace)
    paid = shop.gateway.refunds()
    shop.seen["refunds in the gateway's books"] = len(paid)
    shop.seen["… that moved money"] = sum(receipt.result == "succeeded" for receipt in paid)
    shop.seen["calls of the gateway that timed out"] = sum("timed out" in call for call in shop.gateway.calls)


@contextmanager
def hurrying() -> Iterator[None]:
    """Live more histories a second: facts never change, so each is decoded once, and nobody looks for garbage."""
    gc.disable()
    try:
        with patch.object(store, "decode", lru_cache(8192)(decode)):
            yield
    finally:
        gc.enable()


def open_with(shop: Shop, dice: Random) -> None:
    """Begin with some orders that have come some way, so that there is something to lose from the start."""
    troubles = shop.troubles
    shop.set_troubles(CALM)
    stories = [_story(shop, dice) for _ in range(dice.choice((0, 1, 1, 2, 3)))]
    for steps in zip_longest(*stories):
        shop.scheduler.sleep(18 * HOUR)
        for fields in steps:
            _tell(shop, fields)
    shop.set_troubles(troubles)


def _tell(shop: Shop, fields: dict[str, Any] | None) -> None:
    if fields is None:  # the story of this order ends here
        return
    try:
        command = parse_command({**as_paid(fields, shop.now()), "command_id": shop.new("opening")})
    except Impossible:  # all is final sale: there is nothing to return
        return
    if isinstance(command, ConfirmOrder):
        shop.capture(command)
    shop.tell(shop.servers[0], command)


def _story(shop: Shop, dice: Random) -> list[dict[str, Any]]:
    """What happens to one order, up to somewhere."""
    order_id, return_id, label_id, parcel_id = (shop.new(kind) for kind in "ARLP")
    order = order_fields(SeededDice(dice), order_id, price=lambda dice: dice.choice((4999, 30000, 75000)))
    units = [{"line_id": line["line_id"], "quantity": 1} for line in order["lines"] if not line["final_sale"]]
    on_return = {"return_id": return_id}
    found = {"same_condition": True, "original_packaging": True, "tags_attached": True}
    parcel = {"order_id": order_id, "parcel_id": parcel_id}
    label = {"label_id": label_id, "carrier": "fedex", "tracking_number": "RT-1"}
    asked = {"order_id": order_id, "lines": units, "channel": "portal"}
    story: list[dict[str, Any]] = [
        order,
        {"command": "record_shipment", **parcel, "carrier": "ups", "tracking_number": "T-1"},
        {"command": "record_delivery", **parcel},
        {"command": "request_return", **on_return, **asked},
        {"command": "issue_label", **on_return, **label},
        {"command": "record_return_shipment", **on_return, "label_id": label_id},
        {"command": "receive_return", **on_return},
        {"command": "inspect_return", **on_return, "findings": [unit | found for unit in units]},
        {"command": "request_refund", **on_return, "refund_id": shop.new("F")},
    ]
    return story[: dice.choice((1, 3, 4, 5, 8, 8, 9))]
