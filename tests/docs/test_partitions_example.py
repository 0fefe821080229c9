"""The recipe for partitions answers as one store does."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import golden_views
import pytest
from pydantic_core import to_json

from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import Services, assemble
from returnable.domain.commands import parse_command
from returnable.domain.errors import Impossible
from returnable.domain.fields import parse_instant

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("north", "south", "west")
GOLDEN = b"\n".join(to_json({"at": at} | fields) for at, fields in golden_views.LINES)
HISTORIES = {"golden": GOLDEN} | {path.name: path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jsonl"))}


def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("partitions", ROOT / "examples/partitions/partitions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_ids_that_lead_to_orders(content: bytes) -> bytes:
    """The scenario with ids such as ``A-1.R-1``; an id that is never given out is of the order that has the name of it."""
    lines = [json.loads(line) for line in content.splitlines()]
    owners: dict[tuple[str, str], str] = {}
    for line in lines:
        for kind in ("return", "claim", "refund"):
            name = line.get(f"{kind}_id")
            of = line.get("order_id") or next(
                (owners[k, line[f"{k}_id"]] for k in ("return", "claim") if (k, line.get(f"{k}_id")) in owners), None
            )
            if name is not None and of is not None:
                owners.setdefault((kind, name), of)

    def renamed(kind: str, name: str) -> str:
        return f"{owners[kind, name]}.{name}" if (kind, name) in owners else name

    for line in lines:
        for kind in ("return", "claim", "refund"):
            if f"{kind}_id" in line:
                line[f"{kind}_id"] = renamed(kind, line[f"{kind}_id"])
        if "subject" in line:
            line["subject"]["id"] = renamed(line["subject"]["kind"], line["subject"]["id"])
        if "stream" in line:
            kind, _, name = line["stream"].partition("/")
            line["stream"] = f"{kind}/{renamed(kind, name)}"
    return b"\n".join(json.dumps(line).encode() for line in lines)


def played(services: Any, content: bytes) -> list[dict[str, Any]]:
    return [line.as_dict() for line in play(cast(Services, services), read_scenario(content, "history"))]


@pytest.mark.parametrize("history", HISTORIES)
def test_three_partitions_answer_every_line_as_one_store_does(history: str, tmp_path: Path) -> None:
    content = with_ids_that_lead_to_orders(HISTORIES[history])
    stores = {name: assemble(f"sqlite:///{tmp_path}/{name}.db") for name in NAMES}
    partitions = recipe().Partitions(stores)
    as_services = SimpleNamespace(
        handler=SimpleNamespace(handle=partitions.handle), questions=SimpleNamespace(answer=partitions.ask)
    )

    in_partitions = played(as_services, content)

    assert in_partitions == played(assemble("memory:"), content)
    orders = {
        line["order_id"] for line in map(json.loads, content.splitlines()) if line.get("command") == "confirm_order"
    }
    assert len(orders) < 3 or len(set(map(partitions.name_of, orders))) > 1
    for name, services in stores.items():
        assert set(services.store.case_ids()) == {order for order in orders if partitions.name_of(order) == name}
        services.store.close()


def test_a_partition_more_takes_ids_from_all_and_moves_none_between_the_others() -> None:
    make = recipe().Partitions
    before, after = make(dict.fromkeys(NAMES)), make(dict.fromkeys((*NAMES, "east")))
    moved = Counter(
        (before.name_of(order), after.name_of(order))
        for order in map("A-{}".format, range(3000))
        if before.name_of(order) != after.name_of(order)
    )

    assert {to for _, to in moved} == {"east"}
    assert {of for of, _ in moved} == set(NAMES)
    assert 600 < moved.total() < 900


def test_ids_of_two_orders_in_one_command_are_refused() -> None:
    partitions = recipe().Partitions({name: assemble("memory:") for name in NAMES})
    line = {"line_id": "1", "quantity": 1}
    fields = {
        "command": "request_return",
        "return_id": "A-2.R1",
        "order_id": "A-1",
        "lines": [line],
        "channel": "portal",
    }

    with pytest.raises(Impossible) as refused:
        partitions.handle(parse_command(fields), parse_instant("2026-03-09T12:00:00-04:00"))

    assert refused.value.code == "command.invalid"
    assert "A-1, A-2" in refused.value.message
