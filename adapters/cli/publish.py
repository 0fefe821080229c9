"""``returnable publish``: publishes the events of a store to a broker, as CloudEvents."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import opened, redact_key_option, redaction, seconds_option, service_options
from returnable.adapters.cli.printing import print_json, say
from returnable.adapters.cli.service import answering_health, stopped_by_signal
from returnable.adapters.operating.logs import log_to_stderr
from returnable.adapters.printable import identifier
from returnable.adapters.publishing.cloud_event import is_source
from returnable.adapters.publishing.open import open_broker
from returnable.adapters.publishing.publisher import Publisher
from returnable.adapters.wiring import assemble, published, publisher

DEFAULT_NAME = "default"


@click.command()
@click.option("--to", "to", metavar="URL", envvar="RETURNABLE_PUBLISH_TO", show_envvar=True, help="The broker.")
@click.option(
    "--name", default=DEFAULT_NAME, show_default=True, help="The name under which the store keeps the position."
)
@click.option(
    "--source", metavar="URI", help="The source of the events. Default: derived from the store's first event."
)
@click.option("--create", is_flag=True, help="Create the stream (NATS) or the exchange (RabbitMQ) if there is none.")
@click.option("--once", is_flag=True, help="Publish the events recorded so far, and end.")
@click.option(
    "--from",
    "position",
    type=click.IntRange(1),
    metavar="POSITION",
    help="Begin with the event at this position of the log, not with the first or the next one.",
)
@seconds_option("hold", 0.1, 30.0, "How long a publisher's name is kept if it dies.")
@click.option("--status", is_flag=True, help="Only show the position of the publisher of this name.")
@click.option("--redact", is_flag=True, help="Pseudonyms for personal fields; free text is blanked. Needs a key.")
@redact_key_option
@service_options
def publish(
    to: str | None,
    name: str,
    source: str | None,
    create: bool,
    once: bool,
    position: int | None,
    hold_seconds: float,
    status: bool,
    redact: bool,
    redact_key: str | None,
    health: tuple[str, int] | None,
    log_format: str,
    store: str,
    as_json: bool,
) -> int:
    """Publish every event as a CloudEvent to a broker. At least once, and in order for each order, return and claim.

    The store keeps the position of the publisher under its name, so it is safe to kill it and start it again. A second
    publisher with the same name waits until the first one ends. While the broker is unreachable the publisher retries.
    Ctrl-C or SIGTERM ends it after the current batch; a second Ctrl-C ends it at once. A case with an event that
    cannot be read is parked before that event, and a separate message reports that. With --once, exit status 1 if a case
    was parked or another publisher of the name is running.

    \b
    returnable publish --to "nats://localhost:4222?stream=RETURNABLE" --create
    returnable publish --to "amqp://shop:secret@mq.example/?exchange=returnable"
    returnable publish --to kafka://kafka.example:9092/returnable
    returnable publish --to stdout: --once | jq .
    returnable publish --status --json
    """
    if status:
        if excluded := [option for option, given in (("--once", once), ("--from", position)) if given]:
            raise click.UsageError(f"--status excludes {excluded[0]}")
        return _print_status(store, name, as_json)
    if as_json:
        raise click.UsageError("--json needs --status")
    if to is None:
        raise click.UsageError("--to is missing: give the URL of the broker")
    if not name:
        raise click.UsageError("--name: is empty")
    if source is not None and not is_source(source):
        raise click.UsageError(f"--source: {source!r} is not a URI-reference (RFC 3986)")
    hidden = redaction(redact, redact_key)
    if hidden is not None and redact_key is None:
        raise click.UsageError("--redact needs --redact-key: an event that is published twice must be the same")
    broker = open_broker(to, create=create)
    with ExitStack() as stack:
        stack.callback(broker.close)
        services = assemble(store, create=store == "memory:")
        stack.callback(services.store.close)
        working = publisher(services, broker, name=name, source=source, redaction=hidden, hold_seconds=hold_seconds)
        log_to_stderr(log_format)
        stop = stack.enter_context(stopped_by_signal())
        if position is not None:
            try:
                begun = working.begin_at(position)
            except ValueError as error:
                raise click.UsageError(f"--from: {error}") from None
            if not begun:
                return _held(name)
        if once:
            if not working.once(stop):
                return _held(name)
            return 1 if working.status().parked else 0
        stack.enter_context(answering_health(health, lambda: _health(working)))
        working.run(stop)
    return 0


def _held(name: str) -> int:
    say(f"another publisher of the name {identifier(name)} is running")
    return 1


def _health(working: Publisher) -> tuple[bool, dict[str, Any]]:
    status = working.status()
    return status.healthy, {**asdict(status), "behind": status.behind, "parked": len(status.parked)}


def _print_status(store: str, name: str, as_json: bool) -> int:
    with opened(store) as services:
        # The head is read last: if the store grows in between, the publisher seems behind, never ahead.
        begun = published(services)
        head = services.store.head()
    # Before the first publisher has run, the default one is known.
    if name not in begun and (begun or name != DEFAULT_NAME):
        known = f"; there is {', '.join(begun)}" if begun else ""
        raise click.UsageError(f"--name: no publisher of the name {name!r} has run on this store{known}")
    position = begun.get(name, 0)
    behind = max(0, head - position)
    if as_json:
        values = {"name": name, "position": position, "head": head, "behind": behind}
        print_json(to_json(values, indent=2))
    else:
        click.echo(f"{identifier(name)}: published up to position {position:,} of {head:,}, {behind:,} behind")
    return 0
