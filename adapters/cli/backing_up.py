"""``returnable backup`` and ``returnable restore``: copies of a store in an SQLite file."""

from __future__ import annotations

import click

from returnable.adapters import backups
from returnable.adapters.cli.options import store_option
from returnable.adapters.cli.words import counted
from returnable.adapters.printable import printable


@click.command()
@click.argument("file")
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@store_option
def backup(file: str, force: bool, store: str) -> None:
    """Copy a store in an SQLite file into FILE, as it stands at one moment. The store may be in use.

    The copy is verified, as `returnable verify` does it, and durable before it is called FILE. Only its owner may read it. A
    store on PostgreSQL is backed up with the tools of the server.

    \b
    returnable backup shop-2026-03-02.db --store sqlite:///shop.db
    """
    made = backups.back_up(store, file, force=force)
    click.echo(
        f"{printable(made.file)}: {counted(made.cases, 'case')} up to position {made.head}, {made.size_bytes} bytes, "
        f"sha256 {made.sha256}"
    )


@click.command()
@click.argument("file")
@click.option(
    "--force",
    is_flag=True,
    help="Go on where nobody can tell whether the store is in use. One that is in use is refused.",
)
@store_option
def restore(file: str, force: bool, store: str) -> None:
    """Put the back-up FILE in the place of a store in an SQLite file. Close every desk on the store first.

    FILE is verified first, and the restored store afterwards. The store that was there is kept, with its WAL, under a name
    that ends in "before-restore" and the time. If it is interrupted, run it again. The store remembers when it was
    restored, and from what; `returnable verify` shows that. Build stored views anew
    afterwards: `returnable project --rebuild all`.

    \b
    returnable restore shop-2026-03-02.db --store sqlite:///shop.db
    """
    done = backups.restore(file, store, force=force)
    replaced = "" if done.kept_as is None else f"; the store that was there is kept as {printable(done.kept_as)}"
    click.echo(f"restored: {counted(done.cases, 'case')} up to position {done.head}, sha256 {done.sha256}{replaced}")
    if done.replaced_head is not None and done.replaced_head > done.head:
        click.echo(
            f"the store that was there came to position {done.replaced_head}: what was recorded after the back-up is "
            "not in the store any more, and neither are the keys of those commands"
        )
