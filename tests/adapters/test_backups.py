"""Back-ups of a store in a file: made, restored and told from their original."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import returnable
from returnable.adapters import backups
from returnable.adapters.backups import back_up, restore, verify_store
from returnable.adapters.eventstore import sqlite_connections as connections
from returnable.adapters.eventstore.sqlite_timeline import marker_of, read_wal, take_over_copy, why_foreign
from returnable.adapters.files import NotWritten
from returnable.adapters.wiring import assemble, projector, stored_views
from returnable.domain.errors import StoreBusy, StoreUnusable

ORDER = {
    "currency": "USD",
    "customer": {"customer_id": "c-1", "account_id": "acc-1"},
    "lines": [{"line_id": "1", "sku": "BAG", "unit_price": "480.00", "quantity": 1}],
    "payments": [{"payment_id": "p-1", "method": "card", "amount": "480.00"}],
}


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def record(path: Path, *order_ids: str) -> None:
    """Record orders and close the store."""
    with returnable.open(url(path)) as desk:
        for order_id in order_ids:
            desk.confirm_order(order_id=order_id, command_id=f"k-{order_id}", **ORDER)  # type: ignore[arg-type]


def record_and_die(path: Path, *order_ids: str, also: str = "") -> None:
    """Record orders in a process that is killed, so that the WAL stays."""
    code = (
        "import os, signal, sqlite3, sys, returnable\n"
        "desk = returnable.open('sqlite:///' + sys.argv[1])\n"
        f"{also}\n"
        "for order_id in sys.argv[2:]:\n"
        f"    desk.confirm_order(order_id=order_id, command_id='k-' + order_id, **{ORDER!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path), *order_ids], capture_output=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr


def orders(path: Path) -> list[str]:
    with returnable.open(url(path)) as desk:
        return [order.order_id for order in desk.orders()]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A store with the orders A-1 and A-2."""
    path = tmp_path / "shop.db"
    record(path, "A-1", "A-2")
    return path


@pytest.fixture
def backup(shop: Path) -> Path:
    """A back-up of it."""
    file = shop.with_name("backup.db")
    back_up(url(shop), file)
    return file


# ---- backing up -------------------------------------------------------------------------------------------------------


def test_a_store_is_backed_up_while_it_is_in_use(shop: Path) -> None:
    # given
    with returnable.open(url(shop)) as desk:
        desk.confirm_order(order_id="A-3", **ORDER)  # type: ignore[arg-type]

        # when
        made = desk.backup(shop.with_name("backup.db"))
        desk.confirm_order(order_id="A-4", **ORDER)  # type: ignore[arg-type]

    # then
    backup = Path(made.file)
    assert (made.head, made.cases, made.size_bytes) == (3, 3, backup.stat().st_size)
    assert made.sha256 == backups._sha256(backup)
    assert orders(shop) == ["A-1", "A-2", "A-3", "A-4"]
    assert orders(backup) == ["A-1", "A-2", "A-3"]


def test_a_back_up_is_for_its_owner_alone_whatever_the_umask_says(shop: Path) -> None:
    before = os.umask(0)
    try:
        made = back_up(url(shop), shop.with_name("backup.db"))
    finally:
        os.umask(before)

    assert stat.S_IMODE(os.stat(made.file).st_mode) == 0o600


def test_a_back_up_leaves_nothing_but_itself(shop: Path, backup: Path) -> None:
    assert sorted(one.name for one in shop.parent.iterdir()) == ["backup.db", "shop.db"]


def test_a_file_that_exists_is_overwritten_by_force_only(shop: Path, backup: Path) -> None:
    record(shop, "A-3")
    with pytest.raises(NotWritten, match="backup.db: exists already; --force overwrites it"):
        back_up(url(shop), backup)

    assert back_up(url(shop), backup, force=True).head == 3


@pytest.mark.parametrize("name", ["shop.db", "shop.db-wal", "../{}/shop.db", "shop-views.db", "link.db"])
def test_a_back_up_never_takes_the_place_of_the_store_or_of_a_file_beside_it(shop: Path, name: str) -> None:
    shop.with_name("link.db").symlink_to(shop)
    before = shop.read_bytes()

    with pytest.raises(NotWritten, match="would overwrite the store, or a file that belongs to it"):
        back_up(url(shop), shop.parent / name.format(shop.parent.name), force=True)

    assert shop.read_bytes() == before


def test_a_folder_that_does_not_exist_is_named(shop: Path) -> None:
    with pytest.raises(NotWritten, match="nowhere: there is no such directory"):
        back_up(url(shop), shop.parent / "nowhere" / "backup.db")


def test_a_store_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store here"):
        back_up(url(tmp_path / "none.db"), tmp_path / "backup.db")

    assert list(tmp_path.iterdir()) == []


def test_a_wal_that_lies_where_the_back_up_is_to_be_is_no_part_of_it(shop: Path) -> None:
    shop.with_name("backup.db-wal").write_bytes(b"of something else")

    with pytest.raises(NotWritten, match="backup.db-wal: lies beside the place of the back-up"):
        back_up(url(shop), shop.with_name("backup.db"))


def test_a_damaged_store_is_not_backed_up(shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("DELETE FROM commands WHERE command_id = 'k-A-1'")
        connection.commit()

    with pytest.raises(StoreUnusable, match=r"was not backed up: it is damaged: order/A-1#1: .* has no receipt"):
        back_up(url(shop), shop.with_name("backup.db"))

    assert not shop.with_name("backup.db").exists()


@pytest.mark.parametrize(
    ("store", "what"),
    [
        ("postgresql://shop@db.example/shop", "pg_dump .* point-in-time recovery; see Backups in docs/services.md"),
        ("memory:", "a store in memory cannot be backed up"),
    ],
)
def test_a_store_that_is_in_no_file_is_backed_up_otherwise(tmp_path: Path, store: str, what: str) -> None:
    with pytest.raises(StoreUnusable, match=what):
        back_up(store, tmp_path / "backup.db")


def test_what_a_killed_run_left_is_removed_by_the_next(shop: Path) -> None:
    part = shop.with_name(".backup.db.backup-part")
    for ending in ("", "-wal", "-shm", "-journal"):
        part.with_name(part.name + ending).write_bytes(b"left behind")

    back_up(url(shop), shop.with_name("backup.db"))

    assert sorted(one.name for one in shop.parent.iterdir()) == ["backup.db", "shop.db"]


def test_what_a_killed_run_left_under_two_names_is_not_written_to(shop: Path, backup: Path) -> None:
    # given: it was killed after the back-up got its name, and the back-up was put away
    before = backup.read_bytes()
    shop.with_name(".next.db.backup-part").hardlink_to(backup)
    record(shop, "A-3")

    # when
    back_up(url(shop), shop.with_name("next.db"))

    # then
    assert backup.read_bytes() == before
    assert orders(shop.with_name("next.db")) == ["A-1", "A-2", "A-3"]
    assert orders(backup) == ["A-1", "A-2"]


@pytest.mark.parametrize("run", [back_up, restore])
def test_a_run_that_begins_while_another_one_ends_leaves_what_that_has_written(
    shop: Path, backup: Path, run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: the part of another run, which is given its name between two steps of this one
    purpose = "backup" if run is back_up else "restore"
    target = shop.with_name("target.db")
    part = shop.with_name(f".target.db.{purpose}-part")
    shutil.copy(backup, part)
    lock = fcntl.flock

    def end_first(descriptor: int, operation: int) -> None:
        if part.exists() and not target.exists():
            part.rename(target)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", end_first)

    # when
    with suppress(StoreBusy, NotWritten, FileNotFoundError):
        run(*(url(shop), target) if run is back_up else (backup, url(target)))

    # then
    assert orders(target) == ["A-1", "A-2"]


def test_a_link_in_the_place_of_the_part_is_not_followed(shop: Path) -> None:
    # given
    other = shop.with_name("other.txt")
    other.write_text("not ours")
    shop.with_name(".copy.db.backup-part").symlink_to(other)

    # when
    with pytest.raises(StoreBusy, match=r"move \.copy\.db\.backup-part away"):
        back_up(url(shop), shop.with_name("copy.db"))

    # then
    assert other.read_text() == "not ours"


def test_a_disk_that_is_full_is_that_of_the_back_up(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    def connect_to_full(path: str, *arguments: Any) -> Any:
        connection = connect(path, *arguments)
        if path.endswith("-part"):
            connection.execute("PRAGMA max_page_count = 3")
        return connection

    connect = connections.connect
    monkeypatch.setattr(connections, "connect", connect_to_full)

    # when, then
    with pytest.raises(StoreUnusable, match=r"copy\.db\.backup-part: the disk is full"):
        back_up(url(shop), shop.with_name("copy.db"))
    assert sorted(each.name for each in shop.parent.iterdir()) == ["shop.db"]


def test_a_place_where_nothing_can_be_written_is_told(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    def refused(*arguments: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(backups, "new_file", refused)

    # when, then
    with pytest.raises(NotWritten, match=r"copy\.db: Read-only file system"):
        back_up(url(shop), shop.with_name("copy.db"))


def test_a_second_run_to_the_same_place_is_refused_while_the_first_one_works(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    inside, go_on = threading.Event(), threading.Event()
    copy_store = backups.copy_store

    def slowly(store: str, target: Path) -> None:
        inside.set()
        assert go_on.wait(30)
        copy_store(store, target)

    monkeypatch.setattr(backups, "copy_store", slowly)
    first = threading.Thread(target=back_up, args=(url(shop), shop.with_name("backup.db")))
    first.start()
    assert inside.wait(30)

    # when
    with pytest.raises(StoreBusy, match="another backup to this place is running"):
        back_up(url(shop), shop.with_name("backup.db"))
    go_on.set()
    first.join(30)

    # then
    assert verify_store(url(shop.with_name("backup.db"))).problems == ()


# ---- restoring --------------------------------------------------------------------------------------------------------


def test_a_restore_puts_the_back_up_in_the_place_of_the_store_and_keeps_that_with_its_wal(
    shop: Path, backup: Path
) -> None:
    # given
    record_and_die(shop, "A-3", "A-4")

    # when
    done = restore(backup, url(shop))

    # then
    assert (done.head, done.cases, done.replaced_head) == (2, 2, 4)
    assert done.kept_as is not None
    assert Path(f"{done.kept_as}-wal").exists()
    assert orders(shop) == ["A-1", "A-2"]
    assert orders(Path(done.kept_as)) == ["A-1", "A-2", "A-3", "A-4"]
    assert not Path(marker_of(str(shop))).exists()


def test_a_restored_store_remembers_when_it_was_restored_from_what_and_what_it_replaced(
    shop: Path, backup: Path
) -> None:
    record(shop, "A-3")

    restore(backup, url(shop))
    first, second = verify_store(url(shop)).timelines

    assert first.cause == "created"
    assert (second.cause, second.file, second.head, second.replaced_head) == ("restored", "backup.db", 2, 3)
    assert second.sha256 == backups._sha256(backup)
    assert second.began_at > first.began_at


def test_a_restored_store_has_the_permissions_of_the_one_it_replaces(shop: Path, backup: Path) -> None:
    shop.chmod(0o640)

    restore(backup, url(shop))

    assert stat.S_IMODE(shop.stat().st_mode) == 0o640


def test_a_store_is_restored_where_there_is_none(shop: Path, backup: Path) -> None:
    done = restore(backup, url(shop.with_name("elsewhere.db")))

    assert (done.kept_as, done.replaced_head) == (None, None)
    assert orders(shop.with_name("elsewhere.db")) == ["A-1", "A-2"]


def test_a_back_up_of_an_older_version_is_brought_up_to_date(shop: Path, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.executescript("DROP TABLE due; DROP TABLE bookmarks; DROP TABLE timelines; PRAGMA user_version = 1")

    restore(backup, url(shop))

    assert orders(shop) == ["A-1", "A-2"]
    assert [one.cause for one in verify_store(url(shop)).timelines] == ["created", "restored"]


def test_a_link_stays_a_link_to_the_restored_store(shop: Path, backup: Path) -> None:
    link = shop.with_name("link.db")
    link.symlink_to(shop)
    record(shop, "A-3")

    restore(backup, url(link))

    assert link.is_symlink()
    assert orders(link) == orders(shop) == ["A-1", "A-2"]


def test_a_restore_is_refused_while_this_process_has_the_store_open(shop: Path, backup: Path) -> None:
    with returnable.open(url(shop)) as desk:
        with pytest.raises(StoreBusy, match="the store is in use; close every desk"):
            restore(backup, url(shop), force=True)

        desk.confirm_order(order_id="A-3", **ORDER)  # type: ignore[arg-type]

    assert orders(shop) == ["A-1", "A-2", "A-3"]


def test_a_restore_is_refused_while_another_process_reads_the_store(shop: Path, backup: Path) -> None:
    code = (
        "import sys, returnable\n"
        "from returnable.adapters.wiring import assemble\n"
        "parts = assemble('sqlite:///' + sys.argv[1], create=False, only_reading=True)\n"
        "print(parts.store.head(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(shop)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"2\n"
        with pytest.raises(StoreBusy, match="the store is in use"):
            restore(backup, url(shop))
        reader.communicate()

    assert restore(backup, url(shop)).head == 2


@pytest.mark.parametrize("only_reading", [False, True])
def test_who_opens_a_store_while_it_is_restored_gets_the_restored_one_or_none(
    shop: Path, backup: Path, only_reading: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: the store is restored between two steps of opening it
    record(shop, "A-3")
    connect = connections.connect

    def connect_and_restore(path: str, options: str, *more: Any) -> Any:
        connection = connect(path, options, *more)
        if options in ("mode=rwc", "mode=rw") and path == str(shop):
            monkeypatch.setattr(connections, "connect", connect)
            restore(backup, url(shop))
        return connection

    monkeypatch.setattr(connections, "connect", connect_and_restore)

    # when
    with pytest.raises(StoreUnusable, match="removed, renamed or replaced"):
        assemble(url(shop), only_reading=only_reading)

    # then
    record(shop, "A-4")
    assert orders(shop) == ["A-1", "A-2", "A-4"]
    assert verify_store(url(shop)).problems == ()


def test_nobody_opens_a_store_from_before_the_look_whether_it_is_in_use(
    shop: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    refused: list[str] = []

    def look(path: str, force: bool) -> Any:
        with pytest.raises(StoreUnusable) as raised:
            returnable.open(url(shop))
        refused.append(str(raised.value))
        return held_alone(path, force)

    held_alone = backups.held_alone
    monkeypatch.setattr(backups, "held_alone", look)

    # when
    restore(backup, url(shop))

    # then
    assert ["a restore is under way" in one for one in refused] == [True]


def test_a_restore_that_is_refused_keeps_nobody_from_the_store(shop: Path, backup: Path) -> None:
    with returnable.open(url(shop)), pytest.raises(StoreBusy):
        restore(backup, url(shop))

    assert orders(shop) == ["A-1", "A-2"]
    assert not Path(marker_of(str(shop))).exists()


def test_a_restore_that_is_refused_in_the_middle_of_an_earlier_one_leaves_the_store_to_nobody(
    shop: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: one was cut short after it had put the new file in its place
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut_short_at(marker_of(str(shop)), Path.unlink))
        with pytest.raises(OSError, match="cut short"):
            restore(backup, url(shop))

    # when
    with closing(sqlite3.connect(shop)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM facts").fetchall()
        with pytest.raises(StoreBusy):
            restore(backup, url(shop))

    # then
    with pytest.raises(StoreUnusable, match="a restore is under way, or was cut short"):
        returnable.open(url(shop))
    restore(backup, url(shop))
    assert orders(shop) == ["A-1", "A-2"]


def cut_short_at(path: str, unlink: Callable[..., None]) -> Callable[..., None]:
    def cut_short(self: Path, missing_ok: bool = False) -> None:
        if str(self) == path:
            raise OSError(5, "cut short")
        unlink(self, missing_ok)

    return cut_short


@pytest.mark.parametrize("spoil", ["not a database", "empty", "truncated", "overwritten", "foreign wal"])
def test_a_store_in_any_state_can_be_restored(shop: Path, backup: Path, spoil: str) -> None:
    # given
    content = shop.read_bytes()
    spoilt = {
        "not a database": b"nothing of the kind" * 99,
        "empty": b"",
        "truncated": content[:5000],
        "overwritten": content[:4096] + os.urandom(len(content) - 4096),
    }
    if spoil == "foreign wal":
        record_and_die(shop, "A-3")
        shutil.copyfile(backup, shop)
    else:
        shop.write_bytes(spoilt[spoil])
    found = shop.read_bytes()

    # when
    done = restore(backup, url(shop))

    # then
    assert orders(shop) == ["A-1", "A-2"]
    assert verify_store(url(shop)).problems == ()
    assert done.kept_as is not None
    assert Path(done.kept_as).read_bytes() == found


def test_where_nobody_can_tell_whether_the_store_is_in_use_force_is_needed(
    shop: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from returnable.adapters.eventstore import sqlite_alone

    monkeypatch.setattr(sqlite_alone, "_HOLD", "print('unknown this system has no locks of POSIX')")
    with pytest.raises(
        StoreUnusable, match=r"cannot be found out \(this system has no locks of POSIX\).* give --force"
    ):
        restore(backup, url(shop))

    assert restore(backup, url(shop), force=True).head == 2


def test_a_damaged_back_up_is_refused_and_the_store_stays(shop: Path, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("DELETE FROM facts WHERE position = 1")
        connection.commit()
    record(shop, "A-3")

    with pytest.raises(StoreUnusable, match=r"backup.db was not restored: it is damaged: the store: there is no event"):
        restore(backup, url(shop))

    assert orders(shop) == ["A-1", "A-2", "A-3"]
    assert sorted(one.name for one in shop.parent.iterdir()) == ["backup.db", "shop.db"]


def test_a_store_is_no_back_up_of_itself(shop: Path) -> None:
    with pytest.raises(NotWritten, match="the back-up is the store"):
        restore(shop, url(shop))


def test_a_back_up_that_does_not_exist_is_named(shop: Path) -> None:
    with pytest.raises(StoreUnusable, match="none.db: there is no back-up here"):
        restore(shop.with_name("none.db"), url(shop))


def test_a_store_on_a_server_is_restored_by_the_server(backup: Path) -> None:
    with pytest.raises(StoreUnusable, match="pg_restore or psql, or point-in-time recovery; see Backups"):
        restore(backup, "postgresql://shop@db.example/shop")


def test_after_a_restore_was_cut_short_nothing_opens_the_store_until_it_is_run_again(
    shop: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    record_and_die(shop, "A-3")
    rename = os.rename

    def fail(one: str | Path, other: str | Path) -> None:
        if str(other) == str(shop):
            raise OSError(28, "No space left on device")
        rename(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        umask = os.umask(0)
        with pytest.raises(OSError, match="No space left"):
            restore(backup, url(shop))
        os.umask(umask)
    assert stat.S_IMODE(os.stat(marker_of(str(shop))).st_mode) == 0o600

    # when
    opening: list[Callable[[], object]] = [
        lambda: returnable.open(url(shop)),
        lambda: assemble(url(shop), only_reading=True),
        lambda: verify_store(url(shop)),
    ]
    for attempt in opening:
        with pytest.raises(StoreUnusable, match="run `returnable restore` again|there is no store here"):
            attempt()
    done = restore(backup, url(shop))

    # then
    assert orders(shop) == ["A-1", "A-2"]
    assert done.kept_as is not None
    assert orders(Path(done.kept_as)) == ["A-1", "A-2", "A-3"]


def test_stored_views_of_what_was_recorded_after_the_back_up_belong_to_another_store(shop: Path, backup: Path) -> None:
    # given
    def project(anew: bool = False) -> None:
        services, views = assemble(url(shop)), stored_views(url(shop))
        assert views is not None
        try:
            work = projector(services, views)
            if anew:
                work.rebuild(work.names)
            work.run()
        finally:
            views.close()
            services.store.close()

    record(shop, "A-3")
    project()

    # when
    restore(backup, url(shop))
    record(shop, "A-3")  # a host repeats its command, and another fact comes to stand where the old one stood

    # then
    with pytest.raises(StoreUnusable, match="or of this one before it was restored"):
        project()
    project(anew=True)
    assert verify_store(url(shop)).warnings == ()


# ---- copies that were made by hand ------------------------------------------------------------------------------------


def vacuum(shop: Path, copy: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))


def online(shop: Path, copy: Path) -> None:
    with closing(sqlite3.connect(shop)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


@pytest.mark.parametrize("made_by", [vacuum, online, back_up])
@pytest.mark.parametrize("shm", [True, False])
@pytest.mark.parametrize("after", [1, 40])
def test_a_copy_beside_the_wal_of_the_old_store_is_refused_before_that_is_replayed(
    shop: Path, made_by: Callable[..., object], shm: bool, after: int
) -> None:
    # given
    copy = shop.with_name("copy.db")
    made_by(url(shop) if made_by is back_up else shop, copy)
    record_and_die(shop, *(f"B-{nth}" for nth in range(after)))
    shutil.copyfile(copy, shop)
    if not shm:
        shop.with_name("shop.db-shm").unlink(missing_ok=True)
    wal = shop.with_name("shop.db-wal").read_bytes()

    # when
    for only_reading in (False, True):
        with pytest.raises(
            StoreUnusable, match=r"shop.db-wal beside it belongs to another file .* `returnable restore`"
        ):
            assemble(url(shop), only_reading=only_reading)
    (problem,) = verify_store(url(shop)).problems

    # then
    assert "belongs to another file" in problem.what
    assert shop.read_bytes() == copy.read_bytes()
    assert shop.with_name("shop.db-wal").read_bytes() == wal


def test_a_copy_whose_wal_was_moved_away_is_taken_over_and_remembers_it(shop: Path) -> None:
    # given
    copy = shop.with_name("copy.db")
    vacuum(shop, copy)
    record_and_die(shop, "A-3")
    shutil.copyfile(copy, shop)
    shop.with_name("shop.db-wal").rename(shop.with_name("old-wal"))

    # when
    record_and_die(shop, "A-4")

    # then
    assert orders(shop) == ["A-1", "A-2", "A-4"]
    assert [one.cause for one in verify_store(url(shop)).timelines] == ["created", "copied"]


def test_a_copy_that_is_only_read_stays_as_it_is(shop: Path) -> None:
    copy = shop.with_name("copy.db")
    online(shop, copy)
    before = copy.read_bytes()

    verified = verify_store(url(copy))

    assert verified.problems == ()
    assert copy.read_bytes() == before


def test_the_first_desk_that_writes_to_a_copy_needs_it_for_itself(shop: Path) -> None:
    copy = shop.with_name("copy.db")
    online(shop, copy)
    with closing(sqlite3.connect(copy)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM facts").fetchall()
        from returnable.adapters.eventstore.open import open_store

        with pytest.raises(StoreBusy, match="copy that no desk has opened before, and another process holds it open"):
            open_store(url(copy), busy_timeout_seconds=0.1)

    assert orders(copy) == ["A-1", "A-2"]


def test_a_copy_of_an_idle_file_beside_a_wal_that_begins_later_is_refused(shop: Path) -> None:
    # given
    copy = shop.with_name("copy.db")
    shutil.copyfile(shop, copy)
    record(shop, *(f"B-{nth}" for nth in range(60)))  # closed, and so copied from the WAL into the file
    record_and_die(shop, *(f"C-{nth}" for nth in range(60)))

    # when
    shutil.copyfile(copy, shop)

    # then
    with pytest.raises(StoreUnusable, match=r"page \d+ of \d+ stands neither in it nor in the store"):
        returnable.open(url(shop))


def test_a_store_that_crashed_with_its_own_wal_is_opened_as_ever(shop: Path) -> None:
    record_and_die(shop, "A-3")
    assert why_foreign(str(shop), checked=True) is None

    record_and_die(shop, "A-4")

    assert orders(shop) == ["A-1", "A-2", "A-3", "A-4"]


@pytest.mark.parametrize(
    "change", ["ANALYZE", "VACUUM", "CREATE INDEX mine ON facts (type)", "PRAGMA wal_checkpoint(TRUNCATE)"]
)
def test_what_an_administrator_does_to_a_store_in_use_makes_no_copy_of_it(shop: Path, change: str) -> None:
    # given
    admin = (
        f"admin = sqlite3.connect(sys.argv[1], isolation_level=None); admin.execute({change!r}).fetchall();"
        " admin.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()"
    )

    # when
    record_and_die(shop, "A-3", also=admin)

    # then
    assert orders(shop) == ["A-1", "A-2", "A-3"]
    assert [one.cause for one in verify_store(url(shop)).timelines] == ["created"]


def test_a_copy_that_was_restored_into_a_store_in_use_by_sqlite_itself_is_taken_over(shop: Path) -> None:
    # given
    copy = shop.with_name("copy.db")
    vacuum(shop, copy)
    restore_it = (
        "source = sqlite3.connect(sys.argv[1].replace('shop', 'copy')); target = sqlite3.connect(sys.argv[1]);"
        " source.backup(target)"
    )
    record(shop, "A-3")
    code = f"import os, signal, sqlite3, sys\n{restore_it}\nos.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(shop)], check=False)
    assert read_wal(str(shop), checked=True) is not None

    # when
    found = orders(shop)

    # then
    assert found == ["A-1", "A-2"]
    assert verify_store(url(shop)).problems == ()


@pytest.mark.parametrize("recorded", [0, 1, 2, 3])
def test_a_follower_is_told_that_the_store_was_put_back_below_where_it_was(shop: Path, recorded: int) -> None:
    # given
    copy = shop.with_name("copy.db")
    vacuum(shop, copy)
    with returnable.open(url(shop)) as desk:
        desk.confirm_order(order_id="A-3", **ORDER)  # type: ignore[arg-type]
        following = desk.services.store.follow()  # type: ignore[attr-defined]
        assert [next(following).case_id for _ in range(3)] == ["A-1", "A-2", "A-3"]

        # when
        online(copy, shop)
        for nth in range(recorded):
            desk.confirm_order(order_id=f"B-{nth}", **ORDER)  # type: ignore[arg-type]

        # then
        for _ in range(2):
            with pytest.raises(StoreUnusable, match="put back to an earlier state: .* at position 3"):
                next(following)
        with desk.services.store.follow(2) as anew:  # type: ignore[attr-defined]
            assert [next(anew).case_id for _ in range(recorded)] == [f"B-{nth}" for nth in range(recorded)]


def test_a_wal_that_a_power_failure_tore_is_the_stores_own(shop: Path) -> None:
    # given
    record_and_die(shop, *(f"B-{nth}" for nth in range(20)))
    wal = shop.with_name("shop.db-wal")
    content = bytearray(wal.read_bytes())
    content[-30_000:-26_000] = os.urandom(4000)
    wal.write_bytes(content)

    # when
    found = orders(shop)

    # then
    assert found[:2] == ["A-1", "A-2"]
    assert len(found) < 22
    assert verify_store(url(shop)).problems == ()


# ---- a rollback journal beside a copy ---------------------------------------------------------------------------------


def journal_of(before: bytes, after: bytes) -> bytes:
    """What SQLite writes into its rollback journal before it changes a file so."""
    page, sector, nonce = 4096, 512, 7
    numbers = [n for n in range(len(before) // page) if before[n * page :][:page] != after[n * page :][:page]]
    found = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    found += struct.pack(">5I", len(numbers), nonce, len(before) // page, sector, page).ljust(sector - 8, b"\0")
    for number in numbers:
        kept = before[number * page :][:page]
        found += struct.pack(">I", number + 1) + kept
        found += struct.pack(">I", nonce + sum(kept[at] for at in range(page - 200, 0, -200)))
    return found


def born(shop: Path) -> bytes:
    """The journal of a store that is killed at its birth."""
    return journal_of(b"", b"")


def taken_over(shop: Path) -> bytes:
    """The journal of a larger copy that is killed when a desk takes it over."""
    record(shop, *(f"B-{nth}" for nth in range(40)))
    larger = shop.with_name("larger.db")
    vacuum(shop, larger)
    return journal_of(*taking_over(larger))


def taking_over(copy: Path) -> tuple[bytes, bytes]:
    """A copy before a desk takes it over, and after that."""
    before = copy.read_bytes()
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        take_over_copy(connection, str(copy), "2026-03-02T15:00:00Z", 1.0)
    return before, copy.read_bytes()


@pytest.mark.parametrize("made_by", [vacuum, online, back_up, shutil.copy])
@pytest.mark.parametrize("killed", [born, taken_over])
@pytest.mark.parametrize("reads", [True, False])
def test_a_copy_beside_the_journal_of_another_file_is_refused_before_that_is_played_back(
    shop: Path, made_by: Callable[[Path, Path], object], killed: Callable[[Path], bytes], reads: bool
) -> None:
    # given
    copy = shop.with_name("copy.db")
    made_by(url(shop) if made_by is back_up else shop, copy)  # type: ignore[arg-type]
    before = copy.read_bytes()
    journal = copy.with_name("copy.db-journal")
    journal.write_bytes(killed(shop))

    # when
    with pytest.raises(StoreUnusable, match="copy.db-journal beside it belongs to another file"):
        assemble(url(copy), only_reading=reads)
    (problem,) = verify_store(url(copy)).problems

    # then
    assert "belongs to another file" in problem.what
    assert copy.read_bytes() == before
    journal.unlink()
    assert orders(copy) == ["A-1", "A-2"]


def test_a_copy_that_was_killed_while_a_desk_took_it_over_is_opened(shop: Path) -> None:
    # given
    copy = shop.with_name("copy.db")
    vacuum(shop, copy)
    before, after = taking_over(copy)
    journal = journal_of(before, after)

    for written in (0, 1, 2, len(after) // 4096):
        # when: so many pages were written
        copy.write_bytes(after[: written * 4096] + before[written * 4096 :])
        copy.with_name("copy.db-journal").write_bytes(journal)

        # then
        assert orders(copy) == ["A-1", "A-2"]
        assert verify_store(url(copy)).problems == ()
        assert not copy.with_name("copy.db-journal").exists()


def test_a_pipe_is_no_store_and_nobody_waits_for_it(shop: Path) -> None:
    os.mkfifo(shop.with_name("pipe.db"))
    with pytest.raises(StoreUnusable, match="pipe.db: it is no regular file"):
        assemble(url(shop.with_name("pipe.db")), only_reading=True)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_what_is_no_file_beside_a_store_is_refused(shop: Path, ending: str, make: Callable[[Path], None]) -> None:
    make(shop.with_name(shop.name + ending))
    with pytest.raises(StoreUnusable, match="it lies beside a store, and is no regular file"):
        orders(shop)


# ---- warnings ---------------------------------------------------------------------------------------------------------


def test_a_second_name_of_the_file_and_eyes_of_others_are_warnings(shop: Path) -> None:
    shop.chmod(0o604)
    shop.with_name("second.db").hardlink_to(shop)

    verified = verify_store(url(shop))

    assert verified.problems == ()
    names, mode = verified.warnings
    assert "the file has 2 names (hard links)" in names
    assert mode == "others on this machine may read or write the file (mode 604)"


def test_stored_views_that_lag_are_a_warning(shop: Path) -> None:
    with returnable.open(url(shop)) as desk:
        desk.project()
        desk.confirm_order(order_id="A-3", **ORDER)  # type: ignore[arg-type]
        verified = desk.verify()

    assert verified.problems == ()
    assert "the stored view orders is behind" in verified.warnings
