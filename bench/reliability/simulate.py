"""``python -m bench.reliability.simulate``: whole shops in one process, in which everything goes wrong that can.

A seed is a history: some processes with a desk each on one store, hosts that tell commands and tell them again when no answer
comes, a worker that pays refunds, timers, projectors and readers; all of them interrupted at every call of the store, killed,
without power, with clocks that differ, and with a gateway that does not answer. When all has come to rest, oracles look for
what must never be. The same seed is the same history, byte for byte, and
so it is on another store.

With ``--mutant`` a mistake is switched on, which must be noticed; ``--mutants`` tries them all.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from bench.reliability.history import History, hurrying, live
from bench.reliability.machine import disks_in_sqlite
from bench.reliability.mutants import MUTANTS, switched_on
from bench.speed.measure import table

AT_ONCE = 25
"""Histories between two looks for garbage, and in one parcel of a process."""


@dataclass(frozen=True, slots=True)
class How:
    """What all histories of a run have in common."""

    mutant: str | None = None
    store: Literal["memory", "sqlite"] = "memory"

    def live(self, seed: int) -> History:
        """The history of a seed."""
        disks = disks_in_sqlite() if self.store == "sqlite" else nullcontext()
        with switched_on(self.mutant), disks:
            return live(seed)


def live_some(seeds: Sequence[int], how: How) -> list[History]:
    """Their histories, without the traces: those can be had again."""
    gc.collect()
    lived: list[History] = []
    with hurrying():
        for seed in seeds:
            lived.append(how.live(seed))
            lived[-1].trace.clear()
    return lived


def live_all(seeds: Iterable[int], how: How, jobs: int) -> Iterator[History]:
    """Their histories in order, as they are lived, in so many processes."""
    if jobs == 1:
        for parcel in _parcels(seeds):
            yield from live_some(parcel, how)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for lived in pool.imap(partial(live_some, how=how), _parcels(seeds)):
            yield from lived


def _parcels(seeds: Iterable[int]) -> Iterator[list[int]]:
    left = iter(seeds)
    while parcel := list(islice(left, AT_ONCE)):
        yield parcel


def simulate(seeds: Iterable[int], how: How, jobs: int, seconds: float) -> int:
    """Live them all, or until the time is over; print what was seen, and every violation."""
    seen: Counter[str] = Counter()
    bad = 0
    digest = hashlib.sha256()
    begin = time.perf_counter()
    for history in live_all(seeds, how, jobs):
        seen += history.seen
        digest.update(history.digest.encode())
        if history.violations:
            bad += 1
            if bad <= 20:
                print(f"seed {history.seed}: {'; '.join(history.violations[:3])[:600]}", flush=True)
        if time.perf_counter() - begin > seconds:
            break
    took = time.perf_counter() - begin
    rows = [(name, f"{number:,}") for name, number in seen.items()]
    rows += [(f"{name} a second", f"{seen[name] / took:,.1f}") for name in ("histories", "commands")]
    print(table(("what", "count"), [*rows, ("histories with a violation", f"{bad:,}")]))
    print(f"digest of all {digest.hexdigest()}")
    return 1 if bad else 0


def try_mutants(names: Sequence[str], seeds: Sequence[int], seconds: float) -> int:
    """For each of them the seed at which it is noticed, and how long that took; 1 when one is not."""
    rows: list[tuple[str, ...]] = []
    missed = 0
    for name in names:
        begin = time.perf_counter()
        found = None
        for seed in seeds:
            history = live_some([seed], How(name))[0]
            if history.violations:
                found = history
            if found is not None or time.perf_counter() - begin > seconds:
                break
        took = f"{time.perf_counter() - begin:.1f}"
        if found is None:
            missed += 1
            rows.append((name, f"not noticed up to {seed}", took, ""))
        else:
            rows.append((name, str(found.seed), took, found.violations[0].replace("|", "/")[:90]))
    print(table(("mutant", "noticed at seed", "seconds", "by"), rows))
    return 1 if missed else 0


def show(seed: int, how: How) -> int:
    """Everything that happened in one history, in order: virtual microseconds, who, what."""
    history = how.live(seed)
    print("\n".join(history.trace))
    print(f"digest {history.digest}")
    for violation in history.violations:
        print(f"violation: {violation}")
    return 1 if history.violations else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; exit status 1 if anything was violated, or a mutant not noticed with ``--mutants``."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="the first of them")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="stop after so long; for --mutants each (5 at most)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="in so many processes")
    parser.add_argument("--mutant", choices=[*MUTANTS], help="with this mistake in the code: exits 1")
    parser.add_argument("--mutants", action="store_true", help="every mistake in turn, until it is noticed")
    parser.add_argument("--most", type=int, default=10_000, help="so many histories for each of --mutants")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--show", action="store_true", help="print the trace of --seed")
    parser.add_argument("--store", choices=["memory", "sqlite"], default="memory", help="the same histories on either")
    options = parser.parse_args(arguments)
    how = How(options.mutant, options.store)
    if options.seed is not None and options.show:
        return show(options.seed, how)
    if options.mutants:
        tried = range(options.first, options.first + options.most)
        return try_mutants([*MUTANTS], tried, 60 * min(options.minutes, 5))
    first, count = (options.first, options.seeds) if options.seed is None else (options.seed, 1)
    seeds = range(first, first + count)
    return simulate(seeds, how, options.jobs, 60 * options.minutes)


if __name__ == "__main__":
    sys.exit(main())
