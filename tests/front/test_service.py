"""How a command that stays is told to end."""

from __future__ import annotations

import signal

import pytest
from patience import GUARD_SECONDS

from returnable.adapters.cli.service import stopped_by_signal

STOPPING = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("first", STOPPING)
def test_the_first_signal_asks_to_stop_and_an_interrupt_after_it_interrupts(first: signal.Signals) -> None:
    with stopped_by_signal() as stop:
        signal.raise_signal(first)
        assert stop.wait(GUARD_SECONDS)

        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_service_manager_that_asks_twice_does_not_interrupt() -> None:
    with stopped_by_signal() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(GUARD_SECONDS)


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_handlers_of_the_host_are_its_own_again_afterwards(error: type[Exception] | None) -> None:
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in STOPPING}
    try:
        if error is None:
            with stopped_by_signal():
                pass
        else:
            with pytest.raises(error), stopped_by_signal():
                raise error
        for number in STOPPING:
            signal.raise_signal(number)
        assert heard == list(STOPPING)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
