"""Evidence may come on write-protected media: it can be read, and is left exactly as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from terminal import returnable
from usual import an_inspected_return

from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.sqlite_schema import APPLICATION_ID
from returnable.adapters.wiring import assemble
from returnable.domain.commands import parse_command
from returnable.domain.errors import StoreUnusable
from returnable.domain.fields import parse_instant
from returnable.testing import Scenario, an_order, confirm_order, request_refund

LATER = datetime(2026, 6, 1, 15, 0, tzinfo=UTC)


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Work as somebody who is bound by permissions, which root is not, and who owns the folder.

    What is imported late must be imported before: nobody may not look into everybody's folders.
    """
    root = os.geteuid() == 0
    if root:
        for place in (folder, *folder.iterdir()):
            os.chown(place, 65534, 65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody could own."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    made.chmod(0o700)
    shutil.rmtree(made)


def a_store(folder: Path) -> Path:
    """A store with a paid return, closed."""
    path = folder / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_inspected_return(), request_refund())
    story.services.store.close()
    return path


def protected_file(path: Path) -> None:
    path.chmod(0o444)


def protected_folder(path: Path) -> None:
    path.parent.chmod(0o555)


PROTECTED = pytest.mark.parametrize("protect", [protected_file, protected_folder])


def answered_by_nobody(path: Path, protect: Callable[[Path], None], arguments: tuple[str, ...]) -> object:
    """What a question of somebody without rights comes to. It is answered, and nothing is changed or left behind."""
    content = path.read_bytes()
    protect(path)

    with nobody(path.parent):
        answer = returnable(*arguments, "--store", f"sqlite:///{path}")

    assert answer[0] == 0
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["shop.db"]
    return answer


@PROTECTED
@pytest.mark.parametrize(
    "arguments",
    [
        ("order", "A-1"),
        ("worklist",),
        ("audit", "return/R-1"),
        ("why", "return/R-1"),
        ("replay", "order/A-1"),
        ("edges", "order/A-1"),
        ("redecide", "--all"),
        ("what-if", "--policy", "allu-usa-earlier"),
        ("export", "--format", "jsonl", "-"),
        ("report", "R-1", "--format", "text"),
        ("orders",),
        ("ledger",),
        ("statistics",),
        ("project", "--status"),
    ],
)
@pytest.mark.at("2026-11-24T00:00:00Z")
def test_every_question_is_answered_from_a_write_protected_store(
    folder: Path, protect: Callable[[Path], None], arguments: tuple[str, ...]
) -> None:
    path = a_store(folder)
    before = returnable(*arguments, "--store", f"sqlite:///{path}")

    assert answered_by_nobody(path, protect, arguments) == before


@PROTECTED
def test_nothing_is_recorded_in_a_write_protected_store(folder: Path, protect: Callable[[Path], None]) -> None:
    path = a_store(folder)
    protect(path)
    with nobody(folder):
        services = assemble(f"sqlite:///{path}", only_reading=True)

    with pytest.raises(StoreUnusable, match="it is read-only"):
        services.handler.handle(
            parse_command({**confirm_order("A-2").fields}),
            parse_instant("2026-03-20T10:00:00Z"),
        )

    services.store.close()


def test_views_of_a_write_protected_store_are_kept_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "store").mkdir()
    (folder / "views").mkdir()
    path = a_store(folder / "store")
    arguments = ("project", "--store", f"sqlite:///{path}", "--views", f"sqlite:///{folder}/views/shop-views.db")
    returnable("project", "--store", f"sqlite:///{a_store(tmp_path)}")
    protected_folder(path)
    protected_file(path)

    with nobody(folder):
        status, out, err = returnable(*arguments)

    assert (status, err) == (0, "")
    assert "up to date" in out
    path.parent.chmod(0o755)


def of_the_first_version(path: Path) -> None:
    """Take away what came with the second version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE due; DROP TABLE bookmarks; DROP TABLE timelines; PRAGMA user_version = 1")


def as_a_copy(path: Path) -> None:
    """As a backup makes it: in one file, and without a WAL."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (f"{path}.copy",))
    Path(f"{path}.copy").replace(path)


@pytest.mark.parametrize("made", [of_the_first_version, as_a_copy])
@pytest.mark.parametrize("protect", [lambda path: None, protected_file, protected_folder])
@pytest.mark.parametrize(
    "arguments", [("order", "A-1"), ("worklist",), ("redecide", "--all"), ("statistics",), ("publish", "--status")]
)
@pytest.mark.at("2026-11-24T00:00:00Z")
def test_a_question_brings_no_store_up_to_date(
    folder: Path, made: Callable[[Path], None], protect: Callable[[Path], None], arguments: tuple[str, ...]
) -> None:
    path = a_store(folder)
    before = returnable(*arguments, "--store", f"sqlite:///{path}")
    made(path)

    assert answered_by_nobody(path, protect, arguments) == before


def test_a_store_that_is_only_read_takes_no_command(folder: Path) -> None:
    path = a_store(folder)
    with closing(open_store(f"sqlite:///{path}", only_reading=True)) as store:
        with pytest.raises(StoreUnusable, match="it was opened for reading alone"):
            store.checkpoints.acquire("x", "y", now=LATER, until=LATER)
        with pytest.raises(StoreUnusable, match="it was opened for reading alone"):
            store.keep_policy("hash", "document")


def test_an_empty_file_does_not_become_a_store_by_being_asked(folder: Path) -> None:
    path = folder / "shop.db"
    path.touch()

    status, _, err = returnable("order", "A-1", "--store", f"sqlite:///{path}")

    assert (status, err) == (2, f"returnable: {path}: it is empty; there is no store here\n")
    assert path.stat().st_size == 0


def test_a_question_sees_what_others_write_meanwhile(folder: Path) -> None:
    path = a_store(folder)
    with closing(open_store(f"sqlite:///{path}", only_reading=True)) as reader:
        before = reader.head()
        story = Scenario(assemble(f"sqlite:///{path}")).at("2026-03-20").given(an_order("A-2"))
        assert [entry.event.type for entry in reader.load("A-2")] == ["Confirmed"]
        assert reader.head() > before
        story.services.store.close()
    assert [file.name for file in folder.iterdir()] == ["shop.db"]


def only_marked(path: Path) -> None:
    """As it stands for a moment at its birth: its tables are still to come."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


@pytest.mark.parametrize("made", [only_marked, of_the_first_version])
def test_who_reads_sees_what_is_written_after_others_brought_the_store_up_to_date(
    folder: Path, made: Callable[[Path], None]
) -> None:
    path = a_store(folder)
    made(path)
    with closing(open_store(f"sqlite:///{path}", only_reading=True)) as reader:
        assert reader.checkpoints.begun() == {}
        before = reader.head()

        story = Scenario(assemble(f"sqlite:///{path}")).at("2026-03-20").given(an_order("A-2"))
        story.services.store.checkpoints.acquire("x", "y", now=LATER, until=LATER)

        assert [entry.event.type for entry in reader.load("A-2")] == ["Confirmed"]
        assert reader.head() > before
        assert reader.checkpoints.begun() == {"x": 0}
        story.services.store.close()


def test_facts_that_may_stand_in_a_wal_are_not_passed_over(folder: Path) -> None:
    path = folder / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_order())
    copy = folder / "copy.db"
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    copy.chmod(0o444)

    with nobody(folder), pytest.raises(StoreUnusable, match="events may be in copy.db-wal beside it"):
        open_store(f"sqlite:///{copy}", only_reading=True)

    story.services.store.close()


def test_a_write_protected_store_that_is_in_use_is_read_with_its_wal(folder: Path) -> None:
    path = folder / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_order())
    path.chmod(0o444)

    with nobody(folder):
        reader = open_store(f"sqlite:///{path}", only_reading=True)

    assert [entry.event.type for entry in reader.load("A-1")] == ["Confirmed"]
    reader.close()
    path.chmod(0o644)
    story.services.store.close()


def test_an_empty_write_protected_file_is_no_store(folder: Path) -> None:
    path = folder / "shop.db"
    path.touch()
    path.chmod(0o444)

    with nobody(folder), pytest.raises(StoreUnusable, match="it is empty; there is no store here"):
        open_store(f"sqlite:///{path}", only_reading=True)


def test_a_write_protected_file_that_nobody_may_read_is_said(folder: Path) -> None:
    path = a_store(folder)
    path.chmod(0)

    with nobody(folder), pytest.raises(StoreUnusable, match="access is denied"):
        open_store(f"sqlite:///{path}", only_reading=True)


def test_a_desk_that_is_to_write_is_refused_a_write_protected_store(folder: Path) -> None:
    path = a_store(folder)
    protected_file(path)

    with nobody(folder), pytest.raises(StoreUnusable, match="read-only"):
        assemble(f"sqlite:///{path}")
