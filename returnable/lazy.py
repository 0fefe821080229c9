"""Imports the names of a package at first use. This module itself imports nothing heavy, not even ``typing``."""

from __future__ import annotations

from importlib import import_module


def lazy(package: dict[str, object], homes: dict[str, str], rest: str = "") -> None:
    """Add names of other modules to a package. ``package`` is its ``globals()``, ``homes`` maps a module to names separated
    by spaces. The package also gets every name in ``__all__`` of the module ``rest``.

    Type checkers read the same names from the ``.pyi`` file of the package.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def find(name: str) -> object:
        if name in home:
            return getattr(import_module(home[name]), name)
        if rest and (name == "__all__" or not name.startswith("_")):
            module = import_module(rest)
            if name == "__all__":
                return sorted([*home, *module.__all__])
            if name in module.__all__:
                return getattr(module, name)
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")

    package["__getattr__"] = find
    if not rest:
        package["__all__"] = sorted(home)
