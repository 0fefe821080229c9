"""Fresh processes: the version, the import, the first durable command; and where the imports spend their time."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from statistics import median

from bench.speed.measure import Measured, Row, Sizes, in_turns, show, table

FIRST_COMMAND = """\
import sys, returnable
with returnable.open("sqlite:///" + sys.argv[1]) as desk:
    desk.confirm_order(
        order_id="A-1", command_id="1", currency="USD",
        customer={"customer_id": "c-1", "account_id": "acc-1"},
        lines=[{"line_id": "1", "sku": "SKU-1", "unit_price": "750.00", "quantity": 1}],
        payments=[{"payment_id": "p-1", "method": "card", "amount": "750.00"}],
    )
"""

FIRST_SAVE = """\
import sys
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
class Order(Aggregate):
    @event("Confirmed")
    def __init__(self, order_id: str, currency: str) -> None:
        self.order_id, self.currency = order_id, currency
class Shop(Application):
    pass
with Shop(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": sys.argv[1]}) as shop:
    shop.save(Order("A-1", "USD"))
"""


def processes(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Whole processes from start to exit, in turns with the one they are compared to."""
    script = Path(sys.executable).with_name("returnable")
    version = [str(script)] if script.exists() else [sys.executable, "-m", "returnable.adapters.cli.entry"]
    nothing = [sys.executable, "-c", "pass"]
    fresh = (str(folder / f"{nth}.db") for nth in count())
    for name, ours, raw, goal in (
        ("`returnable --version` ÷ `python -c pass`", [*version, "--version"], nothing, "≤ 4"),
        ("`import returnable` ÷ `python -c pass`", [sys.executable, "-c", "import returnable"], nothing, "–"),
        (
            "first durable command ÷ `eventsourcing`'s first save",
            [sys.executable, "-c", FIRST_COMMAND, fresh],
            [sys.executable, "-c", FIRST_SAVE, fresh],
            "≤ 2.5",
        ),
    ):
        pairs = in_turns(sizes.processes, lambda ours=ours: _run(ours), lambda raw=raw: _run(raw))  # type: ignore[misc]
        yield Row(
            name,
            [of_ours / of_raw for of_ours, of_raw in pairs],
            goal,
            f"{median(of_raw for _, of_raw in pairs) * 1e3:,.1f} ms",
            f"{len(pairs)} processes each",
        )


def _run(command: Sequence[str | Iterator[str]]) -> None:
    words = [word if isinstance(word, str) else next(word) for word in command]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)")


def import_profile() -> str:
    """Where a process spends its imports up to the first durable command: by package, then by module."""
    with tempfile.TemporaryDirectory(prefix="returnable-bench-") as folder:
        words = [sys.executable, "-X", "importtime", "-c", FIRST_COMMAND, f"{folder}/imports.db"]
        spent = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    modules = [(int(own), int(total), name) for own, total, name in _IMPORT.findall(spent)]
    packages: defaultdict[str, int] = defaultdict(int)
    for own, _, name in modules:
        packages[name.partition(".")[0]] += own
    largest = sorted(packages.items(), key=lambda entry: -entry[1])[:12]
    return "\n\n".join(
        (
            table(("package", "own ms of all its modules"), [(name, f"{own / 1e3:.1f}") for name, own in largest]),
            table(
                ("module", "own ms", "with what it imports"),
                [(name, f"{own / 1e3:.1f}", f"{total / 1e3:.1f}") for own, total, name in sorted(modules)[:-16:-1]],
            ),
        )
    )


ROWS: dict[str, Measured] = {"start": processes}

if __name__ == "__main__":
    show("python -m bench.speed.starting", ROWS, __doc__, import_profile)
