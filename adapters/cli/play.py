"""``returnable play``: a scenario, or with ``--check`` all scenarios of a directory."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click
from pydantic_core import to_json

from returnable.adapters import scenario
from returnable.adapters.cli.options import content_of, policy_option
from returnable.adapters.cli.printing import say
from returnable.adapters.cli.progress import printing_progress
from returnable.adapters.cli.words import checked, explained, summary_lines
from returnable.adapters.printable import json_text, printable
from returnable.adapters.scenario import ScenarioUnreadable, Summary, play_file
from returnable.adapters.wiring import assemble, policy_book
from returnable.domain.errors import ReturnableError
from returnable.domain.wording import counted


@click.command()
@click.argument("file")
@click.option("--store", metavar="URL", default="memory:", show_default=True, help="The store that records the events.")
@policy_option
@click.option("--check", is_flag=True, help="Report expectations that are not met; exit status 1 if there are any.")
@click.option("--explain", is_flag=True, help="Describe what happened in words instead of JSON Lines.")
def play(file: str, store: str, policy: str | None, check: bool, explain: bool) -> int:
    """Play a scenario: commands and questions in JSON Lines. FILE is the scenario, or - for standard input.

    Each line runs with the clock at its "at". The results go to stdout as JSON Lines, a summary goes to stderr.

    Without --policy, a policy next to the scenario is used if there is one: for NAME.jsonl or NAME.scenario.jsonl the
    folder NAME.policies or the file NAME.policy.toml.

    With --check, FILE may be a directory: every *.jsonl below it is played, each on a fresh store. Exit status 2 if a file
    cannot be played. Hidden files are skipped, and links to folders are not followed.

    \b
    returnable play examples/tour.jsonl --explain
    returnable play orders.jsonl --store sqlite:///orders.db > outcomes.jsonl
    returnable play --check case.jsonl
    returnable play --check tests/scenarios
    """
    if check and explain:
        raise click.UsageError("--check and --explain exclude each other")
    if file != "-" and Path(file).is_dir():
        return _check_folder(file, store, policy, check)
    name = "standard input" if file == "-" else file
    lines = scenario.read_scenario(content_of(file), name)
    if policy is None and file != "-":
        beside = scenario.policy_beside(file)
        policy = None if beside is None else str(beside)
    services = assemble(store, policy)
    summary = Summary()
    with (
        closing(services.store),
        printing_progress(len(lines), acknowledge=store != "memory:") as (print_line, advance),
    ):
        for played in scenario.play(services, lines):
            summary.add(played)
            if check:
                for problem in played.problems:
                    print_line(f"{name}:{played.line}: {problem}")
            elif explain:
                for line in explained(played):
                    print_line(line)
            else:
                print_line(json_text(to_json(played.as_dict()).decode()))
            advance()
    if check:
        click.echo(checked(name, counted(summary.lines, "line"), summary))
        return 1 if summary.unmet else 0
    for line in summary_lines(summary):
        click.echo(line, err=True)
    return 0


def _check_folder(folder: str, store: str, policy: str | None, check: bool) -> int:
    """Play the scenarios, print each unmet expectation, and return the exit status: 1 if there is one, 2 if a file cannot be
    played. The reasons for the latter are printed at the end. Raises :class:`ScenarioUnreadable` without a scenario."""
    if not check:
        raise click.UsageError(f"{folder}: is a directory; --check plays the scenarios below it")
    if store != "memory:":
        raise click.UsageError(
            "--store is for one scenario; each scenario below a directory is played on a fresh store in memory"
        )
    book = None if policy is None else policy_book(policy)
    files, unplayed = _scenarios_below(folder)
    if not files and not unplayed:
        raise ScenarioUnreadable(f"{folder}: there is no scenario below this directory: no visible *.jsonl")
    total, played_files = Summary(), 0
    for file in files:
        name = str(file)
        summary = Summary()
        try:
            lines = play_file(file, book)
        except ReturnableError as error:
            unplayed.append(_named(name, str(error)))
            continue
        except OSError as error:  # a policy next to it may not be readable
            unplayed.append(f"{error.filename or name}: {error.strerror or error}")
            continue
        played_files += 1
        for played in lines:
            summary.add(played)
            total.add(played)
            for problem in played.problems:
                click.echo(printable(f"{name}:{played.line}: {problem}"))
        click.echo(printable(checked(name, counted(summary.lines, "line"), summary)))
    left = f"; {len(unplayed)} cannot be played" if unplayed else ""
    size = f"{counted(played_files, 'scenario')}, {counted(total.lines, 'line')}"
    click.echo(printable(checked(folder, size, total)) + left)
    for reason in unplayed:
        say(reason)
    return 2 if unplayed else 1 if total.unmet else 0


def _scenarios_below(folder: str) -> tuple[list[Path], list[str]]:
    """The scenarios in order, and the reason for each folder that cannot be read."""
    files: list[Path] = []
    closed: list[str] = []

    def note(error: OSError) -> None:
        closed.append(f"{error.filename}: {error.strerror or error}")

    for place, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(place, name) for name in names if name.endswith(".jsonl") and not name.startswith(".")]
    return sorted(files), closed


def _named(name: str, reason: str) -> str:
    return reason if reason.startswith(name) else f"{name}: {reason}"
