"""Processes that fork lose nothing, and desks whose files are moved acknowledge nothing more."""

from __future__ import annotations

import os

import pytest
from proving import prove

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def test_families_of_processes_find_every_acknowledged_order_again() -> None:
    status, counts, output = prove("forks", "--rounds", "13", "--seed", "2")

    assert status == 0, output
    assert counts["forks by os"] > 0
    assert counts["forks by multiprocessing"] > 0
    assert counts["acknowledged orders"] > 100
    assert counts["acknowledged orders that are not in the file"] == 0


def test_the_harness_notices_when_connections_stay_open_during_a_fork() -> None:
    status, counts, output = prove("forks", "--rounds", "2", "--control")

    assert status == 1, output
    assert (
        counts["acknowledged orders"]
        > counts["acknowledged orders that are not in the file"]
        >= counts["families"]
        == 2
    )


def test_a_desk_whose_files_are_moved_acknowledges_nothing_more() -> None:
    status, counts, output = prove("moved", "--rounds", "9", "--seed", "2")

    assert status == 0, output
    assert counts["refusals"] >= 9
    assert counts["acknowledged orders that cannot be found"] == 0


def test_the_harness_notices_when_a_desk_does_not_look_for_its_files() -> None:
    status, counts, output = prove("moved", "--rounds", "9", "--control")

    assert status == 1, output
    assert counts["acknowledged orders that cannot be found"] > 0
