"""What a store in an SQLite file promises beyond the contract: opening, durability, many processes, faults."""

from __future__ import annotations

import dis
import gc
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from patience import GUARD_SECONDS

import returnable
from returnable.adapters.eventstore import sqlite_connections as connections
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.sqlite import SQLiteStore
from returnable.adapters.eventstore.sqlite_connections import IDLE_READERS
from returnable.adapters.eventstore.sqlite_schema import APPLICATION_ID, SCHEMA_VERSION
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import CommandSeen, NameTaken, Stale, StoreBusy, StoreUnusable
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, CommandReceipt, Entry, ReservedId

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
HOUSE = Path(returnable.__path__[0]).parent


def linked(account_id: str = "A-1") -> AccountLinked:
    return AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT, account_id=account_id)


def batch(case_id: str, after: int, *accounts: str) -> Batch:
    """The next facts of the order of a case that holds nothing but its order's facts."""
    entries = (Entry(f"order/{case_id}", after + nth, linked(account)) for nth, account in enumerate(accounts, 1))
    return Batch(case_id, after, tuple(entries))


def receipt(command_id: str) -> CommandReceipt:
    return CommandReceipt(command_id, "d" * 64, "link_account", MOMENT, "accepted")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[CaseStore]:
    opened = SQLiteStore(path, busy_timeout_seconds=0.05)
    yield opened
    opened.close()


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


def refusal(path: Path | str) -> str:
    """Why a store cannot be opened: one line that names the file."""
    with pytest.raises(StoreUnusable) as refused:
        SQLiteStore(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


# ---- opening --------------------------------------------------------------------------------------------------------


def test_a_new_file_is_marked_as_ours(path: Path, store: CaseStore) -> None:
    with raw(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    # given
    path.touch()

    # when
    store = open_store(f"sqlite:///{path}")

    # then
    assert list(store.append([batch("O-1", 0, "A")])) == [1]
    store.close()


def test_a_store_whose_creation_was_interrupted_is_completed(path: Path) -> None:
    # given: marked, but without tables
    with raw(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    # when
    store = open_store(f"sqlite:///{path}")

    # then
    assert list(store.append([batch("O-1", 0, "A")])) == [1]
    store.close()


def test_a_store_is_opened_again_with_all_it_held(path: Path) -> None:
    # given
    first = open_store(f"sqlite:///{path}")
    first.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "R-1", "O-1")], receipt=receipt("c-1"))
    first.keep_policy("abc", "clauses")
    first.close()

    # when
    again = open_store(f"sqlite:///{path}")

    # then
    assert again.load("O-1")[0].event == linked("A")
    assert again.case_of("return", "R-1") == "O-1"
    assert again.receipt("c-1") is not None
    assert again.policy("abc") == "clauses"
    again.close()


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    assert "folder does not exist" in refusal(tmp_path / "nowhere" / "store.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_a_file_below_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "folder does not exist" in refusal(tmp_path / "file" / "store.db")


@pytest.mark.parametrize("content", [b"Dear customer,\n", b"x" * 10_000, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_not_sqlite_is_left_alone(path: Path, content: bytes) -> None:
    # given
    path.write_bytes(content)

    # then
    refusal(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_an_sqlite_file_of_another_application_is_left_alone(path: Path, journal_mode: str) -> None:
    # given
    with raw(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE orders (id)")
    content = path.read_bytes()

    # then
    assert "another application" in refusal(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_another_application_is_recognised_even_in_its_wal(path: Path) -> None:
    # given: nothing but the WAL knows of the table yet
    with raw(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (id)")
        content = path.read_bytes()

        # then
        assert "another application" in refusal(path)
        assert path.read_bytes() == content
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_a_file_marked_by_another_application_is_left_alone(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("PRAGMA application_id = 42")

    assert "another application" in refusal(path)


def test_a_store_of_a_newer_version_is_refused(path: Path, store: CaseStore) -> None:
    # given
    store.close()
    with raw(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    # then
    assert "newer version" in refusal(path)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of somebody who is bound by permissions, which root is not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_read_only_file_is_said_and_opens_when_it_is_writable_again(unprivileged: Path) -> None:
    # given
    path = unprivileged / "store.db"
    SQLiteStore(path).close()
    path.chmod(0o444)

    # then
    assert "read-only" in refusal(path)

    # when
    path.chmod(0o644)

    # then
    SQLiteStore(path).close()


def test_an_empty_read_only_file_is_said(unprivileged: Path) -> None:
    path = unprivileged / "store.db"
    path.touch()
    path.chmod(0o444)

    assert "read-only" in refusal(path)


def test_an_unreadable_file_is_said(unprivileged: Path) -> None:
    path = unprivileged / "store.db"
    SQLiteStore(path).close()
    path.chmod(0)

    assert "access is denied" in refusal(path)


def test_a_read_only_folder_is_said_with_and_without_a_store_in_it(unprivileged: Path) -> None:
    # given
    path = unprivileged / "store.db"
    SQLiteStore(path).close()
    unprivileged.chmod(0o555)

    # then
    assert "its folder is read-only" in refusal(path)
    assert "folder is read-only" in refusal(unprivileged / "other.db")


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///store.db")

    # when: the readers are opened after the change
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.append([batch("O-1", 0, "A")])

    # then
    assert len(store.load("O-1")) == 1
    store.close()


def test_a_store_can_be_opened_while_another_writes(path: Path, store: CaseStore) -> None:
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")

        second = SQLiteStore(path)

        assert second.max_notification_id() is None
        second.close()


def test_a_store_can_be_opened_while_its_file_grows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a writer that moves pages from the WAL into the file all the time
    monkeypatch.setattr(connections, "CHECKPOINT_PAGES", 10)
    store = open_store(f"sqlite:///{path}")
    enough = threading.Event()

    def write() -> None:
        for after in range(1_000_000):
            if enough.is_set():
                break
            store.append([batch("O-1", after, "A" * 1000)])

    writing = threading.Thread(target=write, daemon=True)
    writing.start()

    # when
    try:
        for _ in range(300):
            open_store(f"sqlite:///{path}").close()
    finally:
        enough.set()
        writing.join(GUARD_SECONDS)

    # then
    assert not writing.is_alive()
    store.close()


# ---- durability -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "level"), [("FULL", 2), ("EXTRA", 3), ("NORMAL", 1)])
def test_every_connection_is_as_durable_as_asked(path: Path, asked: connections.Synchronous, level: int) -> None:
    # given
    store = SQLiteStore(path, synchronous=asked)

    # when
    with store._connections.reading() as reader:
        seen = [reader.execute("PRAGMA synchronous").fetchone()]
    cursor = store._connections.take_writer()
    seen.append(cursor.execute("PRAGMA synchronous").fetchone())
    seen.append(cursor.execute("PRAGMA journal_mode").fetchone())
    store._connections.release_writer()

    # then
    assert seen == [(level,), (level,), ("wal",)]
    store.close()


def test_durability_is_full_unless_something_else_is_asked_for_by_name(path: Path, store: CaseStore) -> None:
    assert isinstance(store, SQLiteStore)
    with store._connections.reading() as reader:
        assert reader.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(ValueError, match="OFF"):
        SQLiteStore(path, synchronous="OFF")  # type: ignore[arg-type]


def test_a_place_without_wal_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: locks by files, as on some network file systems, have no shared memory
    connect = sqlite3.connect

    def by_lock_files(database: str, **options: object) -> sqlite3.Connection:
        return connect(f"{database}&vfs=unix-dotfile", **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", by_lock_files)

    # then
    assert "WAL mode cannot be had" in refusal(path)


def test_a_connection_that_does_not_take_the_durability_is_refused(
    path: Path, store: CaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setitem(connections._SYNCHRONOUS, "FULL", 7)

    # then
    assert "synchronous" in refusal(path)


# ---- atomicity ------------------------------------------------------------------------------------------------------


def everything(path: Path) -> list[list[tuple[object, ...]]]:
    with raw(path) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("facts", "names", "commands")]


@pytest.mark.parametrize(
    ("refused", "after", "name", "command_id"),
    [(Stale, 0, "R-2", "c-2"), (Stale, 3, "R-2", "c-2"), (NameTaken, 1, "R-1", "c-2"), (CommandSeen, 1, "R-2", "c-1")],
)
def test_a_refused_append_leaves_nothing(
    path: Path, store: CaseStore, refused: type[Exception], after: int, name: str, command_id: str
) -> None:
    # given
    store.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "R-1", "O-1")], receipt=receipt("c-1"))
    before = everything(path)

    # when
    with pytest.raises(refused):
        store.append(
            [batch("O-0", 0, "X"), batch("O-1", after, "Y", "Z")],
            reserved_ids=[ReservedId("claim", "C-1", "O-1"), ReservedId("return", name, "O-1")],
            receipt=receipt(command_id),
        )

    # then
    assert everything(path) == before


def test_what_sqlite_cannot_store_leaves_nothing_and_the_store_goes_on(path: Path, store: CaseStore) -> None:
    # when
    with pytest.raises(UnicodeEncodeError):
        store.append([batch("O-1", 0, "A")], reserved_ids=[ReservedId("return", "\ud800", "O-1")])

    # then
    assert everything(path) == [[], [], []]
    assert list(store.append([batch("O-1", 0, "A")])) == [1]


def test_a_position_is_never_given_twice_even_when_the_tail_was_deleted(path: Path, store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A", "B", "C")])
    with raw(path) as tamper:
        tamper.execute("DELETE FROM facts WHERE position > 1")

    # when
    positions = store.append([batch("O-1", 1, "D")])

    # then
    assert list(positions) == [4]


# ---- faults: it never wedges ----------------------------------------------------------------------------------------


def test_a_lock_held_too_long_is_busy_and_writing_works_once_it_is_gone(path: Path, store: CaseStore) -> None:
    # given
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")

        # then: several times, because the first failure must not spoil the next attempt
        for _ in range(3):
            with pytest.raises(StoreBusy, match=r"store\.db"):
                store.append([batch("O-1", 0, "A")])
        with pytest.raises(StoreBusy):
            store.keep_policy("abc", "clauses")
        assert list(store.load("O-1")) == []

        # when
        other.execute("ROLLBACK")

    # then
    assert list(store.append([batch("O-1", 0, "A")])) == [1]
    store.keep_policy("abc", "clauses")
    assert store.policy("abc") == "clauses"


def test_a_writer_waits_for_another_to_finish(path: Path) -> None:
    # given
    store = SQLiteStore(path, busy_timeout_seconds=GUARD_SECONDS)
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        written = threading.Thread(target=lambda: store.append([batch("O-1", 0, "A")]), daemon=True)
        written.start()

        # when
        written.join(0.1)
        other.execute("COMMIT")

    # then
    written.join(GUARD_SECONDS)
    assert store.head() == 1
    store.close()


def test_threads_that_wait_for_a_thread_that_waits_for_a_lock_are_busy_too(path: Path, store: CaseStore) -> None:
    # given
    outcomes: list[str] = []

    def write(case_id: str) -> None:
        try:
            store.append([batch(case_id, 0, "A")])
        except StoreBusy:
            outcomes.append("busy")

    # when
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=write, args=(f"O-{n}",), daemon=True) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD_SECONDS)

    # then
    assert outcomes == ["busy"] * 8
    assert list(store.append([batch("O-1", 0, "A")])) == [1]


@contextmanager
def no_room_left(path: Path) -> Iterator[None]:
    """Nothing can be added to a file: what a full disk looks like to a writer, and it lasts over a reopening."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_said_and_writing_works_once_there_is_room(path: Path, store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A")])
    store.load("O-1")

    # when
    with no_room_left(path):
        for _ in range(3):
            with pytest.raises(StoreUnusable, match=r"store\.db: "):
                store.append([batch("O-1", 1, "B")], receipt=receipt("c-1"))
        reads_meanwhile = [one.event for one in store.load("O-1")]

    # then
    assert reads_meanwhile == [linked("A")]
    assert store.receipt("c-1") is None
    assert list(store.append([batch("O-1", 1, "B")], receipt=receipt("c-1"))) != []
    assert [one.event for one in store.load("O-1")] == [linked("A"), linked("B")]


def test_a_store_that_may_not_grow_says_full_and_goes_on_with_a_new_connection(path: Path, store: CaseStore) -> None:
    # given
    assert isinstance(store, SQLiteStore)
    cursor = store._connections.take_writer()
    cursor.execute("PRAGMA max_page_count = 1")
    store._connections.release_writer()

    # when
    with pytest.raises(StoreUnusable, match="disk is full"):
        store.append([batch("O-1", 0, *["A" * 4000] * 20)])

    # then
    assert list(store.append([batch("O-1", 0, "A")])) == [1]


@pytest.mark.parametrize("fault", ["BEGIN", "INSERT INTO facts", "INSERT INTO commands", "COMMIT"])
def test_a_failed_write_at_any_step_is_an_error_and_not_the_end(
    path: Path, store: CaseStore, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a disk that fails once
    assert isinstance(store, SQLiteStore)
    take_writer = store._connections.take_writer
    fail = [True]

    class FailingCursor:
        def __init__(self, cursor: sqlite3.Cursor) -> None:
            self._cursor = cursor

        def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
            if statement.startswith(fault) and fail[0]:
                fail[0] = False
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
            return self._cursor.execute(statement, values)

        @property
        def lastrowid(self) -> int | None:
            return self._cursor.lastrowid

    monkeypatch.setattr(store._connections, "take_writer", lambda: FailingCursor(take_writer()))

    # when
    with pytest.raises(StoreUnusable, match="disk I/O error"):
        store.append([batch("O-1", 0, "A")], receipt=receipt("c-1"))

    # then
    assert everything(path) == [[], [], []]
    assert list(store.append([batch("O-1", 0, "A")], receipt=receipt("c-1"))) == [1]


def test_a_store_whose_file_was_removed_does_not_make_an_empty_one(path: Path, store: CaseStore) -> None:
    # given
    path.unlink()

    # then: the first reader is only opened now
    with pytest.raises(StoreUnusable, match=r"store\.db"):
        store.load("O-1")
    assert not path.exists()


# ---- connections ----------------------------------------------------------------------------------------------------


def open_files(path: Path) -> int:
    links = Path("/proc/self/fd")
    return sum(os.path.realpath(link) == str(path) for link in links.iterdir())


def test_threads_that_come_and_go_leave_no_connections_behind(path: Path, store: CaseStore) -> None:
    # given: many more readers at once than are kept
    together = threading.Barrier(64)
    assert isinstance(store, SQLiteStore)

    def read() -> None:
        with store._connections.reading() as reader:
            together.wait(GUARD_SECONDS)
            reader.execute("SELECT count(*) FROM facts").fetchone()

    # when
    opened = []
    for _ in range(3):
        threads = [threading.Thread(target=read, daemon=True) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD_SECONDS)
        opened.append(open_files(path))

    # then: SQLite keeps the descriptors of closed connections for the next, so that no lock of the process is lost
    assert len(store._connections._held.readers) == IDLE_READERS
    assert opened[1:] == opened[:1] * 2
    store.close()
    assert open_files(path) == 0


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_store_that_is_forgotten_closes_its_connections(path: Path) -> None:
    # given
    store = SQLiteStore(path)
    store.append([batch("O-1", 0, "A")])
    store.load("O-1")
    assert open_files(path) > 0

    # when
    del store
    gc.collect()

    # then
    assert open_files(path) == 0


def test_a_refused_append_is_forgotten_with_its_error(path: Path, store: CaseStore) -> None:
    # given: nobody collects what keeps each other alive
    class Names(list[ReservedId]):
        """Names that can be seen to go."""

    store.append([batch("O-1", 0, "A")])
    names = Names()
    alive = weakref.ref(names)
    gc.disable()
    try:
        # when
        with pytest.raises(Stale):
            store.append([batch("O-1", 0, "B")], reserved_ids=names)
        del names

        # then
        assert alive() is None
    finally:
        gc.enable()


@cache
def after_calls(code: CodeType) -> frozenset[int]:
    """Where an interrupt may come in the middle of a function: before the instruction that follows a call."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "PRECALL")]
    return frozenset(then.offset for call, then in pairwise(steps) if call.opname.startswith("CALL"))


def test_an_interrupt_on_the_way_leaves_the_store_to_the_next(path: Path) -> None:
    """Python looks for signals where a function begins and where a call ends."""

    class Interrupt(BaseException):
        pass

    def interrupting(nth: int) -> Callable[[FrameType, str, object], None]:
        places = count(1)

        def look(frame: FrameType, event: str, argument: object) -> Any:
            if not frame.f_code.co_filename.endswith(("sqlite.py", "sql.py", "connections.py", "group_commit.py")):
                return None
            frame.f_trace_opcodes = True
            if (event == "call" or (event == "opcode" and frame.f_lasti in after_calls(frame.f_code))) and (
                next(places) == nth
            ):
                raise Interrupt
            return look

        return look

    with closing(SQLiteStore(path, busy_timeout_seconds=0.01)) as store:
        for nth in count(1):
            before = sys.gettrace()
            sys.settrace(interrupting(nth))
            try:
                store.append([batch(f"O-{nth}", 0, "A")])
                break
            except Interrupt:
                pass
            finally:
                sys.settrace(before)
            store.append([batch(f"P-{nth}", 0, "A")])
        assert nth > 10


def test_readers_do_not_hold_back_a_writer(path: Path, store: CaseStore) -> None:
    # given
    store.append([batch("O-1", 0, "A"), batch("O-2", 0, "B")])
    visits = [store.cases() for _ in range(3)]
    for visit in visits:
        next(visit)

    # when
    for after in range(1, 20):
        store.append([batch("O-2", after, "C")])

    # then
    assert [len(events) for visit in visits for _, events in visit] == [1, 1, 1]


def test_the_wal_is_used_again_and_never_cut_while_the_store_is_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(connections, "CHECKPOINT_PAGES", 20)
    store = open_store(f"sqlite:///{path}")
    wal = Path(f"{path}-wal")
    sizes = []

    # when
    for after in range(60):
        store.append([batch("O-1", after, "A")])
        sizes.append(wal.stat().st_size)

    # then
    assert sizes == sorted(sizes)
    assert sizes[-1] < 60 * 4096
    store.close()


def test_a_child_process_opens_its_own_connections(path: Path, store: CaseStore) -> None:
    # given: a parent with an open writer, an open reader and a lock that some thread held at the time of the fork
    store.append([batch("O-1", 0, "A")])
    store.load("O-1")
    assert isinstance(store, SQLiteStore)
    inherited = store._connections._held.writer
    store._connections.take_writer()

    # when
    child = os.fork()
    if child == 0:
        try:
            store.append([batch("O-1", 1, "B")])
            own = store._connections._held.writer
            fine = own is not inherited and len(store.load("O-1")) == 2
            store.close()
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    store._connections.release_writer()

    # then
    assert os.waitstatus_to_exitcode(status) == 0
    store.append([batch("O-1", 2, "C")])
    assert [one.case_seq for one in store.load("O-1")] == [1, 2, 3]


# ---- many processes -------------------------------------------------------------------------------------------------

PRELUDE = """
import sys
from datetime import UTC, datetime
from returnable.adapters.eventstore.open import open_store
from returnable.domain.errors import Stale
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, CommandReceipt, Entry

at = datetime(2026, 3, 2, 15, tzinfo=UTC)
store = open_store(f"sqlite:///{sys.argv[1]}", busy_timeout_seconds=30)

def append(case_id, after, account, command_id, count=1):
    facts = [AccountLinked(occurred_at=at, recorded_at=at, account_id=account) for _ in range(count)]
    entries = tuple(Entry(f"order/{case_id}", after + nth, fact) for nth, fact in enumerate(facts, 1))
    receipt = CommandReceipt(command_id, "d", "link_account", at, "accepted")
    return store.append([Batch(case_id, after, entries)], receipt=receipt)
"""

WRITER = """
who, times = sys.argv[2], int(sys.argv[3])
for after in range(times):
    append(who, after, who, f"{who}-{after}")
    # Every writer also competes for the places of one common case.
    common = len(store.load("common"))
    try:
        append("common", common, who, f"{who}-common-{after}")
    except Stale:
        pass
"""

FOLLOWER = """
with store.follow() as facts:
    print("following", flush=True)
    for one in facts:
        print(one.position, one.case_id, one.case_seq, flush=True)
        if one.case_id == "end":
            break
"""

ENDLESS_WRITER = """
who = sys.argv[2]
after = 0
while True:
    append(who, after, who, f"{who}-{after}", count=2)
    after += 2
    print(after, flush=True)
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def line_of(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def test_a_write_of_another_process_wakes_a_follower(path: Path, store: CaseStore) -> None:
    # given
    with process(FOLLOWER, path) as follower:
        assert line_of(follower) == "following"

        # when
        store.append([batch("O-1", 0, "A")])

        # then
        assert line_of(follower) == "1 O-1 1"


def test_processes_that_write_at_once_lose_nothing_and_a_follower_misses_nothing(path: Path) -> None:
    # given
    writers, times = 4, 80
    store = SQLiteStore(path, busy_timeout_seconds=GUARD_SECONDS)
    seen: list[str] = []

    with process(FOLLOWER, path) as follower:
        assert line_of(follower) == "following"

        def listen() -> None:
            assert follower.stdout is not None
            seen.extend(line.strip() for line in follower.stdout)

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()

        # when
        running = [process(WRITER, path, f"W-{n}", times) for n in range(writers)]
        for writer in [entered.__enter__() for entered in running]:
            assert writer.wait(GUARD_SECONDS) == 0
        for entered in running:
            entered.__exit__(None, None, None)
        store.append([batch("end", 0, "A")])
        listening.join(GUARD_SECONDS)
        assert not listening.is_alive()

    # then
    everything_stored = store.read(limit=100_000)
    assert seen == [f"{one.position} {one.case_id} {one.case_seq}" for one in everything_stored]
    for case_id, events in store.cases():
        assert [one.case_seq for one in events] == list(range(1, len(events) + 1))
        if case_id.startswith("W-"):
            assert len(events) == times
    store.close()


def test_processes_that_create_the_same_store_at_once_all_succeed(tmp_path: Path) -> None:
    for attempt in range(2):
        # given
        path = tmp_path / f"store-{attempt}.db"

        # when
        running = [process(WRITER, path, f"W-{n}", 1) for n in range(4)]
        for writer in [entered.__enter__() for entered in running]:
            assert writer.wait(GUARD_SECONDS) == 0
        for entered in running:
            entered.__exit__(None, None, None)

        # then
        store = SQLiteStore(path)
        assert [case_id for case_id, _ in store.cases() if case_id != "common"] == ["W-0", "W-1", "W-2", "W-3"]
        store.close()


def test_threads_that_create_the_same_store_at_once_all_succeed(tmp_path: Path) -> None:
    for attempt in range(10):
        # given
        path = tmp_path / f"store-{attempt}.db"
        start = threading.Barrier(8)
        opened: list[CaseStore] = []

        def create(path: Path = path, start: threading.Barrier = start, opened: list[CaseStore] = opened) -> None:
            start.wait(GUARD_SECONDS)
            opened.append(SQLiteStore(path))

        # when
        threads = [threading.Thread(target=create, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD_SECONDS)

        # then
        assert len(opened) == 8
        for store in opened:
            store.close()


def test_what_a_killed_process_was_told_is_there_and_nothing_is_there_by_halves(path: Path) -> None:
    for round_number in range(4):
        # given
        who = f"W-{round_number}"
        with process(ENDLESS_WRITER, path, who) as writer:
            acknowledged = 0
            while acknowledged < 20 + 14 * round_number:
                acknowledged = int(line_of(writer))

            # when
            os.kill(writer.pid, signal.SIGKILL)
            assert writer.stdout is not None
            rest = writer.stdout.read()
            acknowledged = max([acknowledged, *(int(line) for line in rest.split("\n")[:-1])])

        # then
        store = SQLiteStore(path)
        events = store.load(who)
        assert acknowledged <= len(events) <= acknowledged + 2
        assert len(events) % 2 == 0
        for after in range(0, len(events), 2):
            kept = store.receipt(f"{who}-{after}")
            assert kept is not None
            assert (kept.first, kept.last) == (events[after].position, events[after + 1].position)
        assert store.receipt(f"{who}-{len(events)}") is None
        store.append([batch("after the crash", round_number, "A")])
        store.close()
        with raw(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# ---- plans ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.load("O-1"),
        lambda store: store.case_of("return", "R-1"),
        lambda store: store.receipt("c-1"),
        lambda store: store.read(after=5, limit=5),
        lambda store: store.head(),
        lambda store: list(store.cases()),
        lambda store: store.select_events("return/R-1"),
    ],
    ids=["load", "case_of", "receipt", "read", "head", "cases", "select_events"],
)
def test_no_question_reads_through_the_whole_log(
    store: CaseStore, path: Path, ask: Callable[[CaseStore], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    assert isinstance(store, SQLiteStore)
    statements: list[str] = []
    with store._connections.reading() as reader:
        reader.set_trace_callback(statements.append)

    # when
    ask(store)

    # then: a walk along an index or the log itself, limited by a bound, is no scan of a table
    with raw(path) as connection:
        for statement in statements:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert plan
            assert all(step != "SCAN facts" for step in plan), plan
    assert statements


def test_the_end_of_the_process_waits_for_a_transaction_of_a_daemon_thread(path: Path) -> None:
    # given: a thread in the middle of a transaction
    store = SQLiteStore(path, busy_timeout_seconds=GUARD_SECONDS)
    writer = store._connections.take_writer()
    writer.execute("BEGIN IMMEDIATE")

    # when: the process ends, as in "weakref.finalize" at exit
    end = threading.Thread(target=store._connections._finalizer)
    end.start()
    end.join(0.2)

    # then: SQLite, which crashes where a connection is closed under it, may go on
    writer.execute("SELECT 1")
    writer.execute("COMMIT")
    store._connections.release_writer()
    end.join()
    with pytest.raises(StoreUnusable, match="closed"):
        store.append([batch("O-1", 0, "A")])
