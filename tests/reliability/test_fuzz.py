"""Hostile input comes to an outcome or to an error that says where the trouble is; nothing becomes unreadable by it."""

from __future__ import annotations

import pytest
from proving import prove


def test_hostile_input_is_refused_and_leaves_nothing_unreadable() -> None:
    status, counts, output = prove("fuzz", "--rounds", "600", "--seed", "5")

    assert status == 0, output
    assert counts["cases"] >= 600
    for entrance in ("methods", "lines", "questions", "policies", "imports", "stored bytes"):
        assert counts[f"cases: {entrance}"] > 0, output
    assert counts["crashes"] == 0
    assert counts["stores with something unreadable"] == 0
    assert counts["streams read back"] > 0


@pytest.mark.parametrize("check", ["boundary", "storage"])
def test_the_harness_notices_when_a_check_is_switched_off(check: str) -> None:
    status, counts, output = prove("fuzz", "--rounds", "200", "--control", check)

    assert status == 1, output
    assert counts["crashes"] > 0
