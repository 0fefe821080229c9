"""The page on scale: its example runs and prints what it says, and its sums are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
DAYS = 365


def test_the_example_for_several_databases_prints_what_the_page_says(tmp_path: Path) -> None:
    found = re.search(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    example, output = found.groups()

    printed = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'examples' / 'partitions'}"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert printed == output
    assert {path.name for path in tmp_path.glob("*.db")} == {"north.db", "south.db", "west.db"}


def test_the_years_of_a_store_are_calculated_from_what_the_page_says_of_an_order() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) \| ([\d.]+) GB \| (\d+) (years|months|weeks) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    sold, returned, both = (float(size) for size in re.findall(r"(\d\.\d) kB", PAGE)[:3])
    commands, events = 0.8 * 3 + 0.2 * 10, 0.8 * 3 + 0.2 * 12
    assert round(0.8 * sold + 0.2 * returned, 1) == both

    for orders, rate, gigabytes, number, unit in rows:
        a_day = int(orders.replace(",", ""))
        assert float(rate) == float(f"{a_day * commands / 86_400:.1g}")
        assert float(gigabytes) == float(f"{a_day * DAYS * both / 1e6:.2g}")
        units = {"years": 1, "months": 12, "weeks": 52}[unit]
        assert int(number) == round(1e7 / (a_day * DAYS * events) * units)
