"""The command that creates a store on a server, or brings its tables up to date."""

from __future__ import annotations

import click

from returnable.adapters.cli.options import store_option


@click.command()
@store_option
def migrate(store: str) -> None:
    """Create a store on PostgreSQL, or bring its tables up to date. No other command changes a schema.

    It needs the right to create the schema; afterwards the service needs less. Run it as often, and from as many places at
    once, as you like. A store made by a newer version of returnable is left alone: exit status 2.

    \b
    returnable migrate --store postgresql://shop@db.example/shop
    returnable migrate --store "postgresql://shop@db.example/shop?schema=returns"
    """
    from returnable.adapters.wiring import migrate_store

    before, after = migrate_store(store)
    if before == after:
        click.echo(f"nothing to do: the store is of version {after}")
    elif before == 0:
        click.echo(f"created: the store is of version {after}")
    else:
        click.echo(f"brought from version {before} to {after}")
