"""Verify says no to every copy beside another WAL and to every damage, and kills leave the old store or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from proving import prove


def _prove(tmp_path: Path, *options: str) -> tuple[int, dict[str, int], str]:
    return prove("restores", "--store-dir", str(tmp_path), *options)


def test_no_copy_and_no_damage_is_taken_for_a_sound_store_and_no_kill_mixes_two(tmp_path: Path) -> None:
    status, counts, output = _prove(tmp_path, "--rounds", "6", "--every", "9", "--seed", "3")

    assert status == 0, output
    assert counts["copies put over a store beside a WAL"] >= 6
    assert counts["damaged stores"] >= 4
    assert counts["damaged stores"] == counts["… to which verify says no"]
    assert counts["kills of backup and restore"] >= 5
    assert counts["… after which opening was refused until the restore was run again"] >= 1
    assert counts["troubles"] == 0


@pytest.mark.parametrize(
    ("control", "options", "what"),
    [
        ("wal", ["--rounds", "4"], "a desk opens it"),
        ("checks", ["--rounds", "8"], "verify says yes"),
        ("swap", ["--every", "2"], "the old store is not kept"),
    ],
)
def test_the_harness_notices_what_is_left_out(tmp_path: Path, control: str, options: list[str], what: str) -> None:
    status, counts, output = _prove(tmp_path, *options, "--control", control)

    assert status == 1, output
    assert counts["troubles"] > 0
    assert what in output
