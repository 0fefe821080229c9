"""The proofs of ``bench/proofs``, run as the commands they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def prove(name: str, *options: str) -> tuple[int, dict[str, int], str]:
    """The exit status of a proof, the counts of its table, and all it printed."""
    command = [sys.executable, "-m", f"bench.proofs.{name}", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    counts = {name: int(count.replace(",", "")) for name, count in re.findall(r"\| (.+) \| ([\d,]+) \|", ran.stdout)}
    return ran.returncode, counts, ran.stdout + ran.stderr
