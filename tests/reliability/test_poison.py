"""A fact that cannot be read, or cannot have happened, stops its own case and no other; it is shown, and told later."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.proofs.journeys import as_file, scenario
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble, projector
from returnable.domain.commands import parse_command, parse_question
from returnable.domain.errors import HistoryBroken
from returnable.projections import questions
from returnable.projections.stored import VIEWS

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)

CASE, EVENT = "A-000", "order/A-000#2"
"""The parcel of the first customer was shipped."""

POISONS = {
    "a type that nobody knows": ("type", "order.Enchanted/1"),
    "a version that is newer": ("type", "order.Shipped/2"),
    "content that cannot be read": ("content", b'{"occurred_at":'),
    "content of another shape": ("content", b"{}"),
    "a fact that cannot have happened there": ("type", "claim.ClaimContacted/1"),
}


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A store of eleven customers, as a file."""
    services = assemble(f"sqlite:///{tmp_path}/facts.db")
    for _ in play(services, read_scenario(as_file(scenario(11)), "journeys")):
        pass
    services.store.close()
    return tmp_path / "facts.db"


@pytest.fixture
def sound_answers(told: Path) -> dict[str, Any]:
    return dict(answers(told))


def edit(path: Path, column: str, value: object) -> object:
    """Change the fact where it is stored; what stood there."""
    with closing(sqlite3.connect(path)) as connection:
        place = "WHERE stream = 'order/A-000' AND version = 2"
        ((old,),) = connection.execute(f"SELECT {column} FROM facts {place}").fetchall()
        connection.execute(f"UPDATE facts SET {column} = ? {place}", (value,))
        connection.commit()
    return old


def answers(path: Path) -> Iterator[tuple[str, Any]]:
    """What is said of every case, by a question and by the lists."""
    services = assemble(f"sqlite:///{path}")
    for case_id in services.store.case_ids():
        question = parse_question({"query": "order", "order_id": case_id})
        try:
            yield case_id, services.questions.answer(question, NOW).model_dump(mode="json")
        except HistoryBroken as error:
            yield case_id, str(error)
    for values in services.questions.listed("orders", NOW):
        yield f"list {values['order_id']}", values
    services.store.close()


def views_of(services: Services, views: SQLiteViews) -> dict[str, list[Any]]:
    projector(services, views).run()
    with views.reading() as reading:
        return {
            name: list(reading.rows(name, ("case_id", *(column for column, _ in VIEWS[name].columns))))
            for name in VIEWS
        }


@pytest.mark.parametrize("poison", POISONS)
def test_one_bad_fact_stops_its_own_case_and_no_other(told: Path, sound_answers: dict[str, Any], poison: str) -> None:
    # given
    column, value = POISONS[poison]
    services = assemble(f"sqlite:///{told}")
    with closing(SQLiteViews(None)) as before:
        sound_views = views_of(services, before)
    old = edit(told, column, value)

    # then: others are answered as before, and this one says which fact it is
    for name, answer in answers(told):
        if CASE not in name:
            assert answer == sound_answers[name]
        elif name == CASE:
            assert EVENT in answer

    # then: views park this case at that fact and hold every other
    with closing(SQLiteViews(None)) as views:
        poisoned = views_of(services, views)
        others = {name: [row for row in rows if row[0] != CASE] for name, rows in sound_views.items()}
        assert {name: [row for row in rows if row[0] != CASE] for name, rows in poisoned.items()} == others
        assert {(damage.case_id, damage.event_id) for _, damage in views.parked()} == {(CASE, EVENT)}

        # then: deadlines and commands of others go on
        assert services.handler.handle(parse_command({"command": "run_deadlines"}), NOW).accepted
        linked = {"command": "link_account", "order_id": "A-003", "account_id": "acc-later"}
        assert services.handler.handle(parse_command(linked), NOW).accepted

        # when: it can be read again
        edit(told, column, old)

        # then: it is told, and everything is as if it had never been parked
        services.store.close()
        mended = assemble(f"sqlite:///{told}")
        with closing(SQLiteViews(None)) as anew:
            assert views_of(mended, views) == views_of(mended, anew)
        assert views.parked() == []
        mended.store.close()


def test_without_parking_one_bad_fact_stops_all(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what is asked above does not hold by itself."""

    def unsound(events: Any, damage: Any, build: Any) -> Any:
        if damage is not None:
            raise HistoryBroken(damage.reason)
        return build(events), None

    monkeypatch.setattr("returnable.projections.stored.up_to_damage", unsound)
    monkeypatch.setattr(questions, "up_to_damage", unsound)
    edit(told, *POISONS["a version that is newer"])
    services = assemble(f"sqlite:///{told}")

    with pytest.raises(HistoryBroken):
        list(services.questions.listed("orders", NOW))
    with closing(SQLiteViews(None)) as views, pytest.raises(HistoryBroken):
        views_of(services, views)
    services.store.close()
