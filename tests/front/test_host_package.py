"""A host of its own: the wheel in a fresh environment, and the tests of a package that knows nothing of this repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installed import environment_with

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel and what its extra brings."""
    place = tmp_path_factory.mktemp("host")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(place)], cwd=HERE, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    return environment_with(wheel, "testing", place / "venv", sys.executable)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A copy of the host's package, far from here."""
    return Path(shutil.copytree(HERE / "examples" / "host_tests", tmp_path / "boutique"))


def run_tests(python: Path, host: Path, *which: str) -> tuple[int, str]:
    """The exit status of the host's tests, or of some of them, and what pytest said."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(host)}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *which]
    done = subprocess.run(command, cwd=host, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_tests_of_a_host_pass_with_nothing_configured(python: Path, host: Path) -> None:
    status, said = run_tests(python, host)

    assert status == 0, said
    assert re.search(r"\d\d passed in", said)
    assert "failed" not in said


def test_a_changed_policy_fails_them_and_says_at_once_what_changed(python: Path, host: Path) -> None:
    policy = host / "policy" / "boutique.toml"
    policy.write_text(policy.read_text().replace("days = 30\n", "days = 14\n"))

    status, said = run_tests(python, host, "tests/cases", "tests/test_the_page.py")

    assert status == 1, said
    told = said.splitlines()
    for line in (
        "late-scan.scenario.jsonl:4: not as expected",
        "    outcome: expected accepted, came declined (failed: returns.window)",
        "Line 4 is the first that is not as expected, and may be why.",
        "E       AssertionError: then_accepted: it was not",
        "E           expected accepted, came declined by returns.window (ReturnRequested, ReturnDeclined)",
    ):
        assert line in told, said
    assert "line 1 had to be returned before Tue 2026-11-17 00:00 CST (15 days 23 h 59 min late)." in said
    assert "| Tue 2026-11-17 00:00 CST  the return window of line 1 closes (returns.window)" in said
