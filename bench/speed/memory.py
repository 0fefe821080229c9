"""How much memory it takes to read everything: the peak of a process of its own, over a large store and a small one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import returnable
from bench.speed.lifecycle import filled
from bench.speed.measure import Measured, Row, Sizes, show
from bench.speed.projecting import rebuild
from returnable.adapters.cli.entry import main as returnable_command
from returnable.domain.case import fold
from returnable.projections.stored import VIEWS


def peaks(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Replay, exports and the views, over ten times as many events as in the small store."""
    stores = [folder / f"{events}.db" for events in (sizes.memory_events // 10, sizes.memory_events)]
    events = [filled(store, int(store.stem)) for store in stores]
    for name in _WORK:
        small, large = (_peak_kib(name, store) for store in stores)
        yield Row(
            f"peak memory, {name}, {events[1]:,} events ÷ {events[0]:,}",
            [large / small],
            "≤ 1.2",
            f"{small / 1024:,.0f} MiB and {large / 1024:,.0f} MiB, whole processes",
            "1 process each",
        )


def _peak_kib(name: str, store: Path) -> int:
    command = [sys.executable, "-m", "bench.speed.memory", "--peak-of", name, str(store)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
    return int(ran.stdout.splitlines()[-1])


def _replay(store: str) -> None:
    with returnable.open(f"sqlite:///{store}") as desk:
        events = desk.services.store
        assert sum(fold(case_id, recorded).seq for case_id, recorded in events.cases()) == events.head()


def _export(form: str) -> Callable[[str], None]:
    def export(store: str) -> None:
        words = ["export", "--format", form, f"{store}.{form}", "--store", f"sqlite:///{store}"]
        sys.argv = ["returnable", *words]
        try:
            returnable_command()
        except SystemExit as done:
            if done.code:
                raise

    return export


_WORK: dict[str, Callable[[str], None]] = {
    "replay": _replay,
    "export jsonl": _export("jsonl"),
    "export csv": _export("csv"),
    "export parquet": _export("parquet"),
    "all views built": lambda store: rebuild(f"sqlite:///{store}", tuple(VIEWS)),
}


def _peak_of_this_process() -> int:
    # Not getrusage: it would also count the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


ROWS: dict[str, Measured] = {"memory": peaks}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        _WORK[sys.argv[2]](sys.argv[3])
        print(_peak_of_this_process())
    else:
        show("python -m bench.speed.memory", ROWS, __doc__)
