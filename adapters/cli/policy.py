"""``returnable policy``: the clauses of a policy, and the check of a policy file."""

from __future__ import annotations

import click

from returnable.adapters.cli.options import policy_option
from returnable.adapters.cli.printing import print_json
from returnable.adapters.cli.tables import show_policy
from returnable.adapters.printable import identifier
from returnable.adapters.wiring import policy_book


@click.group()
def policy() -> None:
    """Show or check a policy.

    \b
    returnable policy show
    returnable policy check my-policy.toml
    """


@policy.command("show")
@policy_option
@click.option("--json", "as_json", is_flag=True, help="The canonical documents as JSON Lines.")
def policy_show(policy: str | None, as_json: bool) -> None:
    """Show the clauses of a policy: the merchant's words, the parameters, the reading.

    \b
    returnable policy show
    returnable policy show --policy my-policy.toml --json
    """
    book = policy_book(policy)
    for version in book.versions:
        if as_json:
            print_json(version.document)
        else:
            show_policy(version)


@policy.command("check")
@click.argument("file")
def policy_check(file: str) -> None:
    """Check a policy FILE or a directory of versions. Exit status 2 and one line if something is wrong.

    \b
    returnable policy check my-policy.toml
    """
    for version in policy_book(file).versions:
        named = f"{identifier(version.id)} {identifier(version.version)}"
        click.echo(f"{named}, in force from {version.effective}: sha256 {version.sha256}")
