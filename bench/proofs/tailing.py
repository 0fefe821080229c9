"""``python -m bench.proofs.tailing``: processes write to one store while others follow it, and nobody misses anything.

Afterwards the log is read once and compared with what was written and with what every follower saw, fact by fact. Nothing
may be missing, come twice or stand out of order. The control writes to a store that gives positions before it has its lock.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.proofs.processes import LOOK_SECONDS, Processes, wait_until_begun
from bench.proofs.proof import Proof, Run, Tally, counted, main, option
from bench.proofs.reference import log_of
from bench.proofs.tailing_worker import LAST, batch, line_of
from bench.proofs.unordered import take_the_lock_away
from returnable.adapters.eventstore.open import migrate_store, on_a_server, open_store, path_of
from returnable.adapters.eventstore.store import CaseStore

WORKER = "bench.proofs.tailing_worker"

RACES = 0.1
"""How often a writer appends to the case that all share."""

PAGE = 5000

_OPENED = "opened\n"


@dataclass
class Tailing(Tally):
    """What came of a run."""

    events: int = counted("facts written")
    writers: int = counted("writing processes")
    readers: int = counted("following processes")
    lost: int = counted("facts written that are not in the log")
    twice: int = counted("facts that are in the log twice")
    disordered: int = counted("facts in the log out of the order of their stream or of positions")
    missed: int = counted("facts missed by followers")
    doubled: int = counted("facts seen twice by followers")
    out_of_order: int = counted("facts seen out of order by followers")
    otherwise: int = counted("facts seen that are not so in the log")


# ---- the processes ------------------------------------------------------------------------------------------------------


def write_and_follow(
    url: str,
    folder: Path,
    *,
    events: int,
    writers: int,
    readers: int,
    control: bool = False,
    trouble: Callable[[], None] = lambda: None,
) -> Tailing:
    """Write and follow in processes of their own, with trouble again and again until the writers are done; then compare.

    There must be an empty store at ``url``. ``folder`` is for what the processes say. Raises ``RuntimeError`` when one of
    them fails.
    """
    each = events // writers
    if control and on_a_server(url):
        take_the_lock_away(url)
    with Processes() as processes:
        following = [processes.start(folder / f"reader-{n}.out", WORKER, "tail", url) for n in range(readers)]
        writing = [
            processes.start(folder / f"writer-{n}.out", WORKER, *_how_to_write(url, f"w{n}", each, control))
            for n in range(writers)
        ]
        wait_until_begun([*following, *writing])
        tally = Tailing(each * writers, writers, readers)
        with closing(open_store(url)) as store:
            while any(process.is_running for process in writing):
                trouble()
                time.sleep(LOOK_SECONDS)
            for process in writing:
                process.finish()
            store.append([batch(LAST, 0, [LAST])])
            prints = _check_log(store, each, tally)
            for process in following:
                process.finish()
                _check_follower(process.output, prints, tally)
    return tally


def _how_to_write(url: str, name: str, events: int, control: bool) -> list[str]:
    if control and not on_a_server(url):
        return ["write-unordered", path_of(url), name, str(events)]
    # Without the lock a lost race is an error of the database, which the library knows nothing of.
    return ["write", url, name, str(events), str(0 if control else RACES)]


# ---- comparing ----------------------------------------------------------------------------------------------------------


def _check_log(store: CaseStore, each: int, tally: Tailing) -> array[int]:
    """See that the log holds every fact once and in order; a print of each fact, by its position, 0 where there is none."""
    prints = array("q", bytes(8 * (store.head() + 1)))
    written = [bytearray(each) for _ in range(tally.writers)]
    versions: dict[str, int] = {}
    last = 0
    for one in log_of(store, PAGE):
        if one.case_id == LAST:
            continue
        line = line_of(one)
        prints[one.position] = _print_of(line)
        writer, _, nth = line.rpartition(" ")[2].partition("-")
        if written[int(writer[1:])][int(nth)]:
            tally.trouble("twice", line)
        written[int(writer[1:])][int(nth)] = 1
        if one.version != versions.get(one.stream, 0) + 1 or one.position <= last:
            tally.trouble("disordered", line)
        versions[one.stream] = one.version
        last = one.position
    for nth_writer, there in enumerate(written):
        if lost := there.count(0):
            tally.trouble("lost", f"of writer {nth_writer}, the first: {there.index(0)}", lost)
    return prints


def _check_follower(output: Path, prints: array[int], tally: Tailing) -> None:
    """See that a follower saw every fact once, in order and as it is in the log."""
    seen = bytearray(len(prints))
    last = 0
    with output.open() as lines:
        assert next(lines) == _OPENED
        for line in lines:
            position = int(line.partition(" ")[0])
            if position >= len(prints) or prints[position] != _print_of(line.rstrip("\n")):
                tally.trouble("otherwise", f"{output.stem}: {line}")
                continue
            if seen[position]:
                tally.trouble("doubled", f"{output.stem}: {line}")
            if position <= last:
                tally.trouble("out_of_order", f"{output.stem}: {line}")
            seen[position] = 1
            last = position
    for position, there in enumerate(prints):
        if there and not seen[position]:
            tally.trouble("missed", f"{output.stem}: position {position}")


def _print_of(line: str) -> int:
    return hash(line) or 1


def tailing(run: Run) -> Tailing:
    url = run.new_store("facts")
    migrate_store(url)
    counts = {"events": run.events, "writers": run.writers, "readers": run.readers}
    return write_and_follow(url, run.folder, **counts, control=bool(run.control))


if __name__ == "__main__":
    main(
        Proof(
            tailing,
            rounds=1,
            controls={"unordered": "the store gives positions before it has its lock"},
            stores=("postgres", "sqlite"),
            options=[
                option("--events", 100_000),
                option("--writers", 4, "how many processes write"),
                option("--readers", 2, "how many processes follow"),
            ],
        )
    )
