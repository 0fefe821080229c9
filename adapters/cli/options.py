"""The options that several commands share, and access to the store that they name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from secrets import token_bytes
from typing import Any, TypeVar

import click
from pydantic import BaseModel

from returnable.adapters.cli.printing import print_json
from returnable.adapters.printable import identifier, printable
from returnable.adapters.wiring import Services, assemble
from returnable.domain.fields import parse_instant
from returnable.domain.ports import Damage
from returnable.projections.redaction import Redaction
from returnable.projections.subjects import Subject, find_subject

DEFAULT_STORE = "sqlite:///returnable.db"

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V", bound=BaseModel)


def policy_option(command: F) -> F:
    """``--policy``: the policy under which new orders are confirmed."""
    return click.option(
        "--policy",
        metavar="FILE",
        help="A policy (TOML), a directory of versions, or the name of a bundled one. Default: the bundled one in force.",
    )(command)


def store_option(command: F) -> F:
    """``--store``: the store that the command reads or writes."""
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
    """``--redact-key``: the key for :func:`redaction`."""
    return click.option(
        "--redact-key",
        metavar="TEXT",
        envvar="RETURNABLE_REDACT_KEY",
        show_envvar=True,
        help="Pseudonyms are the same in every export with this key. Default: a fresh key.",
    )(command)


def redaction(redact: bool, key: str | None) -> Redaction | None:
    """A redaction with this key, or with a fresh one; ``None`` without ``--redact``."""
    if not redact:
        # A key in the environment does no harm here. A key on the command line shows that the user expects redaction.
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


def service_options(command: F) -> F:
    """The options of a long-running command: ``--health``, ``--log-format``, ``--store`` and ``--json``."""
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


class Instant(click.ParamType[datetime]):
    """The type of an option that takes an instant; the parameter of the command is an aware ``datetime``."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse RFC 3339 text; raises ``click.UsageError`` that names the option."""
        try:
            return parse_instant(value)
        except ValueError as error:
            raise click.UsageError(f"{param.opts[0] if param else 'instant'}: {value!r} {error}") from None


def instant_option(name: str, parameter: str, text: str) -> Callable[[F], F]:
    """An option that takes an instant."""
    return click.option(name, parameter, type=Instant(), metavar="INSTANT", help=f"{text} (RFC 3339).")


def as_of_options(command: F) -> F:
    """``--as-of`` and ``--known-at``."""
    known_at = instant_option("--known-at", "known_at", "Only events that had been recorded by then")
    return instant_option("--as-of", "as_of", "The answer as it was true at this instant")(known_at(command))


def question_options(command: F) -> F:
    """``--store``, ``--as-of``, ``--known-at`` and ``--json``."""
    return store_option(as_of_options(json_option(command)))


@contextmanager
def opened(store: str, policy: str | None = None) -> Iterator[Services]:
    """Open a store for reading; it must exist, except for ``memory:``, which is a fresh one."""
    services = assemble(store, policy, create=store == "memory:", only_reading=True)
    with closing(services.store):
        yield services


def find(services: Services, subject: str, as_of: datetime | None, known_at: datetime | None) -> Subject:
    """The subject that a command names; damage in its case is reported on stderr."""
    return find_subject(services.store, services.handler.policy, subject, as_of, known_at, report_damage)


def print_answer(view: V, as_json: bool, show: Callable[[V], None]) -> None:
    """Print a view as JSON, or let ``show`` print it."""
    if as_json:
        print_json(view.model_dump_json(by_alias=True, indent=2))
    else:
        show(view)


def content_of(file: str) -> bytes:
    """What the argument FILE of a command names: a file, or standard input for ``-``."""
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin is None:
        raise click.UsageError("there is no standard input to read from")
    return sys.stdin.buffer.read()


def report_damage(damage: Damage, err: bool = True) -> None:
    """Print which case stops at which event, and why, in one line on stderr."""
    place = f"{identifier(damage.event_id)} (position {damage.position})"
    click.echo(printable(f"parked: case {identifier(damage.case_id)} stops before {place}: {damage.reason}"), err=err)
