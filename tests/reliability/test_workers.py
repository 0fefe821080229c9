"""Deadline workers in processes of their own: many at once, killed at named points, stopped with grace.

``RETURNABLE_TEST_EVENTS`` says how many deadlines are recorded (48 where it is not said). For every twelve of them a worker
is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from patience import GUARD_SECONDS, wait_until
from postgres import fresh_store_url

from returnable.adapters.cli.app import run
from returnable.adapters.wiring import Services, assemble
from returnable.testing import Scenario, a_return, an_order

CASES = int(os.environ.get("RETURNABLE_TEST_EVENTS", "48"))
DEATHS = CASES // 24 * 2

MORTAL = Path(__file__).parents[1] / "mortal.py"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls: dict[str, Callable[[], str]] = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/store.db",
        "postgres": fresh_store_url,
    }
    return urls[request.param]()


def with_due_labels(url: str, cases: int = CASES) -> Services:
    """A store in which many labels are void and nobody recorded it."""
    services = assemble(url)
    story = Scenario(services)
    story.given(*(an_order(f"A-{nth}", delivered="2026-03-05 14:00") for nth in range(cases)))
    story.given(*(a_return(f"R-{nth}", order_id=f"A-{nth}", labelled="2026-03-09 12:30") for nth in range(cases)))
    return services


def voided(services: Services) -> Counter[str]:
    return Counter(one.stream for one in services.store.read(0, 100_000) if one.event.type == "LabelVoided")


def start(url: str, log: Path, *options: str, dies: tuple[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A worker; with ``dies`` one that kills itself there, as ``mortal.py`` has it."""
    program = ["-m", "returnable.adapters.cli.entry"] if dies is None else [str(MORTAL), *dies]
    command = [sys.executable, *program, "worker", "--store", url, "--log-format", "json", *options]
    with log.open("ab") as file:
        return subprocess.Popen(command, stderr=file)


def health_of(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(url) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_workers_that_are_killed_all_the_time_record_every_deadline_once(url: str, tmp_path: Path) -> None:
    # given
    services, chance, log = with_due_labels(url), random.Random(7), tmp_path / "workers.log"
    options = ("--every", "0.05", "--claim", "1")
    deaths = [(point, chance.randint(1, CASES // DEATHS)) for point in ("before", "after") for _ in range(DEATHS // 2)]
    chance.shuffle(deaths)
    statuses: list[int] = []
    workers: list[subprocess.Popen[bytes]] = []

    # when: three workers at a time, and each kills itself at one of its deadlines, before or after it is on record
    try:
        while deaths or workers:
            while deaths and len(workers) < 3:
                point, nth = deaths.pop()
                workers.append(start(url, log, *options, dies=(point, str(nth))))
            statuses.append(workers.pop(0).wait(GUARD_SECONDS))
        left = CASES - len(voided(services))
        # when: what they left is recorded by workers that live
        workers += [start(url, log, *options) for _ in range(3)]
        wait_until(lambda: len(voided(services)) == CASES)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    # then
    assert statuses == [-signal.SIGKILL] * DEATHS
    assert left > 0
    assert voided(services) == Counter({f"return/R-{nth}": 1 for nth in range(CASES)})
    assert services.handler.due.catch_up() == services.store.head()
    assert services.handler.due.table.status().waiting == 0
    services.store.close()


def test_a_worker_that_is_asked_to_end_finishes_and_tells_how_it_was(url: str, tmp_path: Path) -> None:
    # given
    services, log = with_due_labels(url, 5), tmp_path / "worker.log"
    worker = start(url, log, "--every", "0.05", "--health", "127.0.0.1:0")
    try:
        wait_until(lambda: len(voided(services)) == 5)
        wait_until(lambda: '"health"' in log.read_text().rpartition("\n")[0])
        lines = log.read_text().rpartition("\n")[0].splitlines()
        told = next(said for said in map(json.loads, lines) if "health" in said)
        answers: list[dict[str, Any]] = []

        def has_caught_up() -> bool:
            status, answer = health_of(told["health"])
            answers.append(answer)
            return status == 200 and answer["behind"] == 0

        wait_until(has_caught_up)
        health = answers[-1]

        # when
        worker.send_signal(signal.SIGTERM)
        status = worker.wait(GUARD_SECONDS)
    finally:
        worker.kill()
        worker.wait()

    # then
    assert status == 0
    assert (health["healthy"], health["recorded"], health["behind"], health["parked"]) == (True, 5, 0, 0)
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["message"].split()[-1] for one in (said[1], said[-1])] == ["begins", "ends"]
    assert said[-1]["recorded"] == 5
    assert {one["stream"] for one in said if one.get("fact") == "LabelVoided"} == {
        f"return/R-{nth}" for nth in range(5)
    }
    services.store.close()


def test_once_records_what_is_due_and_status_records_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    services = with_due_labels(url, 3)

    assert run(["worker", "--status", "--store", url]) == 0
    before = capsys.readouterr().out
    assert not voided(services)
    assert run(["worker", "--once", "--store", url, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)

    assert "waiting: 3 cases, the first deadline 2026-03-12T04:00:00+00:00" in before
    assert "recorded now: 0" in before
    assert (after["recorded"], after["waiting"], after["behind"], after["late_seconds"]) == (3, 0, 0, 0.0)
    assert len(voided(services)) == 3
    services.store.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--once", "--status"], "--once and --status exclude each other"),
        (["--health", "8081x"], "'8081x' is not HOST:PORT"),
        (["--health", "localhost:99999"], "is not HOST:PORT"),
        (["--store", "sqlite:///nowhere.db"], "there is no store here"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(["worker", *arguments]) == 2

    assert said in capsys.readouterr().err
