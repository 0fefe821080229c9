"""A store on PostgreSQL in trouble: connections that are cut, a server that crashes, answers to commits that are lost.

``RETURNABLE_TEST_EVENTS`` says how many facts are written where facts are counted (4,000 where it is not said).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import fresh_store_url, sql
from proving import prove

from bench.postgres import OwnServer, with_parameters
from bench.proofs import outages, tailing
from returnable.adapters.eventstore.open import migrate_store

EVENTS = int(os.environ.get("RETURNABLE_TEST_EVENTS", "4000"))


@pytest.fixture
def other_server() -> Iterator[OwnServer]:
    with OwnServer() as server:
        yield server


def test_connections_that_are_cut_all_the_time_lose_and_double_nothing(tmp_path: Path) -> None:
    name = f"trouble-{os.getpid()}"
    url = with_parameters(fresh_store_url(), application_name=name)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s ORDER BY random() LIMIT 2"
    cuts = 0

    def trouble() -> None:
        nonlocal cuts
        cuts += len(sql(cut, (name,)))

    tally = tailing.write_and_follow(url, tmp_path, events=EVENTS // 4, writers=4, readers=2, trouble=trouble)

    assert tally.troubles == []
    assert cuts > 0


def test_a_server_that_crashes_under_load_loses_and_doubles_no_fact(other_server: OwnServer, tmp_path: Path) -> None:
    migrate_store(other_server.url)
    crashes = 0

    def trouble() -> None:
        nonlocal crashes
        if crashes < 2:
            time.sleep(0.5)
            other_server.control("restart", "-m", "immediate")
            crashes += 1

    tally = tailing.write_and_follow(
        other_server.url, tmp_path, events=EVENTS // 2, writers=4, readers=2, trouble=trouble
    )

    assert tally.troubles == []
    assert crashes >= 1


def test_commands_on_a_server_that_crashes_happen_once_and_are_answered_as_if_it_had_not() -> None:
    status, counts, output = prove("outages", "crashes", "--rounds", "2")

    assert status == 0, output
    assert counts["crashes of the server"] == 2
    assert counts["… that a host gave more than once"] > 0, "no crash hit a command"
    assert counts["refunds requested in the store"] == counts["refunds acknowledged"] > 0
    assert counts["recorded commands decided again"] > 0


def test_commands_whose_answers_are_lost_happen_once_and_are_answered_as_if_they_had_not_been(tmp_path: Path) -> None:
    tally = outages.lose_answers(fresh_store_url(), tmp_path, replies=80, hosts=4)

    assert tally.troubles == []
    assert tally.answers_lost == 80
    assert len(tally.kinds) >= 15
    assert tally.kinds["request_refund"] > 0
    assert tally.answered_again > 0
    assert tally.refunds == tally.refunds_stored > 0


def test_the_comparison_notices_hosts_that_ask_again_without_command_ids() -> None:
    status, counts, output = prove("outages", "lost-answers", "--rounds", "40", "--control")

    assert status == 1, output
    assert counts["answers to appends that were lost"] == 40
    assert counts["conflicts shown to a caller for what it did itself"] > 0
    assert counts["other answers that differ from an uninterrupted run"] > 0
    assert counts["cases that differ from an uninterrupted run"] > 0
