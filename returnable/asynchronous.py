"""The desk for hosts with an event loop: every method of :class:`~returnable.facade.Desk`, to be awaited.

    async with returnable.open_async("postgresql://…") as desk:
        outcome = await desk.request_return(return_id="R-1", order_id="A-1", lines=[…], channel="portal")
        async for order in desk.orders(status="delivered"):
            …

It needs a running event loop of asyncio, uvloop, or anyio on asyncio. Under trio every method raises ``RuntimeError``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from datetime import datetime
from functools import partial, wraps
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from returnable.adapters.clock import system_clock
from returnable.adapters.eventstore.forks import in_children, notice
from returnable.adapters.wiring import AnyPolicy
from returnable.domain.errors import StoreUnusable
from returnable.facade import Desk, open

if TYPE_CHECKING:
    from returnable.adapters.eventstore.postgres_connections import HostPool

P = ParamSpec("P")
T = TypeVar("T")

PAGE = 100
"""How many views of a list a thread makes at once."""


def open_async(
    url: str = "sqlite:///returnable.db",
    *,
    policy: AnyPolicy = None,
    clock: Callable[[], datetime] = system_clock,
    pool: HostPool | None = None,
    connections: int = 8,
    threads: int | None = None,
) -> Opening:
    """Open a desk for use with ``await``: ``async with open_async(…) as desk``, or ``desk = await open_async(…)`` and later
    ``await desk.aclose()``.

    The other arguments are those of :func:`returnable.open`. ``threads`` is how many commands and questions run at a time;
    further ones wait. It defaults to ``connections``. With a ``pool`` of the host, give at most as many as the pool has
    connections. A thread opens the store; its errors are raised here. If the task is cancelled meanwhile, the store is
    closed again. Raises ``ValueError`` for less than one thread, before the store is opened.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads: must be at least 1, not {threads}")
    opened = partial(open, url, policy=policy, clock=clock, pool=pool, connections=connections)
    return Opening(opened, connections if threads is None else threads)


class Opening(Awaitable["AsyncDesk"], AbstractAsyncContextManager["AsyncDesk"]):
    """The result of :func:`open_async`: await it, or use it as a context manager, once."""

    def __init__(self, opened: Callable[[], Desk], threads: int) -> None:
        self._opened = opened
        self._threads = threads

    def __await__(self) -> Generator[Any, None, AsyncDesk]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncDesk:
        self._desk = await self
        return self._desk

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._desk.aclose()

    async def _open(self) -> AsyncDesk:
        return await _in_a_thread_of_its_own(lambda: AsyncDesk(self._opened(), self._threads), AsyncDesk._finish)


def _awaited(
    method: Callable[Concatenate[Desk, P], T],
) -> Callable[Concatenate[AsyncDesk, P], Coroutine[Any, Any, T]]:
    """Make a coroutine method of a method of the desk."""

    @wraps(method)
    async def awaited(self: AsyncDesk, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in_thread(partial(method, self.desk, *args, **kwargs))

    return _named_as_ours(awaited)


def _paged(
    method: Callable[Concatenate[Desk, P], Iterator[T]],
) -> Callable[Concatenate[AsyncDesk, P], AsyncGenerator[T, None]]:
    """Make an asynchronous generator of a list method of the desk."""

    @wraps(method)
    async def paged(self: AsyncDesk, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        # Between pages no connection is held: the iterators of the desk keep none between two steps.
        views = await self._in_thread(partial(method, self.desk, *args, **kwargs))
        while page := await self._in_thread(lambda: list(islice(views, PAGE))):
            for view in page:
                yield view

    return _named_as_ours(paged)


def _named_as_ours(method: Callable[P, T]) -> Callable[P, T]:
    method.__module__, method.__qualname__ = __name__, f"AsyncDesk.{method.__name__}"
    return method


class AsyncDesk(AbstractAsyncContextManager["AsyncDesk"]):
    """A returns desk whose methods are awaited. Safe to use from many tasks, event loops and threads.

    Each method does the same as the one of :class:`~returnable.facade.Desk`. It runs in one of the desk's ``threads``
    threads, in the context (``contextvars``) of the task that awaits it. Further calls wait for a free thread. More threads
    than the store has connections (8 by default) are of no use.

    If a task is cancelled while its command waits for a thread, the command does not begin. If it is cancelled while the
    command runs, the command is carried out and its outcome recorded. The task cannot know which of the two happened. So
    repeat the command with the same ``command_id``, and it happens once.

    Read lists with ``async for``. The first step reads the first page. Between pages the desk holds no thread and no
    connection, so a loop can be left at any time.

    After a fork the child has threads of its own. Calls that the parent began belong to the parent.
    """

    def __init__(self, desk: Desk, threads: int = 8) -> None:
        """Use a desk that is open; closing this one closes it."""
        self.desk = desk
        self.threads = threads
        self._closed = False
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        self._door = threading.Lock()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="returnable")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new calls, wait for those that were made, and release the store. Calling it again is harmless.

        It continues to its end even if the task that awaits it is cancelled.
        """
        with self._door:
            self._closed = True
        await _in_a_thread_of_its_own(self._finish)

    def _finish(self) -> None:
        self._pool.shutdown()
        self.desk.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        notice()
        with self._door:
            if self._closed:
                raise StoreUnusable("the desk is closed")
            future = self._pool.submit(copy_context().run, work)
        return await asyncio.wrap_future(future, loop=loop)

    handle = _awaited(Desk.handle)
    ask = _awaited(Desk.ask)

    # ---- commands ------------------------------------------------------------------------------------------

    handle_many = _awaited(Desk.handle_many)
    confirm_order = _awaited(Desk.confirm_order)
    request_cancellation = _awaited(Desk.request_cancellation)
    record_shipment = _awaited(Desk.record_shipment)
    record_delivery = _awaited(Desk.record_delivery)
    cancel_order = _awaited(Desk.cancel_order)
    link_account = _awaited(Desk.link_account)
    request_return = _awaited(Desk.request_return)
    issue_label = _awaited(Desk.issue_label)
    record_label_received = _awaited(Desk.record_label_received)
    void_label = _awaited(Desk.void_label)
    record_return_shipment = _awaited(Desk.record_return_shipment)
    receive_return = _awaited(Desk.receive_return)
    inspect_return = _awaited(Desk.inspect_return)
    correct_inspection = _awaited(Desk.correct_inspection)
    request_refund = _awaited(Desk.request_refund)
    record_refund_result = _awaited(Desk.record_refund_result)
    record_refund = _awaited(Desk.record_refund)
    correct_delivery = _awaited(Desk.correct_delivery)
    report_parcel_lost = _awaited(Desk.report_parcel_lost)
    record_parcel_returned = _awaited(Desk.record_parcel_returned)
    record_capture = _awaited(Desk.record_capture)
    name_payout = _awaited(Desk.name_payout)
    record_send_back = _awaited(Desk.record_send_back)
    record_disposition = _awaited(Desk.record_disposition)
    report_return_lost = _awaited(Desk.report_return_lost)
    reduce_return = _awaited(Desk.reduce_return)
    withdraw_return = _awaited(Desk.withdraw_return)
    report_wrong_item = _awaited(Desk.report_wrong_item)
    add_claim_evidence = _awaited(Desk.add_claim_evidence)
    record_claim_contact = _awaited(Desk.record_claim_contact)
    resolve_claim = _awaited(Desk.resolve_claim)
    deny_claim = _awaited(Desk.deny_claim)
    record_arrival = _awaited(Desk.record_arrival)
    assign_arrival = _awaited(Desk.assign_arrival)
    dismiss_arrival = _awaited(Desk.dismiss_arrival)
    notify_customer = _awaited(Desk.notify_customer)
    close_exception = _awaited(Desk.close_exception)
    override = _awaited(Desk.override)
    run_deadlines = _awaited(Desk.run_deadlines)
    deadline_worker = _awaited(Desk.deadline_worker)

    # ---- questions -----------------------------------------------------------------------------------------

    order = _awaited(Desk.order)
    return_ = _awaited(Desk.return_)
    refund = _awaited(Desk.refund)
    claim = _awaited(Desk.claim)
    arrival = _awaited(Desk.arrival)
    eligibility = _awaited(Desk.eligibility)
    worklist = _awaited(Desk.worklist)
    audit = _awaited(Desk.audit)

    # ---- lists ---------------------------------------------------------------------------------------------

    orders = _paged(Desk.orders)
    returns = _paged(Desk.returns)
    refunds = _paged(Desk.refunds)
    claims = _paged(Desk.claims)
    ledger = _paged(Desk.ledger)
    statistics = _paged(Desk.statistics)
    project = _awaited(Desk.project)
    views_status = _awaited(Desk.views_status)

    # ---- for auditors --------------------------------------------------------------------------------------

    why = _awaited(Desk.why)
    replay = _awaited(Desk.replay)
    edges = _awaited(Desk.edges)
    report = _awaited(Desk.report)
    redecide = _awaited(Desk.redecide)
    what_if = _awaited(Desk.what_if)
    verify = _awaited(Desk.verify)

    # ---- for operators -------------------------------------------------------------------------------------

    backup = _awaited(Desk.backup)


async def _in_a_thread_of_its_own(work: Callable[[], T], unwanted: Callable[[T], object] = lambda result: None) -> T:
    """Run work that must not stop once begun; return the result, or give it to ``unwanted`` if the task is cancelled."""
    threads = ThreadPoolExecutor(1, thread_name_prefix="returnable")
    working = threads.submit(work)
    try:
        return await asyncio.shield(asyncio.wrap_future(working))
    except asyncio.CancelledError:
        threads.submit(lambda: unwanted(working.result()))
        raise
    finally:
        threads.shutdown(wait=False)
