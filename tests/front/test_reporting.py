"""``returnable report``, run as a person runs it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import terminal
from patience import GUARD_SECONDS
from usual import an_authorized_return, an_inspected_return

from returnable.adapters.cli.app import run
from returnable.adapters.cli.report import file_name
from returnable.adapters.wiring import assemble
from returnable.testing import Scenario, request_refund


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with the usual order, whose return is inspected and whose refund is issued."""
    url = f"sqlite:///{tmp_path}/shop.db"
    services = assemble(url)
    Scenario(services).given(an_inspected_return(), request_refund(at="2026-03-16 11:00"))
    services.store.close()
    return url


def returnable(store: str, *arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``returnable report``."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), chdir(folder or "."):
        status = run(["report", *arguments, "--store", store])
    return status, out.getvalue(), err.getvalue()


def test_a_page_goes_to_a_file_named_after_its_subject(store: str, tmp_path: Path) -> None:
    status, out, err = returnable(store, "R-1", folder=tmp_path)

    assert (status, out, err) == (0, "return-R-1.html\n", "")
    content = (tmp_path / "return-R-1.html").read_bytes()
    assert content.startswith(b"<!DOCTYPE html>\n<html")
    assert sorted(path.name for path in tmp_path.iterdir() if "report" in path.name) == []


def test_text_and_json_go_to_standard_output(store: str) -> None:
    _, text, _ = returnable(store, "return/R-1", "--format", "text")
    _, as_json, _ = returnable(store, "return/R-1", "--json")

    assert text.startswith("AUDIT REPORT: return R-1, inspected\n")
    made = json.loads(as_json)
    assert (made["subject"], made["state"]) == ("return/R-1", "inspected")
    assert [entry["kind"] for entry in made["timeline"]].count("deadline") == 3


def test_a_dash_is_standard_output_for_the_page_too(store: str) -> None:
    status, out, _ = returnable(store, "order/A-1", "-")

    assert status == 0
    assert out.startswith("<!DOCTYPE html>\n")


@pytest.mark.parametrize(("name", "start"), [("r.html", "<!DOCTYPE"), ("r.txt", "AUDIT"), ("r.json", "{"), ("r", "<!")])
def test_the_name_of_the_file_says_what_is_wanted(store: str, name: str, start: str, tmp_path: Path) -> None:
    status, out, _ = returnable(store, "F-1", str(tmp_path / name))

    assert (status, out) == (0, f"{tmp_path / name}\n")
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)


def test_a_file_that_exists_is_replaced_only_by_force(store: str, tmp_path: Path) -> None:
    file = tmp_path / "case.html"
    file.write_text("kept", encoding="utf-8")

    refused = returnable(store, "R-1", str(file))
    with file.open(encoding="utf-8") as reading:
        forced = returnable(store, "R-1", str(file), "--force")
        kept = reading.read()  # whoever has the old file open reads it to its end

    assert refused == (2, "", f"returnable: {file}: exists already; --force overwrites it\n")
    assert kept == "kept"
    assert forced[0] == 0
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE")


@pytest.mark.at("2026-03-20 12:00")
def test_the_same_moment_gives_the_same_bytes(store: str, tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        returnable(store, "R-1", "case.html", "--force", folder=tmp_path)
        made.append((tmp_path / "case.html").read_bytes())

    assert made[0] == made[1]
    assert b"Fri 2026-03-20 12:00:00 EDT (-04:00)" in made[0]


def test_as_of_and_known_at_are_options(store: str) -> None:
    _, out, _ = returnable(
        store, "R-1", "--json", "--as-of", "2026-03-10T00:00:00-04:00", "--known-at", "2026-03-11T00:00:00-04:00"
    )

    made = json.loads(out)
    assert made["state"] == "labelled"
    assert (made["as_of"], made["known_at"]) == ("2026-03-10T00:00:00-04:00", "2026-03-11T00:00:00-04:00")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("R-9",), "there is no order, return, claim, refund or arrival 'R-9'"),
        (("return/R-9",), "return_id: there is no return 'R-9'"),
        (("R-1", "--as-of", "yesterday"), "--as-of: 'yesterday' is not an RFC 3339 instant"),
        (("R-1", "--as-of", "2026-03-01T00:00:00-05:00"), "return_id: there is no return 'R-1'"),
        (("R-1", "--json", "--format", "html"), "--json and --format html exclude each other"),
        (("R-1", "--format", "pdf"), "'pdf' is not one of"),
        (("R-1", "."), ".: is a directory"),
        (("R-1", "not/there.html"), "not: there is no such directory"),
        ((), "Missing argument"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_leaves_nothing(
    store: str, arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())

    status, out, err = returnable(store, *arguments, folder=tmp_path)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_store_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    status, _, err = returnable(f"sqlite:///{tmp_path}/none.db", "R-1", folder=tmp_path)

    assert status == 2
    assert "none.db" in err
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_leaves_the_one_before(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "case.html"
    file.write_text("kept", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device", "case.html")

    monkeypatch.setattr(os, "fsync", full)
    status, out, err = returnable(store, "R-1", str(file), "--force")

    assert (status, out, err) == (2, "", "returnable: case.html: No space left on device\n")
    assert file.read_text(encoding="utf-8") == "kept"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_file_name_is_safe_and_tells_ids_apart() -> None:
    names = ["R-1", "../../etc/passwd", "a/b", "a_b", "a b", "x" * 128, "x" * 127, "שלום", "CON.", "-"]

    found = [file_name("return", name) for name in names]

    assert len({name.lower() for name in found}) == len(names)
    assert all(len(name) < 150 and "/" not in name and name.isascii() and " " not in name for name in found)


def test_output_is_utf_8_in_a_pipe_whatever_the_locale_says(store: str) -> None:
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "report", "R-1", "--format", "text"]
    env = os.environ | {"PYTHONIOENCODING": "ascii", "RETURNABLE_STORE": store}

    result = subprocess.run(command, capture_output=True, env=env, check=False, timeout=GUARD_SECONDS)

    assert result.returncode == 0
    assert "1 × 750.00" in result.stdout.decode()


def test_a_report_never_takes_the_place_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_authorized_return())
    story.services.store.close()
    content = path.read_bytes()

    for out in (path, tmp_path / "shop-views.db", tmp_path / "shop.db-wal"):
        status, _, err = terminal.returnable("report", "A-1", str(out), "--force", "--store", f"sqlite:///{path}")
        assert (status, "a file of the store" in err) == (2, True)

    assert path.read_bytes() == content
