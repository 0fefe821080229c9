"""Checks, before SQLite opens a store, whether the WAL and the journal beside its file belong to that file.

SQLite replays any intact WAL into the file beside it. It does not notice that the file is a back-up that was copied over the
store. The back-up is then damaged, or the events that it was meant to undo come back. So a store checks first, and refuses.

Every store has a *timeline*: a random number in its table ``timelines`` that is also the schema version ("cookie") in the
header of the file. ``VACUUM INTO`` and SQLite's backup functions copy the table but not the cookie.
A file whose cookie does not fit its timeline is therefore a fresh copy, and a fresh copy has no WAL of its own.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass
from secrets import randbelow
from stat import S_ISREG
from struct import Struct, unpack_from
from typing import Any, BinaryIO

from returnable.adapters.eventstore.sqlite_file import NO_LOCKS, FileConnection, connect, transaction
from returnable.adapters.eventstore.wal import attempts, is_busy
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.ports import Timeline

BESIDE = ("-wal", "-shm", "-journal")
"""The endings of the files that SQLite keeps beside a file."""

_RESTORING = "-restoring"

SCHEMA_CHANGES = 1000
"""SQLite increments the cookie with every change of the schema, such as an index that an administrator adds. A cookie that is
further above the timeline, or below it, has another origin."""

_LOOKS = 3
_LOOK_AGAIN_SECONDS = 0.05

_WAL_HEADER = Struct(">8I")
_FRAME_HEADER = Struct(">6I")
_MAGIC = 0x377F0682
_JOURNAL_HEADER = Struct(">8s5I")
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_FIRST_PAGE = (1).to_bytes(4, "big")
_HEADER_SIZE = 100
_CHANGES_AT = 24
_COOKIE_AT = 40
_WRITE_VERSION_AT = 18
_ROLLBACK = 1
"""The write version of a file that is not in WAL mode."""
_PENDING_BYTE = 0x40000000

_LAST_TIMELINE = "SELECT cookie FROM timelines ORDER BY number DESC LIMIT 1"
_BEGIN_TIMELINE = (
    "INSERT INTO timelines (cookie, began_at, cause, file, sha256, head, replaced_head) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


# ---- timelines ------------------------------------------------------------------------------------------------------


def new_cookie() -> int:
    """A random cookie, far from that of any other store and from the small ones of new files."""
    return (1 << 20) + randbelow(1 << 29)


def cookie_of(connection: sqlite3.Connection) -> int:
    """The schema version in the header of a file."""
    cookie: int = connection.execute("PRAGMA schema_version").fetchone()[0]
    return cookie


def timeline_of(connection: sqlite3.Connection) -> int | None:
    """The timeline of a store; ``None`` where it has no tables yet."""
    try:
        row = connection.execute(_LAST_TIMELINE).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    return None if row is None else row[0]


def begin_timeline(connection: sqlite3.Connection, timeline: Timeline) -> None:
    """Begin a new timeline of a store, in the caller's transaction."""
    connection.execute(_BEGIN_TIMELINE, astuple(timeline))


def is_copy(connection: sqlite3.Connection) -> bool:
    """Whether a store is a copy by SQLite that no desk has written to since."""
    timeline, cookie = timeline_of(connection), cookie_of(connection)
    if timeline is None or cookie == timeline:
        return False
    # VACUUM INTO increments the cookie, as a change of the schema does, but leaves a file that is not in WAL mode.
    return not _fits(cookie, timeline) or connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal"


def take_over_copy(connection: FileConnection, path: str, at: str, patience_seconds: float) -> None:
    """Give a fresh copy a timeline of its own, durably and before it has a WAL. Any other store stays as it is.

    Raises :class:`StoreBusy` while another process has the copy open.
    """
    for attempts_left in attempts(patience_seconds):
        try:
            if not is_copy(connection):
                return
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            with transaction(connection):
                if is_copy(connection):
                    cookie = new_cookie()
                    begin_timeline(connection, Timeline(cookie, at, "copied"))
                    connection.execute(f"PRAGMA schema_version = {cookie}")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            if not attempts_left:
                raise StoreBusy(
                    f"{path}: it is a copy that no desk has opened before, and another process holds it open; the first "
                    "desk that writes to a copy needs it for itself"
                ) from error
        time.sleep(0.01)


def _fits(cookie: int, timeline: int) -> bool:
    return 0 <= cookie - timeline <= SCHEMA_CHANGES


# ---- a restore that was cut short -------------------------------------------------------------------------------------


def marker_of(path: str) -> str:
    """The file that marks a restore that is under way. Where it is left behind, the restore was cut short."""
    return f"{os.path.realpath(path)}{_RESTORING}"


def refuse_half_restored(path: str) -> None:
    """Raise :class:`StoreUnusable` where a restore is under way or was cut short."""
    if os.path.exists(marker_of(path)):
        raise StoreUnusable(
            f"{path}: a restore is under way, or was cut short; if none is running, run `returnable restore` again"
        )


# ---- the WAL of another file ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wal:
    """The committed frames of a WAL."""

    page_size: int
    pages: frozenset[int]
    """The numbers of its pages."""
    cookies: tuple[int, ...]
    """The cookies in its versions of the first page, oldest first."""
    page_count: int
    """The number of pages of the file after the last commit."""


def read_wal(path: str, *, checked: bool) -> Wal | None:
    """The WAL beside a file; ``None`` where SQLite would replay nothing.

    ``checked``: compute the checksums of the frames, which is slow. Without it, frames that a crash tore may count as whole.
    """
    try:
        with _regular(f"{os.path.realpath(path)}-wal") as file:
            header = file.read(_WAL_HEADER.size)
            if len(header) < _WAL_HEADER.size:
                return None
            magic, _, page_size, _, *salts, _, _ = fields = _WAL_HEADER.unpack(header)
            order = ">" if magic & 1 else "<"
            sums = _checksum(order, header[:24], (0, 0))
            if magic & ~1 != _MAGIC or sums != tuple(fields[6:]) or not 512 <= page_size <= 65536:
                return None
            pages: set[int] = set()
            cookies: list[int] = []
            held: Wal | None = None
            while len(frame := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
                page, page_count, *rest = _FRAME_HEADER.unpack(frame)
                if rest[:2] != salts or not page:
                    break
                content = b""
                if checked or page == 1:
                    content = file.read(page_size)
                else:
                    file.seek(page_size, os.SEEK_CUR)
                if checked:
                    sums = _checksum(order, content, _checksum(order, frame[:8], sums))
                    if len(content) < page_size or sums != tuple(rest[2:]):
                        break
                pages.add(page)
                if page == 1 and len(content) == page_size:
                    cookies.append(unpack_from(">I", content, _COOKIE_AT)[0])
                if page_count:
                    held = Wal(page_size, frozenset(pages), tuple(cookies), page_count)
            return held
    except (FileNotFoundError, PermissionError):
        return None


def _regular(path: str) -> BinaryIO:
    """A file beside a store, opened for reading. Raises :class:`StoreUnusable` for anything else: a pipe would block."""
    # One look: between two of them another process may remove the file.
    if not S_ISREG(os.stat(path).st_mode):
        raise StoreUnusable(f"{path}: it lies beside a store, and is no regular file")
    return open(path, "rb")


def _checksum(order: str, content: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    one, other = sums
    words = unpack_from(f"{order}{len(content) // 4}I", content)
    for at in range(0, len(words) - 1, 2):
        one = (one + words[at] + other) & 0xFFFFFFFF
        other = (other + words[at + 1] + one) & 0xFFFFFFFF
    return one, other


def refuse_foreign_wal(path: str) -> None:
    """Raise :class:`StoreUnusable` where the WAL beside a store belongs to another file, before SQLite replays it."""
    reason = _seen_again_and_again(lambda nth: why_foreign(path, checked=nth > 0))
    if reason is None:
        return
    name = os.path.basename(path)
    raise StoreUnusable(
        f"{path}: the file {name}-wal beside it belongs to another file ({reason}). It seems that a copy was put "
        f"in the place of a store whose WAL was left behind. Move {name}-wal and {name}-shm away, or restore the copy with "
        "`returnable restore`, which does that"
    )


def _seen_again_and_again(look: Callable[[int], str | None]) -> str | None:
    """The verdict of several looks. One look is not enough, because others may write to both files meanwhile."""
    reason = None
    for nth in range(_LOOKS):
        reason = look(nth)
        if reason is None:
            return None
        time.sleep(_LOOK_AGAIN_SECONDS)
    return reason


def why_foreign(path: str, *, checked: bool) -> str | None:
    """The reason why the WAL beside a store belongs to another file; ``None`` where it may be its own, or there is none."""
    wal = read_wal(path, checked=checked)
    if wal is None:
        return None
    # Read after the WAL: the file only grows, so that pages which a WAL in use no longer holds are in the file.
    size = os.stat(path).st_size
    try:
        with closing(connect(path, "mode=ro&immutable=1", 5.0)) as connection:
            page_size: int = connection.execute("PRAGMA page_size").fetchone()[0]
            cookie, timeline = cookie_of(connection), timeline_of(connection)
    except sqlite3.Error:
        # A checkpoint that was cut short leaves a file that is unreadable without its WAL.
        return _why_not_covered(wal, wal.page_size, size)
    if wal.page_size != page_size:
        return "its pages are of another size"
    return _why_other_timeline(path, wal, cookie, timeline) or _why_not_covered(wal, page_size, size)


def _why_other_timeline(path: str, wal: Wal, cookie: int, timeline: int | None) -> str | None:
    if timeline is None or cookie in wal.cookies:
        return None
    if not _fits(cookie, timeline):
        return "the store is a fresh copy, which has no WAL of its own"
    if wal.cookies and not 0 <= wal.cookies[0] - cookie <= SCHEMA_CHANGES:
        return "it was written on another timeline than that of the store"
    if cookie != timeline and _write_version(path) == _ROLLBACK:
        return "the store is a fresh copy that is not in WAL mode"
    return None


def _why_not_covered(wal: Wal, page_size: int, size: int) -> str | None:
    """Every page is in the file or in the WAL: pages leave the WAL only after they were copied into the file."""
    in_file = size // page_size
    never_written = _PENDING_BYTE // page_size + 1
    missing = next(
        (n for n in range(in_file + 1, wal.page_count + 1) if n not in wal.pages and n != never_written), None
    )
    if missing is None:
        return None
    return f"page {missing} of {wal.page_count} stands neither in it nor in the store"


# ---- the rollback journal of another file -----------------------------------------------------------------------------


def refuse_foreign_journal(path: str) -> None:
    """Raise :class:`StoreUnusable` where the rollback journal beside a store belongs to another file.

    SQLite plays the journal back to undo a transaction that a crash cut short, and cuts the file to its former size. Such a
    journal is left where a process is killed while it creates a store, or while it takes a copy over.
    """
    reason = _seen_again_and_again(lambda nth: _why_foreign_journal(path))
    if reason is None:
        return
    name = os.path.basename(path)
    raise StoreUnusable(
        f"{path}: the file {name}-journal beside it belongs to another file ({reason}). It seems that a copy was put in the "
        f"place of a store that was killed. Move {name}-journal away, or restore the copy with `returnable restore`, which "
        "does that"
    )


def _why_foreign_journal(path: str) -> str | None:
    """The reason why the journal beside a store belongs to another file; ``None`` where it may be its own, or there is none.

    We write to a file without a WAL only to mark it, to switch its mode and to add a row. That adds at most one page,
    increments the counter of changes by one, and leaves the schema as it is.
    """
    try:
        with _regular(f"{os.path.realpath(path)}-journal") as file:
            header = file.read(_JOURNAL_HEADER.size)
            if len(header) < _JOURNAL_HEADER.size or not header.startswith(_JOURNAL_MAGIC):
                return None
            _, _, _, page_count, sector_size, page_size = _JOURNAL_HEADER.unpack(header)
            file.seek(sector_size)
            record = file.read(4 + page_size)
        pages = os.stat(path).st_size // max(page_size, 1)
    except (FileNotFoundError, PermissionError):
        return None
    if not page_count <= pages <= page_count + 1:
        return f"it was begun on {page_count} pages, and the store has {pages}"
    if len(record) < 4 + page_size or record[:4] != _FIRST_PAGE or not page_count:
        return None
    before, now = record[4:], _read(path, 0, page_size)
    counted = unpack_from(">I", now, _CHANGES_AT)[0] - unpack_from(">I", before, _CHANGES_AT)[0]
    if counted not in (0, 1) or before[_HEADER_SIZE:] != now[_HEADER_SIZE:]:
        return "it keeps the first page of another one"
    return None


_KEPT_OPEN: dict[tuple[int, int], int] = {}


def _write_version(path: str) -> int:
    """Whether a file is in WAL mode (2) or not (1), by its header."""
    return _read(path, _WRITE_VERSION_AT, 1)[0]


def _read(path: str, at: int, size: int) -> bytes:
    status = os.stat(path)
    key = status.st_dev, status.st_ino
    if key not in _KEPT_OPEN:
        # Never closed: closing it would drop every lock that SQLite has on the file in this process. It is opened only after
        # a crash, where somebody has changed the schema, or for a copy.
        _KEPT_OPEN[key] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        NO_LOCKS.add(_KEPT_OPEN[key])
    os.lseek(_KEPT_OPEN[key], at, os.SEEK_SET)
    return os.read(_KEPT_OPEN[key], size)


# ---- damage that SQLite finds ----------------------------------------------------------------------------------------


def damaged_pages(ask: Callable[[str], list[Any]]) -> Iterator[str]:
    """The faults that SQLite's check of all pages, tables and indexes finds, at most a hundred lines."""
    for (lines,) in ask("PRAGMA integrity_check"):
        if lines != "ok":
            yield from (line for line in lines.splitlines() if line and not line.startswith("***"))


def damaged_rows(ask: Callable[[str], list[Any]]) -> Iterator[str]:
    """Values of a type that their column cannot hold, each with its table and its row; at most twenty rows of a table.

    No statement can store such a value. It comes from a page that is in the wrong place.
    """
    for (table,) in ask(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name"
    ):
        columns = ask(f"SELECT name, lower(type), \"notnull\" OR pk, pk FROM pragma_table_info('{table}')")
        key = [name for name, _, _, nth in sorted(columns, key=lambda column: column[3]) if nth]
        kinds = [(name, (kind,) if needed else (kind, "null")) for name, kind, needed, _ in columns]
        wrong = " OR ".join("typeof({}) NOT IN ('{}')".format(name, "', '".join(allowed)) for name, allowed in kinds)
        found = ", ".join([*key, *(f"typeof({name})" for name, _ in kinds)])
        for row in ask(f"SELECT {found} FROM {table} WHERE {wrong} LIMIT 20"):
            place = ", ".join(map(repr, row[: len(key)]))
            for (name, allowed), kind in zip(kinds, row[len(key) :], strict=True):
                if kind not in allowed:
                    yield f"table {table}, row {place}: {name} is of the kind {kind}, not {allowed[0]}"
