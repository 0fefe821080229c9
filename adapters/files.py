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


class NotWritten(ReturnableError):
    """What was asked for cannot be written; the message says why. Nothing was written."""


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        ...


@contextmanager
def written_whole(out: str, force: bool) -> Iterator[IO[bytes]]:
    """A file beside ``out`` that takes its place when everything was written and is durable, and vanishes otherwise.

    Raises :class:`NotWritten` when ``out`` exists and ``force`` is not given, or is no regular file.
    """
    place = Path(out)
    check_free(place, force)
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
        check_free(place, force=False)
        raise
    except OSError:  # a file system without hard links
        check_free(place, force=False)
        part.rename(place)


def check_free(out: str | Path, force: bool) -> None:
    """Raise :class:`NotWritten` unless a file may be written at ``out``, or with ``force`` replaced there."""
    place = Path(out)
    if place.is_symlink() or place.exists():
        if place.is_dir():
            raise NotWritten(f"{place}: is a directory")
        if place.exists() and not place.is_file():
            raise NotWritten(f"{place}: is no regular file; give - for standard output")
        if not force:
            raise NotWritten(f"{place}: exists already; --force overwrites it")
    elif not place.parent.is_dir():
        raise NotWritten(f"{place.parent}: there is no such directory")


class Stdout:
    """Standard output, also where something else took its place."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        raw = getattr(sys.stdout, "buffer", None)
        return sys.stdout.write(data.decode()) if raw is None else raw.write(data)
