"""``python -m bench``: every figure as a ratio to the raw limit of the same run, in one Markdown table."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.speed.beside import others
from bench.speed.commands import in_a_file, in_a_file_by_threads, on_a_server, on_a_server_by_threads
from bench.speed.measure import QUICK, Row, Sizes, table
from bench.speed.memory import peaks
from bench.speed.projecting import rebuilding
from bench.speed.reading import bytes_on_disk, questions, replay_everything
from bench.speed.starting import import_profile, processes

ROWS: dict[str, Callable[[Sizes, Path], Iterator[Row]]] = {
    "commands": in_a_file,
    "others": others,
    "threads": in_a_file_by_threads,
    "postgres": on_a_server,
    "postgres-threads": on_a_server_by_threads,
    "replay": replay_everything,
    "project": rebuilding,
    "question": questions,
    "bytes": bytes_on_disk,
    "memory": peaks,
    "start": processes,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, no store of a million events")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="measure so much more or less of everything")
    parser.add_argument(
        "--dir", type=Path, help="where the stores are made and removed (default: the temporary folder)"
    )
    parser.add_argument("--importtime", action="store_true", help="also where the imports spend their time")
    options = parser.parse_args()
    sizes = (QUICK if options.quick else Sizes()).scaled(options.scale)
    rows: list[Row] = []
    for name in options.only or ROWS:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="returnable-bench-", dir=options.dir) as folder:
            rows += ROWS[name](sizes, Path(folder))
    print(
        f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} processors. Ratios are medians of interleaved runs (middle half in brackets).\n"
    )
    print(table(("row", "ratio to raw", "goal", "raw, same run", "n"), [row.cells() for row in rows]))
    if options.importtime:
        with tempfile.TemporaryDirectory(prefix="returnable-bench-") as folder:
            print(f"\n{import_profile(Path(folder))}")


if __name__ == "__main__":
    main()
