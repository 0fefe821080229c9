"""The example services, several processes on one PostgreSQL store: what clients are told is what is on record, once.

``RETURNABLE_LOAD_CASES`` makes the load longer; ``python -m bench.speed.services`` prints its figures.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest
from patience import wait_until
from postgres import database_url, fresh_store_url

import returnable
from bench.postgres import Proxy, with_parameters
from bench.speed.services import SERVICES, Answer, Line, Running, ask, running
from returnable.adapters.eventstore.postgres_place import place_of

ROOT = Path(__file__).parents[2]
CASES = int(os.environ.get("RETURNABLE_LOAD_CASES", "15"))

LINES = [{"line_id": "1", "quantity": 1}]


def an_order(order_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "customer": {"customer_id": "c-1", "account_id": "acc-1"},
        "currency": "USD",
        "lines": [{"line_id": "1", "sku": "BAG", "unit_price": "480.00", "quantity": 1}],
        "payments": [{"payment_id": "p-1", "method": "card", "amount": "480.00"}],
    } | changes


@pytest.fixture(scope="module")
def load() -> subprocess.CompletedProcess[str]:
    """What the command that loads all services, one after the other, came to."""
    options = ["--cases", str(CASES), "--clients", "4", "--store", database_url()]
    command = [sys.executable, "-m", "bench.speed.services", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(params=SERVICES)
def figures(request: pytest.FixtureRequest, load: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What the command printed of a service."""
    return dict(re.findall(rf"^\| {request.param} \| (.+) \| (.+) \|$", load.stdout, re.MULTILINE))


def test_under_load_no_unit_and_no_cent_goes_twice_and_every_answer_is_on_record(
    figures: dict[str, str], load: subprocess.CompletedProcess[str]
) -> None:
    def count(what: str) -> int:
        return int(figures[what].replace(",", ""))

    assert load.returncode == 0, load.stderr
    assert count("not as it has to be") == 0
    assert count("orders") == count("races") * 3 // 2 == CASES
    assert count("refunds") >= CASES // 3
    assert count("deadlines recorded by workers") >= 10
    assert count("conflicts refused") >= 2 * (CASES // 3)
    assert min(count(what) for what in ("duplicates", "hung up before the answer", "answers 409")) > 0


def test_the_latency_under_load_is_printed_as_a_ratio(figures: dict[str, str]) -> None:
    assert all(re.fullmatch(r"\d+\.\d\d", figures[f"{p} of a command ÷ of a bare route"]) for p in ("p50", "p99"))


# ---- single requests -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> str:
    return fresh_store_url()


@pytest.fixture(scope="module")
def services(store: str) -> Iterator[dict[str, Running]]:
    """All of them at once, on one store."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(running(name, store, alone=True)) for name in SERVICES}


class Client:
    """Asks one process of a service; ids and keys of its own keep it apart from the others."""

    def __init__(self, name: str, service: Running) -> None:
        self.name = name
        self.service = service

    def post(self, path: str, key: str | None, body: object = None) -> Answer:
        path = self.service.service.prefix + path
        return ask(self.service.sockets[0], "POST", path, key and f"{self.name}-{key}", body)

    def get(self, path: str) -> Answer:
        return ask(self.service.sockets[0], "GET", self.service.service.prefix + path)


@pytest.fixture(params=SERVICES)
def client(request: pytest.FixtureRequest, services: dict[str, Running]) -> Client:
    return Client(request.param, services[request.param])


@contextmanager
def another_writer(store: str) -> Iterator[None]:
    """Somebody appends and does not come to an end: reading goes on, writing waits."""
    (schema,) = parse_qs(urlsplit(store).query)["schema"]
    with psycopg.connect(database_url()) as connection:
        lock = f"SELECT pg_advisory_xact_lock((1381256770::bigint << 32) | '{schema}.facts'::regclass::oid::bigint)"
        connection.execute(lock.encode())
        yield


def test_a_case_is_carried_through_over_http(client: Client) -> None:
    order = f"A-{client.name}"

    statuses = [
        client.post("/orders", "confirm", an_order(order)).status,
        client.post(
            f"/orders/{order}/shipments", "ship", {"parcel_id": "P", "carrier": "c", "tracking_number": "t"}
        ).status,
        client.post(f"/orders/{order}/parcels/P/delivery", "deliver").status,
        client.post(
            f"/orders/{order}/returns", "return", {"return_id": f"R-{order}", "lines": LINES, "channel": "portal"}
        ).status,
    ]

    assert statuses == [201, 201, 201, 201]
    assert client.get(f"/orders/{order}").json["status"] == "delivered"
    assert client.get(f"/returns/R-{order}").json["status"] == "authorized"
    assert client.get(f"/orders/{order}/eligibility").json["cancellation"]["allowed"] is False
    assert client.get("/ready").json == {"status": "ready"}


def test_a_refusal_is_an_answer_with_the_whole_ruling_and_the_same_when_repeated(client: Client) -> None:
    order = f"D-{client.name}"
    client.post("/orders", "confirm-d", an_order(order))
    cancellation = {"channel": "phone"}

    first = client.post(f"/orders/{order}/cancellation", "cancel-d", cancellation)
    again = client.post(f"/orders/{order}/cancellation", "cancel-d", cancellation)

    assert (first.status, first.json["outcome"]) == (200, "declined")
    failed = [clause["clause"] for clause in first.json["ruling"]["clauses"] if clause["verdict"] == "fail"]
    assert failed == ["cancellation.by_email"]
    assert (again.status, again.json) == (200, first.json)
    waiting = {"kind": "notify_customer", "subject": {"kind": "order", "id": order}}
    assert any(waiting.items() <= item.items() for item in client.get("/worklist").json["items"])
    assert (first.headers["Idempotency-Replayed"], again.headers["Idempotency-Replayed"]) == (None, "true")


def test_what_is_impossible_is_a_problem_that_names_code_and_field(client: Client) -> None:
    order = f"I-{client.name}"
    client.post("/orders", "confirm-i", an_order(order))
    email = {"channel": "email", "order_reference": order}
    client.post(f"/orders/{order}/cancellation", "cancel-i", email)
    wanted = {"return_id": "R", "lines": LINES, "channel": "portal"}

    problems = [
        client.get("/orders/nobody"),
        client.post("/orders/nobody/returns", "return-i", wanted),
        client.post("/orders", "confirm-i", an_order(f"other-{order}")),
        client.post("/orders", "confirm-j", an_order(order)),
        client.post(f"/orders/{order}/returns", "return-j", wanted),
        client.post("/orders", "confirm-k", an_order(f"k-{order}", payments=[])),
        client.post("/orders", None, an_order(f"l-{order}")),
        client.post(f"/orders/{order}/cancellation", "back", email | {"requested_at": "2026-01-01T00:00:00Z"}),
    ]

    assert [(each.status, each.json["code"]) for each in problems] == [
        (404, "order.unknown"),
        (404, "order.unknown"),
        (422, "command.conflict"),
        (409, "order.exists"),
        (409, "transition.not_allowed"),
        (422, "money.mismatch"),
        (422, "command.invalid"),
        (422, "command.invalid"),
    ]
    for each in problems:
        assert each.headers["Content-Type"] == "application/problem+json"
        assert each.json["status"] == each.status
        assert each.json["type"] == f"urn:problem-type:returnable:{each.json['code']}"
        assert each.json["title"]
        assert each.json["detail"]
    assert problems[4].json["state"] == "cancelled"
    assert "request_refund" in problems[4].json["allowed"]
    assert [each.json.get("field") for each in problems[-2:]] == ["Idempotency-Key", "requested_at"]


def raw(client: Client, method: str, path: str, body: bytes = b"", keys: Sequence[str] = ()) -> Answer:
    """A request as no client of ours would send it."""
    with closing(Line(client.service.sockets[0])) as line:
        line.putrequest(method, client.service.service.prefix + path)
        for key in keys:
            line.putheader("Idempotency-Key", key)
        line.putheader("Content-Type", "application/json")
        line.putheader("Content-Length", str(len(body)))
        line.endheaders(body)
        answer = line.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def test_what_never_came_to_the_desk_is_a_problem_too(client: Client) -> None:
    answers = [
        raw(client, "GET", "/nowhere"),
        raw(client, "DELETE", "/worklist"),
        raw(client, "POST", "/orders", b'{"order_id": ', ["torn"]),
        raw(client, "POST", "/orders", b'{"order_id": "\xff"}', ["torn"]),
    ]

    assert [(each.status, each.json["code"]) for each in answers[:3]] == [
        (404, "http.404"),
        (405, "http.405"),
        (422, "command.invalid"),
    ]
    assert answers[3].status in (400, 422)
    assert answers[1].headers["Allow"] == "GET"
    for each in answers:
        assert each.headers["Content-Type"] == "application/problem+json"
        assert each.json["status"] == each.status
        assert each.json["detail"]


def test_an_id_may_hold_a_slash(client: Client) -> None:
    order, parcel = f"A/{client.name}/1", "P/1"
    place = f"/orders/{quote(order, safe='')}"

    client.post("/orders", "slash", an_order(order))
    shipment = {"parcel_id": parcel, "carrier": "c", "tracking_number": "t"}
    shipped = client.post(f"{place}/shipments", "slash-ship", shipment)
    delivered = client.post(f"{place}/parcels/{quote(parcel, safe='')}/delivery", "slash-deliver")

    assert (shipped.status, delivered.status) == (201, 201)
    assert client.get(place).json["order_id"] == order
    assert client.get(f"{place}/eligibility").json["cancellation"]["allowed"] is False


def test_a_command_has_one_key(client: Client) -> None:
    orders = [an_order(f"K-{client.name}"), an_order(f"K-{client.name}", command_id="another")]

    answers = [
        raw(client, "POST", "/orders", json.dumps(orders[0]).encode(), ["one", "another"]),
        raw(client, "POST", "/orders", json.dumps(orders[0]).encode(), ["one,another"]),
        raw(client, "POST", "/orders", json.dumps(orders[1]).encode(), ["one"]),
    ]

    assert [(each.status, each.json["code"]) for each in answers] == [(422, "command.invalid")] * 3
    assert [each.json["field"] for each in answers] == ["Idempotency-Key", "Idempotency-Key", "command_id"]
    assert client.get(f"/orders/K-{client.name}").status == 404


@pytest.mark.parametrize("name", ["fastapi", "django-async"])
def test_a_service_whose_store_is_away_says_at_once_that_it_is_not_ready(name: str, store: str) -> None:
    proxy = Proxy(database_url())
    with running(name, with_parameters(proxy.url, schema=place_of(store).schema), alone=True) as service:
        proxy.close()

        answer = Client(name, service).get("/ready")
        service.processes[0].kill()  # else it waits for the store, to close it

    assert (answer.status, answer.json["code"]) == (503, "store.slow"), "else it waits for the store to come back"


def killed(service: Running) -> None:
    """End the first web process as nothing can hinder, and start it again."""
    process = service.processes.pop(0)
    process.kill()
    process.wait()
    web = service.service.commands[0].replace("{socket}", str(service.sockets[0]))
    service.start(web)
    service.processes.insert(0, service.processes.pop())
    service.until_ready()


def test_a_process_killed_in_the_middle_of_a_request_leaves_all_or_nothing_and_the_repetition_is_one_result(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shop.db"
    with returnable.open(f"sqlite:///{path}") as desk, running("fastapi", f"sqlite:///{path}", alone=True) as service:
        client = Client("killed", service)

        def sent(line: Line, order_id: str) -> None:
            line.say("POST", "/orders", f"killed-{order_id}", an_order(order_id))

        # when: it is killed while it waits to write
        with closing(Line(service.sockets[0])) as line, closing(sqlite3.connect(path)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            sent(line, "A-before")
            for _ in range(100):  # answered, so the one before it is under way
                assert client.get("/health").status == 200
            killed(service)
            writer.rollback()
        # when: it is killed as soon as the order is on record, whether it was answered or not
        with closing(Line(service.sockets[0])) as line:
            sent(line, "A-after")
            wait_until(lambda: bool(desk.services.store.load("A-after")))
            killed(service)
        recorded = [bool(desk.services.store.load(order_id)) for order_id in ("A-before", "A-after")]
        answers = [client.post("/orders", order_id, an_order(order_id)) for order_id in ("A-before", "A-after")]

        # then
        assert recorded == [False, True]
        assert [(each.status, each.headers["Idempotency-Replayed"]) for each in answers] == [(201, None), (201, "true")]
        for order_id in ("A-before", "A-after"):
            assert [entry.type for entry in desk.audit(stream=f"order/{order_id}").entries] == ["Confirmed"]


def test_django_shows_times_in_utc() -> None:
    ask_django = (
        "import django; django.setup(); from django.utils import timezone; print(timezone.localtime().tzname())"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "shop.settings", "RETURNABLE_STORE": "memory:"}

    ran = subprocess.run(
        [sys.executable, "-c", ask_django],
        cwd=ROOT / "examples" / "django_service",
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.stdout.strip(), ran.returncode) == ("UTC", 0), ran.stderr


@pytest.mark.parametrize("name", ["fastapi", "django-async"])
def test_the_loop_answers_while_more_commands_wait_than_there_are_threads(
    name: str, services: dict[str, Running], store: str
) -> None:
    client = Client(name, services[name])

    with ThreadPoolExecutor(12) as hosts:
        with another_writer(store):
            slow = [hosts.submit(client.post, "/orders", f"s-{n}", an_order(f"S-{name}-{n}")) for n in range(12)]
            ticks = [client.get("/health") for _ in range(5)]
            waiting = [not each.done() for each in slow]
        answers = [each.result().status for each in slow]

    assert [tick.status for tick in ticks] == [200] * 5
    assert waiting == [True] * 12
    assert answers == [201] * 12


def test_a_store_that_is_busy_is_told_with_when_to_come_back_and_nothing_is_recorded(
    services: dict[str, Running], store: str
) -> None:
    clients = [Client(name, service) for name, service in services.items()]

    with another_writer(store), ThreadPoolExecutor(3) as hosts:
        busy = list(hosts.map(lambda c: c.post("/orders", "busy", an_order(f"B-{c.name}")), clients))
    repeated = [client.post("/orders", "busy", an_order(f"B-{client.name}")) for client in clients]

    assert [(each.status, each.json["code"], each.headers["Retry-After"]) for each in busy] == [
        (503, "store.busy", "1")
    ] * 3
    assert [(each.status, each.headers["Idempotency-Replayed"]) for each in repeated] == [(201, None)] * 3
    with returnable.open(store) as desk:
        assert desk.redecide() == ()


@pytest.mark.parametrize("name", ["fastapi", "django-async"])
def test_a_client_that_waited_long_enough_is_told_to_repeat_it_and_then_it_happens_once(name: str, store: str) -> None:
    order = an_order(f"T-{name}")

    with running(name, store, alone=True, RETURNABLE_PATIENCE="0.3", RETURNABLE_CONNECTIONS="1") as service:
        client = Client(name, service)
        with another_writer(store), ThreadPoolExecutor(4) as hosts:
            slow = list(hosts.map(lambda _: client.post("/orders", "slow", order), range(4)))
        answers: list[Answer] = []

        def is_definite() -> bool:  # the first may still be under way, and the wait is short
            answers.append(client.post("/orders", "slow", order))
            return answers[-1].status < 500

        wait_until(is_definite)
    with returnable.open(store) as desk:
        events = [entry.type for entry in desk.audit(stream=f"order/T-{name}").entries]

    assert [(each.status, each.json["code"], each.headers["Retry-After"]) for each in slow] == [
        (503, "store.slow", "1")
    ] * 4
    assert (answers[-1].status, events) == (201, ["Confirmed"])
