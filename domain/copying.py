"""Copies of states: a case never changes once it is built, so what a fact changes is copied first."""

from __future__ import annotations

from typing import TypeVar

S = TypeVar("S")


def shallow_copy(state: S) -> S:
    """The same fields in a new object; the protocol of ``copy`` would take ten times as long for every command."""
    new: S = object.__new__(type(state))
    new.__dict__.update(state.__dict__)
    return new
