"""How a command that stays is told to end, and says how it is."""

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
    """Set when SIGINT or SIGTERM came: what is at hand is finished first. A second SIGINT interrupts."""
    stop = threading.Event()
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        # Not here: this thread may be in the middle of wait(), holding the lock that set() takes.
        threading.Thread(target=stop.set).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def answering_health(address: tuple[str, int] | None, report: Report) -> Iterator[None]:
    """Answer ``GET /health`` at the address that ``--health`` gives, if it gives one.

    Raises ``click.UsageError`` when the address cannot be had.
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
