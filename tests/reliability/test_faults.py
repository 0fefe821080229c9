"""The disk fails and others hold locks: each refusal is clear, and writing goes on when that is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from proving import prove

from bench.proofs.faults import FAULTS

ROUNDS = 2 * len(FAULTS)


def test_after_every_fault_the_store_goes_on_and_nothing_is_half_done(tmp_path: Path) -> None:
    status, counts, output = prove("faults", "--rounds", f"{ROUNDS}", "--seed", "4", "--store-dir", str(tmp_path))

    assert status == 0, output
    assert counts["rounds"] == ROUNDS
    assert counts["… in which the fault was met"] > ROUNDS // 3
    assert counts["refusals of commands"] > ROUNDS // 2
    assert counts["refusals of questions"] > 0
    assert counts["refusals to open"] > 0
    for kind in ("wedged", "unclear", "lost", "half", "changed", "damaged"):
        assert counts[f"trouble: {kind}"] == 0, output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mutant", "fault", "trouble"),
    [
        ("failed-commit-told-as-done", "EIO on write", "lost"),
        ("writer-kept-by-who-failed", "EIO on write", "wedged"),
        ("failed-reader-used-again", "EIO on read", "unclear"),
        ("lead-not-handed-over", "EIO on write", "wedged"),
        ("batch-told-as-done", "write lock of another process", "lost"),
        ("errors-as-they-come", "EIO on write", "unclear"),
    ],
)
def test_what_is_left_out_of_the_store_is_noticed(tmp_path: Path, mutant: str, fault: str, trouble: str) -> None:
    threads = "6" if mutant in ("batch-told-as-done", "lead-not-handed-over") else "1"
    options = (
        "--threads",
        threads,
        "--rounds",
        "16",
        "--only",
        fault,
        "--control",
        mutant,
        "--store-dir",
        str(tmp_path),
    )
    status, counts, output = prove("faults", *options)

    assert status == 1, output
    assert counts[f"trouble: {trouble}"] > 0, output
