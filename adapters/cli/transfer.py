"""Taking facts out, and bringing a host's orders in: ``export`` and ``import``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from returnable.adapters.cli.options import (
    instant,
    json_option,
    opened,
    policy_option,
    progress,
    redact_key_option,
    redaction,
    store_option,
)
from returnable.adapters.cli.printing import say, say_json
from returnable.adapters.printable import identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from returnable.adapters.files import Sink
    from returnable.adapters.imports.running import Refusal, Summary, Teller
    from returnable.adapters.wiring import Parts
    from returnable.projections.exports import Choice, History

FORMATS = ("jsonl", "csv", "parquet", "scenario")


# ---- export ----------------------------------------------------------------------------------------------------------


@click.command("export")
@click.argument("out", metavar="OUT")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="What is written.")
@click.option(
    "--subject", "subjects", multiple=True, metavar="S", help="Only order/A-1, return/R-1, …; may be repeated."
)
@click.option("--from", "since", metavar="INSTANT", help="Only what was recorded then or later (RFC 3339).")
@click.option("--to", "until", metavar="INSTANT", help="Only what was recorded before then (RFC 3339).")
@click.option("--view", "view", type=click.Choice(["facts", "clauses"]), help="The rows of a table. Default: facts.")
@click.option("--no-views", is_flag=True, help="A scenario without questions at its end.")
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
    since: str | None,
    until: str | None,
    view: str | None,
    no_views: bool,
    policies: str | None,
    redact: bool,
    redact_key: str | None,
    force: bool,
    store: str,
    as_json: bool,
) -> None:
    """Write the facts to OUT (- is standard output): evidence to take along.

    jsonl, csv and parquet have one row for each fact, or with --view clauses one for each clause that was weighed. An
    order is exported with all of its case, a return or claim with its own stream.

    A scenario has the commands that led to these facts, with what is expected of each and the views in the end:
    "returnable play --check" proves it. It takes whole cases, those with a fact recorded in the period.

    CSV is safe to open in a spreadsheet that splits at , or ; or |: what would begin a formula gets an apostrophe in front.

    \b
    returnable export --format parquet facts.parquet
    returnable export --format csv --view clauses --from 2026-01-01T00:00:00Z clauses.csv
    returnable export --format jsonl --subject return/R-1 - | jq .
    returnable export --format scenario --subject order/A-1 --redact case.jsonl && returnable play --check case.jsonl
    """
    from returnable.adapters.files import STDOUT, Stdout, check_apart, store_files, written_whole
    from returnable.projections.exports import History

    _check_options(out, form, view, no_views, policies)
    if out != STDOUT:
        check_apart(out, store_files(store), "a file of the store")
    period = instant("from", since), instant("to", until)
    hidden = redaction(redact, redact_key)
    with opened(store) as parts:
        history = History(parts.store, hidden)
        choice = _choice(parts, subjects, *period)
        # A scenario with views looks at every fact twice.
        total = (0 if choice.subjects else history.head) * (2 if form == "scenario" and not no_views else 1)
        with progress("exporting", total) as advance:

            def write(sink: Sink) -> dict[str, Any]:
                if form == "scenario":
                    return _scenario(sink, parts, history, choice, not no_views, policies, advance)
                return _table(sink, form, view or "facts", parts, history, choice, advance)

            if out == STDOUT:
                came = write(Stdout())
            else:
                with written_whole(out, force) as file:
                    came = write(file)
    _tell(came | {"out": out, "redacted": redact}, as_json, err=out == STDOUT)


def _check_options(out: str, form: str, view: str | None, no_views: bool, policies: str | None) -> None:
    if form == "parquet" and out == "-":
        raise click.UsageError("parquet cannot be written to standard output; name a file")
    if form == "scenario" and view is not None:
        raise click.UsageError("--view is of jsonl, csv and parquet; a scenario has commands")
    if form != "scenario" and (no_views or policies is not None):
        raise click.UsageError("--no-views and --policies are of --format scenario")


def _choice(parts: Parts, subjects: tuple[str, ...], since: Any, until: Any) -> Choice:
    from returnable.projections.exports import Choice
    from returnable.projections.subjects import find_subject

    if since is not None and until is not None and since >= until:
        raise click.UsageError("--from must be before --to")
    found = tuple(find_subject(parts.store, parts.desk.policy, subject) for subject in dict.fromkeys(subjects))
    return Choice(found, since, until)


def _table(
    sink: Sink,
    form: str,
    view: str,
    parts: Parts,
    history: History,
    choice: Choice,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    from returnable.adapters.export.tables import table
    from returnable.projections.exports import CLAUSE_COLUMNS, FACT_COLUMNS, Rows

    rows = Rows(history, parts.desk.policy)
    chosen, columns = (rows.facts, FACT_COLUMNS) if view == "facts" else (rows.clauses, CLAUSE_COLUMNS)
    writer = table(form, sink, columns)
    count = 0
    for row in chosen(choice, advance):
        writer.write(row)
        count += 1
    writer.end()
    return {"format": form, "view": view, "rows": count, "head": history.head}


def _scenario(
    sink: Sink,
    parts: Parts,
    history: History,
    choice: Choice,
    views: bool,
    policies: str | None,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    from returnable.adapters.cli.words import counted
    from returnable.adapters.export.scenario import bundled_suffices, what_policies_do, write_policies, write_scenario
    from returnable.projections.exports import WholeCases

    policy = parts.desk.policy
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
        problem = what_policies_do(written, policy)
        if problem is not None:
            say(f"the policies cannot be given together: {problem}; export the orders of each apart")
        elif policies is None:
            say("it does not play under the bundled policy: --policies DIR writes what play --policy DIR needs")
    if written.steps_back:
        say(f"the clock of the log steps back {counted(written.steps_back, 'time')}; those lines say so")
    return {
        "format": "scenario",
        "cases": written.cases,
        "commands": written.commands,
        "facts": written.facts,
        "views": written.views,
        "steps_back": written.steps_back,
        "policies": needed,
        "bundled_policy": bundled,
        "policy_files": files,
        "head": history.head,
    }


def _tell(came: dict[str, Any], as_json: bool, err: bool) -> None:
    if as_json:
        from pydantic_core import to_json

        say_json(to_json(came), err)
        return
    from returnable.adapters.cli.words import counted

    if came["format"] == "scenario":
        commands, views = counted(came["commands"], "command"), counted(came["views"], "view")
        what = f"{commands} and {views} of {counted(came['cases'], 'case')} ({counted(came['facts'], 'fact')})"
    else:
        what = counted(came["rows"], came["view"].removesuffix("s"))
    where = "standard output" if came["out"] == "-" else came["out"]
    redacted = ", redacted" if came["redacted"] else ""
    say(f"exported {what}{redacted}, of a log that ends at position {came['head']}, as {came['format']} to {where}")


# ---- import ----------------------------------------------------------------------------------------------------------

SHOWN = 5
"""How many refused rows are shown where no report is written."""


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("--mapping", "mapping_file", metavar="FILE", required=True, help="What its columns mean (TOML).")
@store_option
@policy_option
@click.option("--dry-run", is_flag=True, help="Say what would happen; write nothing to the store.")
@click.option("--report", metavar="FILE", help="Refused rows with their reasons: CSV, or JSON Lines for .jsonl.")
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
    """Import a host's existing orders: FILE is a table in CSV, and a mapping says what its columns mean.

    Facts are recorded now and have occurred when the table says. Every command has an id made of the name of the mapping
    and the id of the order: import again, also after a kill, and what is on record is not done twice. A row that says
    something else than before is refused, and so is everything that is impossible; exit status 1 when any was.

    \b
    returnable import orders.csv --mapping shop.toml --dry-run --report refused.csv
    returnable import orders.csv --mapping shop.toml --store sqlite:///shop.db
    returnable import orders.csv --mapping shop.toml --report refused.csv --force
    """
    from returnable.adapters.clock import system_clock
    from returnable.adapters.imports.mapping import read_mapping
    from returnable.adapters.imports.planning import Planner
    from returnable.adapters.imports.reading import count_rows, read_orders
    from returnable.adapters.imports.running import run_import

    _check_report(report, force, file, mapping_file, store)
    mapping = read_mapping(mapping_file)
    planner = Planner(mapping)
    total = count_rows(file, mapping.file)
    with (
        _teller(store, policy, dry_run, system_clock) as teller,
        _report(report, force) as (write, first),
        progress("importing", total) as advance,
    ):
        summary = run_import(read_orders(file, mapping, planner), planner, teller, write, advance)
    _tell_import(summary, first, dry_run, report, as_json)
    return 1 if summary.refused else 0


@contextmanager
def _teller(store: str, policy: str | None, dry_run: bool, clock: Callable[[], datetime]) -> Iterator[Teller]:
    from returnable.adapters.imports.running import Live, Trial
    from returnable.adapters.wiring import assemble, policy_book

    book = policy_book(policy)
    if dry_run and (store == "memory:" or _absent(store)):
        yield Trial(None, book, clock)
        return
    parts = assemble(store, book, create=not dry_run)
    try:
        yield Trial(parts.store, book, clock) if dry_run else Live(parts, clock)
    finally:
        parts.store.close()


def _absent(store: str) -> bool:
    from pathlib import Path
    from urllib.parse import unquote

    path = unquote(store.removeprefix("sqlite:///"), errors="surrogateescape")
    return store.startswith("sqlite:///") and "\0" not in path and not Path(path).exists()


def _check_report(report: str | None, force: bool, file: str, mapping_file: str, store: str) -> None:
    """Before anything is read or made: the report takes the place of nothing that the import needs."""
    from returnable.adapters.files import STDOUT, check_apart, check_free, store_files

    if report is None:
        if force:
            raise click.UsageError("--force is of --report")
        return
    if report == STDOUT:
        raise click.UsageError("--report: the summary goes to standard output; name a file")
    check_apart(report, [file], "the table itself")
    check_apart(report, [mapping_file], "the mapping itself")
    check_apart(report, store_files(store), "a file of the store")
    check_free(report, force)


@contextmanager
def _report(report: str | None, force: bool) -> Iterator[tuple[Callable[[Refusal], None], list[Refusal]]]:
    """How to report a refused row, and the first of them."""
    from dataclasses import asdict

    first: list[Refusal] = []

    def remember(refusal: Refusal) -> None:
        if len(first) < SHOWN:
            first.append(refusal)

    if report is None:
        yield remember, first
        return
    from returnable.adapters.export.tables import table
    from returnable.adapters.files import written_whole
    from returnable.projections.exports import Column

    kinds = {"row": "int"}
    names = ("row", "order_id", "command", "field", "code", "reason")
    columns = [Column(name, "int" if name in kinds else "text", name) for name in names]
    with written_whole(report, force) as out:
        rows = table("jsonl" if report.endswith((".jsonl", ".ndjson")) else "csv", out, columns)

        def write(refusal: Refusal) -> None:
            remember(refusal)
            rows.write(asdict(refusal))

        yield write, first
        rows.end()


def _tell_import(summary: Summary, first: list[Refusal], dry_run: bool, report: str | None, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        from pydantic_core import to_json

        shown = [asdict(refusal) for refusal in first]
        say_json(to_json({"dry_run": dry_run} | summary.as_dict() | {"first_refused": shown}, indent=2))
        return
    if report is None:
        for refusal in first:
            field = f"{refusal.field}: " if refusal.field else ""
            say(f"row {refusal.row}, order {identifier(refusal.order_id)}: {refusal.command}: {field}{refusal.reason}")
        if summary.refused > len(first):
            say(f"and {summary.refused - len(first)} more; --report FILE writes them all")
    from returnable.adapters.cli.words import counted

    would = "would be " if dry_run else ""
    click.echo(
        f"{counted(summary.rows, 'row')}, {counted(summary.orders, 'order')}: {summary.imported} {would}imported, "
        f"{summary.already} already imported, {summary.left_out} left out by the mapping, {summary.refused} {would}refused"
    )
    commands = ", ".join(f"{name} {count}" for name, count in sorted(summary.commands.items())) or "none"
    click.echo(f"commands {'that would be ' if dry_run else ''}carried out: {commands}")
    click.echo(
        f"facts: {summary.facts}, exceptions raised: {summary.exceptions}, declined by the policy: {summary.declined}, "
        f"commands on record before: {summary.commands_on_record}"
    )
    for reason, count in summary.reasons.most_common():
        click.echo(f"refused for {reason}: {count}")
