"""What a power failure leaves holds whatever was acknowledged; with less durability it is seen not to."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from proving import prove

from bench.proofs.images import Cut, Exchange, FolderSync, Moment, Named, Recording, Sync, Write

RUNS = 6


def _fail(tmp_path: Path, *options: str) -> tuple[int, dict[str, int], str]:
    return prove("power_loss", "--journeys", "2", "--store-dir", str(tmp_path), *options)


def test_power_failures_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    status, counts, output = _fail(tmp_path, "--rounds", f"{RUNS * 4}", "--per-run", "4", "--seed", "2")

    assert status == 0, output
    assert counts["runs"] == RUNS
    assert counts["images"] == RUNS * 4
    assert counts["… with changes that were not durable"] > RUNS
    assert counts["… that failed"] > 0
    assert counts["… of a database file: checkpoints"] > RUNS
    assert counts["acknowledged commands looked for"] > 100
    assert counts["images with any trouble"] == 0


def test_without_full_durability_acknowledged_commands_are_seen_to_be_lost(tmp_path: Path) -> None:
    status, counts, output = _fail(tmp_path, "--rounds", "24", "--only", "one_host", "--control")

    assert status == 1, output
    assert counts["images with acknowledged commands lost"] > 3


# ---- what is durable when -----------------------------------------------------------------------------------------------


def _at_the_end(*events: object, before: dict[str, bytes] | None = None) -> Moment:
    recording = Recording(before or {})
    recording.events += events  # type: ignore[arg-type]
    moment = Moment(recording)
    moment.go_to(len(events))
    return moment


def test_what_was_written_before_a_sync_is_durable_and_what_came_after_is_not() -> None:
    moment = _at_the_end(Write(0, 0, b"ab"), Sync(0, 1, False), Write(0, 1, b"cd"), before={"x": b""})

    assert moment.durable() == {"x": b"ab"}
    assert moment.whole() == {"x": b"acd"}
    assert moment.pending() == [2]


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    moment = _at_the_end(Write(0, 0, b"ab"), Write(0, 0, b"cd"), Sync(0, 1, False), before={"x": b""})

    assert moment.durable() == {"x": b"ab"}


def test_what_a_failed_sync_was_to_write_stays_in_doubt_until_it_is_written_again() -> None:
    lost = (Write(0, 0, b"ab"), Sync(0, 1, True), Sync(0, 2, False))

    assert _at_the_end(*lost, before={"x": b""}).durable() == {"x": b""}
    assert _at_the_end(*lost, Write(0, 0, b"ab"), Sync(0, 4, False), before={"x": b""}).durable() == {"x": b"ab"}


def test_a_name_is_durable_with_its_folder_and_a_cut_with_its_file() -> None:
    moment = _at_the_end(Named("new", 1), Named("x", None), Cut(2, 1), before={"x": b"", "y": b"", "z": b"ab"})
    assert moment.durable() == {"x": b"", "y": b"", "z": b"ab"}

    moment = _at_the_end(
        *(Named("new", 3), Named("x", None), FolderSync(), Cut(2, 1), Sync(2, 4, False)),
        before={"x": b"", "z": b"", "y": b"ab"},
    )
    assert moment.durable() == {"new": b"", "z": b"", "y": b"a"}


@pytest.mark.parametrize("sector", [512, 4096])
def test_images_differ_by_whole_sectors(sector: int) -> None:
    moment = _at_the_end(Write(0, 0, b"a" * 4 * sector), before={"x": b"b" * 4 * sector})

    seen = {moment.image(Random(seed))["x"] for seed in range(300)}

    assert {b"a" * 4 * sector, b"b" * 4 * sector} < seen
    assert any(content[:sector] == b"a" * sector and content[sector : 2 * sector] == b"b" * sector for content in seen)
    assert all(len({*content[at : at + 512]}) == 1 for content in seen for at in range(0, 4 * sector, 512))


def test_commands_count_as_answered_when_they_were() -> None:
    moment = _at_the_end(Exchange(1, False), Exchange(1, True), Exchange(2, False))

    assert (moment.given, moment.answered) == ({1, 2}, {1})
