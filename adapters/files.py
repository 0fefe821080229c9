"""Files that are written as a whole or not at all, and that only their owner can read."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

from returnable.adapters.printable import json_text
from returnable.domain.errors import ReturnableError

STDOUT = "-"


class NotWritten(ReturnableError):
    """A file cannot be written; the message says why. Nothing was written."""


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        ...


def sync(path: str | Path) -> None:
    """Make the content of a file, or the names in a folder, durable. No locks may be held on the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_whole(out: str, force: bool) -> Iterator[IO[bytes]]:
    """A file beside ``out`` that replaces it when everything was written and is durable, and is removed otherwise.

    Only its owner can read a new file. A file that replaces another one gets that one's permissions. Parts that killed
    processes left in the folder are removed first.

    Raises :class:`NotWritten` when ``out`` exists and ``force`` is not given, or is not a regular file.
    """
    place = Path(out)
    check_free(place, force)
    with _part(place.parent, new_file) as part:
        with open(part.descriptor, "wb", closefd=False) as file:
            yield file
            file.flush()
        if force:
            _take_permissions(part.descriptor, place)
        os.fsync(part.descriptor)
        if os.name == "nt":  # an open file cannot be moved there, and it is not locked
            part.close()
        if force:
            part.path.replace(place)
        else:
            take_place(part.path, place)
    _make_durable(place.parent)


@contextmanager
def folder_written_whole(place: Path) -> Iterator[Path]:
    """A folder beside ``place`` for its owner only. The caller fills it and renames it; otherwise it is removed."""
    with _part(place.parent, _new_folder) as part:
        yield part.path
    _make_durable(place.parent)


# ---- parts -----------------------------------------------------------------------------------------------------------

_PART = re.compile(r"\.returnable-[0-9a-f]{32}\.part")


@dataclass
class _Part:
    """A file or a folder that is being written; it is locked while its descriptor is open."""

    path: Path
    descriptor: int

    def close(self) -> None:
        if self.descriptor != _CLOSED:
            os.close(self.descriptor)
            self.descriptor = _CLOSED


_CLOSED = -1


@contextmanager
def _part(folder: Path, create: Callable[[Path], int]) -> Iterator[_Part]:
    """A part of this process in that folder. It is removed at the end, unless it was renamed."""
    remove_left_parts(folder)
    while True:
        path = folder / f".returnable-{uuid4().hex}.part"
        part = _Part(path, create(path))
        with ExitStack() as at_end:
            at_end.callback(part.close)
            # Another process that cleans up may have found it before it was locked.
            if not lock(part.descriptor, wait=True) or is_at(part.descriptor, path):
                at_end.callback(_remove, path)
                yield part
                return


def remove_left_parts(folder: Path) -> None:
    """Remove the parts that killed processes of this user left in the folder.

    A process that writes a part holds a lock on it, which ends with the process. Without locks nothing is removed.
    """
    with suppress(OSError), os.scandir(folder) as found:
        left = [Path(entry.path) for entry in found if _PART.fullmatch(entry.name)]
        for part in left:
            remove_if_left(part)


def remove_if_left(part: Path) -> None:
    """Remove a part that a killed process of this user left. Anything else of that name stays."""
    with suppress(OSError):
        # Neither a link nor a pipe of that name is followed or waited for.
        for access in (os.O_RDWR, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)):
            with suppress(IsADirectoryError):
                descriptor = os.open(part, access | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                break
        else:
            return
        try:
            found = os.fstat(descriptor)
            ours = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
            if ours and found.st_uid == _user() and lock(descriptor, wait=False) and is_at(descriptor, part):
                _remove(part)
        finally:
            os.close(descriptor)


def new_file(part: Path) -> int:
    """A descriptor of a new file that only its owner can read; raises ``FileExistsError`` where there is anything."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    return os.open(part, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _new_folder(part: Path) -> int:
    part.mkdir(mode=0o700)
    return _CLOSED if os.name == "nt" else os.open(part, os.O_RDONLY)


def lock(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file or folder until it is closed; whether that was possible."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):  # another system, or a file system without locks
        return False
    return True


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def is_at(descriptor: int, part: Path) -> bool:
    """Whether the path leads to the file or folder that is open there."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(part))
    except FileNotFoundError:
        return False


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # a folder
        shutil.rmtree(part, ignore_errors=True)


def _take_permissions(descriptor: int, place: Path) -> None:
    """Give an open file the permissions of the regular file at that place, but those of the group only to the same group."""
    try:
        before = os.lstat(place)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(before.st_mode) or not hasattr(os, "fchmod"):
        return
    mode = stat.S_IMODE(before.st_mode) & 0o777
    if os.fstat(descriptor).st_gid != before.st_gid:
        try:
            os.fchown(descriptor, -1, before.st_gid)
        except OSError:
            mode &= 0o707
    os.fchmod(descriptor, mode)


def _make_durable(folder: Path) -> None:
    """Make the names in the folder durable, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, or a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def take_place(part: Path, place: Path) -> None:
    """Give the part its name, unless another process took the name meanwhile."""
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
            raise NotWritten(f"{place}: is not a regular file; give - for standard output")
        if not force:
            raise NotWritten(f"{place}: exists already; --force overwrites it")
    elif not place.parent.is_dir():
        raise NotWritten(f"{place.parent}: there is no such directory")


def check_apart(out: str | Path, files: Iterable[str | Path], what: str) -> None:
    """Raise :class:`NotWritten` where ``out`` is one of these files under any name."""
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
    """Every file that belongs to the store at a URL: its own, those that SQLite keeps beside it, and its stored views.

    They need not exist. A store on a server has none. Raises
    :class:`~returnable.domain.errors.StoreUnusable` when the URL names no store.
    """
    from returnable.adapters.eventstore.open import on_a_server, path_of
    from returnable.adapters.views.sqlite import views_url_of

    if url == "memory:" or on_a_server(url):
        return ()
    named = [path_of(url), path_of(views_url_of(url))]
    # SQLite names the files beside a database after the target of a link.
    names = dict.fromkeys(name for path in named for name in (path, os.path.realpath(path)))
    return tuple(Path(name + ending) for name in names for ending in _BESIDE)


class Stdout:
    """Standard output, also where another stream replaced it. Invisible characters in JSON or CSV are spelt out."""

    def write(self, data: bytes, /) -> object:
        """Write whole lines of JSON or CSV."""
        data = json_text(data.decode()).encode()
        raw = getattr(sys.stdout, "buffer", None)
        return sys.stdout.write(data.decode()) if raw is None else raw.write(data)
