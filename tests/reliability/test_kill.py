"""A process that is killed loses nothing it acknowledged, and telling everything again adds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from proving import prove


def _kill(tmp_path: Path, *options: str) -> tuple[int, dict[str, int], str]:
    return prove("kills", "commands", "--journeys", "4", "--store-dir", str(tmp_path), *options)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_killed_processes_lose_nothing_and_retries_add_nothing(tmp_path: Path, store: str) -> None:
    status, counts, output = _kill(tmp_path, "--store", store, "--rounds", "4", "--seed", "3")

    assert status == 0, output
    assert counts["kills (SIGKILL)"] == 4
    assert 0 < counts["… of a process whose threads append together"] < 4
    assert counts["stores played to the end and equal to an uninterrupted run"] >= 1
    assert counts["acknowledged and lost"] == 0
    assert counts["half commands, or facts that differ from an uninterrupted run"] == 0
    assert counts["outcomes changed by a retry"] == 0
    assert counts["facts added by retries"] == 0
    assert counts["stores damaged or unusable"] == 0


def test_the_harness_notices_when_retries_carry_no_command_id(tmp_path: Path) -> None:
    status, counts, output = _kill(tmp_path, "--rounds", "2", "--seed", "3", "--control")

    assert status == 1, output
    assert counts["outcomes changed by a retry"] > 0
    assert "order.exists" in output


def test_the_harness_notices_when_a_command_is_appended_in_two_transactions(tmp_path: Path) -> None:
    status, counts, output = _kill(tmp_path, "--rounds", "2", "--seed", "3", "--control", "split")

    assert status == 1, output
    assert counts["half commands, or facts that differ from an uninterrupted run"] > 0
