"""A process forks while it uses a store: nothing acknowledged is lost, nothing hangs, and what cannot work is refused."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydantic.main
import pytest
from patience import wait_until

import returnable
from returnable.adapters.eventstore import forks
from returnable.adapters.eventstore.forks import AtWork, ForkSafeLock
from returnable.adapters.eventstore.memory import MemoryStore
from returnable.adapters.eventstore.postgres_listener import _Ear
from returnable.adapters.eventstore.sqlite import SQLiteStore
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import stored_views
from returnable.domain.cached import cached_property
from returnable.domain.fields import Model
from returnable.projections.ports import Mark

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # newer Pythons warn of forks beside threads
]

PATIENCE_SECONDS = 60

ORDER: dict[str, Any] = {
    "customer": {"customer_id": "c", "account_id": None},
    "currency": "USD",
    "lines": [{"line_id": "1", "sku": "s", "unit_price": "1.00", "quantity": 1}],
    "payments": [{"payment_id": "p", "method": "card", "amount": "1.00"}],
}


def fork_in_c() -> int:
    """Fork as code in C does that tells Python nothing."""
    return int(ctypes.PyDLL(None).fork())


def fork_and_tell_afterwards() -> int:
    """Fork as code in C does that calls the hooks of the child alone."""
    pid = fork_in_c()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


FORKS = {"os.fork": os.fork, "in C": fork_in_c, "in C, with the hooks of the child": fork_and_tell_afterwards}


class Child:
    """A child process that does some work; what came of it is text, that of an error where one was raised."""

    def __init__(self, work: Callable[[], object], fork: Callable[[], int] = os.fork) -> None:
        self._receiver, sender = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            try:
                signal.alarm(PATIENCE_SECONDS)  # one that hangs is killed, and says nothing
                os.write(sender, self._said(work).encode())
            finally:
                os._exit(0)
        os.close(sender)

    @staticmethod
    def _said(work: Callable[[], object]) -> str:
        try:
            return str(work())
        except BaseException as error:
            return f"{type(error).__name__}: {error}"

    def said(self) -> str:
        """Wait for its end."""
        with open(self._receiver) as said:
            text = said.read()
        os.waitpid(self.pid, 0)
        return text


def confirm(desk: returnable.Desk, *order_ids: str) -> str:
    return " ".join(desk.confirm_order(order_id=order_id, **ORDER).outcome for order_id in order_ids)


def orders(url: str) -> list[str]:
    with returnable.open(url) as desk:
        return sorted(order.order_id for order in desk.orders())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def desk(url: str) -> Iterator[returnable.Desk]:
    with returnable.open(url) as desk:
        confirm(desk, "parent")
        yield desk


@pytest.fixture
def busy() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Threads that do something again and again until the test is over."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def begin(work: Callable[[], object]) -> None:
        def go_on() -> None:
            while not stop.is_set():
                work()

        threads.append(threading.Thread(target=go_on))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


class Held:
    """A thread that holds something from now on until :meth:`release`."""

    def __init__(self, what: Any) -> None:
        self._over, self._holds = threading.Event(), threading.Event()

        def hold() -> None:
            with what:
                self._holds.set()
                self._over.wait(PATIENCE_SECONDS)

        self._thread = threading.Thread(target=hold)
        self._thread.start()
        self._holds.wait(PATIENCE_SECONDS)

    def release(self) -> None:
        self._over.set()
        self._thread.join()

    def let_go_soon(self) -> None:
        """While the process forks."""
        threading.Timer(0.2, self._over.set).start()


# ---- a desk on a file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["closes its desk", "closes its desk and opens another", "goes on", "forks again"])
def test_what_a_child_acknowledges_is_in_the_file_whatever_its_parent_does(
    url: str, desk: returnable.Desk, ends: str
) -> None:
    # given: a child that has begun to use the desk
    context = multiprocessing.get_context("fork")
    begun, go_on = context.Event(), context.Event()

    def work() -> None:
        confirm(desk, "child-0")
        begun.set()
        go_on.wait(PATIENCE_SECONDS)
        confirm(desk, *(f"child-{n}" for n in range(1, 21)))

    child = context.Process(target=work)
    child.start()
    begun.wait(PATIENCE_SECONDS)

    # when
    expected = {"parent", *(f"child-{n}" for n in range(21))}
    if ends.startswith("closes"):
        desk.close()
    if ends.endswith("another"):
        with returnable.open(url) as other:
            confirm(other, "other")
        expected.add("other")
    if ends == "goes on":
        confirm(desk, "again")
        expected.add("again")
    if ends == "forks again":
        assert Child(lambda: confirm(desk, "sibling")).said() == "accepted"
        expected.add("sibling")
    go_on.set()
    child.join()

    # then
    assert child.exitcode == 0
    assert orders(url) == sorted(expected)


def test_a_child_goes_on_when_its_parent_has_ended(url: str) -> None:
    # given: a parent of its own, which ends at once without closing anything
    def parent() -> None:
        desk = returnable.open(url)
        confirm(desk, "parent")
        Child(lambda: confirm(desk, *(f"child-{n}" for n in range(20))))

    # when
    Child(parent).said()

    # then
    wait_until(lambda: len(orders(url)) == 21)


def test_a_grandchild_uses_the_desk_as_well(url: str, desk: returnable.Desk) -> None:
    def child() -> str:
        before = confirm(desk, "child")
        return f"{before} {Child(lambda: confirm(desk, 'grandchild')).said()} {confirm(desk, 'child-2')}"

    assert Child(child).said() == "accepted accepted accepted"
    assert orders(url) == ["child", "child-2", "grandchild", "parent"]


def test_a_child_that_closes_the_desk_leaves_that_of_its_parent_open(desk: returnable.Desk) -> None:
    assert Child(desk.close).said() == "None"
    assert Child(lambda: (desk.close(), confirm(desk, "child"))).said().endswith("the store is closed")
    assert confirm(desk, "again") == "accepted"


def test_a_child_finds_a_closed_desk_closed(desk: returnable.Desk) -> None:
    desk.close()

    assert Child(lambda: confirm(desk, "child")).said().endswith("the store is closed")


def test_children_of_a_parent_whose_threads_write_ask_and_follow_all_work(
    url: str, desk: returnable.Desk, busy: Callable[[Callable[[], object]], None]
) -> None:
    # given
    numbers = iter(range(1_000_000))
    other = returnable.open(url)
    for one in (desk, desk, other):
        busy(lambda one=one: confirm(one, f"thread-{next(numbers)}"))  # type: ignore[misc]
    busy(lambda: desk.order(order_id="parent"))
    following = desk.services.store.follow()  # type: ignore[attr-defined]
    busy(lambda: next(following, None))

    # when
    said = [
        Child(lambda n=n: f"{confirm(desk, f'child-{n}')} {desk.order(order_id='parent').status}").said()  # type: ignore[misc]
        for n in range(15)
    ]
    following.stop()

    # then
    assert said == ["accepted confirmed"] * 15
    assert {f"child-{n}" for n in range(15)} < set(orders(url))


def test_threads_that_fork_at_the_same_time_wait_for_each_other(url: str, desk: returnable.Desk) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: said.append(Child(lambda: confirm(desk, f"child-{n}")).said()))  # type: ignore[misc]
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert said == ["accepted"] * 4
    assert confirm(desk, "again") == "accepted"


def test_a_fork_that_fails_leaves_the_store_usable(desk: returnable.Desk) -> None:
    forks._before()
    forks._after_in_parent()  # as Python does it, also where the system gives no process

    assert confirm(desk, "again") == "accepted"


# ---- what cannot work is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fork", [fork_in_c, fork_and_tell_afterwards], ids=["in C", "in C, with the hooks of the child"]
)
@pytest.mark.parametrize("by", ["the same desk", "a new desk", "a link", "a question", "the stored views"])
def test_a_file_that_was_open_during_a_fork_in_c_is_refused_in_the_child(
    path: Path, url: str, desk: returnable.Desk, fork: Callable[[], int], by: str
) -> None:
    # given
    link = path.with_name("link.db")
    link.symlink_to(path)
    views = stored_views(url)
    work: dict[str, Callable[[], object]] = {
        "the same desk": lambda: confirm(desk, "child"),
        "a new desk": lambda: returnable.open(url),
        "a link": lambda: returnable.open(f"sqlite:///{link}"),
        "a question": lambda: desk.order(order_id="parent"),
        "the stored views": lambda: views.marks(),
    }

    # when
    said = Child(work[by], fork).said()

    # then
    assert said.startswith("StoreUnusable: /")
    assert "this process was forked while its parent was using the file" in said
    assert "open the store after the fork, or close it before" in said
    assert confirm(desk, "again") == "accepted"
    assert orders(url) == ["again", "parent"]


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS.keys())
def test_a_store_that_was_closed_before_a_fork_can_be_opened_after_it(
    url: str, desk: returnable.Desk, fork: Callable[[], int]
) -> None:
    desk.close()

    assert Child(lambda: confirm(returnable.open(url), "child"), fork).said() == "accepted"
    assert orders(url) == ["child", "parent"]


def test_a_connection_of_the_hosts_own_is_noticed(path: Path, desk: returnable.Desk) -> None:
    with closing(sqlite3.connect(path)) as own:
        own.execute("SELECT count(*) FROM facts").fetchall()
        refused = Child(lambda: confirm(desk, "child")).said()

    assert "this process was forked while its parent was using the file" in refused
    assert Child(lambda: confirm(desk, "child")).said() == "accepted"


def test_a_change_that_is_under_way_in_the_thread_that_forks_stays_the_parents(url: str, desk: returnable.Desk) -> None:
    # given
    recorder = desk.services.store  # type: ignore[attr-defined]
    assert isinstance(recorder, SQLiteStore)
    said: list[str] = []
    to_parent: list[int] = []

    def fork_in_the_middle(statements: Any) -> None:
        statements.execute("INSERT INTO policies VALUES ('a', 'b')")
        receiver, sender = os.pipe()
        if os.fork() == 0:
            signal.alarm(PATIENCE_SECONDS)
            to_parent.append(sender)
            return
        os.close(sender)
        with open(receiver) as answer:
            said.append(answer.read())
        os.wait()

    def came_of(work: Callable[[], object]) -> str:
        try:
            return f"done: {work()}"
        except BaseException as error:
            return str(error)

    # when
    came = came_of(lambda: recorder._tables.change(fork_in_the_middle))
    if to_parent:
        os.write(to_parent[0], f"{came} | {came_of(lambda: confirm(desk, 'child'))}".encode())
        os._exit(0)

    # then
    assert came == "done: None"
    assert "the change is the parent's, and nothing was recorded here | " in said[0]
    assert "this process was forked while its parent was using the file" in said[0]
    assert recorder.policy("a") == "b"
    assert confirm(desk, "again") == "accepted"
    assert orders(url) == ["again", "parent"]


def test_a_thread_that_does_not_come_to_its_end_makes_the_child_refuse_every_store(
    tmp_path: Path, desk: returnable.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(forks, "PATIENCE_SECONDS", 0.1)

    class Work:
        def __enter__(self) -> None:
            self.work = AtWork(self)

        def __exit__(self, *raised: object) -> None:
            self.work.end()

    held = Held(Work())

    # when
    said = Child(lambda: (desk.close(), returnable.open(f"sqlite:///{tmp_path}/other.db"))).said()
    held.release()

    # then
    assert said.startswith("StoreUnusable: this process was forked while another thread used a store")
    assert confirm(desk, "again") == "accepted"


# ---- stored views --------------------------------------------------------------------------------------------------------


def test_parent_and_child_bring_the_same_stored_views_up_to_date(url: str, desk: returnable.Desk) -> None:
    # given
    desk.project()
    with closing(SQLiteViews(url.removeprefix("sqlite:///").replace(".db", "-views.db"))) as views:
        # when
        said = Child(lambda: (confirm(desk, "child"), desk.project(), views.marks()["orders"].position)).said()

        # then
        assert said.endswith(", 2)")
        confirm(desk, "again")
        desk.project()
        assert views.marks()["orders"].position == 3


def test_stored_views_that_the_forking_thread_reads_are_refused_in_the_child_alone(
    url: str, desk: returnable.Desk
) -> None:
    desk.project()
    with closing(SQLiteViews(url.removeprefix("sqlite:///").replace(".db", "-views.db"))) as views:
        with views.reading() as reading:
            within = Child(reading.marks).said()
            after = Child(views.marks).said()
            store = Child(lambda: confirm(desk, "child")).said()
            assert reading.marks()["orders"].position == 1

        assert "begin to read again" in within
        assert "this process was forked while its parent was using the file" in after
        assert store == "accepted"
        assert Child(lambda: views.marks()["orders"].position).said() == "1"


def test_stored_views_in_memory_are_copied_by_a_fork() -> None:
    with closing(SQLiteViews(None)) as views:
        held = Held(views._lock)
        threading.Timer(0, held.release).start()

        assert Child(lambda: (views.begin(["orders"], Mark(1)), len(views.marks()))).said() == ("(None, 1)")
        assert not views.marks()


# ---- stores in memory, and locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS.keys())
def test_a_child_has_a_copy_of_a_store_in_memory(fork: Callable[[], int]) -> None:
    with returnable.open("memory:") as desk:
        confirm(desk, "parent")

        assert Child(lambda: (confirm(desk, "child"), len(list(desk.orders()))), fork).said() == "('accepted', 2)"
        assert len(list(desk.orders())) == 1


def test_a_fork_waits_for_a_thread_in_the_middle_of_a_store_in_memory() -> None:
    # given
    with returnable.open("memory:") as desk:
        recorder = desk.services.store  # type: ignore[attr-defined]
        assert isinstance(recorder, MemoryStore)
        for lock in (recorder._lock, recorder.checkpoints._lock, recorder.due._lock):  # type: ignore[attr-defined]
            # when
            held = Held(lock)
            held.let_go_soon()

            # then
            assert (
                Child(lambda: (confirm(desk, "child"), desk.run_deadlines().outcome)).said()
                == "('accepted', 'accepted')"
            )
            held.release()


def test_a_lock_that_can_be_taken_again_is_let_go_when_it_was_let_go_as_often() -> None:
    lock = ForkSafeLock()
    with lock:
        with lock:
            pass
        assert Child(lambda: "held twice").said() == "held twice"
    Held(lock).release()


def test_no_lock_that_another_thread_holds_keeps_a_child_waiting(desk: returnable.Desk) -> None:
    # given: another thread holds every lock of the store's when the process forks
    recorder = desk.services.store  # type: ignore[attr-defined]
    following = desk.services.store.follow()  # type: ignore[attr-defined]
    locks = [
        recorder._connections._write_lock,
        recorder._group_commit._lock,
        recorder._followers_lock,
        following._woken._cond,
    ]
    held = [Held(lock) for lock in locks]

    # when
    child = Child(lambda: (confirm(desk, "child"), next(desk.services.store.follow()), next(following)))  # type: ignore[attr-defined]
    for each in held:
        each.release()

    # then
    assert child.said().startswith("('accepted', Recorded(")
    following.stop()


def test_a_model_that_another_thread_builds_keeps_no_child_waiting(desk: returnable.Desk) -> None:
    # given: a model of ours is built when it is first used, and pydantic holds a lock meanwhile
    class Late(Model):
        number: int

    building = getattr(pydantic.main, "_rebuild_lock", None)
    if building is None:
        pytest.skip("this pydantic holds no lock")
    held = Held(building)
    held.let_go_soon()

    # when, then
    assert Child(lambda: Late(number=1).number).said() == "1"
    assert Late(number=2).number == 2
    held.release()


def test_a_property_that_another_thread_computes_keeps_no_child_waiting() -> None:
    # given
    class Slow:
        @cached_property
        def value(self) -> int:
            if threading.current_thread() is not threading.main_thread():
                computing.set()
                over.wait(PATIENCE_SECONDS)
            return 42

    computing, over, slow = threading.Event(), threading.Event(), Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    computing.wait(PATIENCE_SECONDS)

    # when
    said = Child(lambda: (slow.value, Slow().value)).said()
    over.set()
    thread.join()

    # then
    assert said == "(42, 42)"
    assert isinstance(Slow.value, cached_property)


def test_a_child_does_not_keep_the_line_of_its_parents_listener_open() -> None:
    # given: a child that lives on
    ear = _Ear()

    class Parent:
        def start_afresh(self) -> None:
            ear.release()

    parent = Parent()
    forks.in_children(parent.start_afresh)
    child = Child(lambda: threading.Event().wait(PATIENCE_SECONDS / 2))

    # when
    ear.close()

    # then
    assert select.select([ear.receiver], [], [], PATIENCE_SECONDS / 4)[0] == [ear.receiver]
    os.kill(child.pid, signal.SIGKILL)
    child.said()
    ear.receiver.close()


def test_work_that_an_interrupt_leaves_unfinished_keeps_no_fork_waiting() -> None:
    work: AtWork | None = AtWork(object())
    assert forks._state.at_work
    del work

    assert not forks._state.at_work


def test_a_fork_does_not_wait_for_its_patience_while_threads_commit_together(
    desk: returnable.Desk, busy: Callable[[Callable[[], object]], None]
) -> None:
    names = iter(range(10**6))
    for _ in range(3):
        busy(lambda: confirm(desk, f"B-{next(names)}"))

    children = [Child(lambda nth=nth: confirm(desk, f"C-{nth}")).said() for nth in range(5)]  # type: ignore[misc]

    assert children == ["accepted"] * 5
