"""An event loop in a thread of its own, and the base of brokers whose libraries need one."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoop:
    """An event loop that runs all the time, so that a connection answers heartbeats between two sends, too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="returnable-broker", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run the work and return its result. If it takes longer, cancel it and raise ``TimeoutError``."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            # The wait uses a lock of the operating system, so that a frozen clock does not prolong it.
            return running.result(seconds)
        except TimeoutError:
            running.cancel()
            raise

    def close(self) -> None:
        """Cancel the remaining tasks and end the thread."""
        asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class LoopBroker(ABC):
    """A broker whose connection lives in an event loop, which the first send starts."""

    _loop: EventLoop | None = None

    def close(self) -> None:
        """Close the connection and end its thread."""
        self._drop()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        self._loop = self._loop or EventLoop()
        return self._loop.run(work, seconds)

    @abstractmethod
    def _drop(self) -> None:
        """Close the connection, if there is one."""
