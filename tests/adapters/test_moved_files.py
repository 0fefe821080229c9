"""A file is removed, renamed or replaced while it is in use, and who may read a file that is created."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import returnable
from bench.proofs.moved import KINDS
from returnable.adapters.eventstore import sqlite_file
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.domain.errors import StoreUnusable
from returnable.projections.ports import Mark

ORDER: dict[str, Any] = {
    "customer": {"customer_id": "c", "account_id": None},
    "currency": "USD",
    "lines": [{"line_id": "1", "sku": "s", "unit_price": "1.00", "quantity": 1}],
    "payments": [{"payment_id": "p", "method": "card", "amount": "1.00"}],
}

MOVED = "removed, renamed or replaced while it was in use"
UNKNOWN = "it is not known whether what was just recorded can be found again"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores" / "shop.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def desk(url: str) -> Iterator[returnable.Desk]:
    with returnable.open(url) as desk:
        confirm(desk, "A-1")
        yield desk


def confirm(desk: returnable.Desk, order_id: str) -> str:
    return desk.confirm_order(order_id=order_id, **ORDER).outcome


def an_hour_later() -> int:
    return time.time_ns() + 3_600 * 10**9


def orders(url: str) -> list[str]:
    with closing(open_store(url)) as store:
        return [case_id for case_id, _ in store.cases()]


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(StoreUnusable) as raised:
        work()
    return str(raised.value)


# ---- a store -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_desk_whose_file_was_moved_refuses_every_command_and_question(
    path: Path, url: str, desk: returnable.Desk, kind: str
) -> None:
    # given
    desk.order(order_id="A-1")
    KINDS[kind](path)

    # when
    first, second = (refusal(lambda n=n: confirm(desk, f"A-{n}")) for n in (2, 3))  # type: ignore[misc]
    question = refusal(lambda: desk.order(order_id="A-1"))

    # then: what is known of the first command is said, and nothing is begun any more
    assert (UNKNOWN if kind.startswith("-") else "nothing was recorded or read") in first
    for said in (first, second, question):
        assert MOVED in said
    assert "nothing was recorded or read" in second
    moved = "shop.db-wal" if "-wal" in kind else "shop.db-shm" if "-shm" in kind else "shop.db"
    assert first.startswith(f"{path.with_name(moved)}: ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_notices_first_that_the_file_was_moved(path: Path, desk: returnable.Desk, kind: str) -> None:
    desk.order(order_id="A-1")
    KINDS[kind](path)

    assert MOVED in refusal(lambda: desk.order(order_id="A-1"))
    assert MOVED in refusal(lambda: confirm(desk, "A-2"))


def test_a_desk_that_was_refused_stays_refused_when_the_file_comes_back(path: Path, desk: returnable.Desk) -> None:
    # Meanwhile another process may have made a file there, and used the WAL beside it.
    path.rename(path.with_name("away.db"))
    refusal(lambda: confirm(desk, "A-2"))
    path.with_name("away.db").rename(path)

    assert MOVED in refusal(lambda: confirm(desk, "A-2"))
    desk.close()
    assert orders(f"sqlite:///{path}") == ["A-1"]


def test_a_desk_opened_through_a_link_notices_that_the_link_leads_elsewhere(tmp_path: Path) -> None:
    # given
    link = tmp_path / "current.db"
    link.symlink_to(tmp_path / "one.db")
    returnable.open(f"sqlite:///{tmp_path}/two.db").close()
    with returnable.open(f"sqlite:///{link}") as desk:
        confirm(desk, "A-1")

        # when
        link.unlink()
        link.symlink_to(tmp_path / "two.db")

        # then
        assert MOVED in refusal(lambda: confirm(desk, "A-2"))
    assert orders(f"sqlite:///{tmp_path}/one.db") == ["A-1"]
    assert orders(f"sqlite:///{tmp_path}/two.db") == []


@pytest.mark.parametrize("behind_a_link", [False, True])
def test_a_file_that_was_moved_and_is_led_to_by_a_link_from_then_on_is_noticed(
    tmp_path: Path, behind_a_link: bool
) -> None:
    # given: others would keep another WAL, beside the place where the file is now
    for folder in ("small", "large"):
        (tmp_path / folder).mkdir()
    small, large, link = tmp_path / "small" / "shop.db", tmp_path / "large" / "shop.db", tmp_path / "shop.db"
    if behind_a_link:
        link.symlink_to(small)
    with returnable.open(f"sqlite:///{link if behind_a_link else small}") as desk:
        confirm(desk, "A-1")

        # when
        small.rename(large)
        link.unlink(missing_ok=True)
        (link if behind_a_link else small).symlink_to(large)

        # then
        assert MOVED in refusal(lambda: confirm(desk, "A-2"))
        assert MOVED in refusal(lambda: desk.order(order_id="A-1"))


def test_a_folder_that_is_put_back_with_its_former_time_is_noticed(
    path: Path, desk: returnable.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: the folder was looked at long after it was last changed
    monkeypatch.setattr(sqlite_file, "time_ns", an_hour_later)
    confirm(desk, "A-2")
    desk.order(order_id="A-2")

    # when: as rsync, tar and cp put a copy back
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    confirm(desk, "A-3")
    before = path.parent.stat()
    for file in copy.iterdir():
        file.replace(path.parent / file.name)
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))

    # then
    assert MOVED in refusal(lambda: confirm(desk, "A-4"))
    assert MOVED in refusal(lambda: desk.order(order_id="A-1"))


def test_a_file_that_is_moved_while_a_command_is_carried_out_is_noticed_before_it_is_acknowledged(
    path: Path, desk: returnable.Desk
) -> None:
    # given: the file goes away between the look before a command and its commit
    tables = desk.services.store._tables  # type: ignore[attr-defined]

    # when
    said = refusal(lambda: tables.change(lambda statements: path.unlink()))

    # then
    assert UNKNOWN in said


def test_a_child_process_does_not_take_another_file_for_the_one_its_parent_had_open(
    path: Path, url: str, desk: returnable.Desk
) -> None:
    KINDS["file replaced"](path)
    child = os.fork()
    if child == 0:
        try:
            confirm(desk, "A-2")
        except StoreUnusable as error:
            os._exit(3 if MOVED in str(error) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 3
    assert orders(url) == []


def test_a_folder_that_cannot_be_looked_into_for_a_while_is_refused_for_that_while(
    desk: returnable.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file.os, "stat", denied)
        patch.setattr(sqlite_file.os, "lstat", denied)
        assert "it cannot be looked at" in refusal(lambda: confirm(desk, "A-2"))

    assert confirm(desk, "A-2") == "accepted"


def test_closing_a_desk_leaves_the_files_of_the_store_that_came_to_its_path(
    path: Path, url: str, desk: returnable.Desk
) -> None:
    # given: another store at the path, with a WAL of its own, which another process uses
    KINDS["file replaced"](path)
    code = f"""
import sys, returnable
desk = returnable.open("{url}")
desk.confirm_order(order_id="B-1", **{ORDER!r})
print("begun", flush=True)
sys.stdin.readline()
print(desk.confirm_order(order_id="B-2", **{ORDER!r}).outcome, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "begun\n"

        # when
        refusal(lambda: confirm(desk, "A-2"))
        desk.close()
        other.stdin.write("\n")
        other.stdin.close()

        # then
        assert other.stdout.readline() == "accepted\n"
    assert orders(url) == ["B-1", "B-2"]


def test_a_store_is_not_opened_beside_a_desk_whose_wal_was_removed(path: Path, url: str, desk: returnable.Desk) -> None:
    # A process shares among its connections to a file what it knows of the WAL: another WAL would be damaged by it.
    path.with_name("shop.db-wal").unlink()

    assert "close every desk on it" in refusal(lambda: returnable.open(url))
    desk.close()
    assert orders(url) == ["A-1"]


def test_a_second_hard_link_does_no_harm_as_long_as_one_name_is_used(
    path: Path, url: str, desk: returnable.Desk
) -> None:
    # given: back-up tools make such links
    copy = path.with_name("snapshot.db")
    os.link(path, copy)

    # when, then
    assert confirm(desk, "A-2") == "accepted"
    assert "open under another name" in refusal(lambda: returnable.open(f"sqlite:///{copy}"))
    assert orders(url) == ["A-1", "A-2"]


def test_a_reader_alone_notices_as_well(path: Path, url: str) -> None:
    returnable.open(url).close()
    with closing(open_store(url, only_reading=True)) as store:
        store.head()
        path.unlink()

        assert MOVED in refusal(store.head)


def test_a_follower_is_told_that_the_file_was_moved(path: Path, desk: returnable.Desk) -> None:
    following = desk.services.store.follow()  # type: ignore[attr-defined]
    next(following)
    path.unlink()

    assert MOVED in refusal(lambda: next(following))


# ---- stored views --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_stored_views_whose_file_was_moved_are_refused(path: Path, kind: str) -> None:
    with closing(SQLiteViews(path)) as views:
        views.begin(["orders"], Mark(1))
        if kind == "file replaced":
            SQLiteViews(path.with_name("new.db")).close()
            path.with_name("new.db").rename(path)
        else:
            KINDS[kind](path)

        assert MOVED in refusal(lambda: views.begin(["orders"], Mark(2)))
        assert MOVED in refusal(lambda: views.begin(["orders"], Mark(3)))
        assert MOVED in refusal(views.marks)


# ---- who may read --------------------------------------------------------------------------------------------------------


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("by_mknod", [True, False])
def test_a_store_and_its_views_are_created_for_their_owner_alone(
    path: Path, url: str, mask: int, by_mknod: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: not every system lets everybody make a file without opening it
    def refused(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not by_mknod:
        monkeypatch.setattr(os, "mknod", refused)

    # when
    with umask(mask), returnable.open(url) as desk:
        confirm(desk, "A-1")
        desk.project()
        with closing(SQLiteViews(path.with_name("shop-views.db"))) as views, views.reading():
            found = modes(path.parent)

    # then
    names = [f"{stem}.db{ending}" for stem in ("shop", "shop-views") for ending in ("", "-wal", "-shm")]
    assert found == dict.fromkeys(sorted(names, key=[*found].index), 0o600)


def test_a_store_that_a_link_leads_to_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")

    with umask(0o022), returnable.open(f"sqlite:///{tmp_path}/link.db") as desk:
        confirm(desk, "A-1")
        assert set(modes(tmp_path).values()) - {0o777} == {0o600}
        assert "real.db-wal" in modes(tmp_path)


def test_the_mode_of_a_file_that_exists_stays_what_its_owner_made_it(path: Path, url: str) -> None:
    # given
    returnable.open(url).close()
    path.chmod(0o640)

    # when
    with umask(0o022), returnable.open(url) as desk:
        confirm(desk, "A-1")

        # then
        assert modes(path.parent) == {"shop.db": 0o640, "shop.db-wal": 0o640, "shop.db-shm": 0o640}


def test_an_empty_file_is_no_store_yet_and_becomes_one(path: Path, url: str) -> None:
    path.touch()

    assert "it is empty; there is no store here" in refusal(lambda: open_store(url, only_reading=True))
    with returnable.open(url) as desk:
        assert confirm(desk, "A-1") == "accepted"
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_file_that_is_moved_long_after_its_folder_changed_is_noticed(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a folder that has not changed for a while, so that a look at it is enough
    path = tmp_path / "shop.db"
    monkeypatch.setattr(sqlite_file, "time_ns", an_hour_later)
    with closing(returnable.open(f"sqlite:///{path}")) as desk:
        confirm(desk, "A-1")
        confirm(desk, "A-2")
        assert desk.services.store._connections._held.writer.opened.folder  # type: ignore[attr-defined]

        # when
        Path(f"{path}{ending}").rename(tmp_path / "elsewhere")

        # then
        with pytest.raises(StoreUnusable, match="removed, renamed or replaced"):
            confirm(desk, "A-3")
        with pytest.raises(StoreUnusable, match="removed, renamed or replaced"):
            desk.order(order_id="A-1")
