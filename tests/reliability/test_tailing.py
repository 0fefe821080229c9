"""Followers of stores that several processes write to see every fact once and in order.

``RETURNABLE_TEST_EVENTS`` says how many facts are written (4,000 where it is not said).
"""

from __future__ import annotations

import os
from pathlib import Path

from postgres import fresh_store_url
from proving import prove

from bench.proofs.tailing import write_and_follow
from returnable.adapters.eventstore.open import migrate_store

EVENTS = int(os.environ.get("RETURNABLE_TEST_EVENTS", "4000"))


def test_followers_of_many_writers_to_a_server_miss_nothing(tmp_path: Path) -> None:
    tally = write_and_follow(fresh_store_url(), tmp_path, events=EVENTS, writers=4, readers=2)

    assert tally.troubles == []
    assert tally.events == EVENTS // 4 * 4


def test_followers_of_many_writers_to_a_file_miss_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/facts.db"
    migrate_store(url)

    tally = write_and_follow(url, tmp_path, events=EVENTS // 2, writers=4, readers=2)

    assert tally.troubles == []


def test_the_comparison_notices_what_followers_miss_when_a_server_does_not_lock() -> None:
    status, counts, output = prove("tailing", "--control", "--store", "postgres", "--events", "8000", "--writers", "4")

    assert status == 1, output
    assert counts["facts missed by followers"] > 0
    assert counts["facts written that are not in the log"] == 0


def test_the_comparison_notices_what_followers_miss_when_a_file_gives_positions_without_its_lock() -> None:
    status, counts, output = prove("tailing", "--control", "--store", "sqlite", "--events", "2000", "--writers", "4")

    assert status == 1, output
    assert counts["facts missed by followers"] > 0
    assert counts["facts written that are not in the log"] == 0
