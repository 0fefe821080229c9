"""Processes that race for identical refusals and are killed all the time count each attempt exactly once."""

from __future__ import annotations

import pytest
from proving import prove


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_killed_and_racing_processes_count_every_refusal_once(store: str) -> None:
    status, counts, output = prove("refusals", "--store", store, "--rounds", "1", "--refusals", "100")

    assert status == 0, output
    assert counts["kills (SIGKILL)"] == 12
    assert counts["refusals recorded or counted"] == counts["attempts"] == 120
    assert counts["facts that a look after many refusals reads"] == 44


def test_the_proof_notices_a_number_that_is_raised_outside_the_transaction() -> None:
    status, counts, output = prove("refusals", "--rounds", "1", "--refusals", "100", "--control")

    assert status == 1, output
    assert counts["rounds whose number is wrong"] == 1
    assert counts["facts that a look after many refusals reads"] == 203
