"""The command that creates a store on a server, or brings its tables up to date."""

from __future__ import annotations

import click

from returnable.adapters.cli.options import store_option
from returnable.adapters.wiring import migrate_store


@click.command()
@store_option
def migrate(store: str) -> None:
    """Create a store on PostgreSQL, or bring its tables up to date. No other command changes tables.

    The user needs the right to create the schema; the service itself needs fewer rights. It is safe to run this command
    again, and from several machines at once. It does not touch a store made by a newer version of returnable: exit
    status 2.

    \b
    returnable migrate --store postgresql://shop@db.example/shop
    returnable migrate --store "postgresql://shop@db.example/shop?schema=returns"
    """
    before, after = migrate_store(store)
    if before == after:
        click.echo(f"nothing to do: the store has version {after}")
    elif before == 0:
        click.echo(f"created: the store has version {after}")
    else:
        click.echo(f"migrated from version {before} to {after}")
