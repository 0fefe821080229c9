"""Mutants: known mistakes that a proof must notice. Each is switched on by its name while a block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

Mutant = Callable[[ExitStack], None]
"""Replaces something in the code until the stack is left."""


class Mutants:
    """Mutants by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Mutant] = {}
        self.active: str | None = None
        """The mutant that is switched on, for another process to do the same."""

    def register(self, mutant: Mutant) -> Mutant:
        """Register the mutant under its function name, with dashes."""
        self.by_name[mutant.__name__.strip("_").replace("_", "-")] = mutant
        return mutant

    def replaces(self, owner: Any, name: str) -> Callable[[Callable[..., Any]], Mutant]:
        """Register a mutant that is called in place of a function of ``owner``, with the original before the arguments."""

        def register(mutant: Callable[..., Any]) -> Mutant:
            @wraps(mutant)
            def switch_on(patches: ExitStack) -> None:
                original = getattr(owner, name)
                patches.enter_context(patch.object(owner, name, lambda *args, **more: mutant(original, *args, **more)))

            return self.register(switch_on)

        return register

    def described(self) -> dict[str, str]:
        """What each of them does."""
        return {name: (mutant.__doc__ or "").partition("\n")[0] for name, mutant in self.by_name.items()}

    @contextmanager
    def switched_on(self, name: str | None) -> Iterator[None]:
        """With that mutant in the code; ``None``: with none. Raises ``KeyError`` for an unknown name."""
        before = self.active
        with ExitStack() as patches:
            if name is not None:
                self.by_name[name](patches)
                self.active = name
            try:
                yield
            finally:
                self.active = before
