"""``python -m bench.reliability.tailing``: processes write to one store while others follow it, and nobody misses anything.

Afterwards the log is read once and compared with what was written and with what every follower saw, fact by fact. Nothing
may be missing, come twice or stand out of order. The control writes to a store that gives positions before it has its lock.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from bench.postgres import OwnServer
from bench.reliability.processes import LOOK_SECONDS, Process, wait_until_begun
from bench.reliability.tailing_worker import LAST, batch, line_of
from bench.reliability.unordered import take_the_lock_away
from bench.speed.measure import table
from returnable.adapters.eventstore.open import migrate_store, on_a_server, open_store, path_of
from returnable.adapters.eventstore.store import FactStore
from returnable.domain.ports import Recorded

WORKER = "bench.reliability.tailing_worker"

RACES = 0.1
"""How often a writer appends to the case that all share."""

PAGE = 5000

SHOWN = 5
"""How many troubles are shown."""

_OPENED = "opened\n"


@dataclass
class Tally:
    """What came of a run."""

    events: int = 0
    writers: int = 0
    readers: int = 0
    seconds: float = 0.0
    """Until the writers were done."""
    behind: float = 0.0
    """How many seconds later the last follower was."""
    progress: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    """After how many seconds there were how many facts."""
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    missed: int = 0
    doubled: int = 0
    out_of_order: int = 0
    otherwise: int = 0
    troubles: list[str] = field(default_factory=list)

    def trouble(self, kind: str, what: str, count: int = 1) -> None:
        """Count what must not happen."""
        setattr(self, kind, getattr(self, kind) + count)
        self.troubles.append(f"{kind}: {what}")

    def summary(self) -> str:
        """A Markdown table."""
        rows = [
            ("facts written", f"{self.events:,}"),
            ("writing processes", f"{self.writers:,}"),
            ("following processes", f"{self.readers:,}"),
            ("facts written that are not in the log", f"{self.lost:,}"),
            ("facts that are in the log twice", f"{self.twice:,}"),
            ("facts in the log out of the order of their stream or of positions", f"{self.disordered:,}"),
            ("facts missed by followers", f"{self.missed:,}"),
            ("facts seen twice by followers", f"{self.doubled:,}"),
            ("facts seen out of order by followers", f"{self.out_of_order:,}"),
            ("facts seen that are not so in the log", f"{self.otherwise:,}"),
        ]
        return table(("what", "count"), rows)

    def speed(self) -> str:
        """How fast it was from beginning to end, as ratios to the first tenth."""
        tenth = self.events // 10
        first, *later = (self.rate(tenth * n, tenth * (n + 1)) for n in range(10))
        curve = ", ".join(f"{rate / first:.2f}" for rate in later)
        few = min(20_000, tenth)
        last = self.rate(self.events - few, self.events) / self.rate(0, few)
        return (
            f"{self.events / self.seconds:,.0f} facts/s over {self.seconds:,.0f} s, the followers {self.behind:.1f} s later."
            f" Relative to the first tenth: {curve}. The last {few:,} facts relative to the first: {last:.2f}."
        )

    def rate(self, after: int, upto: int) -> float:
        """Facts a second between two counts of facts, as well as that was looked at."""
        begin = max(seen for seen in self.progress if seen[1] <= after)
        end = next((seen for seen in self.progress if seen[1] >= upto), self.progress[-1])
        return (end[1] - begin[1]) / (end[0] - begin[0])


# ---- the processes ------------------------------------------------------------------------------------------------------


def run(
    url: str,
    folder: Path,
    *,
    events: int,
    writers: int,
    readers: int,
    control: bool = False,
    trouble: Callable[[], None] = lambda: None,
) -> Tally:
    """Write and follow in processes of their own, with trouble again and again until the writers are done; then compare.

    There must be an empty store at ``url``. ``folder`` is for what the processes say. Raises ``RuntimeError`` when one of
    them fails.
    """
    each = events // writers
    if control and on_a_server(url):
        take_the_lock_away(url)
    with ExitStack() as stack:
        following = [Process(folder / f"reader-{n}.out", WORKER, "tail", url) for n in range(readers)]
        for process in following:
            stack.callback(process.end)
        writing = [
            Process(folder / f"writer-{n}.out", WORKER, *_how_to_write(url, f"w{n}", each, control))
            for n in range(writers)
        ]
        for process in writing:
            stack.callback(process.end)
        wait_until_begun([*following, *writing])
        tally = Tally(each * writers, writers, readers)
        with closing(open_store(url)) as store:
            _wait(store, writing, trouble, tally)
            begin = time.monotonic()
            store.append([batch(LAST, 0, [LAST])])
            for process in following:
                process.wait()
            tally.behind = time.monotonic() - begin
            _compare(store, each, [process.output for process in following], tally)
    return tally


def _how_to_write(url: str, name: str, events: int, control: bool) -> list[str]:
    if control and not on_a_server(url):
        return ["write-unordered", path_of(url), name, str(events)]
    # Without the lock a lost race is an error of the database, which the library knows nothing of.
    return ["write", url, name, str(events), str(0 if control else RACES)]


def _wait(store: FactStore, writing: Sequence[Process], trouble: Callable[[], None], tally: Tally) -> None:
    """Wait for the writers, and see how fast they are."""
    begin = time.monotonic()
    running = True
    while running:
        running = any(process.is_running for process in writing)
        tally.progress.append((time.monotonic() - begin, store.head()))
        trouble()
        time.sleep(LOOK_SECONDS)
    tally.seconds, _ = tally.progress[-1]
    for process in writing:
        process.wait()


# ---- comparing ----------------------------------------------------------------------------------------------------------


def _compare(store: FactStore, each: int, outputs: Sequence[Path], tally: Tally) -> None:
    prints = _check_log(store, each, tally)
    for output in outputs:
        _check_follower(output, prints, tally)


def _check_log(store: FactStore, each: int, tally: Tally) -> array[int]:
    """See that the log holds every fact once and in order; a print of each fact, by its position, 0 where there is none."""
    prints = array("q", bytes(8 * (store.head() + 1)))
    written = [bytearray(each) for _ in range(tally.writers)]
    versions: dict[str, int] = {}
    last = 0
    for one in _log(store):
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


def _log(store: FactStore) -> Iterator[Recorded]:
    after = 0
    while page := store.read(after, PAGE):
        yield from page
        after = page[-1].position


def _check_follower(output: Path, prints: array[int], tally: Tally) -> None:
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


# ---- the command --------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, follow, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.tailing", description=__doc__)
    parser.add_argument("--store", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--writers", type=int, default=4, help="how many processes write")
    parser.add_argument("--readers", type=int, default=2, help="how many processes follow")
    parser.add_argument("--store-dir", type=Path, help="where the store is made (default: the temporary folder)")
    parser.add_argument(
        "--control",
        action="store_true",
        help="a store that gives positions before it has its lock: shows that the comparison finds what is missed, exits 1",
    )
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-tailing-", dir=options.store_dir))
        )
        url = f"sqlite:///{folder}/facts.db" if options.store == "sqlite" else stack.enter_context(OwnServer()).url
        migrate_store(url)
        counts = {"events": options.events, "writers": options.writers, "readers": options.readers}
        tally = run(url, folder, **counts, control=options.control)
    print(tally.summary())
    if not options.control:
        print(f"\n{tally.speed()}")
    for trouble in tally.troubles[:SHOWN]:
        print(trouble, file=sys.stderr)
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
