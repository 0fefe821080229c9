"""Libraries that only an extra of the package installs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from returnable.domain.errors import ReturnableError


@contextmanager
def extra(name: str, package: str, what: str, error: type[ReturnableError]) -> Iterator[None]:
    """Import the libraries of an extra; if one is missing, raise ``error`` with the command that installs it."""
    try:
        yield
    except ImportError as missing:
        raise error(f"{what} needs {package}: pip install 'returnable[{name}]' ({missing})") from None
