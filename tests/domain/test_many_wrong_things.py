"""Requests that hold very much that is wrong: they are given up at the first of it, so that they cost little."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from returnable.adapters.imports.mapping import Mapping as ImportMapping
from returnable.adapters.scenario import Expectation
from returnable.domain.commands import COMMANDS, QUESTIONS, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.fields import MANY, Input
from returnable.domain.policy import Policy

GIVEN: dict[str, type[Any]] = {**COMMANDS, **QUESTIONS, "expectation": Expectation}


class Watched(Mapping[str, Any]):
    """An element that is wrong, and tells that somebody looked at it."""

    looks = 0

    def __getitem__(self, key: str) -> Any:
        Watched.looks += 1
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        Watched.looks += 1
        return iter(())

    def __len__(self) -> int:
        Watched.looks += 1
        return 0


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation, and all that is in it."""
    yield annotation
    for inner in get_args(annotation):
        yield from parts(inner)


def inputs(model: type[Any]) -> Iterator[type[Any]]:
    """A model, and those in it."""
    yield model
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, Input):
                yield from inputs(part)


LISTS = [
    (model, name)
    for model in dict.fromkeys(inner for outer in GIVEN.values() for inner in inputs(outer))
    for name, field in model.model_fields.items()
    if any(
        getattr(part, "__origin__", None) in (tuple, list) or part in (tuple, list) for part in parts(field.annotation)
    )
]


def errors_of(model: type[Any], fields: dict[str, Any]) -> int:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(model).validate_python(fields)
    return refused.value.error_count()


def test_the_lists_of_commands_are_found() -> None:
    assert len(LISTS) >= 9


@pytest.mark.parametrize(("model", "name"), LISTS, ids=lambda one: getattr(one, "__name__", one))
def test_a_list_from_outside_is_given_up_at_the_first_wrong_element(model: type[Any], name: str) -> None:
    alone = errors_of(model, {name: [Watched()]})
    Watched.looks = 0
    errors_of(model, {name: [Watched()]})
    looks_at_one = Watched.looks
    Watched.looks = 0

    assert errors_of(model, {name: [Watched() for _ in range(10_000)]}) == alone
    assert Watched.looks == looks_at_one


@pytest.mark.parametrize("model", dict.fromkeys(inner for outer in GIVEN.values() for inner in inputs(outer)))
def test_of_many_unknown_keys_the_first_is_told(model: type[Any]) -> None:
    one = errors_of(model, {"unknown": 1})

    assert errors_of(model, {f"unknown {nth}": 1 for nth in range(10_000)}) == one


def test_a_list_is_not_longer_than_is_said() -> None:
    line = {"line_id": "1", "quantity": 1}

    with pytest.raises(Impossible, match=f"lines: must have at most {MANY:,} elements") as refused:
        parse_command({"command": "request_return", "order_id": "A", "return_id": "R", "lines": [line] * (MANY + 1)})

    assert refused.value.field == "lines"


def test_a_mapping_with_an_unknown_key_among_very_many_names_it_where_it_stands() -> None:
    line = {"line_id": "1", "quantity": 1} | {f"k{nth}": 1 for nth in range(10_000)}

    with pytest.raises(Impossible, match=r"^lines\[0\]\.k0: is not a known field") as refused:
        parse_command(
            {"command": "request_return", "order_id": "A", "return_id": "R", "channel": "portal", "lines": [line]}
        )

    assert len(str(refused.value)) < 200


def test_the_lists_of_policies_and_of_mappings_are_given_up_too() -> None:
    def lists(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            if "variadic_item_index" in schema or schema.get("type") == "list":
                yield schema
            for inner in schema.values():
                yield from lists(inner)
        elif isinstance(schema, list | tuple):
            for inner in schema:
                yield from lists(inner)

    for model in (Policy, ImportMapping):
        found = list(lists(model.__pydantic_core_schema__))
        assert len(found) >= 3
        assert [one for one in found if one["type"] == "tuple" and not one.get("fail_fast")] == []


def test_the_models_of_the_fastapi_example_are_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "fastapi_service"))
    try:
        from returns_api import app  # type: ignore[import-not-found]
    finally:
        for name in [name for name in sys.modules if name.startswith("returns_api")]:
            del sys.modules[name]

    assert errors_of(app.ConfirmedOrder, {"lines": [1] * 10_000, "payments": [{}] * 10_000}) <= 20
    assert errors_of(app.WantedReturn, {f"k{nth}": 1 for nth in range(10_000)}) <= 20
