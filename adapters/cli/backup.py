"""``returnable backup``: a copy of a store in an SQLite file."""

from __future__ import annotations

import click

from returnable.adapters import backups
from returnable.adapters.cli.options import store_option
from returnable.adapters.printable import printable
from returnable.domain.wording import counted


@click.command()
@click.argument("file")
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@store_option
def backup(file: str, force: bool, store: str) -> None:
    """Copy a store in an SQLite file into FILE. The store may be in use: the copy holds its state at one moment.

    The copy is verified as by `returnable verify`, and made durable, before it gets the name FILE. Only its owner can
    read it. Back up a store on PostgreSQL with the tools of the server.

    \b
    returnable backup shop-2026-03-02.db --store sqlite:///shop.db
    """
    made = backups.back_up(store, file, force=force)
    click.echo(
        f"{printable(made.file)}: {counted(made.cases, 'case')} up to position {made.head}, {made.size_bytes} bytes, "
        f"sha256 {made.sha256}"
    )
