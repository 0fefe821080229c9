"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
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


def sync(path: str | Path) -> None:
    """Have the content of a file, or the names in a folder, survive a power failure. No locks may be held on the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            take_place(part, place)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def take_place(part: Path, place: Path) -> None:
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


def check_apart(out: str | Path, files: Iterable[str | Path], what: str) -> None:
    """Raise :class:`NotWritten` where ``out`` is one of these files, by whatever name: nothing may take their place."""
    place = Path(out)
    if any(_same_file(place, Path(file)) for file in files):
        raise NotWritten(f"{place}: would overwrite {what}")


def _same_file(one: Path, other: Path) -> bool:
    if os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other)):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False


_BESIDE = ("", "-wal", "-shm", "-journal")


def store_files(url: str) -> tuple[Path, ...]:
    """Every file that belongs to the store at a URL: its own, what SQLite keeps beside it, and its stored views.

    Also those that do not exist yet; none for a store on a server. Raises
    :class:`~returnable.domain.errors.StoreUnusable` when the URL names no store.
    """
    from returnable.adapters.eventstore.open import on_a_server, path_of
    from returnable.adapters.eventstore.viewstore import views_url_of

    if url == "memory:" or on_a_server(url):
        return ()
    named = [path_of(url), path_of(views_url_of(url))]
    # SQLite names what is beside a database after the file that a link leads to.
    names = dict.fromkeys(name for path in named for name in (path, os.path.realpath(path)))
    return tuple(Path(name + ending) for name in names for ending in _BESIDE)


class Stdout:
    """Standard output, also where something else took its place."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        raw = getattr(sys.stdout, "buffer", None)
        return sys.stdout.write(data.decode()) if raw is None else raw.write(data)
