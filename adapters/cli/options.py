"""The options that several commands share, and how a command gets at the store they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from secrets import token_bytes
from typing import Any, TypeVar

import click

from returnable.adapters.printable import identifier, printable
from returnable.adapters.wiring import Services, assemble
from returnable.domain.fields import parse_instant
from returnable.domain.ports import Damage
from returnable.projections.redaction import Redaction

DEFAULT_STORE = "sqlite:///returnable.db"

F = TypeVar("F", bound=Callable[..., Any])


def policy_option(command: F) -> F:
    """``--policy``: what new orders are confirmed under."""
    return click.option(
        "--policy",
        metavar="FILE",
        help="A policy (TOML), a directory of versions, or the name of a bundled one. Default: the bundled one in force.",
    )(command)


def store_option(command: F) -> F:
    """``--store``: the store to read or to write."""
    return click.option(
        "--store",
        metavar="URL",
        envvar="RETURNABLE_STORE",
        default=DEFAULT_STORE,
        show_default=True,
        show_envvar=True,
        help="sqlite:///file.db, postgresql://…, or memory: for an empty one.",
    )(command)


def json_option(command: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")(command)


def json_lines_option(command: F) -> F:
    """``--json`` of a list."""
    return click.option("--json", "as_json", is_flag=True, help="The answer as JSON Lines.")(command)


def redact_key_option(command: F) -> F:
    """``--redact-key``: what :func:`redaction` takes."""
    return click.option(
        "--redact-key",
        metavar="TEXT",
        envvar="RETURNABLE_REDACT_KEY",
        show_envvar=True,
        help="Pseudonyms are the same in every export with this key. Default: a fresh key.",
    )(command)


def redaction(redact: bool, key: str | None) -> Redaction | None:
    """What takes personal data out, where it is asked for: with that key, or a fresh one."""
    if not redact:
        # A key in the environment does no harm where nothing is redacted; one that was typed was meant.
        source = click.get_current_context().get_parameter_source("redact_key")
        if key is not None and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--redact-key needs --redact")
        return None
    if key is not None and not key:
        raise click.UsageError("--redact-key: is empty")
    return Redaction(token_bytes(32) if key is None else key.encode("utf-8", "surrogateescape"))


def seconds_option(name: str, least: float, default: float, text: str) -> Callable[[F], F]:
    """An option that takes a number of seconds: ``--hold`` fills the parameter ``hold_seconds``."""
    return click.option(
        f"--{name}",
        f"{name.replace('-', '_')}_seconds",
        type=click.FloatRange(least),
        metavar="SECONDS",
        default=default,
        show_default=True,
        help=text,
    )


def staying_options(command: F) -> F:
    """What every command has that stays and works: ``--health``, ``--log-format``, ``--store`` and ``--json``."""
    for option in (
        json_option,
        store_option,
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="The log on stderr: lines for people, or JSON Lines.",
        ),
        click.option(
            "--health",
            metavar="HOST:PORT",
            callback=_address,
            help="Answer GET /health there: 200 or 503, with the status as JSON.",
        ),
    ):
        command = option(command)
    return command


def _address(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--health: {text!r} is not HOST:PORT, such as 127.0.0.1:8081")
    return host.strip("[]") or "127.0.0.1", int(port)


def as_of_options(command: F) -> F:
    """``--as-of`` and ``--known-at``."""
    for option in (
        click.option("--known-at", metavar="INSTANT", help="Only facts that had been recorded by then (RFC 3339)."),
        click.option("--as-of", metavar="INSTANT", help="The answer as it was true at this instant (RFC 3339)."),
    ):
        command = option(command)
    return command


def question_options(command: F) -> F:
    """``--store``, ``--as-of``, ``--known-at`` and ``--json``."""
    return store_option(as_of_options(json_option(command)))


def instant(name: str, text: str | None) -> datetime | None:
    """The instant an option gives; raises ``click.UsageError`` naming the option."""
    if text is None:
        return None
    try:
        return parse_instant(text)
    except ValueError as error:
        raise click.UsageError(f"--{name}: {text!r} {error}") from None


@contextmanager
def opened(store: str, policy: str | None = None) -> Iterator[Services]:
    """The parts of a store that exists (``memory:`` is a fresh one), for reading; closed at the end."""
    services = assemble(store, policy, create=store == "memory:", only_reading=True)
    try:
        yield services
    finally:
        services.store.close()


def say_damaged(damage: Damage, err: bool = True) -> None:
    """Which case stops where, and why, in one line on stderr."""
    place = f"{identifier(damage.event_id)} (position {damage.position})"
    click.echo(printable(f"parked: case {identifier(damage.case_id)} stops before {place}: {damage.reason}"), err=err)
