"""What the guide to testing says is what happens: its examples run, and what it shows of a failure is what pytest prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
PAGE = (HERE / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- fails -->\n)?```python\n(.*?)```", re.DOTALL)


def run(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    pytester.makepyfile(code)
    # How fast a machine is decides nothing here.
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:cov", "-q", "--hypothesis-profile=ci")


def test_every_example_of_the_guide_passes(pytester: pytest.Pytester) -> None:
    blocks = [code for fails, code in BLOCK.findall(PAGE) if not fails]

    result = run(pytester, "\n\n".join(blocks))

    outcomes = result.parseoutcomes()
    assert set(outcomes) <= {"passed", "warnings"}, result.stdout.str()
    assert outcomes["passed"] > 100
    assert len(re.findall("^### [0-9]+[.] ", PAGE, re.MULTILINE)) >= 10


def test_a_failure_looks_as_the_guide_shows_it(pytester: pytest.Pytester) -> None:
    (failing,) = [code for fails, code in BLOCK.findall(PAGE) if fails]
    shown = PAGE.split(failing)[1].split("```text\n")[1].split("```")[0]

    result = run(pytester, "from returnable.testing import an_order, given, request_return\n" + failing)

    result.assert_outcomes(failed=1)
    printed = [line.removeprefix("E").strip() for line in result.stdout.lines]
    for line in shown.splitlines():
        assert line.strip().removeprefix("then_declined") in "\n".join(printed), line
