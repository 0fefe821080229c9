"""An event loop in a thread of its own, for brokers whose libraries need one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoop:
    """Runs all the time, so that a connection answers its heartbeats also between two sends."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="returnable-broker", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What the work gives; raises ``TimeoutError`` when it takes longer, and it is cancelled."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            # This waits on the operating system, so that a frozen clock does not keep it from ending.
            return running.result(seconds)
        except TimeoutError:
            running.cancel()
            raise

    def close(self) -> None:
        """End what still runs, and the thread."""
        asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
