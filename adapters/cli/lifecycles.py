"""``returnable lifecycles``: the state machines."""

from __future__ import annotations

import click

from returnable.domain.lifecycles import MACHINES, drawing


@click.command()
@click.argument("name", required=False)
@click.option("--format", "form", type=click.Choice(["mermaid", "table"]), default="table", show_default=True)
def lifecycles(name: str | None, form: str) -> None:
    """The state machines, as tables or diagrams. There is one each for orders, returns, labels, refunds, claims and arrivals.

    \b
    returnable lifecycles return
    returnable lifecycles order --format mermaid
    """
    if name is not None and name not in MACHINES:
        raise click.UsageError(f"there is no lifecycle {name!r}; there are {', '.join(MACHINES)}")
    for key, machine in MACHINES.items():
        if name in (None, key):
            if name is None:
                click.echo(f"{key}\n")
            click.echo(drawing(machine, "mermaid" if form == "mermaid" else "md"))
