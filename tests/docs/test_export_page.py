"""The page on exports lists every column and every redacted field, and its commands and queries do what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
from terminal import returnable

from returnable.adapters.cli.export import FORMATS, export
from returnable.domain.events import EVENTS
from returnable.domain.marks import Mark
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Column
from returnable.projections.marked import leaves, marks
from returnable.projections.redaction import BLANK

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")


def part(heading: str, level: str = "###") -> str:
    """The text under a heading, up to the next one of its level or above."""
    found = re.search(rf"^{level} {heading}\n(.*?)(?=^#{{2,{len(level)}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found.group(1)


def rows_of(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its header."""
    found = re.search(r"^\| .*\n\| ---.*\n((?:\| .*\n)+)", text, re.MULTILINE)
    assert found, text
    return [line[2:-2].split(" | ") for line in found.group(1).splitlines()]


def named(text: str) -> set[str]:
    """Everything in backticks, but no code blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tour in a store."""
    status, _, err = returnable(
        "play", str(ROOT / "examples" / "tour.jsonl"), "--store", f"sqlite:///{tmp_path}/tour.db"
    )
    assert status == 0, err
    return tmp_path


def ran(command: str, folder: Path) -> str:
    """What a command of the page prints."""
    words = command.removeprefix("$ returnable ").split()
    _, out, err = returnable(*words, folder=folder, RETURNABLE_STORE="sqlite:///tour.db")
    return f"{out}{err}"


def commands(text: str) -> list[str]:
    """The commands of a text."""
    return [line for line in text.splitlines() if line.startswith("$ ")]


# ---- columns, options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heading", "columns"), [("Facts", FACT_COLUMNS), ("Clauses", CLAUSE_COLUMNS)])
def test_every_column_is_listed_in_order_with_its_type_and_meaning(heading: str, columns: tuple[Column, ...]) -> None:
    listed = rows_of(part(heading))

    assert listed == [[f"`{column.name}`", column.kind, column.meaning] for column in columns]


def test_every_type_of_a_column_has_its_line() -> None:
    types = [row[0] for row in rows_of(part("Formats", "##"))]

    assert {column.kind for column in (*FACT_COLUMNS, *CLAUSE_COLUMNS)} == {*types} - {"nothing"}


def test_every_option_and_every_format_of_the_command_is_on_the_page() -> None:
    before = PAGE.split("## Formats")[0]
    options = {name for one in export.params if isinstance(one, click.Option) for name in one.opts}

    listed = {name.split()[0] for row in rows_of(before) for name in named(row[0])}

    assert listed == options
    assert set(FORMATS) <= named(before)


# ---- commands, queries -----------------------------------------------------------------------------------------------


def test_the_commands_run_and_print_what_the_page_shows(folder: Path) -> None:
    shown = "".join(re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    said = ""

    for command in commands(shown):
        if "tampered" in command:
            whole = (folder / "case.jsonl").read_text(encoding="utf-8")
            (folder / "tampered.jsonl").write_text(whole.replace('"declined"', '"accepted"'), encoding="utf-8")
        said += f"{command}\n{ran(command, folder)}"

    assert said == shown
    (policy,) = (folder / "policies").iterdir()
    (said_hash,) = set(re.findall(r"sha256 (\w{64})", shown))
    assert f"sha256 {said_hash}" in ran("$ returnable policy check policies", folder)
    assert policy.stem.endswith(said_hash[:12])


def test_the_queries_answer_what_the_page_shows(folder: Path) -> None:
    for command in commands(PAGE.split("## Formats")[0]):
        ran(command, folder)
    queries = re.findall(r"^```sql\n(.*?)^```\n\n(.*?)\n\n", part("Queries", "##") + "\n\n", re.MULTILINE | re.DOTALL)
    assert len(queries) == part("Queries", "##").count("```sql")

    for query, shown in queries:
        answer = duckdb.sql(re.sub(r"'((?:facts|clauses)\.\w+)'", rf"'{folder}/\1'", query))

        assert answer is not None
        assert [answer.columns, *_as_text(answer.fetchall())] == _cells(shown), query


def _as_text(rows: list[Any]) -> list[list[str]]:
    return [[str(value) for value in row] for row in rows]


def _cells(shown: str) -> list[list[str]]:
    lines = [line[2:-2].replace("`", "").split(" | ") for line in shown.splitlines()]
    return [line for line in lines if set(line) != {"---"}]


# ---- redaction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("Pseudonyms", {Mark.PERSONAL}),
        ("Blanked", {Mark.FREE_TEXT}),
        ("Replaced inside", {Mark.DERIVED}),
        ("Kept", {Mark.HARMLESS, Mark.MONEY}),
    ],
)
def test_the_page_says_what_becomes_of_every_field(heading: str, kinds: set[Mark]) -> None:
    text = part(heading)

    listed = named(text) if heading == "Kept" else {name for row in rows_of(text) for name in named(row[0])}

    in_events = {name for event in EVENTS.values() for name, _ in leaves(event, set())} | {"attachments"}
    assert listed == {name for name, mark in marks().items() if mark in kinds and name in in_events}


def test_a_redacted_export_has_the_pseudonyms_and_blanks_of_the_page(folder: Path) -> None:
    assert f"`{BLANK}`" in part("Blanked")

    ran("export --format jsonl --redact --redact-key k facts.jsonl", folder)

    (first, *_) = (folder / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    customer = json.loads(first)["content"]["customer"]["customer_id"]
    assert re.fullmatch(r"anon-[0-9a-f]{20}", customer)
