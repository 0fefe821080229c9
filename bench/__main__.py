"""``python -m bench``: every figure as a ratio to the raw limit of the same run, in one Markdown table."""

from __future__ import annotations

from bench.speed import beside, commands, memory, projecting, reading, starting
from bench.speed.measure import show

ROWS = beside.ROWS | commands.ROWS | reading.ROWS | projecting.ROWS | memory.ROWS | starting.ROWS

if __name__ == "__main__":
    show("python -m bench", ROWS, __doc__, starting.import_profile)
