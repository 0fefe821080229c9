"""What a store in an SQLite file makes of a disk that fails: every error comes from the disk itself, through SQLite."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.proofs import disk
from bench.proofs.disk import OK, Unwatchable, Watch, kind_of, watching
from bench.proofs.images import Moment, Recorder, Recording, Sync, Write, same_as
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.sqlite_schema import APPLICATION_ID
from returnable.adapters.views.sqlite import open_views
from returnable.domain.errors import CommandSeen, StoreUnusable
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, CommandReceipt, Entry
from returnable.projections.ports import Mark

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


def batch(case_id: str, after: int, *accounts: str) -> Batch:
    events = (AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT, account_id=account) for account in accounts)
    return Batch(
        case_id, after, tuple(Entry(f"order/{case_id}", after + n, event) for n, event in enumerate(events, 1))
    )


def receipt(command_id: str) -> CommandReceipt:
    return CommandReceipt(command_id, "d" * 64, "link_account", MOMENT, "accepted")


class Failing(Watch):
    """A disk on which one kind of call fails for one kind of file, so often as is said."""

    def __init__(self, call: str, kind: str, code: int, times: int = 1_000_000) -> None:
        self.call, self.kind, self.code, self.times = call, kind, code, times
        self.failed = 0

    def answer(self, call: str, path: str) -> int:
        if (call, kind_of(path)) != (self.call, self.kind) or self.failed >= self.times:
            return OK
        self.failed += 1
        return self.code


def refusal(work: Callable[[], object]) -> type[Exception] | None:
    """The kind of error that comes of it, and nothing that would lead to where it came from."""
    try:
        work()
    except Exception as error:
        return type(error)
    return None


@contextmanager
def on(watch: Watch) -> Iterator[None]:
    try:
        with watching(watch):
            yield
    except Unwatchable as error:
        pytest.fail(f"the disk cannot be watched with this interpreter, and nothing of this file is shown: {error}")


# ---- birth ------------------------------------------------------------------------------------------------------------


def test_a_store_whose_switch_to_wal_fails_is_refused_and_made_the_next_time(tmp_path: Path) -> None:
    # given: it is marked
    url = f"sqlite:///{tmp_path}/shop.db"
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    # when
    with on(Failing("sync", "journal", sqlite3.SQLITE_IOERR_FSYNC, times=1)):
        with pytest.raises(StoreUnusable, match="disk I/O error"):
            open_store(url)
        store = open_store(url)

        # then: readers open the file anew
        with closing(store):
            assert store.append([batch("A", 0, "a")]) == [1]
            assert len(store.load("A")) == 1


def test_views_whose_switch_to_wal_fails_are_refused_and_made_the_next_time(tmp_path: Path) -> None:
    # given
    url = f"sqlite:///{tmp_path}/shop-views.db"

    # when
    with on(Failing("sync", "journal", sqlite3.SQLITE_IOERR_FSYNC, times=1)):
        with pytest.raises(StoreUnusable, match="disk I/O error"):
            open_views(url)
        views = open_views(url)

        # then
        assert views is not None
        with closing(views), views.reading() as reading:
            assert reading.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_whose_birth_the_power_cut_short_is_born_again(tmp_path: Path) -> None:
    # given: the first page is written by half, and the journal that undoes it is there
    path = tmp_path / "shop.db"
    whole = tmp_path / "whole"
    whole.mkdir()
    recorder = Recorder(whole)
    with on(recorder):
        open_store(f"sqlite:///{whole}/shop.db").close()
    first = next(
        nth for nth, each in enumerate(recorder.recording.events) if isinstance(each, Write) and each.file == 0
    )
    moment = Moment(recorder.recording)
    moment.go_to(first)
    for name, content in moment.durable().items():
        (tmp_path / name).write_bytes(content)
    assert (tmp_path / "shop.db-journal").stat().st_size
    path.write_bytes(b"\0" * 512 + b"x" * 512)

    # when
    with closing(open_store(f"sqlite:///{path}")) as store:
        # then
        assert store.append([batch("A", 0, "a")]) == [1]


# ---- what was written and never became durable ------------------------------------------------------------------------


def _killed_before_the_sync(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What a process leaves that dies before the sync of its second append: what is seen, and what is durable."""
    recorder = Recorder(folder)
    with on(recorder), closing(open_store(f"sqlite:///{folder}/shop.db")) as store:
        store.append([batch("A", 0, "a")], receipt=receipt("c-1"))
        moment = Moment(recorder.recording)
        moment.go_to(len(recorder.recording.events))
        durable = moment.durable()
        store.append([batch("A", 1, "b")], receipt=receipt("c-2"))
        moment.go_to(len(recorder.recording.events) - 1)
        assert moment.pending(), "all but the sync"
        return moment.whole(), durable


def _found(folder: Path, seen: dict[str, bytes], durable: dict[str, bytes]) -> Recorder:
    """A folder as the next process finds it, with what would be left of it by a power failure."""
    for name, content in seen.items():
        (folder / name).write_bytes(content)
    recorder = Recorder(folder, Recording(durable))
    names = recorder.recording.names
    events = recorder.recording.events
    events += [Write(names[name], 0, content) for name, content in seen.items()]
    # The worst there is: the system has tried to write it, failed, and forgotten. Only what is written again helps.
    events += [Sync(names[name], len(seen), True) for name in seen]
    return recorder


def test_what_a_killed_process_wrote_is_made_durable_before_it_is_told(tmp_path: Path) -> None:
    # given
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    recorder = _found(tmp_path / "second", *_killed_before_the_sync(tmp_path / "first"))

    # when: the next process tells what became of the command, and the power fails
    url = f"sqlite:///{tmp_path}/second/shop.db"
    with on(recorder), closing(open_store(url)) as store:
        with pytest.raises(CommandSeen):
            store.append([batch("A", 2, "b")], receipt=receipt("c-2"))
        told = store.receipt("c-2")
        moment = Moment(recorder.recording)
        moment.go_to(len(recorder.recording.events))
    for name, content in moment.durable().items():
        (tmp_path / "third" / name).write_bytes(content)

    # then
    assert told is not None
    with closing(open_store(f"sqlite:///{tmp_path}/third/shop.db")) as store:
        assert store.receipt("c-2") == told


def test_views_hear_of_a_sync_that_fails_when_they_are_written(tmp_path: Path) -> None:
    # given: heard only when the WAL is copied into the file, it would be too late: half of it is there already
    watch = Failing("sync", "wal", sqlite3.SQLITE_IOERR_FSYNC, times=1)
    watch.failed = 1
    with on(watch):
        views = open_views(f"sqlite:///{tmp_path}/shop-views.db")
        assert views is not None
        with closing(views):
            watch.failed = 0

            # when
            with pytest.raises(StoreUnusable, match="disk I/O error"):
                views.begin(["orders"], Mark(7))

            # then
            assert not views.marks()
            views.begin(["orders"], Mark(7))
            assert views.marks()["orders"].position == 7


@pytest.mark.parametrize("asked_while_it_fails", [True, False])
def test_what_could_not_be_synced_is_not_told_as_done_by_who_looks_next(
    tmp_path: Path, asked_while_it_fails: bool
) -> None:
    # given: nobody reads, so the writer alone keeps the memory that says what is committed
    class Forgetful(Recorder):
        fails = False

        def answer(self, call: str, path: str) -> int:
            return sqlite3.SQLITE_IOERR_FSYNC if self.fails and call == "sync" else OK

    recorder = Forgetful(tmp_path)
    with on(recorder), closing(open_store(f"sqlite:///{tmp_path}/shop.db")) as store:
        store.append([batch("A", 0, "a")], receipt=receipt("c-1"))

        # when
        recorder.fails = True
        assert refusal(lambda: store.append([batch("A", 1, "b")], receipt=receipt("c-2"))) == StoreUnusable
        gc.collect()  # or the error would keep the connection open
        recorder.fails = asked_while_it_fails

        # then
        assert store.receipt("c-2") is None
        assert [one.case_seq for one in store.load("A")] == [1]

        # when
        recorder.fails = False
        store.append([batch("A", 1, "b")], receipt=receipt("c-2"))

        # then
        moment = Moment(recorder.recording)
        moment.go_to(len(recorder.recording.events))
    (tmp_path / "after").mkdir()
    for name, content in moment.durable().items():
        (tmp_path / "after" / name).write_bytes(content)
    with closing(open_store(f"sqlite:///{tmp_path}/after/shop.db")) as store:
        assert store.receipt("c-2") is not None


# ---- the instrument ---------------------------------------------------------------------------------------------------


def test_an_interpreter_whose_sqlite_cannot_be_reached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: nobody has looked yet, and there is no such symbol
    monkeypatch.setattr(disk, "_shim", disk._Shim)
    monkeypatch.setattr(disk.ctypes, "CDLL", lambda name: object())

    # then
    with pytest.raises(Unwatchable, match="linked statically"), watching(Watch()):
        raise AssertionError("nothing is watched")


def test_what_a_watch_raises_is_not_lost_in_sqlite(tmp_path: Path) -> None:
    class Broken(Watch):
        def wrote(self, file: object, offset: int, data: bytes) -> None:
            raise KeyError("broken")

    with pytest.raises(RuntimeError, match="the watch itself failed"), on(Broken()):
        assert refusal(lambda: open_store(f"sqlite:///{tmp_path}/shop.db")) == StoreUnusable


def test_a_recording_leads_to_the_very_bytes_that_are_in_the_folder(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with on(recorder), closing(open_store(f"sqlite:///{tmp_path}/shop.db")) as store:
        for nth in range(5):
            store.append([batch("A", nth, "a")])

        assert same_as(recorder.recording, tmp_path)

    assert same_as(recorder.recording, tmp_path)
    (tmp_path / "shop.db").write_bytes(b"otherwise")
    assert not same_as(recorder.recording, tmp_path)
