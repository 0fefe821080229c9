"""``returnable export``: events as tables or as a scenario."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import (
    instant_option,
    json_option,
    opened,
    redact_key_option,
    redaction,
    store_option,
)
from returnable.adapters.cli.printing import print_json, say
from returnable.adapters.cli.progress import Advance, progress
from returnable.adapters.export.scenario import bundled_suffices, why_policies_conflict, write_policies, write_scenario
from returnable.adapters.export.tables import table
from returnable.adapters.files import STDOUT, Sink, Stdout, check_apart, store_files, written_whole
from returnable.adapters.wiring import Services
from returnable.domain.wording import counted
from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Choice, History, Rows, WholeCases
from returnable.projections.subjects import find_subject

FORMATS = ("jsonl", "csv", "parquet", "scenario")


@click.command("export")
@click.argument("out", metavar="OUT")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="The format of OUT.")
@click.option(
    "--subject", "subjects", multiple=True, metavar="S", help="Only order/A-1, return/R-1, …; may be repeated."
)
@instant_option("--from", "since", "Only events recorded at this instant or later")
@instant_option("--to", "until", "Only events recorded before this instant")
@click.option(
    "--view",
    "view",
    type=click.Choice(["facts", "clauses"]),
    help="The rows of a table: events (facts) or clauses. Default: facts.",
)
@click.option("--no-views", is_flag=True, help="Leave out the questions at the end of a scenario.")
@click.option("--policies", metavar="DIR", help="Also write the policies a scenario needs, for play --policy DIR.")
@click.option("--redact", is_flag=True, help="Pseudonyms for personal fields; free text is blanked.")
@redact_key_option
@click.option("--force", is_flag=True, help="Overwrite OUT.")
@store_option
@json_option
def export(
    out: str,
    form: str,
    subjects: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    view: str | None,
    no_views: bool,
    policies: str | None,
    redact: bool,
    redact_key: str | None,
    force: bool,
    store: str,
    as_json: bool,
) -> None:
    """Write recorded events to a table or a scenario. OUT is a file, or - for standard output.

    jsonl, csv and parquet have one row for each event, or with --view clauses one row for each clause of each ruling. An
    order is exported with its whole case, a return or a claim with its own stream.

    A scenario holds the commands that led to the events, the expected outcome of each, and the views at the end;
    "returnable play --check" checks it. It holds whole cases: those with an event recorded in the period.

    CSV is safe to open in a spreadsheet that splits at , or ; or |: a cell that would begin a formula starts with an
    apostrophe.

    \b
    returnable export --format parquet facts.parquet
    returnable export --format csv --view clauses --from 2026-01-01T00:00:00Z clauses.csv
    returnable export --format jsonl --subject return/R-1 - | jq .
    returnable export --format scenario --subject order/A-1 --redact case.jsonl && returnable play --check case.jsonl
    """
    _check_options(out, form, view, no_views, policies)
    if out != STDOUT:
        check_apart(out, store_files(store), "a file of the store")
    hidden = redaction(redact, redact_key)
    with opened(store) as services:
        history = History(services.store, hidden)
        choice = _choice(services, subjects, since, until, form)
        # A scenario with views reads every event twice.
        total = (0 if choice.subjects else history.head) * (2 if form == "scenario" and not no_views else 1)
        with progress("exporting", total) as advance:

            def write(sink: Sink) -> dict[str, Any]:
                if form == "scenario":
                    return _scenario(sink, services, history, choice, not no_views, policies, advance)
                return _table(sink, form, view or "facts", services, history, choice, advance)

            if out == STDOUT:
                result = write(Stdout())
            else:
                with written_whole(out, force) as file:
                    result = write(file)
    _report(result | {"out": out, "redacted": redact}, as_json, err=out == STDOUT)


def _check_options(out: str, form: str, view: str | None, no_views: bool, policies: str | None) -> None:
    if form == "parquet" and out == "-":
        raise click.UsageError("parquet cannot be written to standard output; name a file")
    if form == "scenario" and view is not None:
        raise click.UsageError("--view is for jsonl, csv and parquet; a scenario has commands")
    if form != "scenario" and (no_views or policies is not None):
        raise click.UsageError("--no-views and --policies need --format scenario")


def _choice(
    services: Services, subjects: tuple[str, ...], since: datetime | None, until: datetime | None, form: str
) -> Choice:
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--from must be before --to")
    found = tuple(
        find_subject(services.store, services.handler.policy, subject, arrivals=True)
        for subject in dict.fromkeys(subjects)
    )
    if form == "scenario":  # a parcel can only be assigned to what is there
        arrivals = [one.case.arrival for one in found if one.case.arrival is not None]
        assigned = [arrival.assigned.assigned_to for arrival in arrivals if arrival.assigned is not None]
        found += tuple(find_subject(services.store, services.handler.policy, name) for name in assigned)
    return Choice(found, since, until)


def _table(
    sink: Sink, form: str, view: str, services: Services, history: History, choice: Choice, advance: Advance
) -> dict[str, Any]:
    rows = Rows(history, services.handler.policy)
    chosen, columns = (rows.events, FACT_COLUMNS) if view == "facts" else (rows.clauses, CLAUSE_COLUMNS)
    writer = table(form, sink, columns)
    count = 0
    for row in chosen(choice, advance):
        writer.write(row)
        count += 1
    writer.end()
    return {"format": form, "view": view, "rows": count, "head": history.head}


def _scenario(
    sink: Sink,
    services: Services,
    history: History,
    choice: Choice,
    views: bool,
    policies: str | None,
    advance: Advance,
) -> dict[str, Any]:
    policy = services.handler.policy
    written = write_scenario(sink, history, WholeCases(history, choice), policy, views, advance)
    needed = [
        {"id": version.id, "version": version.version, "sha256": version.sha256}
        for version in map(policy, written.policies)
    ]
    bundled = bundled_suffices(written)
    files = write_policies(policies, written, policy) if policies is not None else []
    for one in needed:
        say(f"needs the policy {one['id']} {one['version']}, sha256 {one['sha256']}")
    if not bundled:
        problem = why_policies_conflict(written, policy)
        if problem is not None:
            say(f"the policies cannot be used together: {problem}; export the orders of each policy separately")
        elif policies is None:
            say("it does not play under the bundled policy: --policies DIR writes the policies for play --policy DIR")
    if written.steps_back:
        say(f"the clock of the log steps back {counted(written.steps_back, 'time')}; those lines are marked")
    return {
        "format": "scenario",
        "cases": written.cases,
        **written.counts(),
        "policies": needed,
        "bundled_policy": bundled,
        "policy_files": files,
        "head": history.head,
    }


def _report(result: dict[str, Any], as_json: bool, err: bool) -> None:
    if as_json:
        print_json(to_json(result), err)
        return
    if result["format"] == "scenario":
        commands, views = counted(result["commands"], "command"), counted(result["views"], "view")
        what = f"{commands} and {views} of {counted(result['cases'], 'case')} ({counted(result['facts'], 'event')})"
    else:
        what = counted(result["rows"], "event" if result["view"] == "facts" else "clause")
    out = "standard output" if result["out"] == "-" else result["out"]
    redacted = ", redacted" if result["redacted"] else ""
    say(f"exported {what}{redacted}, of a log that ends at position {result['head']}, as {result['format']} to {out}")
