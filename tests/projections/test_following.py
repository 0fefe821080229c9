"""Stored views tell every fact exactly once: in batches, after a kill, with several projectors, with damaged facts."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usual import a_delivered_order, an_inspected_return
from viewing import append_raw, built_anew, digests, lived, poison, projector

from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import assemble
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.events import UPCASTERS, encode
from returnable.projections.follow import ViewStatus, origin_of, statuses
from returnable.projections.ports import Changes, Mark
from returnable.projections.stored import VIEWS
from returnable.testing import Scenario, an_order, link_account, request_refund
from returnable.testing.behaviour import World

SEEDS = st.integers(0, 2**32 - 1)


class Cut(BaseException):
    """The process ended here."""


class Mortal(SQLiteViews):
    """Views whose projector is killed now and then: before a batch, in the middle of its transaction, or behind it."""

    def __init__(self, dice: Random) -> None:
        super().__init__(None)
        self._dice = dice

    def save(
        self, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
    ) -> bool:
        """Sometimes cut off."""
        when = self._dice.random()
        if when < 0.1:
            raise Cut
        saved = super().save(before, after, changes, store_identity)
        if when > 0.9:
            raise Cut
        return saved

    def _save_mark(self, connection: Any, view: str, mark: Mark) -> None:
        if self._dice.random() < 0.05:
            raise Cut
        super()._save_mark(connection, view, mark)
        if self._dice.random() < 0.05:
            raise Cut


class Hasty(Mortal):
    """The mistake the others do not make: the position is durable before its rows are."""

    def save(
        self, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
    ) -> bool:
        """In two transactions."""
        with self._writing() as connection:
            for view in before:
                SQLiteViews._save_mark(connection, view, after)
        if self._dice.random() < 0.3:
            raise Cut
        with self._writing() as connection:
            for view, mark in before.items():
                self._save_rows(connection, view, changes, fresh=not mark.built)
        return True


def often(action: Callable[[], object]) -> None:
    """Again after every cut, until it comes to its end."""
    for _ in range(1000):
        try:
            action()
        except Cut:
            continue
        return
    raise AssertionError("it never came to its end")


@contextmanager
def in_memory(views: SQLiteViews | None = None) -> Iterator[SQLiteViews]:
    """Views that are closed at the end."""
    with closing(views or SQLiteViews(None)) as opened:
        yield opened


@settings(max_examples=8)
@given(SEEDS)
def test_views_that_keep_up_in_any_batches_equal_views_built_at_once(seed: int) -> None:
    dice = Random(seed)
    world = World()
    with in_memory() as views:
        for _ in range(4):
            lived(world, dice, dice.randint(0, 15))
            sizes = {"cases_in_batch": dice.randint(1, 3), "positions_in_batch": dice.randint(1, 9)}
            projector(world.services, views, **sizes).run()
        if world.order_ids and dice.random() < 0.5:
            poison(world.services, dice.choice(world.order_ids), dice.choice(("unreadable", "impossible")))
        projector(world.services, views, positions_in_batch=2).run()

        assert digests(views) == built_anew(world.services)
        assert {status.state for status in statuses(world.services.store, views)} == {"up to date"}


@settings(max_examples=8)
@given(SEEDS)
def test_a_projector_that_is_killed_anywhere_and_started_again_leaves_the_same(seed: int) -> None:
    dice = Random(seed)
    world = lived(World(), dice, 12)
    with in_memory(Mortal(dice)) as views:
        often(lambda: projector(world.services, views, cases_in_batch=1).run())
        lived(world, dice, 25)
        often(lambda: projector(world.services, views, positions_in_batch=3).run())
        often(lambda: projector(world.services, views).rebuild(["ledger", "audit"]))
        often(lambda: projector(world.services, views, cases_in_batch=1).run())

        assert digests(views) == built_anew(world.services)


def test_a_position_that_is_saved_before_its_rows_is_found_out() -> None:
    caught = 0

    for seed in range(6):
        dice = Random(seed)
        world = lived(World(), dice, 40)
        with in_memory(Hasty(dice)) as views:
            often(projector(world.services, views, cases_in_batch=1).run)
            caught += digests(views) != built_anew(world.services)

    assert caught, "the check cannot fail"


@settings(max_examples=8)
@given(SEEDS)
def test_two_projectors_on_the_same_views_do_no_harm(seed: int) -> None:
    dice = Random(seed)
    world = lived(World(), dice, 30)
    with in_memory() as views:
        one = projector(world.services, views, cases_in_batch=1, positions_in_batch=4)
        other = projector(world.services, views, ("ledger", "orders"), cases_in_batch=2, positions_in_batch=3)
        for _ in range(60):
            dice.choice((one, other)).step()
            if dice.random() < 0.2:
                lived(world, dice, 1)
            if dice.random() < 0.05:
                one.rebuild(["orders"])
        if world.order_ids:
            poison(world.services, dice.choice(world.order_ids), dice.choice(("unreadable", "impossible")))
        while one.step() | other.step():
            pass

        assert digests(views) == built_anew(world.services)


def test_a_batch_that_another_projector_has_saved_meanwhile_is_not_saved_again() -> None:
    world = lived(World(), Random(5), 20)
    with in_memory() as views:
        projector(world.services, views).run()
        lived(world, Random(6), 20)
        before = views.marks()["orders"]
        head = world.services.store.head()
        assert before.position < head

        slow = projector(world.services, views, ("orders",))
        save = views.save
        views.save = lambda *given: (
            setattr(views, "save", save),
            projector(world.services, views).run(),
            save(*given),
        )[2]  # type: ignore[method-assign,assignment,func-returns-value]
        slow.step()

        assert views.marks()["orders"].position == head
        assert digests(views) == built_anew(world.services)


# ---- damaged facts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unreadable", "impossible"])
def test_a_damaged_fact_parks_its_case_and_the_others_go_on(kind: str) -> None:
    story = Scenario().given(an_order(), an_order("A-2"))
    poison(story.services, "A-1", kind)
    append_raw(story.services.store, "A-1", "order/A-1", "order.AccountLinked/1", b"{}")
    story.given(link_account("A-2"))

    with in_memory() as views:
        projector(story.services, views).run()

        status = next(each for each in statuses(story.services.store, views) if each.view == "audit")
        assert status.state == "up to date"
        (parked,) = status.parked
        assert (parked.case_id, parked.stream, parked.version) == ("A-1", "order/A-1", 2)
        assert ("Enchanted" if kind == "unreadable" else "Confirmed") in parked.reason
        with views.reading() as reading:
            rows = [row[:3] for row in reading.rows("audit", ("case_id", "version", "type"))]
        assert rows == [("A-1", 1, "Confirmed"), ("A-2", 1, "Confirmed"), ("A-2", 2, "AccountLinked")]


def test_a_parked_case_is_told_once_its_fact_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Scenario().given(an_order())
    poison(story.services, "A-1")
    with in_memory() as views:
        projector(story.services, views).run()
        assert len(views.parked("orders")) == 1
        linked = {"occurred_at": "2026-03-02T16:00:00Z", "recorded_at": "2026-03-02T16:00:00Z", "account_id": "acc-2"}
        monkeypatch.setitem(UPCASTERS, "order.Enchanted/1", lambda old: ("order.AccountLinked/1", linked))

        projector(story.services, views).run()

        assert views.parked() == []
        assert digests(views) == built_anew(story.services)


def test_a_fact_that_only_one_view_cannot_tell_parks_that_view_alone() -> None:
    story = Scenario().given(an_inspected_return(), request_refund())
    (*_, refund) = (entry.event for entry in story.services.store.load_until_damage("A-1")[0])
    stored_as, content = encode(refund)
    story.given(an_order("A-2"))
    for entry in story.services.store.load_until_damage("A-1")[0][:-1]:
        if entry.stream == "return/R-1":
            name, told = encode(entry.event)
            append_raw(story.services.store, "A-2", "return/R-2", name, told.replace(b"R-1", b"R-2"))
    spoilt = content.replace(b"F-1", b"F-2").replace(b'"USD"', b'"ZZZ"')
    append_raw(story.services.store, "A-2", "return/R-2", stored_as, spoilt)

    with in_memory() as views:
        projector(story.services, views).run()

        assert {view for view, damage in views.parked() if damage.case_id == "A-2"} == {"refunds"}
        with views.reading() as reading:
            assert list(reading.rows("ledger", ("case_id",))) == [("A-1",), ("A-2",)]
            assert len(list(reading.rows("refunds", ("id",)))) == 1
        alone = SQLiteViews(None)
        for name in VIEWS:
            projector(story.services, alone, (name,)).run()
        assert digests(alone) == digests(views)
        alone.close()


def test_an_order_whose_policy_was_not_kept_is_parked_at_its_confirmation() -> None:
    story = Scenario().given(an_order())
    event = story.services.store.load_until_damage("A-1")[0][0].event
    stored_as, content = encode(event)
    sha256 = str(getattr(event, "pins").sha256).encode()  # noqa: B009
    append_raw(story.services.store, "A-2", "order/A-2", stored_as, content.replace(sha256, b"0" * 64))

    with in_memory() as views:
        projector(story.services, views).run()

        ((_, damage),) = views.parked("orders")
        assert (damage.case_id, damage.version) == ("A-2", 1)
        assert "pinned but was not kept" in damage.reason


# ---- how views stand, and following ----------------------------------------------------------------------------------


def test_views_are_missing_then_behind_then_up_to_date() -> None:
    story = Scenario().given(an_order())
    with in_memory() as views:

        def states() -> set[tuple[str, int]]:
            return {(status.state, status.behind) for status in statuses(story.services.store, views)}

        assert states() == {("missing", 1)}
        working = projector(story.services, views)
        working.step()
        assert states() == {("being built", 1)}
        working.run()
        assert states() == {("up to date", 0)}
        story.given(a_delivered_order("A-2"))
        assert states() == {("behind", 3)}
        assert ViewStatus("orders", Mark(9), 4, ()).state == "ahead"


def test_views_of_a_store_that_lost_facts_are_refused() -> None:
    world = lived(World(), Random(1), 20)
    with in_memory() as views:
        projector(world.services, views).run()
        with views._writing() as connection:
            connection.execute("UPDATE marks SET position = position + 1")

        with pytest.raises(StoreUnusable, match="older copy"):
            projector(world.services, views).run()


def test_views_of_another_store_are_refused_and_an_empty_store_is_any_store() -> None:
    one, other = Scenario(), Scenario()
    with in_memory() as views:
        projector(one.services, views).run()
        one.given(an_order())
        other.given(an_order(price="100.00"))
        projector(one.services, views).run()

        for refused in (projector(other.services, views).run, lambda: statuses(other.services.store, views)):
            with pytest.raises(StoreUnusable, match="another store"):
                refused()
        with pytest.raises(StoreUnusable, match="another store"):
            projector(Scenario().services, views).run()


def test_following_tells_what_comes_and_stops_when_asked() -> None:
    story = Scenario().given(an_order())
    seen: list[int] = []
    waits = 0
    with in_memory() as views:

        def wait() -> None:
            nonlocal waits
            waits += 1
            seen.append(views.marks()["orders"].position)
            story.given(an_order(f"A-{waits + 1}"))

        projector(story.services, views).follow(wait, lambda: waits == 3)

        assert seen == [1, 2, 3]


def test_following_waits_for_views_that_another_projector_holds() -> None:
    story = Scenario().given(an_order())
    waits: list[int] = []
    with in_memory() as views:
        working = projector(story.services, views)
        working.run()
        story.given(an_order("A-2"))
        save, views.save = views.save, lambda *given: (_ for _ in ()).throw(StoreBusy("held"))  # type: ignore[method-assign]

        def wait() -> None:
            waits.append(views.marks()["orders"].position)
            views.save = save  # type: ignore[method-assign]

        working.follow(wait, lambda: len(waits) == 2)

        assert waits == [1, 2]


def test_the_progress_that_is_told_adds_up_to_what_was_left() -> None:
    world = lived(World(), Random(3), 40)
    told: list[int] = []
    with in_memory() as views:
        left = sum(status.behind for status in statuses(world.services.store, views))

        projector(world.services, views, cases_in_batch=1).run(told.append)
        lived(world, Random(4), 20)
        left += sum(status.behind for status in statuses(world.services.store, views))
        projector(world.services, views, positions_in_batch=3).run(told.append)

        assert sum(told) == left


def test_a_run_can_be_stopped_between_two_batches() -> None:
    world = lived(World(), Random(3), 40)
    with in_memory() as views:
        projector(world.services, views).run(stopped=lambda: bool(views.marks()))

        assert {mark.built for mark in views.marks().values()} == {False}


def test_a_store_restored_from_an_older_copy_that_grew_again_is_noticed(tmp_path: Path) -> None:
    path, copy = tmp_path / "shop.db", tmp_path / "copy.db"
    first = Scenario(assemble(f"sqlite:///{path}")).given(an_order())
    first.services.store.close()
    shutil.copy(path, copy)
    views = SQLiteViews(None)
    for order_id in ("B-1", "Z-1"):
        story = Scenario(assemble(f"sqlite:///{path}")).given(an_order(order_id))
        if order_id == "B-1":
            projector(story.services, views).run()
            story.services.store.close()
            shutil.copy(copy, path)
    working = projector(story.services, views)

    with pytest.raises(StoreUnusable, match="hold events that the store does not hold"):
        working.run()

    assert {status.state for status in working.statuses()} == {"ahead"}
    working.rebuild(list(VIEWS))
    working.run()
    assert {status.state for status in working.statuses()} == {"up to date"}
    story.services.store.close()
    views.close()


def test_an_amount_beyond_all_bounds_parks_its_case_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    huge = "CAST(replace(content, '75000', '10000000000000000000000') AS BLOB)"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_order(), an_order("A-2"))
    edit(path, f"UPDATE facts SET content = {huge} WHERE case_id = 'A-1'")
    views = SQLiteViews(None)
    working = projector(story.services, views)

    working.run()

    assert {damage.case_id for _, damage in views.parked()} == {"A-1"}
    assert all(status.behind == 0 for status in working.statuses())
    story.services.store.close()
    views.close()


def test_damage_to_the_first_fact_does_not_make_it_another_store(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_order(), an_order("A-2"))
    views = SQLiteViews(None)
    projector(story.services, views).run()
    edit(path, "UPDATE facts SET content = x'7b' WHERE position = 1")
    story.given(an_order("A-3"))

    working = projector(story.services, views)
    working.rebuild(list(VIEWS))
    working.run()

    assert {damage.case_id for _, damage in views.parked()} == {"A-1"}
    story.services.store.close()
    views.close()


def test_views_of_facts_that_say_something_else_by_now_are_refused(tmp_path: Path) -> None:
    # given: views of a store that was then put back to its first order, and got other orders of the same shape
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_order(), an_order("A-2"))
    views = SQLiteViews(None)
    working = projector(story.services, views)
    working.run()
    content = "CAST(replace(content, 'c-1', 'c-2') AS BLOB)"
    edit(path, f"UPDATE facts SET content = {content} WHERE case_id = 'A-2'")

    # then
    assert {status.state for status in working.statuses()} == {"ahead"}
    with pytest.raises(StoreUnusable, match="an older copy"):
        working.run()
    working.rebuild(list(VIEWS))
    working.run()
    assert {status.state for status in working.statuses()} == {"up to date"}
    story.services.store.close()
    views.close()


def test_a_projector_of_another_store_writes_nothing_into_views_that_became_anothers(tmp_path: Path) -> None:
    mine, other = Scenario().given(an_order()), Scenario().given(an_order("C-1"))
    views = SQLiteViews(None)
    working = projector(mine.services, views)
    working.run()
    anew = projector(other.services, views)
    views.begin(list(VIEWS), Mark(1, place=other.services.store.fingerprint_at(1)), origin_of(other.services.store))
    anew.run()
    mine.given(an_order("A-2"))

    with pytest.raises(StoreUnusable):
        working.run()

    with views.reading() as reading:
        assert [row[0] for row in reading.rows("orders", ("id",))] == ["C-1"]
    views.close()


def edit(path: Path, statement: str) -> None:
    """Edit a store behind its back."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
