"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

from returnable.domain.errors import ReturnableError

STDOUT = "-"


class ExportRefused(ReturnableError):
    """What was asked for cannot be written there; the message says why. Nothing was written."""


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        ...


@contextmanager
def written_whole(out: str, force: bool) -> Iterator[IO[bytes]]:
    """A file beside ``out`` that takes its place when everything was written and is durable, and vanishes otherwise.

    Raises :class:`ExportRefused` when ``out`` exists and ``force`` is not given, or is no regular file.
    """
    place = Path(out)
    _check(place, force)
    part = place.with_name(f".{place.name}.{uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            part.replace(place)
        else:
            _take_place(part, place)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _take_place(part: Path, place: Path) -> None:
    """Give the part its name, unless somebody else took it meanwhile."""
    try:
        os.link(part, place)  # unlike a rename it never overwrites
    except FileExistsError:
        _check(place, force=False)
        raise
    except OSError:  # a file system without hard links
        _check(place, force=False)
        part.rename(place)


def _check(place: Path, force: bool) -> None:
    if place.is_symlink() or place.exists():
        if place.is_dir():
            raise ExportRefused(f"{place}: is a directory")
        if place.exists() and not place.is_file():
            raise ExportRefused(f"{place}: is no regular file; give - for standard output")
        if not force:
            raise ExportRefused(f"{place}: exists already; --force overwrites it")
    elif not place.parent.is_dir():
        raise ExportRefused(f"{place.parent}: there is no such directory")


class Stdout:
    """Standard output, also where something else took its place."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        raw = getattr(sys.stdout, "buffer", None)
        return sys.stdout.write(data.decode()) if raw is None else raw.write(data)
