"""The marks of all events and commands, by the names of their fields: one name means the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AwareDatetime, BaseModel

from returnable.domain.commands import COMMANDS
from returnable.domain.events import EVENTS
from returnable.domain.marks import Mark

_HARMLESS: tuple[Any, ...] = (bool, float, date, datetime, AwareDatetime)
"""Types that need no mark: they never identify a person and are never money."""


@cache
def marks() -> Mapping[str, Mark]:
    """Name of a field → its mark. A name is left out unless it has exactly one mark, the same everywhere."""
    found: dict[str, set[tuple[Mark, ...]]] = {}
    seen: set[type] = set()
    for model in (*EVENTS.values(), *COMMANDS.values()):
        for name, of_leaf in leaves(model, seen):
            found.setdefault(name, set()).add(of_leaf)
    alike = {name: next(iter(of_name)) for name, of_name in found.items() if len(of_name) == 1}
    return {name: of_name[0] for name, of_name in alike.items() if len(of_name) == 1}


def leaves(
    kind: Any, seen: set[type], name: str = "", marked: tuple[Mark, ...] = ()
) -> Iterator[tuple[str, tuple[Mark, ...]]]:
    """The name and the marks of each field that holds no further fields; the ``id`` of an actor is named ``actor.id``.

    Structures that were ``seen`` are skipped.
    """
    parts, origin = get_args(kind), get_origin(kind)
    if origin is Annotated:
        marked += tuple(part for part in parts if isinstance(part, Mark))
        yield from leaves(next(filter(is_typeddict, parts), parts[0]), seen, name, marked)
    elif origin in (tuple, list, Union, UnionType):
        for part in parts:
            yield from leaves(part, seen, name, marked)
    elif is_typeddict(kind) and kind not in seen:
        seen.add(kind)
        for key, hint in get_type_hints(kind, include_extras=True).items():
            yield from leaves(hint, seen, key)
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        for key, field in kind.model_fields.items():
            own = tuple(mark for mark in field.metadata if isinstance(mark, Mark))
            keys = next(filter(is_typeddict, field.metadata), field.annotation)
            yield from leaves(keys, seen, f"{name}.id" if key == "id" else key, own)
    elif kind in _HARMLESS or origin is Literal:
        yield name, (*marked, Mark.HARMLESS)
    elif kind not in (NoneType, ..., *seen) and origin is not dict:
        yield name, marked
