"""``returnable report``: the audit report of one subject as a page, plain text or JSON."""

from __future__ import annotations

import hashlib
import re
import sys
from datetime import datetime
from pathlib import Path

import click

from returnable.adapters.cli.options import as_of_options, opened, report_damage, store_option
from returnable.adapters.cli.printing import beneath
from returnable.adapters.clock import system_clock
from returnable.adapters.files import check_apart, check_free, store_files, written_whole
from returnable.adapters.printable import json_text, printable
from returnable.adapters.report.html import report_html
from returnable.adapters.report.text import report_text
from returnable.projections.report.build import make_report
from returnable.projections.report.model import Report

FORMATS = ("html", "text", "json")
_FORMAT_OF_SUFFIX = {".html": "html", ".htm": "html", ".txt": "text", ".json": "json"}


@click.command()
@click.argument("subject")
@click.argument("out", required=False)
@click.option(
    "--format",
    "wanted",
    type=click.Choice(FORMATS),
    help="Default: by the ending of OUT (.html, .txt, .json), else html.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@as_of_options
@store_option
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists.")
def report(
    subject: str,
    out: str | None,
    wanted: str | None,
    as_json: bool,
    as_of: datetime | None,
    known_at: datetime | None,
    store: str,
    force: bool,
) -> None:
    """Write the audit report of a subject. It shows the timeline, lifecycles, rulings, money, and what is open.

    SUBJECT is order/A-1, return/R-1, claim/C-1 or refund/F-1, or just the id. The report of an order covers its returns,
    claims and refunds. The HTML page is one file that loads nothing and sends nothing. Without OUT the page is written to
    a file named after the subject, and text and JSON go to standard output (so does OUT -). The report holds the personal
    data of the order.

    \b
    returnable report return/R-1                        writes return-R-1.html
    returnable report A-1 case.html --force
    returnable report R-1 --format text --as-of 2026-03-12T00:00:00-04:00
    returnable report F-1 --json
    """
    if as_json and wanted not in (None, "json"):
        raise click.UsageError(f"--json and --format {wanted} exclude each other")
    shape = "json" if as_json else wanted or _FORMAT_OF_SUFFIX.get(Path(out or "").suffix.lower(), "html")
    if out is not None and out != "-":
        _check_out(out, store, force)
    made = _made(subject, store, as_of, known_at)
    if out is None and shape == "html":
        out = file_name(made.kind, made.id)
        _check_out(out, store, force)
    content = _rendered(made, shape).encode()
    if out is None or out == "-":
        _print(content)
        return
    with written_whole(out, force) as file:
        file.write(content)
    click.echo(printable(out))


def _check_out(out: str, store: str, force: bool) -> None:
    check_apart(out, store_files(store), "a file of the store")
    check_free(out, force)


def _made(subject: str, store: str, as_of: datetime | None, known_at: datetime | None) -> Report:
    with opened(store) as services:
        policy = services.handler.policy
        return make_report(services.store, policy, subject, system_clock(), as_of, known_at, report_damage)


def _rendered(made: Report, shape: str) -> str:
    if shape == "json":
        return json_text(made.model_dump_json(by_alias=True, indent=2)) + "\n"
    if shape == "text":
        return report_text(made)
    return report_html(made)


def file_name(kind: str, name: str, ending: str = ".html") -> str:
    """The name of the file for a subject. It holds only letters, digits, dots, dashes and underscores. If that changes or
    shortens the id, the name ends in a part of the hash of the id.

    >>> file_name("return", "R-1")
    'return-R-1.html'
    >>> file_name("order", "../x y")
    'order-.._x_y-46c740c6.html'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
    if plain != name:
        plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{kind}-{plain}{ending}"


def _print(content: bytes) -> None:
    # The report is safe as a whole. It sets its own marks of direction, and in pairs.
    out = beneath(sys.stdout)
    stream = getattr(out, "buffer", None)
    if stream is None:
        out.write(content.decode())
        return
    encoding = (out.encoding or "utf-8").lower().replace("_", "-")
    if out.isatty() and encoding not in ("utf-8", "utf8"):
        content = content.decode().encode(encoding, "replace")
    out.flush()
    stream.write(content)
    stream.flush()
