"""Verify says no to every copy beside another WAL and to every damage, and kills leave the old store or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from proving import prove


def _prove(tmp_path: Path, *options: str) -> tuple[int, dict[str, int], str]:
    return prove("restores", "--store-dir", str(tmp_path), *options)


def test_no_copy_and_no_damage_is_taken_for_a_sound_store_and_no_kill_mixes_two(tmp_path: Path) -> None:
    status, counts, output = _prove(tmp_path, "--rounds", "10", "--every", "4", "--seed", "3")

    assert status == 0, output
    assert counts["copies put over a store beside a WAL"] >= 8
    assert counts["damaged stores"] >= 5
    assert counts["damaged stores"] == counts["… to which verify says no"]
    assert counts["kills of backup and restore"] >= 8
    assert counts["… after which opening was refused until the restore was run again"] >= 1
    assert counts["troubles"] == 0


@pytest.mark.parametrize(
    ("control", "rounds", "what"),
    [("wal", 10, "a desk opens it"), ("checks", 12, "verify says yes"), ("swap", 0, "the old store is not kept")],
)
def test_the_harness_notices_what_is_left_out(tmp_path: Path, control: str, rounds: int, what: str) -> None:
    every = "1" if control == "swap" else "0"

    status, counts, output = _prove(tmp_path, "--rounds", str(rounds), "--every", every, "--control", control)

    assert status == 1, output
    assert counts["troubles"] > 0
    assert what in output
