"""A simulated shop is the same history for the same seed, the library comes through it, and mistakes do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from bench.proofs.simulator.scheduler import HOUR, Endless, Scheduler

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
    "cancelled-unit-shipped-in-silence",
    "position-saved-before-rows",
    "refund-rekeyed-on-retry",
    "unknown-told-as-failed",
)


def _run(module: str, *options: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", f"bench.proofs.{module}", *options]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def _counts(output: str) -> dict[str, float]:
    return {name: float(count.replace(",", "")) for name, count in re.findall(r"\| (.+?) \| ([\d,.]+) \|", output)}


def test_in_shops_where_everything_fails_nothing_is_lost_doubled_or_forgotten() -> None:
    status, output = _run("simulate", "--rounds", "20")

    counts = _counts(output)
    assert status == 0, output
    assert counts["histories"] == 20
    assert counts["histories with a violation"] == 0
    for trouble in ("processes killed", "power losses", "answers unknown", "calls of the gateway that timed out"):
        assert counts[trouble] > 0, trouble
    assert counts["… that moved money"] > 0
    assert counts["answered from the record"] > 0


def test_every_mistake_that_is_switched_on_is_noticed_within_a_few_histories() -> None:
    status, output = _run("simulate", "--mutants", "--rounds", "300")

    assert status == 0, output
    noticed = dict(re.findall(r"^\| ([a-z-]+) \| (\d+) \| [\d.]+ \| .+ \|$", output, re.MULTILINE))
    assert tuple(noticed) == MUTANTS, output


def test_a_mistake_that_is_not_noticed_is_told() -> None:
    status, output = _run("simulate", "--mutants", "--rounds", "1")

    assert status == 1, output
    assert "| writer-lock-skipped | not noticed up to 0 |" in output


def test_a_violation_is_shown_with_its_seed_and_ends_with_status_1() -> None:
    status, output = _run("simulate", "--rounds", "5", "--control", "command-id-check-dropped")

    assert status == 1, output
    assert re.search(r"^trouble: violations: seed \d+: .*(command|answers)", output, re.MULTILINE), output
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
    memory, sqlite = (_run("simulate", "--rounds", "4", "--store", store) for store in ("memory", "sqlite"))

    digests = [re.findall(r"^digest of all ([0-9a-f]{64})$", output, re.MULTILINE) for _, output in (memory, sqlite)]
    assert memory[0] == sqlite[0] == 0, sqlite[1]
    assert digests[0] == digests[1] != []


def test_races_have_one_winner() -> None:
    status, output = _run("races", "--rounds", "70")

    assert status == 0, output
    assert re.findall(r"^\| (\S+/\S+|the same twice) \| 10 \|$", output, re.MULTILINE) == [
        "answer/webhook",
        "cancel/ship",
        "label/label",
        "refund/refund",
        "return/return",
        "the same twice",
        "timer/timer",
    ]
    assert _counts(output)["violations"] == 0


@pytest.mark.parametrize("mutant", ["command-id-check-dropped", "conflict-check-dropped"])
def test_a_race_that_two_may_win_is_noticed(mutant: str) -> None:
    status, output = _run("races", "--rounds", "35", "--control", mutant)

    assert status == 1, output
    assert "trouble: violations: round " in output


# ---- the scheduler ----------------------------------------------------------------------------------------------------


def test_only_the_actor_that_the_scheduler_chose_runs_and_sleepers_wake_in_order_of_time() -> None:
    scheduler = Scheduler(Random(1), switch_probability=1.0)
    woken: list[tuple[str, int]] = []
    running: list[str] = []

    def sleeper(name: str, hours: int) -> None:
        for _ in range(50):
            assert not running
            running.append(name)
            running.remove(name)
            scheduler.yield_point("works")
        scheduler.sleep(hours * HOUR)
        woken.append((name, scheduler.now // HOUR))

    for name, hours in (("late", 9), ("early", 2), ("between", 5)):
        scheduler.add(name, lambda name=name, hours=hours: sleeper(name, hours))
    scheduler.run()

    assert woken == [("early", 2), ("between", 5), ("late", 9)]
    assert len({line.split()[1] for line in scheduler.trace[:20]}) == 3, "they take turns"


def test_what_one_actor_raises_ends_the_run_for_all() -> None:
    scheduler = Scheduler(Random(1), switch_probability=0.5)
    undone: list[str] = []

    def patient() -> None:
        try:
            scheduler.rest()
        finally:
            undone.append("patient")

    def clumsy() -> None:
        scheduler.yield_point("stumbles")
        raise ValueError("fell")

    scheduler.add("patient", patient)
    scheduler.add("clumsy", clumsy)

    with pytest.raises(ValueError, match="fell"):
        scheduler.run()
    assert undone == ["patient"]


def test_actors_who_wait_for_each_other_are_found_out() -> None:
    scheduler = Scheduler(Random(1), switch_probability=0.5)
    scheduler.add("one", scheduler.rest)
    scheduler.add("other", scheduler.rest)

    with pytest.raises(Endless, match="everybody rests"):
        scheduler.run()
