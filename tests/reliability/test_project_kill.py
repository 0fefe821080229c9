"""Projectors that are killed while facts come in leave views that equal views built at once."""

from __future__ import annotations

from pathlib import Path

from proving import prove


def _kill(tmp_path: Path, *options: str) -> tuple[int, dict[str, int], str]:
    return prove("kills", "projectors", "--store-dir", str(tmp_path), *options)


def test_killed_projectors_leave_views_that_equal_a_rebuild(tmp_path: Path) -> None:
    status, counts, output = _kill(tmp_path, "--rounds", "3", "--check-every", "2", "--seed", "2")

    assert status == 0, output
    assert counts["kills (SIGKILL)"] >= 3
    assert counts["comparisons with views built at once"] >= 2
    assert counts["facts in the store at the end"] > 4000
    assert counts["troubles"] == 0


def test_the_harness_notices_when_a_position_is_saved_before_its_rows(tmp_path: Path) -> None:
    status, counts, output = _kill(tmp_path, "--rounds", "2", "--check-every", "2", "--seed", "2", "--control")

    assert status == 1, output
    assert counts["troubles"] > 0
    assert "differs from a rebuild" in output
