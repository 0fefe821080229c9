"""A collection of mistakes, each switched on by its name while a block runs: the proofs must notice every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

Mistake = Callable[[ExitStack], None]
"""Replaces something in the code until the stack is left."""


class Mistakes:
    """Mistakes by name; what is decorated with :meth:`known_as_it_is_named` is in it."""

    def __init__(self) -> None:
        self.by_name: dict[str, Mistake] = {}
        self.active: str | None = None
        """What is switched on at the moment, for another process to do the same."""

    def known_as_it_is_named(self, mistake: Mistake) -> Mistake:
        """Take it in: ``_writer_kept`` is known as ``writer-kept``."""
        self.by_name[mistake.__name__.strip("_").replace("_", "-")] = mistake
        return mistake

    @contextmanager
    def switched_on(self, name: str | None) -> Iterator[None]:
        """With that mistake in the code; ``None``: with none. Raises ``KeyError`` for one nobody knows."""
        before = self.active
        with ExitStack() as patches:
            if name is not None:
                self.by_name[name](patches)
                self.active = name
            try:
                yield
            finally:
                self.active = before
