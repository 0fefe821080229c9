"""Load on the example services: several processes on one PostgreSQL store, and clients that repeat, race and hang up.

    python -m bench.speed.services --cases 300 --clients 8 [--service fastapi] [--store postgresql://…]

Every command is sent once or up to three times at once under one Idempotency-Key, some to be hung up on before the answer and
sent again. At the end the store is asked whether all that was answered is there, nothing else is, and no unit and no cent
went twice. Latencies are given beside those of a bare route of the same server, asked in turns in the same run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import returnable
from bench.postgres import OwnServer, with_parameters
from bench.speed.measure import p99, table
from returnable.adapters.wiring import migrate_store
from returnable.domain.events import ReturnRequested

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
REPEATS = 200
"""How often a client repeats a request before it gives up."""


# ---- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """An example, and how its web processes are started; ``{socket}`` stands for the socket a process listens at."""

    folder: str
    prefix: str
    commands: tuple[str, ...]


SERVICES = {
    "fastapi": Service("fastapi_service", "", ("uvicorn returns_api.app:app --uds {socket}",) * 2),
    "django": Service(
        "django_service", "", ("gunicorn shop.wsgi --bind unix:{socket} --workers 2 --threads 8 --preload",)
    ),
    "django-async": Service(
        "django_service", "/async", ("uvicorn shop.asgi:application --uds {socket} --lifespan off",) * 2
    ),
}
BESIDE = ("returnable worker --store {store} --every 0.2",) * 2
"""What else runs on the store meanwhile: commands in which ``{store}`` stands for its URL."""


class Running:
    """A service that runs."""

    def __init__(self, service: Service, store: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.service = service
        self.store = store
        self._settings = settings
        self.sockets: list[Path] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log = folder / "log"

    def start(self, command: str) -> None:
        """Start one process."""
        words = [word.replace("{store}", self.store) for word in command.split()]
        program = SCRIPTS / words[0]
        environment = {
            **os.environ,
            "RETURNABLE_STORE": self.store,
            "PYTHONPATH": str(self._folder),
            "PYTHONUNBUFFERED": "1",
            **self._settings,
        }
        with self._log.open("ab") as log:
            started = subprocess.Popen([program, *words[1:]], env=environment, stdout=log, stderr=log, cwd=self._folder)
        self.processes.append(started)

    @property
    def _folder(self) -> Path:
        return ROOT / "examples" / self.service.folder

    def until_ready(self) -> None:
        """Wait until every process answers from the store."""
        for place in self.sockets:
            for _ in range(12_000):
                try:
                    if ask(place, "GET", f"{self.service.prefix}/ready").status == 200:
                        break
                except OSError:
                    pass
                if any(process.poll() is not None for process in self.processes):
                    raise RuntimeError(f"a process ended at once:\n{self.log()}")
                sleep(0.05)
            else:
                raise RuntimeError(f"it did not get ready:\n{self.log()}")

    def stop(self) -> list[int]:
        """End every process as its operator would; their exit statuses."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        try:
            return [process.wait(600) for process in self.processes]
        finally:
            for process in self.processes:
                if process.poll() is None:
                    process.kill()

    def log(self) -> str:
        """What all processes wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running(name: str, store: str, *, alone: bool = False, **settings: str) -> Iterator[Running]:
    """The processes of a service on a store, and what runs beside them; ``settings`` go into their environment.

    ``alone``: one web process, and nothing beside it.
    """
    service = SERVICES[name]
    with tempfile.TemporaryDirectory(prefix="returnable-services-") as folder:
        started = Running(service, store, Path(folder), settings)
        try:
            for nth, command in enumerate(service.commands[:1] if alone else service.commands):
                place = Path(folder) / f"{nth}.sock"
                started.sockets.append(place)
                started.start(command.replace("{socket}", str(place)))
            for command in () if alone else BESIDE:
                started.start(command)
            started.until_ready()
            yield started
        finally:
            started.stop()


# ---- clients ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        said: dict[str, Any] = json.loads(self.content)
        return said


class Line(http.client.HTTPConnection):
    """A connection to the socket of a process."""

    def __init__(self, place: Path) -> None:
        super().__init__("localhost", timeout=600)
        self.place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.place))

    def say(self, method: str, path: str, key: str | None = None, body: object = None) -> None:
        """Send a request, and do not wait."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        self.request(method, path, None if body is None else json.dumps(body).encode(), headers)

    def ask(self, method: str, path: str, key: str | None = None, body: object = None) -> Answer:
        """Send a request and wait for the answer."""
        self.say(method, path, key, body)
        answer = self.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def ask(place: Path, method: str, path: str, key: str | None = None, body: object = None) -> Answer:
    """Ask a process on a connection that is closed afterwards."""
    with closing(Line(place)) as line:
        return line.ask(method, path, key, body)


@dataclass(frozen=True)
class Wish:
    """A command as a client sends it, under its own key."""

    key: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)


class Clients:
    """Threads that send what they are given, each with connections of its own; a definite answer is always had."""

    def __init__(self, service: Running, threads: int, chance: random.Random) -> None:
        self.service = service
        self.chance = chance
        self.counts: Counter[str] = Counter()
        self.commands: list[float] = []
        self.bare: list[float] = []
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._lines = threading.local()
        self._open: list[Line] = []
        self._senders = ThreadPoolExecutor(threads)

    def close(self) -> None:
        """Let the threads go, and hang up."""
        self._senders.shutdown()
        for line in self._open:
            line.close()

    def count(self, what: str, number: int = 1) -> None:
        """Count something that happened."""
        with self._lock:
            self.counts[what] += number

    def check(self, true: bool, *what: object) -> None:
        """Note what is not as it has to be."""
        if not true:
            with self._lock:
                self.wrong.append(" ".join(map(str, what)))

    def at_once(self, *wishes: Wish) -> list[Answer]:
        """Send wishes at the same time, each one or several times; the answer to each. All answers to one are the same."""
        sent = []
        for wish in wishes:
            copies = self.chance.choice((1, 1, 2, 3))
            self.count("duplicates", copies - 1)
            sent.append([self._senders.submit(self._obtain, wish, self.chance.random()) for _ in range(copies)])
        answers = []
        for wish, copies_sent in zip(wishes, sent, strict=True):
            first, *others = [each.result() for each in copies_sent]
            for other in others:
                same = (first.status, first.json) == (other.status, other.json)
                # A refusal without a record may name a later state of the lifecycle; the code stays.
                same |= first.status == other.status >= 400 and first.json["code"] == other.json["code"]
                self.check(same, f"{wish}: {first} is not {other}")
            replayed = [each for each in (first, *others) if each.headers["Idempotency-Replayed"]]
            self.count("answered from the record", len(replayed))
            answers.append(first)
        return answers

    def _obtain(self, wish: Wish, chance: float) -> Answer:
        sockets, prefix, first = self.service.sockets, self.service.service.prefix, int(chance * 1000)
        if chance < 0.08:
            with closing(Line(sockets[first % len(sockets)])) as line:
                line.say("POST", prefix + wish.path, wish.key, wish.body)
            self.count("hung up before the answer")
        for nth in range(REPEATS):
            if nth:
                self.count("repeated after an error")
                sleep(0.05)
            line = self._line(sockets[(first + nth) % len(sockets)])
            try:
                begin = perf_counter()
                answer = line.ask("POST", prefix + wish.path, wish.key, wish.body)
                took = perf_counter() - begin
                begin = perf_counter()
                line.ask("GET", f"{prefix}/health")
                bare = perf_counter() - begin
            except (OSError, http.client.HTTPException):
                line.close()
                continue
            with self._lock:
                self.counts["requests"] += 1
                self.commands.append(took)
                self.bare.append(bare)
            self.count(f"answers {answer.status}")
            if answer.status < 500:
                return answer
        raise AssertionError(f"no definite answer to {wish}")

    def _line(self, place: Path) -> Line:
        lines: dict[Path, Line] = self._lines.__dict__
        if place not in lines:
            lines[place] = Line(place)
            self._open.append(lines[place])
        return lines[place]


# ---- cases -----------------------------------------------------------------------------------------------------------


class Load(Clients):
    """Cases with a race each, and what must have come of them."""

    def __init__(self, service: Running, threads: int, chance: random.Random, name: str) -> None:
        super().__init__(service, threads, chance)
        self.name = name
        self.told: dict[str, str] = {}
        """Every fact that was told to a client: ``order/A-1#2`` and its type."""

    def run(self, number: int) -> None:
        """One case."""
        kinds: Sequence[Callable[[str], None]] = (self.last_unit, self.cancelled_or_shipped, self.two_refunds)
        kinds[number % len(kinds)](f"{self.name}-{number}")

    def last_unit(self, order: str) -> None:
        """Three want the last unit."""
        self._confirm(order)
        self._one(Wish(f"{order}-ship", f"/orders/{order}/shipments", _parcel(order)))
        self._one(Wish(f"{order}-deliver", f"/orders/{order}/parcels/P-{order}/delivery"))
        self._one(self._return(order, "first"), accepted=True)
        answers = self._all(self._return(order, "a"), self._return(order, "b"), self._return(order, "c"))
        self._race(order, answers, "quantity.exceeded")

    def cancelled_or_shipped(self, order: str) -> None:
        """A cancellation, while the parcel goes out and its units are wanted back."""
        self._confirm(order)
        cancel, ship, *_ = self._all(
            self._cancellation(order), Wish(f"{order}-ship", f"/orders/{order}/shipments", _parcel(order))
        )
        self._one(Wish(f"{order}-deliver", f"/orders/{order}/parcels/P-{order}/delivery"))
        late, refund = self._all(
            self._return(order, "a"), Wish(f"{order}-f", "/refunds", {"refund_id": f"F-{order}", "order_id": order})
        )
        cancelled = cancel.json.get("outcome") == "accepted"
        self.check((ship.status, cancel.status) in ((201, 200), (201, 201)), order, ship, cancel)
        if cancelled:  # the parcel went out all the same: its goods may come back, and nothing is owed for them
            self.check((late.status, refund.status) == (201, 201), order, late, refund)
        else:
            self.check(late.status == 201 and refund.status >= 400, order, late, refund)
        self.count("cancellations that won" if cancelled else "shipments that won")

    def two_refunds(self, order: str) -> None:
        """Three refunds are asked for at once where one is owed."""
        self._confirm(order)
        self._one(self._cancellation(order), accepted=True)
        wishes = [
            Wish(f"{order}-f{n}", "/refunds", {"refund_id": f"F-{order}-{n}", "order_id": order}) for n in range(3)
        ]
        self._race(order, self._all(*wishes), "transition.not_allowed")

    def _confirm(self, order: str) -> None:
        self._one(Wish(f"{order}-confirm", "/orders", _an_order(order)), accepted=True)

    def _cancellation(self, order: str) -> Wish:
        return Wish(f"{order}-cancel", f"/orders/{order}/cancellation", {"channel": "email", "order_reference": order})

    def _return(self, order: str, which: str) -> Wish:
        body = {"return_id": f"R-{order}-{which}", "lines": ONE_UNIT, "channel": "portal"}
        return Wish(f"{order}-return-{which}", f"/orders/{order}/returns", body)

    def _one(self, wish: Wish, accepted: bool = False) -> None:
        (answer,) = self._all(wish)
        self.check(answer.status == 201 or not accepted, wish.key, answer)

    def _all(self, *wishes: Wish) -> list[Answer]:
        answers = self.at_once(*wishes)
        with self._lock:
            for answer in answers:
                for event in answer.json.get("events", ()):
                    self.told[f"{event['stream']}#{event['version']}"] = event["type"]
        return answers

    def _race(self, order: str, answers: Sequence[Answer], code: str) -> None:
        won = [answer for answer in answers if answer.status == 201]
        lost = [answer for answer in answers if answer.status == 409 and answer.json["code"] == code]
        self.check((len(won), len(lost)) == (1, len(answers) - 1), order, *answers)
        self.count("races", 1)
        self.count("conflicts refused", len(lost))


ONE_UNIT = [{"line_id": "1", "quantity": 1}]


def _an_order(order: str) -> dict[str, Any]:
    return {
        "order_id": order,
        "customer": {"customer_id": f"c-{order}", "account_id": f"acc-{order}", "email": f"{order}@private.example"},
        "currency": "USD",
        "lines": [{"line_id": "1", "sku": "BAG", "unit_price": "480.00", "quantity": 2}],
        "payments": [
            {"payment_id": f"card-{order}", "method": "card", "amount": "600.00"},
            {"payment_id": f"gift-{order}", "method": "gift_card", "amount": "360.00"},
        ],
    }


def _parcel(order: str) -> dict[str, str]:
    return {"parcel_id": f"P-{order}", "carrier": "fedex", "tracking_number": f"T-{order}"}


NEVER = (
    "units returned twice",
    "refunds that are not exact",
    "facts that were told and are not there",
    "facts that nobody was told of",
    "decided otherwise when decided again",
    "deadlines not recorded once",
)
"""What must not be found in the store."""

OLD = "old-"
"""How the ids of orders begin that were there before."""


def with_labels_long_void(store: str, numbers: Iterable[int]) -> None:
    """Returns of two months ago whose labels are void by the clock, and nobody has recorded it."""
    now = datetime.now(UTC) - timedelta(days=60)
    with returnable.open(store, clock=lambda: now) as desk:
        for name in (f"{OLD}{nth}" for nth in numbers):
            desk.confirm_order(**_an_order(name))
            desk.record_shipment(order_id=name, **_parcel(name))
            desk.record_delivery(order_id=name, parcel_id=f"P-{name}")
            desk.request_return(return_id=f"R-{name}", order_id=name, lines=ONE_UNIT, channel="portal")
            desk.issue_label(return_id=f"R-{name}", label_id="L", carrier="fedex", tracking_number="T", received_at=now)


def until_recorded(store: str, number: int) -> None:
    """Wait until the workers have recorded so many labels as void."""
    with returnable.open(store) as desk:
        for _ in range(600):
            if sum(_voided(desk, nth) for nth in range(number)) >= number:
                return
            sleep(0.05)


def _voided(desk: returnable.Desk, nth: int) -> int:
    return sum(entry.type == "LabelVoided" for entry in desk.audit(stream=f"return/R-{OLD}{nth}").entries)


def verify(store: str, load: Load, overdue: int) -> dict[str, int]:
    """What the store says: how much was looked at, and how much of it is wrong."""
    found: Counter[str] = Counter(dict.fromkeys(NEVER, 0))
    with returnable.open(store) as desk:
        voided = [_voided(desk, nth) for nth in range(overdue)]
        found["deadlines recorded by workers"] = sum(voided)
        found["deadlines not recorded once"] = sum(number != 1 for number in voided)
        recorded = [
            entry for case_id, case in desk.services.store.cases() if not case_id.startswith(OLD) for entry in case
        ]
        events = {entry.event_id: entry.event.type for entry in recorded}
        # A return of cancelled goods is their way back, and asks for no money.
        requests = [entry.event for entry in recorded if isinstance(entry.event, ReturnRequested)]
        unpaid = {request.return_id for request in requests if request.cancelled}
        found["facts"] = len(events)
        found["facts that were told and are not there"] = len(load.told.items() - events.items())
        found["facts that nobody was told of"] = len(events.items() - load.told.items())
        wanted: Counter[str] = Counter()
        for ret in desk.returns():
            found["returns"] += not ret.order_id.startswith(OLD)
            if ret.status not in ("declined", "withdrawn") and ret.return_id not in unpaid:
                wanted[ret.order_id] += sum(line.quantity for line in ret.lines)
        paid: Counter[str] = Counter()
        for refund in desk.refunds():
            found["refunds"] += 1
            paid[refund.for_.id] += 1
            tenders = sorted((tender.payment_id, tender.amount) for tender in refund.tenders)
            order = refund.for_.id
            exact = refund.total == "960.00" and tenders == [(f"card-{order}", "600.00"), (f"gift-{order}", "360.00")]
            found["refunds that are not exact"] += not exact
        for order in desk.orders():
            found["orders"] += not order.order_id.startswith(OLD)
            units = wanted[order.order_id]
            cancelled = order.status == "cancelled"
            found["units returned twice"] += units > (0 if cancelled else 2)
            found["refunds that are not exact"] += paid[order.order_id] != cancelled
        for entry in desk.ledger():
            found["refunds that are not exact"] += entry.pending not in ("0.00", entry.captured)
        found["decided otherwise when decided again"] = len(desk.redecide())
    return dict(found)


# ---- a run -----------------------------------------------------------------------------------------------------------


Rows = list[tuple[str, ...]]


def _rows(name: str, clients: Clients, found: Mapping[str, int], wrong: Sequence[str]) -> Rows:
    commands, bare = clients.commands, clients.bare
    counted = [(name, what, f"{number:,}") for what, number in (*sorted(clients.counts.items()), *found.items())]
    ratios = [
        (name, f"{what} of a command ÷ of a bare route", f"{of(commands) / of(bare):.2f}")
        for what, of in (("p50", median), ("p99", p99))
    ]
    beside = (name, "bare route, p50 and p99", f"{1000 * median(bare):.1f} ms, {1000 * p99(bare):.1f} ms")
    return [*counted, (name, "not as it has to be", f"{len(wrong):,}"), *ratios, beside]


def run(name: str, store: str, *, cases: int, clients: int, seed: int) -> tuple[Rows, list[str]]:
    """Load a service on an empty store; what came of it, and what of that is wrong."""
    overdue = max(10, cases // 10)
    with_labels_long_void(store, range(overdue))
    with running(name, store) as service:
        load = Load(service, 3 * clients, random.Random(seed), name)
        try:
            with ThreadPoolExecutor(clients) as at_work:
                list(at_work.map(load.run, range(cases)))
        finally:
            load.close()
        until_recorded(store, overdue)
        found = verify(store, load, overdue)
        stopped = service.stop()
        log = service.log()
    # uvicorn hands the signal on to itself when all is closed.
    load.check(set(stopped) <= {0, -signal.SIGTERM}, f"exit statuses {stopped}")
    load.check("private.example" not in log, "personal data in the log")
    load.check("Traceback" not in log, f"a traceback in the log:\n{log}")
    wrong = [*load.wrong, *(f"{what}: {found[what]}" for what in NEVER if found[what])]
    return _rows(name, load, found, wrong), wrong


def main() -> None:
    """Run and print; the exit status is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed.services", description=__doc__)
    parser.add_argument("--service", action="append", choices=SERVICES, help="default: all of them")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument(
        "--clients", type=int, default=8, help="cases at a time; each sends up to nine requests at once"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", metavar="URL", help="a PostgreSQL database (default: a server is started)")
    options = parser.parse_args()
    rows: Rows = []
    wrong: list[str] = []
    with ExitStack() as stack:
        server = options.store or stack.enter_context(OwnServer()).url
        for name in options.service or SERVICES:
            store = with_parameters(server, schema=f"load_{random.getrandbits(40):010x}")
            migrate_store(store)
            came, trouble = run(name, store, cases=options.cases, clients=options.clients, seed=options.seed)
            rows += came
            wrong += trouble
    print(table(("service", "what", "figure"), rows))
    for each in wrong[:20]:
        print(each, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
