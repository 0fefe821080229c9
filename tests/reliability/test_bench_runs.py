"""The benchmarks run from a clone and give a ratio in every row. How large it is, no test asserts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

ROWS = (
    "commands, SQLite FULL, 1 client",
    "p99 of a command",
    "tables of one's own with an audit table",
    "`eventsourcing` as documented",
    "threads, one desk, SQLite",
    "commands, PostgreSQL, 1 client",
    "threads, one desk, PostgreSQL",
    "replay",
    "`order` question",
    "`return` question",
    "÷ its ten commands as JSON",
    "÷ its facts as stored",
    "`returnable --version`",
    "`import returnable`",
    "first durable command",
    "peak memory",
)


def test_every_row_of_the_benchmarks_prints_a_ratio(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--scale", "0.002", "--dir", str(tmp_path)]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("| ")][2:]
    for row in ROWS:
        ratios = [line.split(" | ")[1] for line in lines if row in line]
        assert ratios, row
        assert all(re.match(r"\d+\.\d\d\b", ratio) for ratio in ratios), (row, ratios)
    assert list(tmp_path.iterdir()) == [], "the stores are removed"
