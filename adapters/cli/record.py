"""``returnable record``: writes a stored case as a scenario that is a test; it is played before it is kept."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import json_option, opened, redact_key_option, redaction, store_option
from returnable.adapters.cli.printing import print_json
from returnable.adapters.cli.report import file_name
from returnable.adapters.export.scenario import (
    Written,
    bundled_suffices,
    chooses,
    why_policies_conflict,
    write_policies,
    write_scenario,
)
from returnable.adapters.files import (
    NotWritten,
    check_apart,
    check_free,
    folder_written_whole,
    store_files,
    written_whole,
)
from returnable.adapters.printable import identifier, printable
from returnable.adapters.scenario import play_fresh, policies_folder, policy_beside
from returnable.adapters.wiring import policy_book
from returnable.domain.ids import StreamId
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.wording import counted
from returnable.projections.exports import Choice, History, WholeCases
from returnable.projections.redaction import Redaction
from returnable.projections.subjects import find_subject

ENDING = ".scenario.jsonl"


@click.command()
@click.argument("subject")
@click.argument("out", required=False)
@click.option(
    "--redact/--no-redact",
    default=True,
    show_default=True,
    help="Pseudonyms for personal fields; free text is blanked.",
)
@redact_key_option
@click.option("--with-policy", is_flag=True, help="Write the policy next to OUT even if the bundled one would do.")
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists. A policy next to it is never overwritten.")
@store_option
@json_option
def record(
    subject: str,
    out: str | None,
    redact: bool,
    redact_key: str | None,
    with_policy: bool,
    force: bool,
    store: str,
    as_json: bool,
) -> None:
    """Record a case as a scenario that is a test. It expects the recorded outcome of every command, and the final state.

    SUBJECT is order/A-1, return/R-1, claim/C-1 or refund/F-1, or just the id. The whole case of the order is recorded,
    without personal data (the ids of orders, returns, refunds and articles stay). OUT is a file NAME.scenario.jsonl or a
    folder; the default is order-A-1.scenario.jsonl in the current folder.

    If the case was not decided under the bundled policy, its policy is written to the folder NAME.policies next to OUT,
    unless there is a policy already. --with-policy always writes it, for tests with another policy. The scenario is
    played before it is kept; one that does not play back is not written.

    \b
    returnable record return/R-1
    returnable record A-1 tests/scenarios --store sqlite:///shop.db && returnable play --check tests/scenarios
    returnable record A-1 tests/scenarios/late.scenario.jsonl --force --redact-key k
    """
    hidden = redaction(redact, redact_key)
    case = _recorded(subject, store, hidden)
    place = _place(out, case.case_id)
    check_apart(place, store_files(store), "a file of the store")
    check_free(place, force)
    folder = _write(case, place, with_policy, force)
    _print_result(case, place, folder, redact, as_json)


@dataclass(frozen=True, slots=True)
class _Case:
    case_id: str
    content: bytes
    written: Written
    policy_of: PolicyOf
    """Returns a pinned policy of the case by its hash, also after the store is closed."""

    @property
    def order(self) -> str:
        return str(StreamId("order", self.case_id))

    @property
    def pinned(self) -> Policy:
        """The policy of the order: a case has one order, confirmed once."""
        (sha256,) = self.written.policies
        return self.policy_of(sha256)


def _recorded(subject: str, store: str, hidden: Redaction | None) -> _Case:
    content = io.BytesIO()
    with opened(store) as services:
        found = find_subject(services.store, services.handler.policy, subject)
        history = History(services.store, hidden)
        written = write_scenario(content, history, WholeCases(history, Choice((found,))), services.handler.policy)
        pinned = {sha256: services.handler.policy(sha256) for sha256 in written.policies}
    return _Case(found.case_id, content.getvalue(), written, pinned.__getitem__)


def _place(out: str | None, case_id: str) -> Path:
    place = Path(out or "")
    if out is None or place.is_dir():
        return place / file_name("order", case_id, ENDING)
    if not place.name.endswith(ENDING):
        raise click.UsageError(f"OUT: {out!r} is not a folder and does not end in {ENDING}; pytest would not find it")
    return place


def _write(case: _Case, place: Path, with_policy: bool, force: bool) -> Path | None:
    """Write the scenario, and the policy that it needs; return the folder of the policy if one was made."""
    needed = f"{case.pinned.id} {case.pinned.version}"
    beside = policy_beside(place)
    if beside is not None and not chooses(policy_book(beside), case.written.policies):
        raise NotWritten(
            f"{beside}: {place.name} would be played under it, but {case.order} needs {needed}; choose another OUT"
        )
    if beside is not None or (bundled_suffices(case.written) and not with_policy):
        _prove(case, place, beside)
        with written_whole(str(place), force) as file:
            file.write(case.content)
        return None
    problem = why_policies_conflict(case.written, case.policy_of)
    if problem is not None:
        raise NotWritten(f"{case.order} does not play back under {needed}; nothing is written: {problem}")
    folder = policies_folder(place)
    if folder.is_symlink() or folder.exists():
        raise NotWritten(f"{folder}: is not a folder of policies")
    with folder_written_whole(folder) as made:
        write_policies(str(made), case.written, case.policy_of)
        _prove(case, place, made)
        made.rename(folder)
    try:
        with written_whole(str(place), force) as file:
            file.write(case.content)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _prove(case: _Case, place: Path, policy: Path | None) -> None:
    for played in play_fresh(case.content, str(place), policy):
        for mismatch in played.mismatches:
            raise NotWritten(
                f"{case.order} does not play back; nothing is written: {place.name}:{played.line}: {mismatch}"
            )


def _print_result(case: _Case, place: Path, folder: Path | None, redacted: bool, as_json: bool) -> None:
    written, lines = case.written, case.written.commands + case.written.views
    if as_json:
        pinned = case.pinned
        result = {
            "subject": case.order,
            "out": str(place),
            "redacted": redacted,
            "lines": lines,
            **written.counts(),
            "policy": {"id": pinned.id, "version": pinned.version, "sha256": pinned.sha256},
            "policies": None if folder is None else str(folder),
        }
        print_json(to_json(result))
        return
    how = "redacted" if redacted else "with personal data"
    where = f"{place}" if folder is None else f"{place} with its policy in {folder}"
    what = f"{counted(lines, 'line')} of {identifier(case.order)}"
    click.echo(printable(f"recorded {what}, {how}, to {where}: plays back, all met"))
