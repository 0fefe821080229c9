"""``returnable import``: a host's existing orders from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import json_option, policy_option, store_option
from returnable.adapters.cli.printing import print_json, say
from returnable.adapters.cli.progress import progress
from returnable.adapters.clock import system_clock
from returnable.adapters.export.tables import table
from returnable.adapters.files import STDOUT, check_apart, check_free, store_files, written_whole
from returnable.adapters.imports.mapping import read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import count_rows, read_orders
from returnable.adapters.imports.running import CommandSink, DryRun, Live, Refusal, Summary, run_import
from returnable.adapters.printable import identifier
from returnable.adapters.wiring import assemble, policy_book
from returnable.domain.wording import counted
from returnable.projections.exports import Column

SHOWN = 5
"""How many refused rows are shown without --report."""


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option(
    "--mapping", "mapping_file", metavar="FILE", required=True, help="The mapping: what the columns mean (TOML)."
)
@store_option
@policy_option
@click.option("--dry-run", is_flag=True, help="Print what an import would do; write nothing to the store.")
@click.option(
    "--report",
    metavar="FILE",
    help="Write refused rows and their reasons to FILE: CSV, or JSON Lines if it ends in .jsonl.",
)
@click.option("--force", is_flag=True, help="Overwrite the report.")
@json_option
def import_(
    file: str,
    mapping_file: str,
    store: str,
    policy: str | None,
    dry_run: bool,
    report: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Import a host's existing orders, or what happened to known orders, from a CSV table.

    A mapping defines the meaning of the columns of FILE.

    Events are recorded now; they occurred at the times in the table. The id of each command consists of the name of the
    mapping and the id of the order. So it is safe to import a table again, also after a kill: nothing is recorded twice.
    A row that contradicts an earlier import is refused, and so is an impossible row; exit status 1 if any row was refused.

    \b
    returnable import orders.csv --mapping shop.toml --dry-run --report refused.csv
    returnable import orders.csv --mapping shop.toml --store sqlite:///shop.db
    returnable import orders.csv --mapping shop.toml --report refused.csv --force
    """
    _check_report(report, force, file, mapping_file, store)
    mapping = read_mapping(mapping_file)
    planner = Planner(mapping)
    total = count_rows(file, mapping.file)
    with (
        _command_sink(store, policy, dry_run, system_clock) as sink,
        _report(report, force) as (write, first),
        progress("importing", total) as advance,
    ):
        summary = run_import(read_orders(file, mapping, planner), planner, sink, write, advance)
    _print_summary(summary, first, dry_run, report, as_json)
    return 1 if summary.refused else 0


@contextmanager
def _command_sink(
    store: str, policy: str | None, dry_run: bool, clock: Callable[[], datetime]
) -> Iterator[CommandSink]:
    book = policy_book(policy)
    if dry_run and (store == "memory:" or _absent(store)):
        yield DryRun(None, book, clock)
        return
    services = assemble(store, book, create=not dry_run)
    with closing(services.store):
        yield DryRun(services.store, book, clock) if dry_run else Live(services, clock)


def _absent(store: str) -> bool:
    files = store_files(store)
    return bool(files) and not files[0].exists()


def _check_report(report: str | None, force: bool, file: str, mapping_file: str, store: str) -> None:
    """Refuse a report that would overwrite a file that the import needs. Runs before anything is read or written."""
    if report is None:
        if force:
            raise click.UsageError("--force needs --report")
        return
    if report == STDOUT:
        raise click.UsageError("--report: the summary goes to standard output; name a file")
    check_apart(report, [file], "the table itself")
    check_apart(report, [mapping_file], "the mapping itself")
    check_apart(report, store_files(store), "a file of the store")
    check_free(report, force)


@contextmanager
def _report(report: str | None, force: bool) -> Iterator[tuple[Callable[[Refusal], None], list[Refusal]]]:
    """A function that reports a refused row, and the first refused rows."""
    first: list[Refusal] = []

    def remember(refusal: Refusal) -> None:
        if len(first) < SHOWN:
            first.append(refusal)

    if report is None:
        yield remember, first
        return
    names = ("order_id", "command", "field", "code", "reason")
    columns = [Column("row", "int", "row"), *(Column(name, "text", name) for name in names)]
    with written_whole(report, force) as out:
        rows = table("jsonl" if report.endswith((".jsonl", ".ndjson")) else "csv", out, columns)

        def write(refusal: Refusal) -> None:
            remember(refusal)
            rows.write(asdict(refusal))

        yield write, first
        rows.end()


def _print_summary(summary: Summary, first: list[Refusal], dry_run: bool, report: str | None, as_json: bool) -> None:
    if as_json:
        shown = [asdict(refusal) for refusal in first]
        print_json(to_json({"dry_run": dry_run} | summary.as_dict() | {"first_refused": shown}, indent=2))
        return
    if report is None:
        for refusal in first:
            place = "".join(f"{name}: " for name in (refusal.command, refusal.field) if name)
            say(f"row {refusal.row}, order {identifier(refusal.order_id)}: {place}{refusal.reason}")
        if summary.refused > len(first):
            say(f"and {summary.refused - len(first)} more; --report FILE writes them all")
    would = "would be " if dry_run else ""
    click.echo(
        f"{counted(summary.rows, 'row')}, {counted(summary.orders, 'order')}: {summary.imported} {would}imported, "
        f"{summary.already} already imported, {summary.left_out} left out by the mapping, {summary.refused} {would}refused"
    )
    commands = ", ".join(f"{name} {count}" for name, count in sorted(summary.commands.items())) or "none"
    click.echo(f"commands {'that would be ' if dry_run else ''}carried out: {commands}")
    click.echo(
        f"events: {summary.facts}, exceptions raised: {summary.exceptions}, declined by the policy: {summary.declined}, "
        f"commands already on record: {summary.commands_on_record}"
    )
    for reason, count in summary.reasons.most_common():
        click.echo(f"refused for {reason}: {count}")
