"""Writers and followers of a store on PostgreSQL, in processes of their own, on a sound server and on one in trouble.

``RETURNABLE_TEST_EVENTS`` says how many facts are written (20,000 where it is not said).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from postgres import OwnServer, Proxy, fresh_store_url, sql, with_parameters

from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.wiring import assemble
from returnable.testing import Scenario, Step, an_order, request_cancellation, request_refund

ROOT = Path(__file__).parents[2]
EVENTS = int(os.environ.get("RETURNABLE_TEST_EVENTS", "20000"))
WRITERS, READERS = 4, 2


def _start(what: str, url: str, name: str, events: int, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "tests" / "tailing.py"), what, url, name, str(events)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with out.open("wb") as file, out.with_suffix(".err").open("wb") as errors:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=errors)


def _run(url: str, folder: Path, events: int, trouble: Callable[[], None] = lambda: None) -> None:
    """Write and follow, with trouble until all writers are done; then see that nobody missed or doubled anything."""
    each = events // WRITERS
    readers = [_start("tail", url, f"r{n}", each * WRITERS, folder / f"r{n}.out") for n in range(READERS)]
    writers = [_start("write", url, f"w{n}", each, folder / f"w{n}.out") for n in range(WRITERS)]
    try:
        # A server that is away when a store is opened is another matter.
        for _ in range(3000):
            if all(file.stat().st_size for file in folder.glob("*.out")):
                break
            time.sleep(0.01)
        while any(writer.poll() is None for writer in writers):
            trouble()
            time.sleep(0.02)
        for process in (*writers, *readers):
            process.wait(240)
    finally:
        for process in (*writers, *readers):
            process.kill()
            process.wait()
    said = {file.name: file.read_text() for file in folder.glob("*.err") if file.stat().st_size}
    assert said == {}
    assert [process.returncode for process in (*writers, *readers)] == [0] * (WRITERS + READERS)

    with closing(open_store(url)) as store:
        recorded = []
        while page := store.read(recorded[-1][0] if recorded else 0, 5000):
            recorded += [(one.position, one.stream, one.version, one.fact.account_id) for one in page]  # type: ignore[attr-defined]
    # Every fact of every writer is there once.
    expected = sorted(f"w{n}-{nth}" for n in range(WRITERS) for nth in range(each))
    assert sorted(text for *_, text in recorded) == expected
    # Each stream is without gaps, in the order of positions.
    versions: dict[str, int] = {}
    for _, stream, version, _ in recorded:
        assert version == versions.get(stream, 0) + 1
        versions[stream] = version
    # Every follower saw exactly that.
    lines = [" ".join(map(str, one)) for one in recorded]
    for n in range(READERS):
        assert (folder / f"r{n}.out").read_text().splitlines() == ["opened", *lines]


def test_followers_of_many_writers_miss_nothing(tmp_path: Path) -> None:
    _run(fresh_store_url(), tmp_path, EVENTS)


def test_connections_that_are_cut_all_the_time_lose_and_double_nothing(tmp_path: Path) -> None:
    name = f"trouble-{os.getpid()}"
    url = with_parameters(fresh_store_url(), application_name=name)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s ORDER BY random() LIMIT 2"
    cuts = 0

    def trouble() -> None:
        nonlocal cuts
        cuts += len(sql(cut, (name,)))

    _run(url, tmp_path, EVENTS // 4, trouble)

    assert cuts > 20


@pytest.fixture
def other_server() -> Iterator[OwnServer]:
    server = OwnServer()
    yield server
    server.stop()


def test_a_server_that_crashes_under_load_loses_and_doubles_nothing(other_server: OwnServer, tmp_path: Path) -> None:
    migrate_store(other_server.url)
    crashes = 0

    def trouble() -> None:
        nonlocal crashes
        if crashes < 3:
            time.sleep(0.5)
            other_server.control("restart", "-m", "immediate")
            crashes += 1

    _run(other_server.url, tmp_path, EVENTS // 2, trouble)

    assert crashes >= 1


def test_refunds_whose_answers_are_all_lost_are_requested_once() -> None:
    # given: a host whose connection breaks just after every commit
    proxy = Proxy()
    schema = place_of(fresh_store_url()).schema
    story = Scenario(assemble(with_parameters(proxy.url, schema=schema)))
    rounds = 20

    # when
    for nth in range(rounds):
        order_id = f"A-{nth}"
        story.at("2026-03-02 10:00").given(an_order(order_id))
        for number, step in enumerate((request_cancellation(order_id), request_refund(f"F-{nth}", order_id=order_id))):
            command_id = f"id-of-{step.command}-{order_id}"
            proxy.lose_answer_to(command_id.encode())
            story.at(f"2026-03-02 11:{number}0").when(Step({**step.fields, "command_id": command_id})).then_accepted()

    # then
    assert proxy.lost == 2 * rounds
    recorded = sql(f"SELECT stream FROM {schema}.facts WHERE type ~ 'RefundRequested'")
    assert sorted(stream for (stream,) in recorded) == sorted(f"order/A-{nth}" for nth in range(rounds))
    story.parts.store.close()
    proxy.close()
