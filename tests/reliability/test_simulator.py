"""A simulated shop is the same history for the same seed, the library comes through it, and mistakes do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from bench.reliability.baton import HOUR, Baton, Endless

ROOT = Path(__file__).parents[2]

MUTANTS = (
    "command-id-check-dropped",
    "conflict-check-dropped",
    "receipt-outside-the-transaction",
    "synchronous-normal",
    "writer-lock-skipped",
    "conflict-surfaced-to-author",
    "refused-on-an-old-picture",
    "deadline-from-wall-clock",
    "deadline-recorded-again",
    "position-saved-before-rows",
    "refund-rekeyed-on-retry",
    "unknown-told-as-failed",
)


def _run(module: str, *options: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", f"bench.reliability.{module}", *options]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def _counts(output: str) -> dict[str, float]:
    return {name: float(count.replace(",", "")) for name, count in re.findall(r"\| (.+?) \| ([\d,.]+) \|", output)}


def test_in_shops_where_everything_fails_nothing_is_lost_doubled_or_forgotten() -> None:
    status, output = _run("simulate", "--seeds", "20")

    counts = _counts(output)
    assert status == 0, output
    assert counts["histories"] == 20
    assert counts["histories with a violation"] == 0
    for trouble in ("processes killed", "power losses", "answers unknown", "calls of the gateway that timed out"):
        assert counts[trouble] > 0, trouble
    assert counts["… that moved money"] > 0
    assert counts["answered from the record"] > 0


def test_every_mistake_that_is_switched_on_is_noticed_within_a_few_histories() -> None:
    status, output = _run("simulate", "--mutants", "--most", "200")

    assert status == 0, output
    noticed = dict(re.findall(r"^\| ([a-z-]+) \| (\d+) \| [\d.]+ \| .+ \|$", output, re.MULTILINE))
    assert tuple(noticed) == MUTANTS, output


def test_a_mistake_that_is_not_noticed_is_told() -> None:
    status, output = _run("simulate", "--mutants", "--most", "1")

    assert status == 1, output
    assert "| writer-lock-skipped | not noticed up to 0 |" in output


def test_a_violation_is_shown_with_its_seed_and_ends_with_status_1() -> None:
    status, output = _run("simulate", "--seeds", "5", "--mutant", "command-id-check-dropped")

    assert status == 1, output
    assert re.search(r"^seed \d+: .*(command|answers)", output, re.MULTILINE), output
    assert _counts(output)["histories with a violation"] > 0


def test_the_same_seed_is_the_same_history_whatever_the_hash_seed() -> None:
    shown = [_run("simulate", "--seed", "7", "--show", PYTHONHASHSEED=seed) for seed in ("0", "1", "1")]

    (status, trace), *others = shown
    assert status == 0, trace
    assert len(trace.splitlines()) > 100
    assert re.search(r"^digest [0-9a-f]{64}$", trace, re.MULTILINE)
    assert all(other == (status, trace) for other in others)
    assert _run("simulate", "--seed", "8", "--show")[1] != trace


def test_the_same_seeds_are_the_same_histories_in_memory_and_in_sqlite_files() -> None:
    memory, sqlite = (_run("simulate", "--seeds", "4", "--store", store) for store in ("memory", "sqlite"))

    digests = [re.findall(r"^digest of all ([0-9a-f]{64})$", output, re.MULTILINE) for _, output in (memory, sqlite)]
    assert memory[0] == sqlite[0] == 0, sqlite[1]
    assert digests[0] == digests[1] != []


def test_races_have_one_winner() -> None:
    status, output = _run("races", "--rounds", "70")

    assert status == 0, output
    assert re.findall(r"^\| (\S+/\S+|the same twice) \| 10 \| 0 \|$", output, re.MULTILINE) == [
        "refund/refund",
        "cancel/ship",
        "label/label",
        "timer/timer",
        "return/return",
        "answer/webhook",
        "the same twice",
    ]


@pytest.mark.parametrize("mutant", ["command-id-check-dropped", "conflict-check-dropped"])
def test_a_race_that_two_may_win_is_noticed(mutant: str) -> None:
    status, output = _run("races", "--rounds", "35", "--mutant", mutant)

    assert status == 1, output
    assert "round " in output


# ---- the scheduler ----------------------------------------------------------------------------------------------------


def test_only_the_actor_with_the_baton_runs_and_sleepers_wake_in_order_of_time() -> None:
    baton = Baton(Random(1), restless=1.0)
    woken: list[tuple[str, int]] = []
    running: list[str] = []

    def sleeper(name: str, hours: int) -> None:
        for _ in range(50):
            assert not running
            running.append(name)
            running.remove(name)
            baton.turn("works")
        baton.sleep(hours * HOUR)
        woken.append((name, baton.now // HOUR))

    for name, hours in (("late", 9), ("early", 2), ("between", 5)):
        baton.add(name, lambda name=name, hours=hours: sleeper(name, hours))
    baton.run()

    assert woken == [("early", 2), ("between", 5), ("late", 9)]
    assert len({line.split()[1] for line in baton.trace[:20]}) == 3, "they take turns"


def test_what_one_actor_raises_ends_the_run_for_all() -> None:
    baton = Baton(Random(1), restless=0.5)
    undone: list[str] = []

    def patient() -> None:
        try:
            baton.rest()
        finally:
            undone.append("patient")

    def clumsy() -> None:
        baton.turn("stumbles")
        raise ValueError("fell")

    baton.add("patient", patient)
    baton.add("clumsy", clumsy)

    with pytest.raises(ValueError, match="fell"):
        baton.run()
    assert undone == ["patient"]


def test_actors_who_wait_for_each_other_are_found_out() -> None:
    baton = Baton(Random(1), restless=0.5)
    baton.add("one", baton.rest)
    baton.add("other", baton.rest)

    with pytest.raises(Endless, match="everybody rests"):
        baton.run()
