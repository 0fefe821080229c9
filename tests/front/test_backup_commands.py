"""``returnable backup``, ``restore`` and ``verify``, run as an operator runs them."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from terminal import one_line, returnable
from usual import an_inspected_return

from returnable.adapters.wiring import assemble
from returnable.testing import Scenario, an_order


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A store with one order and its return."""
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_inspected_return())
    story.services.store.close()
    path.chmod(0o600)
    return path


def test_verify_says_that_all_is_well(shop: Path) -> None:
    status, out, err = returnable("verify", "--store", f"sqlite:///{shop}")

    assert (status, err) == (0, "")
    assert one_line(out) == "9 events of 1 case, 8 commands with 4 rulings, up to position 9: all is well"


def test_verify_ends_with_status_1_and_names_every_problem(shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("DELETE FROM names")
        connection.execute("UPDATE facts SET version = 9 WHERE stream = 'return/R-1' AND version = 6")
        connection.commit()

    status, out, _ = returnable("verify", "--store", f"sqlite:///{shop}")
    as_json = returnable("verify", "--store", f"sqlite:///{shop}", "--json")

    assert status == 1
    assert "return R-1: its id was given in case 'A-1', but is not kept\n" in out
    assert "return/R-1#9: return/R-1#6 is missing before it\n" in out
    assert out.endswith(": 4 problems\n")
    assert as_json[0] == 1
    where = [one["where"] for one in json.loads(as_json[1])["problems"]]
    assert where[:2] == ["return/R-1#9", "return R-1"]
    assert all(one.startswith("tracking ") and one.endswith("/A-1") for one in where[2:])


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_verify_says_no_to_a_file_that_cannot_be_opened(shop: Path, as_json: tuple[str, ...]) -> None:
    shop.write_bytes(b"no store" * 1000)

    status, out, err = returnable("verify", "--store", f"sqlite:///{shop}", *as_json)

    assert (status, err) == (1, "")
    assert "it is not an SQLite file" in out


def test_verify_of_no_store_is_an_error(tmp_path: Path) -> None:
    status, out, err = returnable("verify", "--store", f"sqlite:///{tmp_path}/none.db")

    assert (status, out) == (2, "")
    assert "there is no store here" in one_line(err)


def test_a_store_is_backed_up_restored_and_says_so(shop: Path) -> None:
    # given
    store, file = f"sqlite:///{shop}", shop.with_name("backup.db")
    backed_up = returnable("backup", str(file), "--store", store)
    story = Scenario(assemble(store)).given(an_order("A-2"))
    story.services.store.close()

    # when
    restored = returnable("restore", str(file), "--store", store)
    verified = returnable("verify", "--store", store)

    # then
    size = file.stat().st_size
    made = re.fullmatch(rf"{file}: 1 case up to position 9, {size} bytes, sha256 ([0-9a-f]{{64}})\n", backed_up[1])
    assert made is not None, backed_up
    done, gone = restored[1].splitlines()
    kept = rf"; the old store is kept as {shop}\.before-restore-\d{{8}}T\d{{6}}Z"
    assert re.fullmatch(f"restored: 1 case up to position 9, sha256 {made[1]}{kept}", done)
    assert gone.startswith("the old store ended at position 10: events recorded after the back-up are no longer")
    assert (backed_up[0], restored[0], verified[0]) == (0, 0, 0)
    note = verified[1].splitlines()[0]
    assert note.startswith("note: restored at ")
    assert note.endswith(f"from backup.db up to position 9 (sha256 {made[1]}), in place of position 10")


def test_a_restore_that_is_refused_is_one_line(shop: Path) -> None:
    services = assemble(f"sqlite:///{shop}")
    file = shop.with_name("backup.db")
    returnable("backup", str(file), "--store", f"sqlite:///{shop}")

    status, out, err = returnable("restore", str(file), "--store", f"sqlite:///{shop}", "--force")
    services.store.close()

    assert (status, out) == (2, "")
    assert "the store is in use" in one_line(err)


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_store_on_a_server_is_left_to_the_tools_of_the_server(command: str, tmp_path: Path) -> None:
    status, _, err = returnable(command, str(tmp_path / "x.db"), "--store", "postgresql://shop:secret@db.example/shop")

    assert status == 2
    assert "point-in-time recovery; see Backups in docs/services.md" in one_line(err)
    assert "secret" not in err
