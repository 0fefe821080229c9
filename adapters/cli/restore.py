"""``returnable restore``: replaces a store in an SQLite file with a back-up."""

from __future__ import annotations

import click

from returnable.adapters import backups
from returnable.adapters.cli.options import store_option
from returnable.adapters.printable import printable
from returnable.domain.wording import counted


@click.command()
@click.argument("file")
@click.option(
    "--force",
    is_flag=True,
    help="Restore even if it is unknown whether the store is in use. A store in use is always refused.",
)
@store_option
def restore(file: str, force: bool, store: str) -> None:
    """Replace a store in an SQLite file with a back-up. Close every desk on the store first.

    The back-up FILE is verified first, and the restored store at the end. The old store is kept, with its WAL, under a
    name that ends in "before-restore" and the time. If this command is interrupted, run it again. The restored store
    records when it was restored and from which file; `returnable verify` shows both. Rebuild stored views afterwards:
    `returnable project --rebuild all`.

    \b
    returnable restore shop-2026-03-02.db --store sqlite:///shop.db
    """
    done = backups.restore(file, store, force=force)
    replaced = "" if done.kept_as is None else f"; the old store is kept as {printable(done.kept_as)}"
    click.echo(f"restored: {counted(done.cases, 'case')} up to position {done.head}, sha256 {done.sha256}{replaced}")
    if done.replaced_head is not None and done.replaced_head > done.head:
        click.echo(
            f"the old store ended at position {done.replaced_head}: events recorded after the back-up are no longer in the "
            "store, and neither are the ids of their commands"
        )
