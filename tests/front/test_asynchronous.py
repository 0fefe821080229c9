"""The desk as an asynchronous host holds it: the event loop goes on, and a cancelled task leaves no half command."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop
from freezegun import freeze_time
from patience import GUARD_SECONDS
from postgres import fresh_store_url
from usual import a_delivered_order, an_authorized_return

import returnable
from returnable import AsyncDesk, Desk, Impossible, StoreUnusable, asynchronous
from returnable.testing import FrozenClock, confirm_order, given

ROOT = Path(__file__).parents[2]
MONDAY = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
BEATS = 200
"""How often a loop has to come round before it counts as free."""


def public(owner: type) -> set[str]:
    return {name for name in vars(owner) if not name.startswith("_")}


def order(order_id: str = "A-1") -> dict[str, Any]:
    return dict(confirm_order(order_id).arguments)


class Held:
    """A desk whose commands stop before they are recorded, until they are let go."""

    def __init__(self, desk: Desk) -> None:
        self.begun = 0
        self._free = threading.Event()
        store: Any = desk.services.store
        append = store.append

        def held(*args: Any, **kwargs: Any) -> Any:
            self.begun += 1
            assert self._free.wait(GUARD_SECONDS)
            return append(*args, **kwargs)

        store.append = held

    def release(self) -> None:
        self._free.set()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop come round until something is so."""
    for _ in range(GUARD_SECONDS * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")


async def rounds(number: int = BEATS) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# ---- the same desk ---------------------------------------------------------------------------------------------------


def test_every_public_method_of_the_desk_is_there_under_its_name() -> None:
    assert public(AsyncDesk) - {"aclose"} == public(Desk) - {"close"}


@pytest.mark.parametrize("name", sorted(public(Desk) - {"close"}))
def test_a_method_has_the_signature_and_the_words_of_the_desks_and_is_to_be_awaited(name: str) -> None:
    ours, theirs = getattr(AsyncDesk, name), getattr(Desk, name)

    assert inspect.signature(ours) == inspect.signature(theirs)
    assert (ours.__doc__, ours.__qualname__) == (theirs.__doc__, f"AsyncDesk.{name}")
    gives_a_list = str(inspect.signature(theirs).return_annotation).startswith("Iterator[")
    assert inspect.isasyncgenfunction(ours) == gives_a_list
    assert inspect.iscoroutinefunction(ours) != gives_a_list


def test_it_is_opened_with_the_arguments_of_the_other_and_a_number_of_threads() -> None:
    ours = dict(inspect.signature(returnable.open_async).parameters)

    assert ours.pop("threads").default is None
    assert ours == dict(inspect.signature(returnable.open).parameters)


SNIPPET = """
from typing import assert_type
import returnable
from returnable import AsyncDesk, Outcome
from returnable.projections.views import OrderView, ReturnView

async def host() -> None:
    async with returnable.open_async("memory:", threads=3) as desk:
        assert_type(desk, AsyncDesk)
        lines = [{"line_id": "1", "quantity": 1}]
        outcome = await desk.request_return(return_id="R-1", order_id="A-1", lines=lines, channel="portal")
        assert_type(outcome, Outcome)
        assert_type(await desk.return_(return_id="R-1"), ReturnView)
        async for order in desk.orders(status="delivered"):
            assert_type(order, OrderView)
        await desk.request_return(return_idd="R-1", order_id="A-1", lines=lines, channel="portal")  # wrong
        await desk.request_return(return_id=1, order_id="A-1", lines=lines, channel="portal")  # wrong
        await desk.return_("R-1")  # wrong
        async for order in desk.orders(state="delivered"):  # wrong
            pass
        unawaited: Outcome = desk.run_deadlines()  # wrong
        for order in desk.orders():  # wrong
            pass
    assert_type(await returnable.open_async(), AsyncDesk)
    returnable.open_async(thread=3)  # wrong
"""
WRONG = {number for number, line in enumerate(SNIPPET.splitlines(), 1) if line.endswith("# wrong")}


def test_mypy_knows_every_argument_and_answer(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(SNIPPET)

    check = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "host.py")]
    said = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False).stdout

    assert {int(line) for line in re.findall(r"host\.py:(\d+): error", said)} == WRONG, said


def test_pyright_knows_every_argument_and_answer(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(SNIPPET)

    check = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(tmp_path / "host.py")]
    said = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False).stdout

    found = json.loads(said)["generalDiagnostics"]
    assert {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"} == WRONG, said


def test_a_case_is_carried_through_with_await() -> None:
    async def host() -> tuple[Any, ...]:
        async with returnable.open_async("memory:", clock=lambda: MONDAY) as desk:
            confirmed = await desk.confirm_order(**order(), command_id="c-1")
            again = await desk.handle({"command": "confirm_order", **order(), "command_id": "c-1"})
            view = await desk.order(order_id="A-1")
            differences = await desk.redecide()
            return confirmed, again, view, differences

    confirmed, again, view, differences = asyncio.run(host())

    assert (confirmed.accepted, confirmed.replayed, again.replayed) == (True, False, True)
    assert (view.status, differences) == ("confirmed", ())


def test_an_error_keeps_its_type_and_is_raised_once() -> None:
    noise: list[dict[str, Any]] = []

    async def host() -> Impossible:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
        async with returnable.open_async("memory:", clock=lambda: MONDAY) as desk:
            await desk.confirm_order(**order())
            with pytest.raises(Impossible) as caught:
                await desk.correct_delivery(order_id="A-1", parcel_id="nope", reason="Wrong.")
            held = Held(desk.desk)
            lost = asyncio.create_task(desk.confirm_order(**order("A-2")))
            await until(lambda: held.begun == 1)
            desk.desk.services.store.close()  # what is asked of it now fails
            lost.cancel()
            held.release()
            with pytest.raises(asyncio.CancelledError):
                await lost
        return caught.value

    error = asyncio.run(host())

    assert (error.code, error.field) == ("parcel.unknown", "parcel_id")
    assert noise == []


# ---- the loop goes on ------------------------------------------------------------------------------------------------


@contextmanager
def another_writer(path: Path) -> Iterator[None]:
    """Another process writes and does not come to an end."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        writer.execute("ROLLBACK")
        writer.close()


def test_the_loop_goes_on_while_every_command_waits_for_the_store(tmp_path: Path) -> None:
    beats: list[int] = []

    async def beat() -> None:
        while True:
            beats[-1] += 1
            await asyncio.sleep(0)

    async def host() -> list[bool]:
        async with returnable.open_async(f"sqlite:///{tmp_path}/shop.db", clock=lambda: MONDAY, threads=4) as desk:
            beats.append(0)
            heart = asyncio.create_task(beat())
            with another_writer(tmp_path / "shop.db"):
                commands = [asyncio.create_task(desk.confirm_order(**order(f"A-{n}"))) for n in range(8)]
                await rounds()
                waiting = [not command.done() for command in commands]
                beats.append(0)
                await rounds()
            for command in commands:
                await command
            heart.cancel()
            return waiting

    waiting = asyncio.run(host())

    assert waiting == [True] * 8
    assert beats[1] >= BEATS


def test_its_threads_are_its_own_and_no_more_than_it_was_given() -> None:
    names: set[str] = set()

    class Forbidden(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            raise AssertionError("asyncio's own threads are the host's")

    def clock() -> datetime:
        names.add(threading.current_thread().name)
        return MONDAY

    async def host() -> tuple[int, int]:
        asyncio.get_running_loop().set_default_executor(Forbidden())
        async with returnable.open_async("memory:", clock=clock, connections=3) as desk:
            await desk.confirm_order(**order("A-0"))  # the first order also keeps the policy
            held = Held(desk.desk)
            commands = [asyncio.create_task(desk.confirm_order(**order(f"A-{n}"))) for n in range(1, 10)]
            await until(lambda: held.begun == 3)
            await rounds()
            at_once = held.begun
            held.release()
            await asyncio.gather(*commands)
            return at_once, held.begun

    assert asyncio.run(host()) == (3, 9)
    assert all(name.startswith("returnable_") for name in names)
    assert len(names) == 3


def test_a_number_of_threads_can_be_given_and_there_is_at_least_one() -> None:
    async def host(**given: int) -> int:
        async with returnable.open_async("memory:", **given) as desk:
            return desk.threads

    assert asyncio.run(host()) == 8
    assert asyncio.run(host(connections=5)) == 5
    assert asyncio.run(host(connections=5, threads=2)) == 2
    with pytest.raises(ValueError, match="threads: must be at least 1"):
        asyncio.run(host(threads=0))


def test_context_variables_go_with_a_command_and_a_list_into_the_thread() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    def clock() -> datetime:
        seen.append(tenant.get())
        return MONDAY

    async def host() -> None:
        async with returnable.open_async("memory:", clock=clock) as desk:
            for name in ("one", "two"):
                tenant.set(name)
                await desk.confirm_order(**order(name))
            assert [view.order_id async for view in desk.orders()] == ["one", "two"]

    asyncio.run(host())

    assert seen == ["one", "two", "two"]


# ---- cancelled tasks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opens", ["before the task is cancelled", "after it"])
def test_a_store_that_nobody_waits_for_any_more_is_closed_when_it_is_open(
    monkeypatch: pytest.MonkeyPatch, opens: str
) -> None:
    opened: list[Desk] = []
    may_open = threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> Desk:
        assert may_open.wait(GUARD_SECONDS)
        opened.append(returnable.open(*args, **kwargs))
        return opened[0]

    def is_closed() -> bool:
        try:
            opened[0].services.store.head()
        except StoreUnusable:
            return True
        return False

    async def host() -> None:
        async def hold() -> None:
            async with returnable.open_async("memory:"):
                raise AssertionError("it was cancelled before")

        task = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        if opens == "before the task is cancelled":
            may_open.set()
            while not opened:  # the loop does not come round, so that nobody can have taken it
                threading.Event().wait(0.001)
        task.cancel()
        may_open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: bool(opened) and is_closed())

    monkeypatch.setattr(asynchronous, "open", slowly)
    asyncio.run(host())


def test_a_command_that_waits_for_a_thread_is_not_begun_when_its_task_is_cancelled() -> None:
    async def host() -> list[str]:
        async with returnable.open_async("memory:", clock=lambda: MONDAY, threads=1) as desk:
            held = Held(desk.desk)
            first = asyncio.create_task(desk.confirm_order(**order("A-1")))
            await until(lambda: held.begun == 1)
            second = asyncio.create_task(desk.confirm_order(**order("A-2")))
            await rounds()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            held.release()
            await first
            return [view.order_id async for view in desk.orders()]

    assert asyncio.run(host()) == ["A-1"]


def test_a_command_that_runs_is_carried_out_whole_and_its_outcome_is_had_by_repeating_it() -> None:
    async def host() -> returnable.Outcome:
        async with returnable.open_async("memory:", clock=lambda: MONDAY) as desk:
            held = Held(desk.desk)
            cut_off = asyncio.create_task(desk.confirm_order(**order(), command_id="c-1"))
            await until(lambda: held.begun == 1)
            cut_off.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cut_off
            held.release()
            await until(lambda: desk.desk.services.store.receipt("c-1") is not None)
            return await desk.confirm_order(**order(), command_id="c-1")

    again = asyncio.run(host())

    assert (again.accepted, again.replayed, len(again.events)) == (True, True, 1)


def test_a_time_out_of_the_host_ends_the_wait() -> None:
    async def host() -> bool:
        async with returnable.open_async("memory:", clock=lambda: MONDAY) as desk:
            held = Held(desk.desk)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await desk.confirm_order(**order(), command_id="c-1")
            held.release()
            outcome = await desk.confirm_order(**order(), command_id="c-1")
            return outcome.accepted

    assert asyncio.run(host())


# ---- closing ---------------------------------------------------------------------------------------------------------


def test_closing_waits_for_all_that_was_asked_and_takes_nothing_more(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"

    async def host() -> list[str]:
        desk = await returnable.open_async(url, clock=lambda: MONDAY, threads=1)
        held = Held(desk.desk)
        commands = [asyncio.create_task(desk.confirm_order(**order(f"A-{n}"))) for n in range(3)]
        await until(lambda: held.begun == 1)
        closing = asyncio.create_task(desk.aclose())
        await rounds()
        assert not closing.done()
        with pytest.raises(StoreUnusable, match="the desk is closed"):
            await desk.order(order_id="A-1")
        with pytest.raises(StoreUnusable, match="the desk is closed"):
            await anext(desk.orders())
        held.release()
        await closing
        await desk.aclose()
        with pytest.raises(StoreUnusable, match="closed"):
            desk.desk.order(order_id="A-1")
        return [command.result().outcome for command in commands]

    assert asyncio.run(host()) == ["accepted"] * 3
    with returnable.open(url) as desk:
        assert [view.order_id for view in desk.orders()] == ["A-0", "A-1", "A-2"]


def test_closing_goes_on_to_the_end_when_nobody_waits_for_it_any_more() -> None:
    async def host() -> None:
        desk = await returnable.open_async("memory:", clock=lambda: MONDAY)
        held = Held(desk.desk)
        command = asyncio.create_task(desk.confirm_order(**order()))
        await until(lambda: held.begun == 1)
        closing = asyncio.create_task(desk.aclose())
        await rounds()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        held.release()
        await command
        await until(lambda: desk.desk.services.store._closed)  # type: ignore[attr-defined]

    asyncio.run(host())


def test_a_store_that_cannot_be_opened_is_told_where_it_is_awaited(tmp_path: Path) -> None:
    async def host() -> None:
        async with returnable.open_async(f"sqlite:///{tmp_path}/nowhere/shop.db"):
            raise AssertionError("there is no such folder")

    with pytest.raises(StoreUnusable, match="its folder does not exist"):
        asyncio.run(host())


# ---- loops, threads, processes ---------------------------------------------------------------------------------------


def test_one_desk_serves_loops_in_several_threads_and_a_unit_has_one_winner() -> None:
    story = given(a_delivered_order()).at("2026-03-09 12:00")
    desk = AsyncDesk(story.desk, threads=3)

    async def ask(number: int) -> str:
        try:
            line = {"line_id": "1", "quantity": 1}
            await desk.request_return(return_id=f"R-{number}", order_id="A-1", lines=[line], channel="portal")
        except Impossible as error:
            return error.code
        return "accepted"

    with ThreadPoolExecutor(8) as hosts:
        results = list(hosts.map(lambda number: asyncio.run(ask(number)), range(8)))
    asyncio.run(desk.aclose())

    assert sorted(results) == ["accepted"] + ["quantity.exceeded"] * 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_has_threads_of_its_own(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import asyncio, os, threading, warnings
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        import returnable
        desk = returnable.AsyncDesk(returnable.open("sqlite:///{tmp_path}/shop.db"))
        order = dict(customer={{"customer_id": "c", "account_id": None}}, currency="USD",
            lines=[{{"line_id": "1", "sku": "s", "unit_price": "1.00", "quantity": 1}}],
            payments=[{{"payment_id": "p", "method": "card", "amount": "1.00"}}])
        asyncio.run(desk.confirm_order(order_id="parent", **order))
        held = threading.Event()
        at_work = desk._pool.submit(held.wait)  # the parent is at work when it forks
        child = os.fork()
        if not child:
            async def work():
                async with desk:
                    await desk.confirm_order(order_id="child", **order)
            asyncio.run(work())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        held.set()
        async def rest():
            async with desk:
                return [view.order_id async for view in desk.orders()]
        print(status, asyncio.run(rest()))
        """
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=GUARD_SECONDS, check=False
    )

    assert ran.stdout == "0 ['child', 'parent']\n", ran.stderr


async def _a_day_at_the_desk() -> list[str]:
    async with returnable.open_async("memory:", threads=2) as desk:
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(desk.confirm_order(**order(f"A-{n}")))
        return [str(view.confirmed_at) async for view in desk.orders()]


@freeze_time("2026-03-02T15:00:00Z")
def test_it_works_under_freezegun_with_nothing_to_configure() -> None:
    assert asyncio.run(_a_day_at_the_desk()) == ["2026-03-02T10:00:00-05:00"] * 4


@pytest.mark.at("2026-03-02 10:00")
def test_it_works_on_the_frozen_clock_of_the_kit(clock: FrozenClock) -> None:
    assert asyncio.run(_a_day_at_the_desk()) == ["2026-03-02T10:00:00-05:00"] * 4


def _on_uvloop(host: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(host())


@pytest.mark.parametrize("run", [_on_uvloop, anyio.run], ids=["uvloop", "anyio"])
def test_it_works_on_uvloop_and_on_anyios_asyncio(run: Callable[[Any], Any]) -> None:
    assert len(run(_a_day_at_the_desk)) == 4


def test_a_scope_of_anyio_that_is_cancelled_leaves_no_half_command() -> None:
    async def host() -> returnable.Outcome:
        async with returnable.open_async("memory:", clock=lambda: MONDAY) as desk:
            held = Held(desk.desk)
            with anyio.move_on_after(0.01) as scope:
                await desk.confirm_order(**order(), command_id="c-1")
            assert scope.cancelled_caught
            held.release()
            return await desk.confirm_order(**order(), command_id="c-1")

    assert anyio.run(host).accepted


def test_without_a_loop_of_asyncio_it_says_so() -> None:
    desk = AsyncDesk(returnable.open("memory:"))
    asked: Awaitable[Any] = desk.order(order_id="A-1")

    with pytest.raises(RuntimeError, match="no running event loop"):
        asked.__await__().send(None)

    asyncio.run(desk.aclose())


# ---- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "sqlite", "postgres"])
def test_a_list_holds_no_thread_and_no_connection_between_pages(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asynchronous, "PAGE", 2)
    url = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{tmp_path}/shop.db",
        "postgres": fresh_store_url,
    }[store]()

    async def host() -> tuple[list[str], list[str]]:
        async with returnable.open_async(url, clock=lambda: MONDAY, connections=1) as desk:
            for n in range(5):
                await desk.confirm_order(**order(f"A-{n}"))
            seen = []
            async for view in desk.orders():
                # With one thread and one connection this would wait for ever if the list held either.
                again = await desk.order(order_id=view.order_id)
                await desk.record_shipment(
                    order_id=view.order_id, parcel_id=f"P-{view.order_id}", carrier="c", tracking_number="t"
                )
                seen.append(again.order_id)
            some = []
            async for view in desk.orders(status="shipped"):
                some.append(view.order_id)
                if len(some) == 3:
                    break
            return seen, some

    seen, some = asyncio.run(host())

    assert seen == [f"A-{n}" for n in range(5)]
    assert some == ["A-0", "A-1", "A-2"]


def test_a_list_reads_a_page_at_a_time_and_no_further_than_it_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "PAGE", 2)
    asked: list[int] = []

    class Counted(Desk):
        def orders(self, **given: Any) -> Any:
            for number in range(100):
                asked.append(number)
                yield number

    monkeypatch.setattr(AsyncDesk, "orders", asynchronous._paged(Counted.orders))

    async def host() -> None:
        with returnable.open("memory:") as desk:
            walk = AsyncDesk(Counted(desk.services)).orders()
            assert asked == []
            async for number in walk:
                if number == 2:
                    break

    asyncio.run(host())

    assert asked == [0, 1, 2, 3]


def test_a_list_of_an_unknown_status_is_refused_at_the_first_step() -> None:
    async def host() -> None:
        async with returnable.open_async("memory:") as desk:
            walk = desk.orders(status="nope")
            with pytest.raises(Impossible) as caught:
                await anext(walk)
            assert caught.value.field == "status"

    asyncio.run(host())


def test_the_ledger_and_the_statistics_are_walked_through_as_well() -> None:
    story = given(an_authorized_return())

    async def host() -> tuple[list[Any], list[Any]]:
        async with AsyncDesk(story.desk) as desk:
            return [entry async for entry in desk.ledger(order_id="A-1")], [row async for row in desk.statistics()]

    entries, rows = asyncio.run(host())

    again = given(an_authorized_return()).desk
    assert entries == list(again.ledger(order_id="A-1"))
    assert rows == list(again.statistics())
    assert (len(entries), len(rows)) == (1, 5)


# ---- what it costs to have it ----------------------------------------------------------------------------------------


def test_who_does_not_use_it_does_not_load_asyncio() -> None:
    for code in (
        "import returnable",
        "import sys; sys.argv[1:] = ['--version']; from returnable.adapters.cli.entry import main; main()",
    ):
        after = "import sys; print('asyncio' in sys.modules)"
        ran = subprocess.run([sys.executable, "-c", f"{code}\n{after}"], capture_output=True, text=True, check=True)
        assert ran.stdout.splitlines()[-1] == "False", code
