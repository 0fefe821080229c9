"""``returnable project`` and the lists, run as a person runs them."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import terminal
from click.testing import CliRunner
from patience import GUARD_SECONDS, wait_until
from usual import an_inspected_return
from viewing import poison

from returnable.adapters.cli.app import app, run
from returnable.adapters.printable import printable
from returnable.adapters.wiring import assemble
from returnable.testing import Scenario, an_order, request_refund


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A store with one order that came back and one that is on its way."""
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(an_inspected_return(), request_refund(), an_order("A-2"))
    story.services.store.close()
    return path


def returnable(capsys: pytest.CaptureFixture[str], shop: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command on that store."""
    status = run([*arguments, "--store", f"sqlite:///{shop}"])
    out, err = capsys.readouterr()
    return status, out, err


def one_more(shop: Path, order_id: str = "A-3") -> None:
    """Another order."""
    story = Scenario(assemble(f"sqlite:///{shop}")).given(an_order(order_id))
    story.services.store.close()


def json_lines(text: str) -> list[dict[str, Any]]:
    """JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_project_builds_every_view_beside_the_store_and_says_how_they_stand(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = returnable(capsys, shop, "project", "--status", "--json")
    status, out, err = returnable(capsys, shop, "project")
    after = returnable(capsys, shop, "project", "--status", "--json")

    assert before[0] == status == after[0] == 0
    assert {view["state"] for view in json.loads(before[1])["views"]} == {"missing"}
    assert out.count("up to date") == 8
    assert err == ""
    assert (shop.parent / "shop-views.db").exists()
    views = json.loads(after[1])["views"]
    assert {(view["state"], view["behind"], view["position"]) for view in views} == {("up to date", 0, 11)}


def test_asking_for_the_status_creates_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    returnable(capsys, shop, "project", "--status")

    assert sorted(path.name for path in shop.parent.iterdir() if "views" in path.name) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("orders",),
        ("returns", "--status", "inspected"),
        ("refunds",),
        ("claims",),
        ("ledger",),
        ("ledger", "A-1"),
        ("statistics",),
        ("statistics", "--from", "2026-03-10T00:00:00-04:00", "--to", "2026-03-15T00:00:00-04:00"),
        ("orders", "--limit", "1"),
    ],
)
def test_a_list_says_the_same_from_the_stored_view_and_from_the_facts(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    unprojected = returnable(capsys, shop, *arguments, "--json")
    returnable(capsys, shop, "project")

    stored = returnable(capsys, shop, *arguments, "--json")
    events = returnable(capsys, shop, *arguments, "--json", "--facts")
    table = returnable(capsys, shop, *arguments)

    assert stored[0] == events[0] == unprojected[0] == table[0] == 0
    assert stored[1] == events[1] == unprojected[1]
    assert stored[2] == "stored view, up to date\n"
    assert events[2] == unprojected[2] == ""
    assert table[1] or arguments == ("claims",)


def test_a_list_says_how_far_the_stored_view_is_behind(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    returnable(capsys, shop, "project")
    one_more(shop)

    stored = returnable(capsys, shop, "orders", "--json")
    events = returnable(capsys, shop, "orders", "--json", "--facts")
    returnable(capsys, shop, "project")
    caught_up = returnable(capsys, shop, "orders", "--json")

    assert [order["order_id"] for order in json_lines(stored[1])] == ["A-1", "A-2"]
    assert stored[2] == "stored view, 1 event behind; `returnable project` brings it up to date\n"
    assert [order["order_id"] for order in json_lines(events[1])] == ["A-1", "A-2", "A-3"]
    assert caught_up[1:] == (events[1], "stored view, up to date\n")


def test_a_list_that_looks_back_is_answered_from_the_facts(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    returnable(capsys, shop, "project")

    then = returnable(capsys, shop, "returns", "--as-of", "2026-03-12T12:00:00-04:00", "--json")
    known = returnable(capsys, shop, "returns", "--known-at", "2026-03-09T12:00:00-04:00", "--json")
    ledger = returnable(capsys, shop, "ledger", "A-1", "--as-of", "2026-03-12T12:00:00-04:00", "--json")

    assert json_lines(then[1])[0]["status"] == "in_transit"
    assert json_lines(known[1])[0]["status"] == "authorized"
    assert json_lines(ledger[1])[0]["pending"] == "0.00"
    assert then[2] == known[2] == ledger[2] == ""


def test_tables_are_for_people(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, returns, _ = returnable(capsys, shop, "returns")
    _, orders, _ = returnable(capsys, shop, "orders")
    _, ledger, _ = returnable(capsys, shop, "ledger")
    _, claims, none = returnable(capsys, shop, "claims")

    assert returns.splitlines()[0].split()[:4] == ["return", "id", "order", "id"]
    assert "1 x 1" in returns
    assert "L-1 used" in returns
    assert "P-1 delivered" in orders
    assert ledger.splitlines()[-1].split() == ["TOTAL", "–", "–", "USD", "1500.00", "0.00", "750.00", "750.00"]
    assert (claims, none) == ("", "none\n")


def test_statistics_name_the_clause_the_verdicts_and_the_amounts(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, table, _ = returnable(capsys, shop, "statistics")
    _, lines, _ = returnable(capsys, shop, "statistics", "--json")

    assert "returns.window" in table
    window = next(row for row in json_lines(lines) if row["clause"] == "returns.window")
    assert window["passed"] == {"decisions": 1, "amount": "750.00"}


def test_a_damaged_fact_is_shown_and_ends_with_exit_status_1(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = assemble(f"sqlite:///{shop}")
    poison(services, "A-1")
    services.store.close()

    status, out, _ = returnable(capsys, shop, "project")
    as_json = returnable(capsys, shop, "project", "--status", "--json")
    stored = returnable(capsys, shop, "orders", "--json")
    events = returnable(capsys, shop, "orders", "--json", "--facts")
    worklist = returnable(capsys, shop, "worklist", "--json")

    assert status == as_json[0] == 1
    parked = "parked: case A-1 stops before order/A-1#4 (position 12): events of type 'order.Enchanted/1' are unknown"
    assert parked in out
    assert json.loads(as_json[1])["views"][0]["parked"][0]["stream"] == "order/A-1"
    assert stored[0] == events[0] == worklist[0] == 0
    assert stored[1] == events[1]
    assert all(parked in err for _, _, err in (stored, events, worklist))


def test_one_view_can_be_built_anew(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    returnable(capsys, shop, "project")
    with closing(sqlite3.connect(shop.parent / "shop-views.db")) as views:
        for table in ("ledger", "orders"):
            views.execute(f"DELETE FROM {table}")
        views.commit()

    returnable(capsys, shop, "project", "--rebuild", "ledger")

    assert len(json_lines(returnable(capsys, shop, "ledger", "--json")[1])) == 2
    assert json_lines(returnable(capsys, shop, "orders", "--json")[1]) == [], "the others were left alone"
    returnable(capsys, shop, "project", "--rebuild", "all")
    assert len(json_lines(returnable(capsys, shop, "orders", "--json")[1])) == 2


def test_views_of_another_store_are_an_error_to_project_and_no_obstacle_to_a_list(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returnable(capsys, shop, "project")
    other = tmp_path / "other.db"
    one_more(other, "B-1")
    views = f"sqlite:///{tmp_path}/shop-views.db"

    projected = returnable(capsys, other, "project", "--views", views)
    listed = returnable(capsys, other, "orders", "--views", views, "--json")

    assert projected[0] == 2
    assert "made of another store" in projected[2]
    assert projected[2].count("\n") == 1
    assert [order["order_id"] for order in json_lines(listed[1])] == ["B-1"]
    assert listed[2].startswith("from the events: ")
    assert returnable(capsys, other, "project", "--views", views, "--rebuild", "orders")[0] == 2
    assert returnable(capsys, other, "project", "--views", views, "--rebuild", "all")[0] == 0
    assert returnable(capsys, other, "orders", "--views", views)[2] == "stored view, up to date\n"


def test_a_view_that_is_being_built_is_not_answered_from(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    returnable(capsys, shop, "project")
    with closing(sqlite3.connect(shop.parent / "shop-views.db")) as views:
        views.execute("UPDATE marks SET cursor = 'A-1' WHERE view = 'orders'")
        views.commit()

    _, out, err = returnable(capsys, shop, "orders", "--json")

    assert len(json_lines(out)) == 2
    assert err == "from the events: the stored view 'orders' is being built\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("project", "--rebuild", "horoscope"), "there is no view 'horoscope'"),
        (("project", "--status", "--follow"), "--status excludes --follow and --rebuild"),
        (("orders", "--status", "lost"), "none of confirmed, cancelled, shipped, delivered"),
        (("orders", "--as-of", "yesterday"), "--as-of: 'yesterday'"),
        (("statistics", "--from", "2026-03-01"), "--from: '2026-03-01'"),
        (("ledger", "A-9"), "there is no order 'A-9'"),
        (("orders", "--views", "sqlite:///nowhere/views.db"), "there are no stored views"),
        (("returns", "--limit", "-1"), "--limit"),
    ],
)
def test_a_mistake_is_one_clear_line(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = returnable(capsys, shop, *arguments)

    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_text_of_a_damaged_store_cannot_steer_a_terminal() -> None:
    assert printable("ok\x1b[2J\nno") == "ok\\x1b[2J\\nno"


@pytest.mark.parametrize("name", ["project", "orders", "returns", "refunds", "claims", "ledger", "statistics"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    found = CliRunner().invoke(app, [name, "--help"])

    assert found.exit_code == 0
    assert f"returnable {name}" in found.output
    assert "--json" in found.output


def test_following_keeps_up_until_it_is_told_to_stop(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "project", "--follow", "--json"]
    following = subprocess.Popen(
        [*command, "--store", f"sqlite:///{shop}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert following.stderr is not None
        assert following.stderr.readline() == "following (Ctrl-C ends)\n"
        one_more(shop)
        wait_until(lambda: "A-3" in returnable(capsys, shop, "orders", "--json")[1])
        services = assemble(f"sqlite:///{shop}")
        poison(services, "A-2")
        services.store.close()
        assert following.stderr.readline().startswith("parked: case A-2 stops before order/A-2#2")
        following.send_signal(signal.SIGTERM)
        out, _ = following.communicate(timeout=GUARD_SECONDS)
    finally:
        following.kill()
        following.communicate()

    assert following.returncode == 1, "something is parked"
    assert {view["state"] for view in json.loads(out)["views"]} == {"up to date"}


def test_a_list_from_views_that_were_asked_for_by_name_does_not_fall_back_in_silence(tmp_path: Path) -> None:
    story = Scenario(assemble(f"sqlite:///{tmp_path}/shop.db")).given(an_order())
    story.services.store.close()
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)

    for views, says in (("views.db", "names no store"), (f"sqlite:///{tmp_path}/broken.db", "delete the file")):
        status, out, err = terminal.returnable("orders", "--store", f"sqlite:///{tmp_path}/shop.db", "--views", views)
        assert (status, out) == (2, "")
        assert says in terminal.one_line(err)
