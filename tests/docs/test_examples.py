"""The examples play as they say, and a stored one answers the same questions later on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from returnable.adapters.scenario import Played, play, policy_beside, read_scenario
from returnable.adapters.wiring import assemble
from returnable.domain.fields import parse_instant
from returnable.domain.policy import read_policies

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PACKAGES = {path.parent for path in EXAMPLES.rglob("pyproject.toml")}
"""A package of its own, whose own tests play what it has."""
SCENARIOS = sorted(
    str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.jsonl") if PACKAGES.isdisjoint(path.parents)
)


def policy_of(example: str) -> Path | None:
    """A scenario is played under the policy beside it."""
    return policy_beside(EXAMPLES / example)


def lines_of(example: str) -> list[tuple[int, bytes]]:
    return read_scenario((EXAMPLES / example).read_bytes(), example)


def played(example: str, url: str) -> list[Played]:
    services = assemble(url, policy_of(example))
    try:
        return list(play(services, lines_of(example)))
    finally:
        services.store.close()


def unmet(lines: list[Played]) -> list[str]:
    return [f"line {line.line}: {mismatch}" for line in lines for mismatch in line.mismatches]


def known_then(example: str) -> Iterator[dict[str, Any]]:
    """The questions of a scenario, asked so that only what was recorded at their own instant counts."""
    for _, line in lines_of(example):
        fields = json.loads(line)
        if "query" in fields:
            fields.pop("expect", None)
            asked = [fields["at"], *([fields["known_at"]] if "known_at" in fields else [])]
            yield fields | {"known_at": min(asked, key=parse_instant)}


@pytest.mark.parametrize("example", SCENARIOS)
def test_an_example_meets_its_expectations_in_memory(example: str) -> None:
    lines = played(example, "memory:")

    assert unmet(lines) == []
    assert sum(line.expected for line in lines) >= 0.9 * len(lines)


@pytest.mark.parametrize("example", SCENARIOS)
def test_another_process_gets_the_same_answers_from_the_stored_file(example: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/example.db"
    answers = [line.answer for line in played(example, url) if line.query is not None]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(question) + "\n" for question in known_then(example)), encoding="utf-8")

    # Without the policy: the store has kept it.
    again = subprocess.run(
        [sys.executable, "-m", "returnable.adapters.cli.entry", "play", str(questions), "--store", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert [json.loads(line)["answer"] for line in again.stdout.splitlines()] == answers


@pytest.mark.parametrize("example", SCENARIOS)
def test_the_instants_of_an_example_are_all_different(example: str) -> None:
    instants = [json.loads(line)["at"] for _, line in lines_of(example)]

    assert len(set(instants)) == len(instants)


def test_there_are_examples() -> None:
    assert {"tour.jsonl", "late-scan.jsonl", "policies/lindenhof.jsonl"} <= set(SCENARIOS)


def test_every_example_is_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tables = (path for path in EXAMPLES.rglob("*.toml") if PACKAGES.isdisjoint(path.parents))
    packages = (path / "README.md" for path in PACKAGES)
    files = [*SCENARIOS, *(str(path.relative_to(EXAMPLES)) for path in (*tables, *packages))]

    assert [name for name in files if f"]({name})" not in listed] == []


@pytest.mark.parametrize("policy", sorted((EXAMPLES / "policies").glob("*.toml")), ids=lambda path: path.name)
def test_the_policy_of_an_example_is_a_policy(policy: Path) -> None:
    (version,) = read_policies(policy).versions

    assert version.id == policy.name.removesuffix(".policy.toml")
