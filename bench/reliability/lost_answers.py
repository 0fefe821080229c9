"""``python -m bench.reliability.lost_answers``: the answers to commits are lost, one after the other.

Hosts in processes of their own serve whole customers, refunds included, over a proxy that lets the first append of every
command through to the server and loses the answer with the connection. Then everything is compared with an uninterrupted
run. The control's hosts ask again themselves, without command ids.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.postgres import OwnServer, Proxy, with_parameters
from bench.reliability.hosts import Hosts, Tally
from bench.reliability.processes import LOOK_SECONDS
from returnable.adapters.eventstore.open import migrate_store
from returnable.adapters.eventstore.postgres_place import place_of

ACTOR = rb'"([a-z_]+)-\d+-\d+"'
"""The actor of a command, as its facts say it: in no request but an append."""


def run(url: str, folder: Path, *, replies: int, hosts: int, control: bool = False) -> tuple[Tally, Counter[str]]:
    """Lose so many answers of the empty store at a PostgreSQL URL; what came of it, and how many of which command.

    ``folder`` is for ledgers. Raises ``RuntimeError`` when a host ends by itself.
    """
    place = place_of(url)
    with (
        closing(Proxy(place.conninfo)) as proxy,
        Hosts(with_parameters(proxy.url, schema=place.schema), folder, hosts, control=control) as at_work,
    ):
        proxy.lose_answers_to(ACTOR, replies, but=b"stale")
        while proxy.lost < replies:
            time.sleep(LOOK_SECONDS)
            at_work.check()
        at_work.finish()
        kinds = Counter(text.decode().partition("-")[0].strip('"') for text in proxy.found)
        return at_work.compare(url), kinds


def main(arguments: Sequence[str] | None = None) -> int:
    """Lose, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.lost_answers", description=__doc__)
    parser.add_argument("--replies", type=int, default=200, help="how many answers are lost")
    parser.add_argument("--hosts", type=int, default=4, help="how many processes give commands")
    parser.add_argument(
        "--control",
        action="store_true",
        help="hosts that ask again without command ids: shows that the comparison finds trouble, exits 1",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="returnable-lost-answers-") as folder, OwnServer() as server:
        migrate_store(server.url)
        counts = {"replies": options.replies, "hosts": options.hosts}
        tally, kinds = run(server.url, Path(folder), **counts, control=options.control)
    print(f"{', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))}\n")
    return tally.show(
        [
            ("answers to appends that were lost", kinds.total()),
            ("… of commands of so many kinds", len(kinds)),
            ("… of requests for refunds", kinds["request_refund"]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
