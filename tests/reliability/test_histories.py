"""Random histories break no invariant; each known mistake breaks one within a few histories."""

from __future__ import annotations

import re

from proving import prove

from bench.proofs.histories import MUTANTS


def test_random_histories_break_no_invariant_and_every_answer_is_given() -> None:
    status, counts, output = prove("histories", "--rounds", "20")

    assert status == 0, output
    assert (counts["histories"], counts["histories with a violation"]) == (20, 0)
    for command in ("record_refund_result", "record_refund", "record_capture", "name_payout", "cancel_order"):
        assert counts[f"accepted {command}"] > 0, command
    assert counts["RefundReversed"] > 0


def test_every_mistake_is_noticed() -> None:
    status, _, output = prove("histories", "--mutants", "--rounds", "80")

    assert status == 0, output
    noticed = dict(re.findall(r"^\| ([a-z-]+) \| (\d+) \| [\d.]+ \| .+ \|$", output, re.MULTILINE))
    assert set(noticed) == set(MUTANTS.by_name), output


def test_a_violation_is_shown_with_its_seed_and_its_last_command() -> None:
    status, counts, output = prove("histories", "--rounds", "1", "--seed", "2", "--control", "tax-rounded-down")

    assert status == 1, output
    assert counts["histories with a violation"] == 1
    assert re.search(
        r"^trouble: violations: seed 2: after \d+ commands, .*no_unit_is_paid_back_twice", output, re.MULTILINE
    )
