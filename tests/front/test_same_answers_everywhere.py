"""One history gives the same answers on every store, byte for byte: in memory, in a file, on a server.

Histories are the project's own scenarios, customers of all kinds, a webshop's orders and the fixed history of the golden
views; and, where they lie beside the project, the conformance vectors and the real orders (``RETURNABLE_TEST_ORDERS``: how
many, 300 where it is not said). Compared are the outcomes as they come, every fact, and, from the store opened again, every
list and stored view.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import golden_views
import pytest
from postgres import fresh_store_url
from pydantic_core import to_json

from bench.proofs import journeys
from returnable.adapters.imports.mapping import read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import read_orders
from returnable.adapters.imports.running import Live, Refusal, run_import
from returnable.adapters.scenario import play, policy_beside, read_scenario
from returnable.adapters.wiring import Services, assemble
from returnable.domain.events import encode

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ROOT.parent / "shared"
ORDERS = BESIDE / "tools" / "olist_to_scenario.py"
NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)

History: TypeAlias = Callable[[Services], Iterator[Any]]
"""Tells a desk what happened; what came of it."""


def scenario(content: bytes, name: str, services: Services) -> Iterator[Any]:
    for line in play(services, read_scenario(content, name)):
        yield line.as_dict(), line.mismatches


def journeys_told_twice(services: Services) -> Iterator[Any]:
    # The second time the answers come out of the receipts.
    content = journeys.as_file(journeys.scenario(22))
    yield from scenario(content, "journeys", services)
    yield from scenario(content, "journeys again", services)


def real_orders(services: Services) -> Iterator[Any]:
    limit = os.environ.get("RETURNABLE_TEST_ORDERS", "300")
    made = subprocess.run([sys.executable, str(ORDERS), "--limit", limit], capture_output=True, check=True)
    yield from scenario(made.stdout, "orders", services)


def webshop(services: Services) -> Iterator[Any]:
    folder = ROOT / "examples" / "import"
    mapping = read_mapping(str(folder / "webshop.toml"))
    planner = Planner(mapping)
    refusals: list[Refusal] = []
    orders = read_orders(str(folder / "webshop.csv"), mapping, planner)
    yield run_import(orders, planner, Live(services, lambda: NOW), refusals.append)
    yield from refusals


def histories() -> Iterator[Any]:
    for file in sorted([*(ROOT / "examples").rglob("*.jsonl"), *BESIDE.glob("vectors/*.jsonl")]):
        told = partial(scenario, file.read_bytes(), file.name)
        yield pytest.param(told, policy_beside(file), id=f"{file.parent.name}/{file.stem}")
    yield pytest.param(journeys_told_twice, None, id="journeys")
    yield pytest.param(webshop, None, id="webshop")
    yield pytest.param(golden_views.tell, None, id="golden views")
    if ORDERS.exists():
        yield pytest.param(real_orders, None, id="real orders")


def answers(history: History, policy: Path | None, url: str) -> list[bytes]:
    """Everything that a store has to say, line by line."""
    services = assemble(url, policy)
    said = [to_json(answer) for answer in history(services)]
    if url != "memory:":
        services.store.close()
        services = assemble(url, policy, create=False)
    for case_id, recorded in every_case(services):
        said += [to_json([case_id, one.case_seq, one.stream, one.version, *encode(one.event)]) for one in recorded]
    for name in ("orders", "returns", "refunds", "claims"):
        said += [to_json([name, values]) for values in services.questions.listed(name, NOW)]
    said += [to_json(["ledger", values]) for values in services.questions.ledger()]
    said += [to_json(["statistics", values]) for values in services.questions.statistics()]
    said.append(to_json(golden_views.digests_of(services)))
    services.store.close()
    return said


def every_case(services: Services) -> Iterator[tuple[str, Any]]:
    for case_id in services.store.case_ids(limit=100_000):
        yield case_id, services.store.load(case_id)


@pytest.mark.parametrize(("history", "policy"), list(histories()))
def test_a_history_is_answered_alike_by_every_store(history: History, policy: Path | None, tmp_path: Path) -> None:
    in_memory = answers(history, policy, "memory:")

    in_a_file = answers(history, policy, f"sqlite:///{tmp_path}/facts.db")
    on_a_server = answers(history, policy, fresh_store_url())

    assert len(in_memory) >= 10
    assert in_a_file == in_memory
    assert on_a_server == in_memory
