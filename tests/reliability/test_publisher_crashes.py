"""Publishers and brokers that are killed while facts come in: every event arrives, first in order, and nothing else.

``RETURNABLE_TEST_EVENTS`` says how many events are published in a test (400 where it is not said).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from jetstream import OwnNats, fresh_place, stored
from patience import GUARD_SECONDS, wait_until
from publishing import SOURCE, a_store, append, event_ids, first_times, in_order

from returnable.adapters.eventstore.open import open_store
from returnable.adapters.publishing.open import open_broker
from returnable.adapters.publishing.publisher import Publisher, checkpoint_of

ROOT = Path(__file__).parents[2]
ROUNDS = 2
WRITERS = 2
FACTS_EACH = int(os.environ.get("RETURNABLE_TEST_EVENTS", "400")) // (ROUNDS * WRITERS)


@pytest.fixture
def nats_server() -> Iterator[OwnNats]:
    server = OwnNats()
    yield server
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where there is an empty store ``shop.db``."""
    open_store(f"sqlite:///{tmp_path}/shop.db").close()
    return tmp_path


def writers(folder: Path, nth: int) -> list[subprocess.Popen[bytes]]:
    """Processes that write to the store, now and then to one case that they race for."""
    command = [sys.executable, "-m", "bench.proofs.tailing_worker", "write", f"sqlite:///{folder}/shop.db"]
    return [
        subprocess.Popen([*command, f"w{nth}-{n}", str(FACTS_EACH), "0.1"], cwd=ROOT, stdout=subprocess.DEVNULL)
        for n in range(WRITERS)
    ]


def publish(folder: Path, to: str, *options: str, out: Path | None = None) -> subprocess.Popen[bytes]:
    """``returnable publish`` in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "returnable.adapters.cli.entry",
        "publish",
        "--store",
        f"sqlite:///{folder}/shop.db",
    ]
    with (out or folder / "nowhere").open("wb") as file, (folder / "log").open("ab") as log:
        return subprocess.Popen([*command, "--to", to, "--hold", "0.3", *options], stdout=file, stderr=log)


def early_publisher(folder: Path, to: str, *, out: Path) -> subprocess.Popen[bytes]:
    """The control: it marks as published what it has yet to send."""
    command = [sys.executable, str(ROOT / "tests" / "early_publisher.py"), f"sqlite:///{folder}/shop.db", str(out)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stderr=log)


def _has_begun(out: Path, process: subprocess.Popen[bytes]) -> bool:
    return (out.exists() and out.stat().st_size > 0) or process.poll() is not None


def killed_again_and_again(
    folder: Path, start: Callable[..., subprocess.Popen[bytes]], rounds: int = ROUNDS
) -> list[bytes]:
    """The lines of publishers that were killed at random instants while others wrote, and of one that was left alone."""
    chance = random.Random(7)
    files: list[Path] = []
    for nth in range(rounds):
        writing = writers(folder, nth)
        files.append(folder / f"out-{nth}")
        process = start(folder, "stdout:", out=files[-1])
        has_begun = partial(_has_begun, files[-1], process)
        wait_until(has_begun)
        assert process.poll() in (None, -signal.SIGKILL), (folder / "log").read_text()
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.wait()
        for writer in writing:
            assert writer.wait(GUARD_SECONDS) == 0
    time.sleep(0.4)  # the last one's hold ends
    files.append(folder / "out-last")
    assert publish(folder, "stdout:", "--once", out=files[-1]).wait(GUARD_SECONDS) == 0, (folder / "log").read_text()
    lines: list[bytes] = []
    for file in files:
        # What was cut off in the middle of a line was not acknowledged.
        lines += file.read_bytes().split(b"\n")[:-1]
    return lines


def test_a_publisher_that_is_killed_loses_nothing_and_keeps_the_order(folder: Path) -> None:
    lines = killed_again_and_again(folder, publish)

    ids = [json.loads(line)["id"] for line in lines]
    store = open_store(f"sqlite:///{folder}/shop.db")
    assert len(event_ids(store)) == ROUNDS * WRITERS * FACTS_EACH
    assert sorted(first_times(ids)) == sorted(event_ids(store))
    assert in_order(ids)
    assert len(set(lines)) == len(set(ids)), "each time the same bytes"
    store.close()


def test_the_harness_notices_when_the_place_is_kept_before_the_events_are_sent(folder: Path) -> None:
    lines = killed_again_and_again(folder, early_publisher, rounds=1)

    assert len({json.loads(line)["id"] for line in lines}) < WRITERS * FACTS_EACH


def position_in(folder: Path) -> int:
    """How far the events of the shop are published."""
    store = open_store(f"sqlite:///{folder}/shop.db")
    try:
        return store.checkpoints.checkpoint(checkpoint_of("default"))
    finally:
        store.close()


def _is_beyond(folder: Path, position: int) -> bool:
    return position_in(folder) > position


def test_two_publishers_one_of_them_killed_again_and_again_leave_each_event_once_in_jetstream(
    folder: Path, nats_server: OwnNats
) -> None:
    place = fresh_place(nats_server.url)
    chance = random.Random(3)
    running = [publish(folder, place, "--create") for _ in range(2)]

    published = 0
    for nth in range(ROUNDS):
        writing = writers(folder, nth)
        # Each round one of them is at work when the other, or itself, is killed.
        wait_until(partial(_is_beyond, folder, published))
        time.sleep(chance.uniform(0, 0.5))
        published = position_in(folder)
        victim = running.pop(0)
        victim.kill()
        victim.wait()
        running.append(publish(folder, place, "--create"))
        for writer in writing:
            assert writer.wait(GUARD_SECONDS) == 0
    for process in running:
        process.terminate()
        # One that has only just been started may not have learnt yet to end with grace.
        assert process.wait(GUARD_SECONDS) in (0, -signal.SIGTERM), (folder / "log").read_text()
    time.sleep(0.4)  # the hold of one that was killed ends
    assert publish(folder, place, "--once").wait(GUARD_SECONDS) == 0, (folder / "log").read_text()

    ids = [json.loads(body)["id"] for _, _, body in stored(place)]
    store = open_store(f"sqlite:///{folder}/shop.db")
    assert len(ids) == ROUNDS * WRITERS * FACTS_EACH
    assert sorted(ids) == sorted(event_ids(store))
    assert in_order(ids)
    store.close()


def test_a_broker_that_is_killed_and_started_again_has_each_event_once_in_order(
    tmp_path: Path, nats_server: OwnNats
) -> None:
    place = fresh_place(nats_server.url)
    store = a_store(("A", 1), url=f"sqlite:///{tmp_path}/shop.db")
    broker, stop, chance = open_broker(place, create=True), threading.Event(), random.Random(5)
    publisher = Publisher(store, store.checkpoints, broker, source=SOURCE)
    thread = threading.Thread(target=publisher.run, args=(stop,))
    thread.start()

    for nth in range(2):
        for _ in range(20):
            case = f"C{chance.randrange(5)}"
            append(store, case, f"order/{case}")
        nats_server.kill()
        append(store, "A", "order/A")
        if nth % 2:
            wait_until(lambda: publisher.status().state == "failing")
        nats_server.start()
    wait_until(lambda: store.checkpoints.checkpoint(checkpoint_of("default")) == store.head())
    stop.set()
    thread.join()

    ids = [json.loads(body)["id"] for _, _, body in stored(place)]
    assert sorted(ids) == sorted(event_ids(store))
    assert in_order(ids)
    assert publisher.status().last_error is not None, "it noticed"
    broker.close()
    store.close()
