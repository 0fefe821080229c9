"""``returnable play --check DIR``: every scenario below a directory, each on a store of its own."""

from __future__ import annotations

import os
from pathlib import Path

import click

from returnable.adapters.cli.printing import say
from returnable.adapters.cli.words import checked, counted
from returnable.adapters.printable import printable
from returnable.adapters.scenario import ScenarioUnreadable, Summary, play_file
from returnable.adapters.wiring import policy_book
from returnable.domain.errors import ReturnableError


def check_folder(folder: str, policy: str | None) -> int:
    """Play them, say what is not as expected, and return the exit status: 1 if anything is not, 2 if a file cannot be
    played, which is said when all the others were. Raises :class:`ScenarioUnreadable` where there is no scenario."""
    book = None if policy is None else policy_book(policy)
    files, unplayed = _scenarios_below(folder)
    if not files and not unplayed:
        raise ScenarioUnreadable(f"{folder}: there is no scenario below this directory: no *.jsonl that is not hidden")
    total, played_files = Summary(), 0
    for file in files:
        name = str(file)
        summary = Summary()
        try:
            lines = play_file(file, book)
        except ReturnableError as error:
            unplayed.append(_named(name, str(error)))
            continue
        except OSError as error:  # what lies beside it may not even be looked at
            unplayed.append(f"{error.filename or name}: {error.strerror or error}")
            continue
        played_files += 1
        for played in lines:
            summary.add(played)
            total.add(played)
            for mismatch in played.mismatches:
                click.echo(printable(f"{name}:{played.line}: {mismatch}"))
        click.echo(printable(checked(name, counted(summary.lines, "line"), summary)))
    left = f"; {len(unplayed)} cannot be played" if unplayed else ""
    size = f"{counted(played_files, 'scenario')}, {counted(total.lines, 'line')}"
    click.echo(printable(checked(folder, size, total)) + left)
    for reason in unplayed:
        say(reason)
    return 2 if unplayed else 1 if total.unmet else 0


def _scenarios_below(folder: str) -> tuple[list[Path], list[str]]:
    """The scenarios in order, and why a folder cannot be looked into."""
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
