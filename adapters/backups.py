"""Back-ups of a store in an SQLite file: made while it is in use, restored as a whole, and verified both times."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from returnable.adapters.clock import system_clock
from returnable.adapters.eventstore.open import copy_store, on_a_server, open_store, path_of
from returnable.adapters.eventstore.sqlite_alone import held_alone
from returnable.adapters.eventstore.sqlite_file import connect, transaction
from returnable.adapters.eventstore.sqlite_schema import SCHEMA_VERSION, version_of_file
from returnable.adapters.eventstore.sqlite_timeline import (
    BESIDE,
    begin_timeline,
    marker_of,
    new_cookie,
    refuse_foreign_wal,
)
from returnable.adapters.files import (
    NotWritten,
    check_apart,
    check_free,
    is_at,
    lock,
    new_file,
    remove_if_left,
    store_files,
    sync,
    take_place,
)
from returnable.adapters.wiring import assemble, stored_views
from returnable.domain.errors import ReturnableError, StoreBusy, StoreUnusable
from returnable.domain.fields import to_text
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import EventStore, Timeline
from returnable.projections.follow import statuses
from returnable.projections.verified import Problem, Verification, Verified

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A back-up that was made: the position of its last event, its number of cases, and the hash and number of its bytes."""

    file: str
    head: int
    cases: int
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was restored: the position of its last event, and that of the replaced store where it could be read.

    ``kept_as``: the path of the replaced store; ``None`` where there was none.
    """

    head: int
    cases: int
    sha256: str
    replaced_head: int | None
    kept_as: str | None


# ---- verify -----------------------------------------------------------------------------------------------------------


def verify_store(
    url: str, found: Callable[[Problem], None] = lambda problem: None, advance: Advance = lambda count: None
) -> Verified:
    """Verify the store at a URL, which is only read; ``found`` is called with each problem at once.

    Where a file cannot be opened as a store, that is the problem. Raises :class:`StoreUnusable` where there is no store.
    """
    problems: list[Problem] = []

    def note(problem: Problem) -> None:
        problems.append(problem)
        found(problem)

    is_file = url != "memory:" and not on_a_server(url)
    try:
        services = assemble(url, create=url == "memory:", only_reading=True)
    except ReturnableError as error:
        if not is_file or not os.path.exists(path_of(url)):
            raise
        note(Problem(where="the store", what=str(error)))
        nothing = dict.fromkeys(("head", "facts", "cases", "commands", "rulings"), 0)
        return Verified(**nothing, problems=tuple(problems), warnings=(), timelines=())
    try:
        return verify_parts(services.store, services.handler.policy, url, note, problems, advance)
    finally:
        services.store.close()


def verify_parts(
    store: EventStore,
    policy_of: PolicyOf,
    url: str,
    found: Callable[[Problem], None] | None = None,
    problems: list[Problem] | None = None,
    advance: Advance = lambda count: None,
) -> Verified:
    """Verify a store that is open at a URL."""
    problems = [] if problems is None else problems
    note = problems.append if found is None else found
    verification = Verification(store, policy_of)
    for problem in verification.run(advance):
        note(problem)
    return verification.result(problems, tuple(_warnings(store, url)))


def _warnings(store: EventStore, url: str) -> Iterator[str]:
    """Conditions that are not damage, but risks."""
    if url == "memory:" or on_a_server(url):
        return
    path = path_of(url)
    with suppress(OSError):
        status = os.stat(path)
        if status.st_nlink > 1:
            yield (
                f"the file has {status.st_nlink} names (hard links); under another name SQLite looks for another WAL, so "
                "open it under this one only"
            )
        if os.name == "posix" and status.st_mode & 0o077:
            yield f"others on this machine may read or write the file (mode {status.st_mode & 0o777:o})"
    try:
        views = stored_views(url, create=False)
        if views is None:
            return
        try:
            for one in statuses(store, views):
                if one.state not in ("up to date", "missing"):
                    yield f"the stored view {one.view} is {one.state}"
        finally:
            views.close()
    except ReturnableError as error:
        yield str(error)


def _verified(file: Path, what: str) -> Verified:
    verified = verify_store(_url_of(file))
    if verified.problems:
        first = verified.problems[0]
        more = f", and {len(verified.problems) - 1} more" if len(verified.problems) > 1 else ""
        raise StoreUnusable(f"{what}: it is damaged: {first.where}: {first.what}{more}")
    return verified


# ---- back up ----------------------------------------------------------------------------------------------------------


def back_up(url: str, file: str | os.PathLike[str], *, force: bool = False) -> BackedUp:
    """Copy the store at a URL into a file, as of one moment; others may go on writing to the store.

    The copy is verified and durable before it gets its name. With ``force`` it may replace a file. Raises :class:`NotWritten`
    where the file cannot be written, and :class:`StoreUnusable` where there is no store in a file, or where the copy, and so
    the store, is damaged.
    """
    _only_files(url, "backed up", "pg_dump --schema=SCHEMA")
    target = _named(file)
    check_apart(target, store_files(url), "the store, or a file that belongs to it")
    check_free(target, force)
    _refuse_leftovers(target)
    with _part(target, "backup") as part:
        copy_store(url, part)
        verified = _verified(part, f"{path_of(url)} was not backed up")
        sync(part)
        sha256, size = _sha256(part), part.stat().st_size
        if force:
            os.replace(part, target)
        else:
            take_place(part, target)
    sync(target.parent)
    return BackedUp(str(target), verified.head, verified.cases, sha256, size)


def _named(file: str | os.PathLike[str]) -> Path:
    if "\0" in os.fspath(file):
        raise NotWritten(f"{os.fspath(file)!r} is not the name of a file: it holds a NUL character")
    return Path(os.path.abspath(file))


def _only_files(url: str, done: str, instead: str) -> None:
    if on_a_server(url):
        raise StoreUnusable(
            f"a store on PostgreSQL is {done} with the tools of the server: {instead}, or point-in-time recovery; see "
            "Backups in docs/services.md"
        )
    if url == "memory:":
        raise StoreUnusable(f"a store in memory cannot be {done}")


def _refuse_leftovers(file: Path) -> None:
    """Raise :class:`NotWritten` where SQLite would take existing files for those of the new file."""
    for ending in BESIDE:
        beside = file.with_name(file.name + ending)
        if beside.exists():
            raise NotWritten(f"{beside}: lies beside the place of the back-up, and would be taken for a part of it")


@contextmanager
def _part(target: Path, purpose: str) -> Iterator[Path]:
    """A temporary file beside ``target`` for its owner only, which is removed at the end.

    Its name is fixed, so that one run at a time writes to ``target``. A part that a killed run left is removed first, and
    never written to: it may have become the back-up, or the store, under another name. Raises :class:`StoreBusy` during
    another run, and :class:`NotWritten`.
    """
    part = target.with_name(f".{target.name}.{purpose}-part")
    remove_if_left(part)
    try:
        descriptor = new_file(part)
    except FileExistsError as error:
        raise StoreBusy(
            f"{target}: another {purpose} to this place is running; if none is, move {part.name} away"
        ) from error
    except OSError as error:
        raise NotWritten(f"{target}: {error.strerror}") from error
    try:
        if lock(descriptor, wait=True) and not is_at(descriptor, part):
            raise StoreBusy(f"{target}: another {purpose} to this place is running")
        try:
            for ending in BESIDE:
                part.with_name(part.name + ending).unlink(missing_ok=True)
            yield part
        finally:
            for ending in ("", *BESIDE):
                part.with_name(part.name + ending).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _sha256(file: Path) -> str:
    # In a process of its own: closing a file drops every lock that SQLite has on it in this one.
    code = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())"
    ran = subprocess.run([sys.executable, "-I", "-c", code, str(file)], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise StoreUnusable(f"{file}: it cannot be read ({(ran.stderr.splitlines() or ['no reason given'])[-1]})")
    return ran.stdout.strip()


# ---- restore ----------------------------------------------------------------------------------------------------------


def restore(file: str | os.PathLike[str], url: str, *, force: bool = False) -> Restored:
    """Replace the store at a URL by a back-up. No process may have the store open; it is kept under another name.

    The back-up is verified before, and the restored store afterwards. If the restore is interrupted, the old store is there,
    or the new one, or opening is refused until the restore is run again. Raises :class:`StoreUnusable` where the back-up is
    damaged, or where it cannot be found out whether the store is in use (``force`` goes on then), and :class:`StoreBusy`
    where it is in use.
    """
    _only_files(url, "restored", "pg_restore or psql")
    source, target = _named(file), Path(os.path.realpath(path_of(url)))
    check_apart(source, store_files(url), "itself: the back-up is the store, or a file that belongs to it")
    if not source.is_file():
        raise StoreUnusable(f"{source}: there is no back-up here")
    if target.is_dir() or not target.parent.is_dir():
        raise StoreUnusable(f"{target}: {'it is a folder' if target.is_dir() else 'its folder does not exist'}")
    with _part(target, "restore") as part:
        copy_store(_url_of(source), part)
        verified = _verified(part, f"{source} was not restored")
        sha256, replaced_head = _sha256(source), _head_of(target)
        _mark_restored(part, source.name, sha256, verified.head, replaced_head)
        _like(target, part)
        sync(part)
        # Before the check whether the store is in use: a process that opens the store later is refused, and does not wait for
        # the lock.
        _announce(target)
        try:
            with held_alone(str(target), force):
                kept_as = _swap(target, part)
        except (StoreBusy, StoreUnusable):
            _take_back(target)
            raise
    # Only now, after the part was closed: closing it would drop the locks of a desk that this process opens on it.
    Path(marker_of(str(target))).unlink(missing_ok=True)
    sync(target.parent)
    _verified(target, f"{target}, kept before as {kept_as}")
    return Restored(verified.head, verified.cases, sha256, replaced_head, kept_as)


def _head_of(target: Path) -> int | None:
    """The head of the store that is about to be replaced; ``None`` where it cannot be read."""
    if not target.exists():
        return None
    try:
        refuse_foreign_wal(str(target))
        with closing(connect(str(target), "mode=ro", 5.0)) as connection:
            head: int = connection.execute("SELECT coalesce(max(position), 0) FROM facts").fetchone()[0]
            return head
    except (sqlite3.Error, StoreUnusable):
        return None


def _mark_restored(part: Path, name: str, sha256: str, head: int, replaced_head: int | None) -> None:
    if version_of_file(str(part)) < SCHEMA_VERSION:  # its tables may be older than the one for timelines
        open_store(_url_of(part)).close()
    timeline = Timeline(new_cookie(), to_text(system_clock()), "restored", name, sha256, head, replaced_head)
    with closing(connect(str(part), "mode=rw", 5.0)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        with transaction(connection):
            begin_timeline(connection, timeline)
            connection.execute(f"PRAGMA schema_version = {timeline.cookie}")


def _like(target: Path, part: Path) -> None:
    """Give the new file the owner and the permissions of the old one, so that the service can open it."""
    with suppress(OSError):
        status = target.stat()
        os.chmod(part, status.st_mode & 0o777)
        if hasattr(os, "chown"):
            os.chown(part, status.st_uid, status.st_gid)


def _announce(target: Path) -> None:
    """Write a marker with the name under which the store will be kept. While the marker is there, no desk opens the store."""
    marker = Path(marker_of(str(target)))
    if not marker.exists():
        _write_marker(marker, _free_name(target))


def _take_back(target: Path) -> None:
    """Remove the marker, unless an earlier restore was cut short."""
    marker = Path(marker_of(str(target)))
    if target.exists() and not (target.parent / (_kept_name(marker) or target.name)).exists():
        marker.unlink(missing_ok=True)


def _swap(target: Path, part: Path) -> str | None:
    """Replace a store by a part. The store is kept under another name, together with the files beside it.

    A swap that was cut short is completed by the next one, which uses the name in the marker: so the old store and its WAL
    stay together.
    """
    folder = target.parent
    kept = _kept_name(Path(marker_of(str(target)))) or _free_name(target)
    for ending in ("", *BESIDE):
        one, other = folder / f"{target.name}{ending}", folder / f"{kept}{ending}"
        if one.exists() and not other.exists():
            os.rename(one, other)
    sync(folder)  # before the name of the old store is given to another file
    os.rename(part, target)
    sync(folder)
    return str(folder / kept) if (folder / kept).exists() else None


def _kept_name(marker: Path) -> str | None:
    try:
        kept: str = json.loads(marker.read_bytes())["kept_as"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return kept


def _free_name(target: Path) -> str:
    name = f"{target.name}.before-restore-{system_clock():%Y%m%dT%H%M%SZ}"
    nth, free = 1, name
    while any((target.parent / f"{free}{ending}").exists() for ending in ("", *BESIDE)):
        nth += 1
        free = f"{name}-{nth}"
    return free


def _write_marker(marker: Path, kept: str) -> None:
    written = marker.with_name(f".{marker.name}-part")
    written.unlink(missing_ok=True)
    with os.fdopen(new_file(written), "w") as file:
        json.dump({"kept_as": kept}, file)
    sync(written)
    os.rename(written, marker)
    sync(marker.parent)


def _url_of(file: Path) -> str:
    return f"sqlite:///{quote(os.fsencode(file))}"
