"""``returnable schema``: the JSON Schema of scenarios."""

from __future__ import annotations

import click

from returnable.adapters.schema import scenario_schema


@click.command()
def schema() -> None:
    """The JSON Schema of the scenario format. It describes lines, outcomes and views.

    \b
    returnable schema > scenario.schema.json
    """
    click.echo(scenario_schema())
