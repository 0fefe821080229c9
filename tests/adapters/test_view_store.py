"""Stored views in a file of their own: whose it is, of which version, and what the library's contract asks."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from patience import GUARD_SECONDS
from usual import a_delivered_order, an_inspected_return
from viewing import built_anew, digests, projector

from returnable.adapters.views import sqlite
from returnable.adapters.views.sqlite import SQLiteViews, open_views, views_url_of
from returnable.adapters.wiring import assemble, stored_views
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.projections.ports import Changes, Mark
from returnable.projections.stored import VIEWS
from returnable.testing import Scenario, an_order, request_refund


def a_story(path: Path) -> Scenario:
    """A story on a store in a file."""
    return Scenario(assemble(f"sqlite:///{path}"))


@pytest.mark.parametrize(
    ("store", "views"),
    [
        ("sqlite:///shop.db", "sqlite:///shop-views.db"),
        ("sqlite:////var/lib/shop.v2.sqlite", "sqlite:////var/lib/shop.v2-views.sqlite"),
        ("sqlite:///shop", "sqlite:///shop-views"),
        ("sqlite:////a.b/shop", "sqlite:////a.b/shop-views"),
        ("sqlite:///.hidden", "sqlite:///.hidden-views"),
        ("memory:", "memory:"),
    ],
)
def test_views_are_kept_beside_the_store(store: str, views: str) -> None:
    assert views_url_of(store) == views


def test_views_survive_closing_and_are_gone_with_their_file(tmp_path: Path) -> None:
    story = a_story(tmp_path / "shop.db")
    story.given(a_delivered_order())
    url = f"sqlite:///{tmp_path}/views.db"
    with closing(stored_views("unused:", url)) as views:  # type: ignore[type-var]
        assert isinstance(views, SQLiteViews)
        projector(story.services, views).run()
        before = digests(views)

    with closing(SQLiteViews(tmp_path / "views.db")) as again:
        assert digests(again) == before == built_anew(story.services)
    (tmp_path / "views.db").unlink()

    assert stored_views("unused:", url, create=False) is None
    story.services.store.close()


def test_readers_see_rows_and_marks_of_one_moment_while_a_projector_works(tmp_path: Path) -> None:
    story = a_story(tmp_path / "shop.db")
    story.given(an_order())
    with closing(SQLiteViews(tmp_path / "views.db")) as views:
        projector(story.services, views).run()
        with views.reading() as reading:
            before = reading.marks()
            story.given(an_order("A-2"))
            projector(story.services, views).run()

            assert reading.marks() == before
            assert [row for (row,) in reading.rows("orders", ("id",))] == ["A-1"]
        assert views.marks()["orders"].position == 2
    story.services.store.close()


def test_columns_a_view_does_not_have_are_refused() -> None:
    with (
        closing(SQLiteViews(None)) as views,
        views.reading() as reading,
        pytest.raises(ValueError, match="no column password"),
    ):
        list(reading.rows("orders", ("id", "password")))


# ---- files that are something else -------------------------------------------------------------------------------------


def of_another_application(path: Path) -> None:
    """Somebody else's database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id TEXT)")
        connection.commit()


def of_no_application(path: Path) -> None:
    """No database at all."""
    path.write_bytes(b"Dear diary, " * 100)


def a_store(path: Path) -> None:
    """A store of facts."""
    assemble(f"sqlite:///{path}").store.close()


@pytest.mark.parametrize("make", [of_another_application, of_no_application, a_store])
@pytest.mark.parametrize("anew", [False, True])
def test_a_file_of_something_else_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], anew: bool
) -> None:
    path = tmp_path / "views.db"
    make(path)
    before = path.read_bytes()

    with pytest.raises(StoreUnusable, match=r"views\.db"):
        open_views(f"sqlite:///{path}", anew=anew)

    assert path.read_bytes() == before


def test_views_of_another_version_are_refused_until_they_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "views.db"
    with monkeypatch.context() as earlier:
        earlier.setattr(sqlite, "SCHEMA_VERSION", 0x7FFF)
        SQLiteViews(path).close()
    with pytest.raises(StoreUnusable, match="--rebuild all"):
        SQLiteViews(path)

    anew = open_views(f"sqlite:///{path}", anew=True)

    assert anew is not None
    assert anew.marks() == {}
    anew.close()


def test_the_store_itself_is_no_place_for_its_views(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="a file of their own"):
        stored_views(f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/a.db")


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="cannot be used"):
        SQLiteViews(tmp_path / "nowhere" / "views.db")


def test_closed_views_say_so_and_close_again(tmp_path: Path) -> None:
    for path in (None, tmp_path / "views.db"):
        views = SQLiteViews(path)
        views.close()
        views.close()

        with pytest.raises(StoreUnusable, match="closed"):
            views.marks()
        with pytest.raises(StoreUnusable, match="closed"):
            views.begin(["orders"], Mark(0))


def test_readers_do_not_wait_for_a_projector_that_holds_the_views(tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    SQLiteViews(path).close()
    with closing(sqlite3.connect(path)) as projecting:
        projecting.execute("BEGIN IMMEDIATE")

        with closing(SQLiteViews(path, busy_timeout_seconds=0)) as views:
            assert views.marks() == {}


def test_views_that_another_process_holds_too_long_are_busy(tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    with closing(SQLiteViews(path, busy_timeout_seconds=0.05)) as views, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreBusy, match="another projector"):
            views.begin(["orders"], Mark(0))

        other.rollback()
        views.begin(["orders"], Mark(0))
        assert views.marks() == {"orders": Mark(0, "")}


def test_many_threads_may_create_the_same_views_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def create() -> None:
        try:
            with closing(SQLiteViews(tmp_path / "views.db")) as views:
                views.begin(["orders"], Mark(0))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []


def test_a_batch_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with closing(SQLiteViews(tmp_path / "views.db")) as views:
        views.begin(["orders", "ledger"], Mark(5))
        twice = ("A-1", 1, "A-1", "confirmed", "{}")
        before = {"orders": Mark(5, ""), "ledger": Mark(5, "")}

        with pytest.raises(sqlite3.IntegrityError):
            views.save(before, Mark(5), Changes(["A-1"], {"ledger": [], "orders": [twice, twice]}))

        assert views.marks() == before
        with views.reading() as reading:
            assert list(reading.rows("orders", ("id",))) == []


def test_every_view_is_a_table_that_any_tool_can_read(tmp_path: Path) -> None:
    story = a_story(tmp_path / "shop.db")
    story.given(an_inspected_return(), request_refund())
    with closing(SQLiteViews(tmp_path / "views.db")) as views:
        projector(story.services, views).run()
    story.services.store.close()

    with closing(sqlite3.connect(tmp_path / "views.db")) as connection:
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in VIEWS}
        asked = connection.execute("SELECT payment_id, captured, pending FROM ledger").fetchall()
        first = connection.execute("SELECT min(occurred_at) FROM audit").fetchone()[0]

    assert counts == {
        "orders": 1,
        "returns": 1,
        "refunds": 1,
        "claims": 0,
        "worklist": 1,
        "audit": 10,
        "ledger": 1,
        "clauses": counts["clauses"],
    }
    assert asked == [("p-1", 75000, 75000)]
    assert datetime.fromisoformat(first) == datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    assert os.path.getsize(tmp_path / "views.db") > 0


def test_the_end_of_the_process_waits_for_a_transaction_of_a_daemon_thread(tmp_path: Path) -> None:
    # given: a thread in the middle of a transaction
    views = SQLiteViews(tmp_path / "views.db", busy_timeout_seconds=GUARD_SECONDS)
    with views._writing() as connection:
        # when: the process ends, as in "weakref.finalize" at exit
        end = threading.Thread(target=views._finalizer)
        end.start()
        end.join(0.2)

        # then: SQLite, which crashes where a connection is closed under it, may go on
        connection.execute("SELECT 1")
    end.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
