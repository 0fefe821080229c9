"""Files that the product writes: whole or not at all, for their owner only, and nothing is left by who was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import returnable
from usual import an_inspected_return

from returnable.adapters.files import folder_written_whole, remove_left_parts, written_whole
from returnable.adapters.wiring import assemble
from returnable.testing import Scenario, a_policy, request_refund

EXAMPLE = Path(__file__).parents[2] / "examples" / "import"
UMASKS = (0o000, 0o022)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """New files lack these permissions."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    """Who may do what."""
    return stat.S_IMODE(path.stat().st_mode)


def left_in(folder: Path) -> list[str]:
    """The names of parts there."""
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a refund, whose policy is not the bundled one."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store')}/shop.db"
    policy = a_policy({"returns.window": {"days": 30}}, version="30 days")
    story = Scenario(assemble(url, policy=policy_book_of(policy))).given(an_inspected_return(), request_refund())
    story.services.store.close()
    return url


def policy_book_of(policy: object) -> object:
    """A book of one policy."""
    from returnable.domain.policy import Policy, PolicyBook

    assert isinstance(policy, Policy)
    return PolicyBook([policy])


# ---- for their owner only --------------------------------------------------------------------------------------------

WRITING = {
    "facts.jsonl": "export --format jsonl {out}",
    "facts.csv": "export --format csv {out}",
    "facts.parquet": "export --format parquet {out}",
    "case.jsonl": "export --format scenario --policies {folder}/policies {out}",
    "report.html": "report R-1 {out}",
    "report.txt": "report R-1 {out}",
    "report.json": "report R-1 {out}",
    "case.scenario.jsonl": "record A-1 {out}",
    "refused.csv": "import {rows} --mapping {mapping} --dry-run --report {out}",
    "refused.jsonl": "import {rows} --mapping {mapping} --dry-run --report {out}",
}


@pytest.mark.parametrize("mask", UMASKS)
@pytest.mark.parametrize("name", WRITING)
def test_whatever_a_command_writes_is_for_its_owner_only(name: str, mask: int, store: str, tmp_path: Path) -> None:
    places = {
        "out": str(tmp_path / name),
        "folder": str(tmp_path),
        "rows": str(EXAMPLE / "webshop.csv"),
        "mapping": str(EXAMPLE / "webshop.toml"),
    }
    arguments = [part.format(**places) for part in WRITING[name].split()]

    with umask(mask):
        status, _, err = returnable(*arguments, "--store", store)

    assert status in (0, 1), err
    written = [path for path in tmp_path.rglob("*") if path != tmp_path]
    assert tmp_path / name in written
    assert {mode(path) for path in written if path.is_file()} == {0o600}
    assert {mode(path) for path in written if path.is_dir()} <= {0o700}


@pytest.mark.parametrize("mask", UMASKS)
def test_nobody_else_can_read_it_while_it_is_written(mask: int, tmp_path: Path) -> None:
    with umask(mask):
        with written_whole(str(tmp_path / "facts.jsonl"), force=False) as file:
            file.write(b"half")
            (part,) = tmp_path.iterdir()
            assert mode(part) == 0o600
        with folder_written_whole(tmp_path / "policies"):
            (part,) = [path for path in tmp_path.iterdir() if path.is_dir()]
            assert mode(part) == 0o700


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o644, 0o400])
def test_a_file_that_is_replaced_keeps_its_permissions(permissions: int, tmp_path: Path) -> None:
    out = tmp_path / "facts.jsonl"
    out.write_bytes(b"before")
    out.chmod(permissions)

    with umask(0o077), written_whole(str(out), force=True) as file:
        file.write(b"after")

    assert (out.read_bytes(), mode(out)) == (b"after", permissions)


def test_a_link_that_is_replaced_passes_nothing_on(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    theirs.chmod(0o666)
    out = tmp_path / "facts.jsonl"
    out.symlink_to(theirs)

    with written_whole(str(out), force=True) as file:
        file.write(b"ours")

    assert (mode(out), out.is_symlink(), theirs.read_bytes()) == (0o600, False, b"theirs")


def test_a_recorded_test_and_its_policy_are_for_their_owner_only(tmp_path: Path) -> None:
    story = Scenario(policy=a_policy({"returns.window": {"days": 30}})).given(an_inspected_return())

    with umask(0o000):
        story.save(tmp_path / "case.scenario.jsonl")
        story.save(tmp_path / "case.scenario.jsonl")

    assert {mode(path) for path in tmp_path.rglob("*") if path.is_file()} == {0o600}
    assert mode(tmp_path / "case.policies") == 0o700


# ---- what killed processes leave -------------------------------------------------------------------------------------

EXPORTING = """
    import sys, time
    from returnable.adapters.cli.app import run
    from returnable.adapters.export import tables

    def write(self, row):
        print("writing", flush=True)
        time.sleep(600)

    tables.Csv.write = write
    run(sys.argv[1:])
"""

RECORDING = """
    import sys, time
    from returnable.adapters.cli import record
    from returnable.adapters.cli.app import run

    def prove(*_):
        print("writing", flush=True)
        time.sleep(600)

    record._prove = prove
    run(sys.argv[1:])
"""


@contextmanager
def stopped_in_the_middle(script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun to write, and gets no further."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (EXPORTING, ["export", "--format", "csv", "{folder}/facts.csv"]),
        (RECORDING, ["record", "A-1", "{folder}/case.scenario.jsonl"]),
    ],
)
def test_the_next_one_removes_what_a_killed_one_left_and_nothing_of_a_living_one(
    script: str, arguments: list[str], store: str, tmp_path: Path
) -> None:
    command = [argument.format(folder=tmp_path) for argument in arguments]
    with stopped_in_the_middle(script, *command, "--store", store) as killed:
        (of_killed,) = left_in(tmp_path)
        with stopped_in_the_middle(script, *command, "--store", store):
            (of_living,) = {*left_in(tmp_path)} - {of_killed}
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            assert left_in(tmp_path) == sorted([of_killed, of_living])

            status, _, err = returnable("report", "R-1", str(tmp_path / "report.txt"), "--store", store)

            assert status == 0, err
            assert left_in(tmp_path) == [of_living]

    remove_left_parts(tmp_path)

    assert left_in(tmp_path) == []


def test_only_what_is_named_as_a_part_is_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "kept").write_bytes(b"kept")
    number = "0" * 32
    for name in (f".returnable-{number}.part.bak", f"returnable-{number}.part", ".returnable-1.part", ".a.1234.part"):
        (tmp_path / name).write_bytes(b"kept")
    (tmp_path / f".returnable-{number}.part").symlink_to(theirs)
    os.mkfifo(tmp_path / f".returnable-{'1' * 32}.part")
    before = sorted(path.name for path in tmp_path.iterdir())

    remove_left_parts(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (theirs / "kept").read_bytes() == b"kept"


def test_a_part_that_somebody_cleans_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from returnable.adapters import files

    made: list[Path] = []

    def create(part: Path, real=files.new_file) -> int:  # type: ignore[no-untyped-def]
        descriptor: int = real(part)
        made.append(part)
        if len(made) == 1:
            part.unlink()
        return descriptor

    monkeypatch.setattr(files, "new_file", create)
    with written_whole(str(tmp_path / "facts.jsonl"), force=False) as file:
        file.write(b"whole")

    assert len(made) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]
