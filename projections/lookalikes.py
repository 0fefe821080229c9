"""Ids that look the same but differ: a reader who is not warned takes one for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from returnable.domain.characters import look_alikes
from returnable.domain.fields import Model

_IDS = frozenset(
    {"approved_by", "email", "id", "labels_used", "method", "reference", "sku", "stream", "tracking_number"}
)
"""Fields that hold ids although their names do not end in ``_id``."""


class LookAlike(Model):
    """Ids that look the same but differ, and the characters of each."""

    ids: tuple[str, ...]
    code_points: tuple[str, ...]
    """For each id, such as ``U+0041 U+002D U+0031``."""

    def in_words(self, shown: Callable[[str], str]) -> str:
        """The ids, made safe by ``shown``, each with its characters."""
        each = zip(self.ids, self.code_points, strict=True)
        return ", ".join(f"{shown(one)} ({code_points})" for one, code_points in each)


def ids_in(values: Any, key: str = "") -> Iterator[str]:
    """Every id in nested content, unchanged."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from ids_in(value, name)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from ids_in(value, key)
    elif isinstance(values, str) and (key in _IDS or key.endswith("_id")):
        yield values


def looking_alike(ids: Iterable[str]) -> tuple[LookAlike, ...]:
    """The groups of ids that look the same but differ."""
    return tuple(
        LookAlike(ids=tuple(group), code_points=tuple(" ".join(f"U+{ord(char):04X}" for char in one) for one in group))
        for group in look_alikes(ids)
    )
