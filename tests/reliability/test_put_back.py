"""A store is put back to an older copy of itself under a running desk."""

from __future__ import annotations

import pytest
from proving import prove


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_running_desk_answers_as_a_new_one_would(store: str) -> None:
    status, counts, output = prove("put_back", "--store", store, "--rounds", "6", "--seed", "20")

    assert status == 0, output
    assert counts["troubles"] == 0
    assert counts["… given to the desk that had been running"] > 10


def test_the_comparison_finds_a_desk_that_only_counts_facts() -> None:
    status, counts, output = prove("put_back", "--store", "sqlite", "--rounds", "20", "--seed", "20", "--control")

    assert status == 1, output
    assert counts["troubles"] > 0
