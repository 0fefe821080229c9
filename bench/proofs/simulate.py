"""``python -m bench.proofs.simulate``: whole shops in one process, in which everything goes wrong that can.

A seed is a history: some processes with a desk each on one store, hosts that give commands and give them again when no answer
comes, a worker that pays refunds, timers, projectors and readers; all of them interrupted at every call of the store, killed,
without power, with clocks that differ, and with a gateway that does not answer. When all has come to rest, oracles look for
what must never be. The same seed is the same history, byte for byte, on any store.

With ``--control`` a mistake is switched on, which must be noticed; ``--mutants`` tries them all.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from bench.proofs.processes import in_parcels
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main, option
from bench.proofs.simulator.history import History, hurrying, live
from bench.proofs.simulator.machine import disks_in_sqlite
from bench.proofs.simulator.mutants import MUTANTS
from bench.speed.measure import table

AT_ONCE = 25
"""Histories between two looks for garbage, and in one parcel of a process."""

MUTANT_SECONDS = 300.0
"""How long a mutant is looked for with ``--mutants``."""


@dataclass
class Simulated(Tally):
    """What was seen in all histories."""

    seen: Counter[str] = counted_each("{}")
    violations: int = counted("histories with a violation")
    unnoticed: int = counted("mutants that were not noticed")


def live_one(seed: int, mutant: str | None, store: str = "memory") -> History:
    disks = disks_in_sqlite() if store == "sqlite" else nullcontext()
    with MUTANTS.switched_on(mutant), disks:
        return live(seed)


def live_some(seeds: Sequence[int], mutant: str | None, store: str = "memory") -> list[History]:
    """Their histories, without the traces: those can be had again."""
    gc.collect()
    lived: list[History] = []
    with hurrying():
        for seed in seeds:
            lived.append(live_one(seed, mutant, store))
            lived[-1].trace.clear()
    return lived


def try_mutants(seeds: range, tally: Simulated) -> None:
    """Print the seed at which each of them is noticed, and how long that took."""
    rows: list[tuple[str, ...]] = []
    for name in MUTANTS.by_name:
        begin = time.perf_counter()
        for seed in seeds:
            (history,) = live_some([seed], name)
            if history.violations or time.perf_counter() - begin > MUTANT_SECONDS:
                break
        took = f"{time.perf_counter() - begin:.1f}"
        if history.violations:
            rows.append((name, str(history.seed), took, history.violations[0].replace("|", "/")[:90]))
        else:
            rows.append((name, f"not noticed up to {history.seed}", took, ""))
            tally.trouble("unnoticed", rows[-1][1])
    print(f"{table(('mutant', 'noticed at seed', 'seconds', 'by'), rows)}\n")


def simulate(run: Run) -> Simulated:
    tally = Simulated()
    seeds = range(run.seed, run.seed + run.rounds)
    if run.show:
        history = live_one(run.seed, run.control, run.store)
        print("\n".join([*history.trace, f"digest {history.digest}", *history.violations]))
        sys.exit(1 if history.violations else 0)
    if run.mutants:
        try_mutants(seeds, tally)
        return tally
    digest, begin = hashlib.sha256(), time.perf_counter()
    for histories in in_parcels(partial(live_some, mutant=run.control, store=run.store), seeds, AT_ONCE, run.jobs):
        for history in histories:
            tally.seen += history.seen
            digest.update(history.digest.encode())
            if history.violations:
                tally.trouble("violations", f"seed {history.seed}: {'; '.join(history.violations[:3])}")
    took = time.perf_counter() - begin
    print(f"{tally.seen['histories'] / took:,.1f} histories and {tally.seen['commands'] / took:,.1f} commands a second")
    print(f"digest of all {digest.hexdigest()}\n")
    return tally


if __name__ == "__main__":
    main(
        Proof(
            simulate,
            rounds=1000,
            seed=0,
            of="histories, or of them for each of --mutants",
            controls=MUTANTS.described(),
            stores=("memory", "sqlite"),
            options=[
                option("--jobs", 1, "in so many processes"),
                option("--mutants", False, "every mistake in turn, until it is noticed"),
                option("--show", False, "print the trace of --seed alone"),
            ],
        )
    )
