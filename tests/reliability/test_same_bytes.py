"""The same history gives the same bytes. Other interpreters are asked by the command, and for the stored views by a test."""

from __future__ import annotations

import sys

from proving import prove

SHORT = ("--journeys", "4", "--python", sys.executable)


def test_hash_seeds_zones_locales_and_stores_change_no_byte() -> None:
    status, counts, output = prove("determinism", "same-bytes", *SHORT, "--rounds", "3", "--in-turns")

    assert status == 0, output
    assert counts["processes"] == 3
    assert counts["kinds of things compared"] > 30
    assert counts["hashes that differ"] == 0


def test_the_comparison_notices_a_view_that_comes_out_of_a_set() -> None:
    status, counts, output = prove(
        "determinism", "same-bytes", *SHORT, "--rounds", "2", "--stores", "memory", "--control"
    )

    assert status == 1, output
    assert counts["hashes that differ"] > 0
    assert "differ: stored audit" in output
