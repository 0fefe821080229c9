"""``returnable publish`` as a person or a service manager runs it."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import closing, redirect_stderr
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from patience import GUARD_SECONDS, wait_until
from publishing import a_store, append, damage, event_ids
from terminal import one_line, returnable

from returnable.adapters.eventstore.open import open_store
from returnable.adapters.operating.logs import log_to_stderr


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    a_store(("A", 3), ("B", 2), url=f"sqlite:///{path}").close()
    return path


def publish(shop: Path, *options: str) -> tuple[int, str, str]:
    return returnable("publish", "--store", f"sqlite:///{shop}", *options)


def ids(out: str) -> list[str]:
    return [json.loads(line)["id"] for line in out.splitlines()]


def test_what_is_there_is_published_once_and_then_what_is_new(shop: Path) -> None:
    status, out, _ = publish(shop, "--to", "stdout:", "--once")
    assert status == 0
    store = open_store(f"sqlite:///{shop}")
    assert sorted(ids(out)) == sorted(event_ids(store))

    append(store, "B", "order/B")
    status, out, _ = publish(shop, "--to", "stdout:", "--once")

    assert (status, ids(out)) == (0, ["order/B#3"])
    store.close()


def test_the_status_tells_how_far_it_is(shop: Path) -> None:
    assert publish(shop, "--status") == (0, "default: published up to position 0 of 5, 5 behind\n", "")
    publish(shop, "--to", "stdout:", "--once", "--name", "bus")

    status, out, _ = publish(shop, "--status", "--name", "bus", "--json")

    assert (status, json.loads(out)) == (0, {"name": "bus", "position": 5, "head": 5, "behind": 0})


def test_the_status_of_a_name_that_nobody_published_under_is_an_error_with_the_names_there_are(shop: Path) -> None:
    refused = "returnable: --name: no publisher of the name {!r} has run on this store{}\n"
    assert publish(shop, "--status", "--name", "buss") == (2, "", refused.format("buss", ""))
    for name in ("mails", "bus"):
        publish(shop, "--to", "stdout:", "--once", "--name", name)

    assert publish(shop, "--status", "--name", "buss") == (2, "", refused.format("buss", "; there is bus, mails"))
    assert publish(shop, "--status") == (2, "", refused.format("default", "; there is bus, mails"))


def test_it_begins_where_it_is_told_to_and_never_goes_back(shop: Path) -> None:
    _, out, _ = publish(shop, "--to", "stdout:", "--once", "--from", "4", "--source", "/shop")
    assert [json.loads(line)["source"] for line in out.splitlines()] == ["/shop"] * 2

    status, out, err = publish(shop, "--to", "stdout:", "--once", "--from", "2")

    assert (status, out) == (2, "")
    assert "--from: the publisher 'default' is at position 5 already; choose another name" in err


def test_a_second_publisher_of_the_name_does_not_run_once(shop: Path) -> None:
    store = open_store(f"sqlite:///{shop}")
    now = datetime.now(UTC)
    store.checkpoints.acquire("publish/default", "another", now=now, until=now + timedelta(minutes=1))

    status, out, err = publish(shop, "--to", "stdout:", "--once")

    assert (status, out) == (1, "")
    assert "another publisher of the name default is running" in err
    store.close()


def test_a_parked_case_is_told_and_is_exit_status_1(shop: Path) -> None:
    damage(shop, "order/A", 2)

    status, out, err = publish(shop, "--to", "stdout:", "--once", "--log-format", "json")

    assert status == 1
    assert [one for one in ids(out) if "/A" in one] == ["order/A#1", "order/A#2/damaged"]
    (parked,) = [said for said in map(json.loads, err.splitlines()) if said["level"] == "error"]
    assert (parked["publisher"], parked["case_id"], parked["event"]) == ("default", "A", "order/A#2")


def test_logging_that_is_set_up_again_tells_each_record_once_in_the_last_form_on_the_stderr_of_then(shop: Path) -> None:
    with closing(io.StringIO()) as gone, redirect_stderr(gone):
        log_to_stderr("text")

    _, _, err = publish(shop, "--to", "stdout:", "--once", "--log-format", "json")

    assert json.loads(one_line(err))["message"] == "default: publishing from position 1 on"


def test_redacted_events_have_the_same_pseudonyms_every_time(shop: Path) -> None:
    options = ("--to", "stdout:", "--once", "--redact", "--redact-key", "k")
    _, first, _ = publish(shop, *options, "--name", "one")
    _, second, _ = publish(shop, *options, "--name", "two")

    assert first == second
    assert all(json.loads(line)["data"]["account_id"].startswith("anon-") for line in first.splitlines())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--to is missing"),
        (("--to", "http://x/"), "'http://x/' names no broker"),
        (("--to", "stdout:", "--source", "my shop"), "--source: 'my shop' is not a URI-reference"),
        (("--to", "stdout:", "--redact"), "--redact needs --redact-key"),
        (("--to", "stdout:", "--name", ""), "--name: is empty"),
        (("--to", "stdout:", "--json"), "--json needs --status"),
        (("--status", "--once"), "--status excludes --once"),
        (("--status", "--from", "3"), "--status excludes --from"),
        (("--to", "nats://shop:secret@127.0.0.1:1", "--once"), "nats://127.0.0.1:1: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_status_2(shop: Path, options: tuple[str, ...], said: str) -> None:
    status, out, err = publish(shop, *options)

    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert said in one_line(last + "\n")
    assert "secret" not in err


def test_a_store_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    status, _, err = publish(tmp_path / "none.db", "--to", "stdout:", "--once")

    assert (status, one_line(err)) == (2, f"returnable: {tmp_path}/none.db: there is no store here")
    assert not (tmp_path / "none.db").exists()


def started(shop: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "publish", "--store", f"sqlite:///{shop}"]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stays_until_it_is_told_to_stop_and_then_lets_go(shop: Path, number: int) -> None:
    running = started(shop, "--to", "stdout:")
    assert running.stdout is not None
    first = [running.stdout.readline() for _ in range(5)]
    store = open_store(f"sqlite:///{shop}")
    append(store, "C", "order/C")
    assert ids(running.stdout.readline()) == ["order/C#1"]

    running.send_signal(number)
    out, err = running.communicate(timeout=GUARD_SECONDS)

    assert (running.returncode, out) == (0, ""), err
    assert len(first) == 5
    assert store.checkpoints.checkpoint("publish/default") == 6
    now = datetime.now(UTC)
    assert store.checkpoints.acquire("publish/default", "next", now=now, until=now) == 6, "it is free at once"
    store.close()


def test_a_broker_that_is_away_is_waited_for_and_health_says_so(shop: Path) -> None:
    running = started(shop, "--to", "nats://shop:secret@127.0.0.1:1", "--health", "127.0.0.1:0", "--log-format", "json")
    assert running.stderr is not None
    said = [json.loads(running.stderr.readline())]
    while said[-1]["level"] != "warning":
        said.append(json.loads(running.stderr.readline()))
    url = next(one["health"] for one in said if "health" in one)
    health: dict[str, Any] = {}

    def is_told() -> bool:
        # A report that is not ready in a second is told without its content.
        with pytest.raises(urllib.error.HTTPError) as answered:
            urllib.request.urlopen(url)
        health.update(json.loads(answered.value.read()))
        answered.value.close()
        return "behind" in health

    try:
        wait_until(is_told)
    finally:
        running.send_signal(signal.SIGTERM)
        _, rest = running.communicate(timeout=GUARD_SECONDS)

    assert running.returncode == 0
    assert (health["healthy"], health["behind"], health["state"]) == (False, 5, "failing")
    assert health["failures"] >= 1
    assert said[-1]["message"].startswith("default: not published, trying again in 0.2 s: nats://127.0.0.1:1: ")
    assert "secret" not in "".join(map(str, said)) + rest + str(health)


def test_when_nobody_reads_it_ends(shop: Path) -> None:
    running = started(shop, "--to", "stdout:")
    assert running.stdout is not None
    store = open_store(f"sqlite:///{shop}")
    wait_until(lambda: store.checkpoints.checkpoint("publish/default") == 5)
    running.stdout.close()
    append(store, "C", "order/C")

    assert running.wait(GUARD_SECONDS) == 141
    assert running.stderr is not None
    assert "Traceback" not in running.stderr.read()
    running.stderr.close()
    assert store.checkpoints.checkpoint("publish/default") == 5, "the last one was not read"
    store.close()


def test_a_second_interrupt_does_not_wait_for_a_broker_that_hangs(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = started(shop, "--to", f"nats://127.0.0.1:{silent.getsockname()[1]}")
        assert running.stderr is not None
        assert "publishing from position 1 on" in running.stderr.readline()
        connection, _ = silent.accept()

        # Two signals that come before the process looks are one for it, so it is interrupted until it says so.
        said: list[str] = []
        stream = running.stderr
        reading = threading.Thread(target=lambda: said.extend(line for line in stream if line.strip()))
        reading.start()
        while not said and reading.is_alive():
            running.send_signal(signal.SIGINT)
            reading.join(0.5)
        running.wait(GUARD_SECONDS)
        reading.join(GUARD_SECONDS)
        running.communicate()
        connection.close()

    assert said == ["returnable: interrupted\n"]
    assert running.returncode in (130, -signal.SIGINT), "the latter: it was interrupted once more while it ended"
    store = open_store(f"sqlite:///{shop}")
    assert store.checkpoints.checkpoint("publish/default") == 0
    store.close()
