"""What is on record does not depend on where it is read. Other releases of the time zone database are read by the command."""

from __future__ import annotations

from proving import prove

SHORT = ("--journeys", "2", "--tzdata", "", "--zone", "America/New_York")


def test_a_store_says_the_same_in_other_surroundings() -> None:
    status, counts, output = prove("determinism", "replay", *SHORT)

    assert status == 0, output
    for around in ("an hour or two", "other holidays", "a stricter policy", "an earlier policy"):
        assert around in output
    assert counts["answers that say other local times"] > 0, "the time zone database that lies was read"
    assert counts["answers that changed"] == 0


def test_the_comparison_notices_readers_that_resolve_deadlines_anew() -> None:
    status, counts, output = prove("determinism", "replay", *SHORT, "--around", "an hour or two", "--control")

    assert status == 1, output
    assert counts["answers that changed"] > 0
