"""One command for many cases: from Python, and on the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from terminal import returnable as run

import returnable
from returnable.testing import a_return, an_order

LOST = {"command": "report_return_lost"}
CASES = [{"return_id": "R-1"}, {"return_id": "R-9"}, {"return_id": "R-2"}]


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """Two returns are on their way."""
    url = f"sqlite:///{tmp_path}/shop.db"
    with returnable.open(url) as desk:
        for nth in "12":
            steps = [*an_order(order_id=f"A-{nth}", delivered="2026-03-05")]
            steps += [*a_return(return_id=f"R-{nth}", order_id=f"A-{nth}", shipped="2026-03-09")]
            for step in steps:
                desk.handle(step.resolved("America/New_York"))
    return url


def test_each_case_has_a_result_and_one_that_is_impossible_stops_no_other(shop: str) -> None:
    with returnable.open(shop) as desk:
        results = desk.handle_many(LOST, CASES, command_id="trailer-7")
        again = desk.handle_many(LOST, [*reversed(CASES), {"return_id": "R-8"}], command_id="trailer-7")

        assert [each.result for each in results] == ["accepted", "error", "accepted"]
        assert [each.error.code for each in results if each.error] == ["return.unknown"]
        assert [each.outcome.replayed for each in again if each.outcome] == [True, True]
        assert desk.return_(return_id="R-1").status == "lost"


def test_the_same_for_coroutines(shop: str) -> None:
    async def both() -> list[str]:
        async with returnable.open_async(shop) as desk:
            return [each.result for each in await desk.handle_many(LOST, CASES, command_id="trailer-7")]

    assert asyncio.run(both()) == ["accepted", "error", "accepted"]


def test_the_command_line_prints_one_result_for_each_case(shop: str, tmp_path: Path) -> None:
    file = tmp_path / "lost.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in [LOST, *CASES]))

    status, out, err = run("bulk", str(file), "--command-id", "trailer-7", "--store", shop)

    results = [json.loads(line) for line in out.splitlines()]
    assert (status, err) == (1, "3 cases: 2 accepted and 1 error\n")
    assert [(each["case"], each["outcome"]) for each in results] == [
        ({"return_id": "R-1"}, "accepted"),
        ({"return_id": "R-9"}, "error"),
        ({"return_id": "R-2"}, "accepted"),
    ]
    assert run("bulk", str(file), "--command-id", "trailer-7", "--store", shop)[1] == out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it has no line; the first one is the command"),
        ("[]", "line 1 is not a JSON object"),
        ('{"command": "run_deadlines"}\n{', "line 2 is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(shop: str, tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bulk.jsonl"
    file.write_text(content)

    status, out, err = run("bulk", str(file), "--command-id", "k", "--store", shop)

    assert (status, out) == (2, "")
    assert message in err
