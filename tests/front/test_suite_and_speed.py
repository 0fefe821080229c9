"""No test depends on how fast the machine is: none asserts on a clock, and none gives up after so many looks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"}
PAUSES = {"sleep", "wait", "join"}


def called(node: ast.AST) -> Iterator[str]:
    """The last names of what is called in a piece of code."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            function = each.func
            yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_counted(loop: ast.For) -> bool:
    return isinstance(loop.iter, ast.Call) and getattr(loop.iter.func, "id", "") == "range"


def gives_up(loop: ast.For) -> bool:
    """Whether it is a loop over a number that pauses, and ends early when something has come true."""
    ends = any(isinstance(each, ast.Break | ast.Return) for each in ast.walk(loop))
    return is_counted(loop) and ends and not PAUSES.isdisjoint(called(loop))


def faults(code: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assert) and not CLOCKS.isdisjoint(called(node.test)):
            found.append(f"line {node.lineno}: asserts on a clock")
        if isinstance(node, ast.For) and gives_up(node):
            found.append(f"line {node.lineno}: gives up after so many looks; use patience.wait_until")
    return found


WAITING = {TESTS / "patience.py", TESTS / "front" / "test_asynchronous.py"}
"""Where the waiting is done."""


@pytest.mark.parametrize(
    "file", sorted({*TESTS.rglob("*.py")} - WAITING), ids=lambda file: str(file.relative_to(TESTS))
)
def test_no_test_depends_on_speed(file: Path) -> None:
    assert faults(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "assert time.monotonic() - begun < 5",
        "assert perf_counter() < limit",
        "for _ in range(500):\n    if done():\n        break\n    time.sleep(0.01)",
        "def until():\n    for _ in range(9):\n        if done():\n            return\n        event.wait(1)",
    ],
)
def test_the_guard_finds_what_depends_on_speed(code: str) -> None:
    assert len(faults(code)) == 1
