"""Signals and health of a long-running command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import click

from returnable.adapters.operating.health import Report, health_at
from returnable.adapters.operating.logs import log_health


@contextmanager
def stopped_by_signal() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, so that the command finishes its current work. A second SIGINT interrupts it."""
    stop = threading.Event()
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        # In another thread: this one may be inside wait(), which holds the lock that set() needs.
        threading.Thread(target=stop.set).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def answering_health(address: tuple[str, int] | None, report: Report) -> Iterator[None]:
    """Answer ``GET /health`` at the address of ``--health``, if it is given.

    Raises ``click.UsageError`` for an address that cannot be bound.
    """
    if address is None:
        yield
        return
    host, port = address
    with ExitStack() as stack:
        try:
            bound = stack.enter_context(health_at(host, port, report))
        except OSError as error:
            raise click.UsageError(f"--health: {host}:{port}: {error.strerror or error}") from None
        log_health(host, bound)
        yield
