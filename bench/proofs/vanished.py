"""``python -m bench.proofs.vanished``: hosts vanish from the network while they write to a PostgreSQL server.

Each host runs in a network namespace of its own. At a named point, at which the server holds a lock for it, its link is
cut: nothing that it or the server sends arrives any more, and nobody is told. Other writers must then write, and nobody of
them may be refused. The control's hosts leave the server's keep-alives and limits as PostgreSQL sets them by itself.

Needs Linux, root and the command ``ip``.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import psycopg

from bench.proofs.processes import LOOK_SECONDS, Process, in_threads, wait_until_begun
from bench.proofs.proof import Proof, Run, Tally, counted, main
from bench.proofs.tailing_worker import MOMENT, batch
from bench.proofs.vanished_worker import BOOKMARK, POINTS
from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.domain.errors import StoreBusy

SERVER, HOST, NETWORK = "10.213.46.1", "10.213.46.2", "10.213.46.0/24"

WRITERS = 4

_HELD = (
    "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE client_addr = %s::inet AND granted"
    " AND (locktype = 'advisory' OR mode = 'RowExclusiveLock')"
)


@dataclass
class Vanished(Tally):
    """What came of it."""

    cuts: int = counted("hosts that vanished with a lock")
    written: int = counted("writers that wrote afterwards")
    refused: int = counted("writers that were refused: StoreBusy")
    slowest_seconds: float = counted("slowest write, seconds")


class Link:
    """A network namespace, and a link from it to ours that can be cut."""

    def __init__(self, name: str) -> None:
        self._name, self._ours, self._theirs = name, f"{name}a", f"{name}b"
        _ip("netns", "add", name)
        _ip("link", "add", self._ours, "type", "veth", "peer", "name", self._theirs, "netns", name)
        _ip("addr", "add", f"{SERVER}/24", "dev", self._ours)
        _ip("link", "set", self._ours, "up")
        _ip("-n", name, "addr", "add", f"{HOST}/24", "dev", self._theirs)
        self.mend()
        self.within = ("ip", "netns", "exec", name)

    def cut(self) -> None:
        """From now on nothing arrives at either end. The server's end stays up, as it does when a far cable is pulled."""
        _ip("-n", self._name, "addr", "flush", "dev", self._theirs)

    def mend(self) -> None:
        _ip("-n", self._name, "addr", "replace", f"{HOST}/24", "dev", self._theirs)
        _ip("-n", self._name, "link", "set", self._theirs, "up")

    def close(self) -> None:
        _ip("link", "del", self._ours)
        _ip("netns", "del", self._name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _vanish(run: Run, link: Link, url: str, url_there: str, nth: int, point: str, tally: Vanished) -> None:
    control = ["control"] if run.control else []
    output = run.folder / f"{nth}.out"
    host = Process(output, "bench.proofs.vanished_worker", url_there, point, *control, within=link.within)
    try:
        wait_until_begun([host])
        if not host.is_running:
            host.finish()
        with _locked(url):
            link.cut()
            tally.cuts += 1
            _write_beside(url, nth, point, tally)
    finally:
        host.kill()  # while the link is cut, so that the server does not hear of its end
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL")
        link.mend()


@contextmanager
def _locked(url: str) -> Iterator[None]:
    """Once the server holds a lock for a host beyond the link."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(_HELD, (HOST,)).fetchone() == (0,):
            time.sleep(LOOK_SECONDS)
        yield


def _write_beside(url: str, nth: int, point: str, tally: Vanished) -> None:
    """Writers with a store of their own each write once, as a process would."""

    def write(writer: int) -> None:
        with closing(open_store(url)) as store:
            began = time.monotonic()
            try:
                store.append([batch(f"beside-{nth}-{writer}", 0, ["x"])])
                store.checkpoints.acquire(BOOKMARK, "beside", now=MOMENT, until=MOMENT + timedelta(seconds=1))
            except StoreBusy as busy:
                tally.trouble("refused", f"a host vanished {point}: {busy}")
            else:
                tally.written += 1
            tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - began)

    in_threads(partial(write, writer) for writer in range(WRITERS))


def vanished(run: Run) -> Vanished:
    if os.geteuid() != 0:
        raise SystemExit("network namespaces need root")
    tally, server = Vanished(), run.server
    migrate_store(server.url)
    with closing(Link(f"rt{os.getpid() % 1_000_000}")) as link:
        url_there = server.listen(SERVER, NETWORK)
        for nth, point in enumerate([*POINTS.by_name] * run.rounds):
            _vanish(run, link, server.url, url_there, nth, point, tally)
    return tally


if __name__ == "__main__":
    main(
        Proof(
            vanished,
            rounds=5,
            of="hosts vanish at each point",
            controls={"no-keep-alives": "the server's keep-alives and limits are as PostgreSQL sets them"},
        )
    )
