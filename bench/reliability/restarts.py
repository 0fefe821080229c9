"""``python -m bench.reliability.restarts``: a PostgreSQL server crashes again and again while hosts give commands.

Hosts in processes of their own serve whole customers, refunds included, and write every answer they get to ledgers outside.
The server is restarted with ``pg_ctl restart -m immediate``, which is a crash and its recovery. Then everything is compared
with an uninterrupted run. The control's hosts ask again themselves, without command ids.

The server crashes, not the machine: what a power failure does to the disk is not shown here.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.postgres import OwnServer
from bench.reliability.hosts import Hosts, Tally
from returnable.adapters.eventstore.open import migrate_store

LONGEST_CALM_SECONDS = 0.8
"""The longest the server runs between two crashes."""


def run(server: OwnServer, folder: Path, *, restarts: int, hosts: int, seed: int = 1, control: bool = False) -> Tally:
    """Crash a server on which there is no store that often; what came of it. ``folder`` is for ledgers.

    Raises ``RuntimeError`` when a host ends by itself.
    """
    chance = random.Random(seed)
    migrate_store(server.url)
    with Hosts(server.url, folder, hosts, control=control) as at_work:
        for _ in range(restarts):
            at_work.wait_for_an_answer()
            time.sleep(chance.uniform(0, LONGEST_CALM_SECONDS))
            server.control("restart", "-m", "immediate")
            at_work.check()
        at_work.finish()
        return at_work.compare(server.url)


def main(arguments: Sequence[str] | None = None) -> int:
    """Crash, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.restarts", description=__doc__)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--hosts", type=int, default=4, help="how many processes give commands")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--control",
        action="store_true",
        help="hosts that ask again without command ids: shows that the comparison finds trouble, exits 1",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="returnable-restarts-") as folder, OwnServer() as server:
        tally = run(
            server,
            Path(folder),
            restarts=options.restarts,
            hosts=options.hosts,
            seed=options.seed,
            control=options.control,
        )
    return tally.show([("crashes of the server", options.restarts)])


if __name__ == "__main__":
    sys.exit(main())
