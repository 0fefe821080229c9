"""``returnable publish``: the facts of a store as CloudEvents, to a broker."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import click

from returnable.adapters.cli.options import json_option, redact_key_option, redaction, store_option
from returnable.adapters.cli.printing import printable

T = TypeVar("T")

INTERRUPTED = 130


@click.command()
@click.option("--to", "to", metavar="URL", envvar="RETURNABLE_PUBLISH_TO", show_envvar=True, help="The broker.")
@click.option("--name", default="default", show_default=True, help="Whose place in the log is kept.")
@click.option("--source", metavar="URI", help="The source of the events. Default: made of the store's first fact.")
@click.option("--create", is_flag=True, help="Make the stream (NATS) or the exchange (RabbitMQ) where there is none.")
@click.option("--once", is_flag=True, help="Publish what is there, and end.")
@click.option(
    "--from",
    "position",
    type=click.IntRange(1),
    metavar="POSITION",
    help="Go on with the fact at this position of the log, also where it was published before.",
)
@click.option("--status", is_flag=True, help="Only say how far the publisher of this name is.")
@click.option("--redact", is_flag=True, help="Pseudonyms for personal fields; free text is blanked. Needs a key.")
@redact_key_option
@store_option
@json_option
def publish(
    to: str | None,
    name: str,
    source: str | None,
    create: bool,
    once: bool,
    position: int | None,
    status: bool,
    redact: bool,
    redact_key: str | None,
    store: str,
    as_json: bool,
) -> int:
    """Publish every fact as a CloudEvent, in order for each order, return and claim, at least once.

    How far it came is kept in the store under the name: kill it whenever you like and start it again. Start it twice, and
    the second stands by. When the broker is away it waits and tries again. Stop it with Ctrl-C or SIGTERM: the batch at
    hand is finished; a second signal ends it at once. A case with a fact that cannot be read is parked before that fact,
    and an event says so. With --once exit status 1 when something was parked, or while another publisher of the name runs.

    \b
    returnable publish --to "nats://localhost:4222?stream=RETURNABLE" --create
    returnable publish --to "amqp://shop:secret@mq.example/?exchange=returnable"
    returnable publish --to kafka://kafka.example:9092/returnable
    returnable publish --to stdout: --once | jq .
    returnable publish --status --json
    """
    from returnable.adapters.publishing.cloud_event import is_source

    if status:
        if to_be_done := [option for option, given in (("--once", once), ("--from", position)) if given]:
            raise click.UsageError(f"--status does not go with {to_be_done[0]}")
        return _say_status(store, name, as_json)
    if as_json:
        raise click.UsageError("--json needs --status")
    if to is None:
        raise click.UsageError("--to: where to publish?")
    if not name:
        raise click.UsageError("--name: is empty")
    if source is not None and not is_source(source):
        raise click.UsageError(f"--source: {source!r} is no URI-reference (RFC 3986)")
    hidden = redaction(redact, redact_key)
    if hidden is not None and redact_key is None:
        raise click.UsageError("--redact needs --redact-key: what is published again must be the same")
    from returnable.adapters.publishing.open import open_broker
    from returnable.adapters.wiring import assemble, publisher

    broker = open_broker(to, create=create)
    parts = assemble(store, create=store == "memory:")
    try:
        working = publisher(parts, broker, name=name, source=source, redaction=hidden)
        with _told_on_stderr():
            if position is not None and not working.begin_at(position):
                return _held(name)
            if once:
                if not _until_stopped(working.once):
                    return _held(name)
                return 1 if working.standing().parked else 0
            click.echo("publishing (Ctrl-C ends)", err=True)
            _until_stopped(working.run)
            return 0
    finally:
        broker.close()
        parts.store.close()


def _held(name: str) -> int:
    click.echo(printable(f"returnable: another publisher of the name {name} is running"), err=True)
    return 1


def _say_status(store: str, name: str, as_json: bool) -> int:
    from pydantic_core import to_json

    from returnable.adapters.cli.options import opened
    from returnable.adapters.wiring import published

    with opened(store) as parts:
        position, head = published(parts, name), parts.store.head()
    behind = max(0, head - position)
    if as_json:
        values = {"name": name, "position": position, "head": head, "behind": behind}
        click.echo(to_json(values, indent=2).decode())
    else:
        click.echo(printable(f"{name}: published up to position {position:,} of {head:,}, {behind:,} behind"))
    return 0


def _until_stopped(work: Callable[[threading.Event], T]) -> T:
    """What the work gives, in a thread of its own, which is asked to stop when SIGINT or SIGTERM comes.

    A signal is handled in the main thread in the middle of anything: it must not find it holding the lock of the event.
    """
    stop = threading.Event()
    came: list[T] = []
    failed: list[BaseException] = []

    def worked() -> None:
        try:
            came.append(work(stop))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=worked, name="returnable-publish", daemon=True)
    with _on_signal(stop.set):
        thread.start()
        thread.join()
    if failed:
        raise failed[0]
    return came[0]


@contextmanager
def _on_signal(stop: Callable[[], None]) -> Iterator[None]:
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came:
            # Neither a broker nor a store is waited for: what was not marked as published is published again.
            os.write(2, b"returnable: interrupted\n")
            os._exit(INTERRUPTED)
        came.append(number)
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _told_on_stderr() -> Iterator[None]:
    """What the publisher logs, one line each, on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("returnable.publisher")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _OneLine(logging.Formatter):
    """Nothing that an id or a broker says breaks a line or moves a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(" ".join(super().format(record).split("\n")))
