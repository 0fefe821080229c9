"""The history of one seed: a shop is opened, lives through some moments, and comes to rest; then the oracles look at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from bench.reliability.actors import (
    Conductor,
    Following,
    Host,
    NoticeReader,
    PaymentWorker,
    Reader,
    Timer,
)
from bench.reliability.baton import DAY, HOUR
from bench.reliability.machine import CALM
from bench.reliability.oracles import ORACLES, digest_of, readers_saw_everything
from bench.reliability.shop import Shop
from returnable.domain.commands import ConfirmOrder, parse_command
from returnable.domain.errors import ReturnableError
from returnable.testing.behaviour import SeededDice, order_fields

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
        self.timers = [Timer(f"timer-{n}", shop) for n in range(1, 1 + dice.choice((1, 2)))]
        self.following = [Following(f"following-{n}", shop) for n in range(1, 1 + dice.choice((1, 1, 2)))]
        self.readers = [Reader(f"reader-{n}", shop) for n in range(1, 1 + dice.choice((1, 2)))]
        self.conductor = Conductor("conductor", shop, dice.choice((4, 8, 8, 12)))

    def act(self, shop: Shop) -> None:
        """All of them, until the shop closes."""
        alone = [*self.workers, *self.notices, *self.timers, *self.following, *self.readers]
        for actor in (*self.hosts, *alone, self.conductor):
            shop.baton.add(actor.name, actor.play)
        shop.baton.run()

    def rest(self, shop: Shop) -> None:
        """Nothing strikes any more: let what is under way come to its end."""
        shop.calm_down()
        worker = self.workers[0]
        for _ in range(MOST_ROUNDS_TO_REST):
            for actor in (*self.workers, *self.notices):
                actor.work()
            if not worker.open_refunds():
                break
            shop.baton.sleep(8 * HOUR)
        shop.baton.sleep(40 * DAY)  # what was told late outside comes as well
        for actor in (*self.notices, *self.timers):
            actor.work()
        for each in (*self.timers, *self.following, *self.readers):
            each.work()


def live(seed: int) -> History:
    """The history of a seed."""
    shop = Shop(seed)
    violations: list[str] = []
    try:
        violations += _live(shop)
    except Exception as failure:  # whatever the library raises here, nobody expects it
        violations.append(f"{type(failure).__name__}: {failure}")
    digest = digest_of(shop)
    shop.views.close()
    return History(seed, tuple(violations), digest, shop.seen, shop.baton.trace)


def _live(shop: Shop) -> Iterator[str]:
    open_with(shop, shop.dice("opening"))
    cast = Cast(shop)
    cast.act(shop)
    cast.rest(shop)
    shop.seen["facts"] += shop.disk.store.head()
    yield from readers_saw_everything(shop, [reader.read for reader in cast.readers])
    for oracle in ORACLES:
        yield from oracle(shop)


def open_with(shop: Shop, dice: Random) -> None:
    """Begin with an order that has come some way, so that there is something to lose from the start."""
    far = dice.choice((0, 1, 3, 3, 4, 7, 7, 8))
    if not far:
        return
    troubles, shop.troubles = shop.troubles, CALM
    for process in shop.processes:
        process.troubles = CALM
    order_id = shop.new("A")
    order = order_fields(SeededDice(dice), order_id, price=lambda dice: dice.choice((4999, 30000, 75000)))
    units = [{"line_id": line["line_id"], "quantity": 1} for line in order["lines"] if not line["final_sale"]]
    return_id, label_id, parcel_id = shop.new("R"), shop.new("L"), shop.new("P")
    on_return = {"return_id": return_id}
    found = {"same_condition": True, "original_packaging": True, "tags_attached": True}
    parcel = {"order_id": order_id, "parcel_id": parcel_id}
    label = {"label_id": label_id, "carrier": "fedex", "tracking_number": "RT-1"}
    asked = {"order_id": order_id, "lines": units, "channel": "portal"}
    story = [
        (0, order),
        (4, {"command": "record_shipment", **parcel, "carrier": "ups", "tracking_number": "T-1"}),
        (48, {"command": "record_delivery", **parcel}),
        (30, {"command": "request_return", **on_return, **asked}),
        (1, {"command": "issue_label", **on_return, **label}),
        (20, {"command": "record_return_shipment", **on_return, "label_id": label_id}),
        (48, {"command": "receive_return", **on_return}),
        (5, {"command": "inspect_return", **on_return, "findings": [unit | found for unit in units]}),
        (1, {"command": "request_refund", **on_return, "refund_id": shop.new("F")}),
    ]
    for hours, fields in story[: far + 1]:
        shop.baton.sleep(hours * HOUR)
        try:
            command = parse_command({**fields, "command_id": shop.new("opening")})
        except ReturnableError:  # all is final sale: there is nothing to return
            break
        if isinstance(command, ConfirmOrder):
            shop.capture(command)
        shop.tell(shop.servers[0], command)
    shop.troubles = troubles
    for process in shop.processes:
        process.troubles = troubles
