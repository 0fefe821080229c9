"""The guide to publishing shows what happens: its event, its commands, its options and its examples."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from patience import GUARD_SECONDS
from publishing import Notebook
from terminal import returnable
from usual import an_inspected_return

from returnable.adapters.cli.publish import publish
from returnable.adapters.eventstore.memory import MemoryCheckpoints
from returnable.adapters.publishing.cloud_event import DAMAGED_TYPE
from returnable.adapters.publishing.open import open_broker
from returnable.adapters.publishing.publisher import Publisher
from returnable.testing import given

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def first_cells(header: str) -> list[str]:
    """The first cell of each row of the table with that header, without backticks."""
    table = PAGE.split(f"| {header} |")[1].split("\n\n")[0]
    return [row.split("|")[1].strip().strip("`") for row in table.splitlines()[2:]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tour in a store."""
    tour = str(ROOT / "examples" / "tour.jsonl")
    status, _, err = returnable("play", tour, "--store", f"sqlite:///{tmp_path}/tour.db")
    assert status == 0, err
    return tmp_path


def test_the_commands_do_what_the_page_shows_and_the_event_is_one_of_them(folder: Path) -> None:
    (shown,), (event,) = blocks("console"), blocks("json")
    said, published = "", ""

    for command in [line for line in shown.splitlines() if line.startswith("$ ")]:
        words = command.removeprefix("$ returnable ").split()
        _, out, _ = returnable(*words, folder=folder, RETURNABLE_STORE="sqlite:///tour.db")
        said += f"{command}\n"
        if "--status" in words:
            said += out
        else:
            published += out

    assert said == shown
    events = [json.loads(line) for line in published.splitlines()]
    assert f"prints {len(events)} lines" in PAGE
    assert json.loads(event) in events
    assert list(json.loads(event)) == list(next(one for one in events if one["id"] == json.loads(event)["id"]))


def test_every_attribute_of_an_event_is_explained() -> None:
    broker = Notebook()
    Publisher(given(an_inspected_return()).desk.services.store, MemoryCheckpoints(), broker).once()
    attributes = {name for message in broker.arrived for name in json.loads(message.body)}

    assert {*first_cells("Attribute | Meaning")} | {"specversion", "datacontenttype"} == attributes
    assert DAMAGED_TYPE in PAGE


def test_every_option_of_the_command_is_on_the_page() -> None:
    options = {name for one in publish.params if isinstance(one, click.Option) for name in one.opts}

    assert {cell.split()[0] for cell in first_cells("Option | Meaning")} == options


def test_every_url_of_the_page_is_understood() -> None:
    urls = first_cells("URL | Needs | Acknowledged when")

    assert len(urls) == 4
    for url in urls:
        open_broker(url).close()


def test_the_consumer_of_the_page_does_each_event_once() -> None:
    (code,) = [block for block in blocks("python") if "def handle" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    broker = Notebook()
    store = given(an_inspected_return()).desk.services.store
    Publisher(store, MemoryCheckpoints(), broker, source="/shop").once()

    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE inbox (source, id, PRIMARY KEY (source, id))")
        connection.execute("CREATE TABLE parcels (subject, parcel_id)")
        first = [names["handle"](connection, message.body) for message in broker.arrived]
        again = [names["handle"](connection, message.body) for message in broker.arrived]
        parcels = connection.execute("SELECT * FROM parcels").fetchall()

    assert all(first)
    assert not any(again)
    assert parcels == [("order/A-1", "P-1")]


def test_the_host_of_the_page_publishes_from_a_thread_of_its_own() -> None:
    (code,) = [block for block in blocks("python") if "class Webhook" in block]
    posted: list[str] = []
    came = threading.Event()

    def post(body: bytes, idempotency_key: str) -> bool:
        posted.append(json.loads(body)["id"])
        came.set()
        return len(idempotency_key) == 64

    names: dict[str, Any] = {"post": post}
    exec(code, names)
    given_desk = names["desk"]
    try:
        given_desk.confirm_order(
            order_id="A-1",
            currency="USD",
            customer={"customer_id": "c-1", "account_id": "acc-1"},
            lines=[{"line_id": "1", "sku": "BAG-7", "unit_price": "480.00", "quantity": 1}],
            payments=[{"payment_id": "p-1", "method": "card", "amount": "480.00"}],
        )
        assert came.wait(GUARD_SECONDS)
    finally:
        names["stop"].set()
        names["thread"].join()

    assert posted == ["order/A-1#1"]
    assert names["publisher"].status().behind == 0
    given_desk.close()
