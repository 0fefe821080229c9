"""The bytes of stored views: the same history gives the same tables, on every interpreter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from golden_views import LINES, digests
from installed import is_compiled, link, required

from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import projector
from returnable.projections.stored import SCHEMA_VERSION, VIEWS
from returnable.testing import Scenario

ROOT = Path(__file__).parents[2]
STORY = ROOT / "tests" / "golden_views.py"

EXPECTED = {
    "orders": "1044012dcebf0564df07714ef5b78ad11ae2f76adf30e035c34d26c24cbf9e1d",
    "returns": "6d31726a8b7e85fa19ae05785314099aec9b9f0cde1b926dec3f21a3898e2f9f",
    "refunds": "3ce61e0e508b9c973881754f465e99c3be315c450b5e1504fc1cfdb35aa75c86",
    "claims": "40100ad7294fccec83cec9fd227b806fd392397fbaf75540628efe38b311b764",
    "worklist": "70db63f3180e6fc492e08da761a712dfba39543c323c97ab02806ee66696cf10",
    "audit": "4eb4c7deb7b663784b7d587313312f7e1518fd5c20f70a1dc55711371782e7d8",
    "ledger": "830ed4081dad07f067a4b43a5294baad52e5ed7a125bfcea5a7c1e2563eb77e4",
    "clauses": "ae080ca0147ca1633d2663a7f882f298234fb83c92a9a042f8c518b5c4944601",
}
"""Whoever changes one of these changes what is stored: count ``SCHEMA_VERSION`` up, so that old files are made anew."""


def test_the_tables_of_a_fixed_history_are_these_bytes() -> None:
    found = digests()

    assert found == EXPECTED
    assert SCHEMA_VERSION == 5, "another version has other hashes"


def test_the_fixed_history_has_something_to_tell_in_every_view() -> None:
    story = Scenario()
    for at, fields in LINES:
        story.tell(at=at, **fields)

    with closing(SQLiteViews(None)) as views:
        projector(story.services, views).run()
        with views.reading() as reading:
            counts = {name: len(list(reading.rows(name, ("nth",)))) for name in VIEWS}
            verdicts = {verdict for (verdict,) in reading.rows("clauses", ("verdict",))}
            kinds = {kind for (kind,) in reading.rows("worklist", ("kind",))}

    assert min(counts.values()) >= 1, counts
    assert verdicts == {"pass", "fail", "overridden", "not_applicable"}
    assert len(kinds) >= 2, kinds


def _others() -> list[str]:
    """Every other CPython there is that the package supports, one for each minor version."""
    here = Path.home() / ".pyenv" / "versions"
    found: dict[str, str] = {}
    for minor in range(11, 15):
        name = f"python3.{minor}"
        installed = [str(path) for path in sorted(here.glob(f"3.{minor}.*/bin/{name}"))] if here.is_dir() else []
        for candidate in (*installed, shutil.which(name)):
            if minor != sys.version_info.minor and candidate is not None and _runs(candidate, minor):
                found.setdefault(name, candidate)
    return list(found.values())


def _runs(python: str, minor: int) -> bool:
    said = "import sys, venv, ensurepip; print(sys.implementation.name, sys.version_info.minor)"
    ran = subprocess.run([python, "-c", said], capture_output=True, text=True, check=False)
    return ran.stdout.split() == ["cpython", str(minor)]


@pytest.mark.parametrize("python", _others(), ids=lambda path: Path(path).name)
def test_another_cpython_makes_the_same_bytes(python: str, tmp_path: Path) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    other = tmp_path / "venv" / "bin" / "python"
    # Only what is compiled must be had for the other interpreter: all else is linked.
    names = required(dependencies)
    compiled = {name for name in names if is_compiled(name)}
    (site,) = (tmp_path / "venv").glob("lib/python3.*/site-packages")
    link(names - compiled, site)
    pip = [sys.executable, "-m", "pip", "--python", other, "install", "--quiet", "--disable-pip-version-check"]
    wanted = [f"{name}=={version(name)}" for name in compiled]
    installed = subprocess.run(
        [*pip, "--no-compile", "--no-deps", *wanted], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"{python}: the dependencies cannot be had: {installed.stderr.strip()[-300:]}")

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}  # nothing is added to what is linked
    command = [other, "-X", "utf8", "-c", "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')", STORY]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == EXPECTED
