"""``python -m bench.reliability.vanished``: hosts vanish from the network while they write to a PostgreSQL server.

Each host runs in a network namespace of its own. At a named point, at which the server holds a lock for it, its link is
cut: nothing that it or the server sends arrives any more, and nobody is told. Other writers must then write, and nobody of
them may be refused. The control's hosts leave the server's keep-alives and limits as PostgreSQL sets them by itself.

Needs Linux, root and the command ``ip``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg

from bench.postgres import OwnServer
from bench.reliability.processes import LOOK_SECONDS, Process, wait_until_begun
from bench.reliability.tailing_worker import MOMENT, batch
from bench.reliability.vanished_worker import BOOKMARK, POINTS
from bench.speed.measure import table
from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.domain.errors import StoreBusy

SERVER, HOST, NETWORK = "10.213.46.1", "10.213.46.2", "10.213.46.0/24"

WRITERS = 4

_HELD = (
    "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE client_addr = %s::inet AND granted"
    " AND (locktype = 'advisory' OR mode = 'RowExclusiveLock')"
)


@dataclass
class Tally:
    """What came of it."""

    cuts: int = 0
    written: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    troubles: list[str] = field(default_factory=list)

    def show(self) -> int:
        """Print it; the exit status."""
        counts = [
            ("hosts that vanished with a lock", self.cuts),
            ("writers that wrote afterwards", self.written),
            ("writers that were refused: StoreBusy", self.refused),
        ]
        rows = [(name, f"{count:,}") for name, count in counts]
        print(table(("what", "count"), [*rows, ("slowest write, seconds", f"{self.slowest_seconds:.1f}")]))
        for trouble in self.troubles:
            print(trouble, file=sys.stderr)
        return 1 if self.troubles else 0


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
        """Let everything through."""
        _ip("-n", self._name, "addr", "replace", f"{HOST}/24", "dev", self._theirs)
        _ip("-n", self._name, "link", "set", self._theirs, "up")

    def close(self) -> None:
        """Take both away."""
        _ip("link", "del", self._ours)
        _ip("netns", "del", self._name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def run(url: str, link: Link, url_there: str, folder: Path, *, rounds: int, control: bool = False) -> Tally:
    """At each point, so often, a host vanishes while others write at the store at ``url``, which it has at ``url_there``."""
    tally = Tally()
    for nth, point in enumerate(list(POINTS) * rounds):
        host = Process(
            folder / f"{nth}.out",
            "bench.reliability.vanished_worker",
            *(url_there, point, *(["control"] if control else [])),
            within=link.within,
        )
        try:
            wait_until_begun([host])
            if not host.is_running:
                host.wait()
            with _locked(url):
                link.cut()
                tally.cuts += 1
                _write_beside(url, nth, point, tally)
        finally:
            host.end()  # while the link is cut, so that the server does not hear of its end
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
                )
            link.mend()
    return tally


@contextmanager
def _locked(url: str) -> Iterator[None]:
    """Once the server holds a lock for a host beyond the link."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(_HELD, (HOST,)).fetchone() == (0,):
            time.sleep(LOOK_SECONDS)
        yield


def _write_beside(url: str, nth: int, point: str, tally: Tally) -> None:
    """Writers with a store of their own each write once, as a process would."""

    def write(writer: int) -> None:
        with closing(open_store(url)) as store:
            began = time.monotonic()
            try:
                store.append([batch(f"beside-{nth}-{writer}", 0, ["x"])])
                store.bookmarks.hold(BOOKMARK, "beside", now=MOMENT, until=MOMENT + timedelta(seconds=1))
            except StoreBusy as busy:
                tally.refused += 1
                tally.troubles.append(f"refused: a host vanished {point}: {busy}")
            else:
                tally.written += 1
            tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - began)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Let hosts vanish, print what came of it; exit status 1 if a writer was refused."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.vanished", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many hosts vanish at each point")
    parser.add_argument(
        "--control", action="store_true", help="without keep-alives: shows that writers are refused, exits 1"
    )
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    with tempfile.TemporaryDirectory(prefix="returnable-vanished-") as folder, OwnServer() as server:
        migrate_store(server.url)
        with closing(Link(f"rt{os.getpid() % 1_000_000}")) as link:
            url_there = server.listen(SERVER, NETWORK)
            tally = run(server.url, link, url_there, Path(folder), rounds=options.rounds, control=options.control)
    return tally.show()


if __name__ == "__main__":
    sys.exit(main())
