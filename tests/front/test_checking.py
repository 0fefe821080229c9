"""``returnable redecide`` and ``returnable what-if``, run as an auditor runs them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from terminal import one_line, returnable
from usual import an_inspected_return

from returnable.adapters.wiring import assemble
from returnable.testing import (
    Scenario,
    an_order,
    declined,
    record_delivery,
    record_shipment,
    request_refund,
    request_return,
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A store with a return that was paid and one that was declined for coming too late."""
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(
        an_inspected_return(),
        request_refund(),
        an_order("A-2"),
        record_shipment(order_id="A-2"),
        record_delivery(order_id="A-2", at="2026-03-17 12:00"),
        declined(request_return(return_id="R-2", order_id="A-2", at="2026-04-02 12:00")),
    )
    story.services.store.close()
    return path


def spoil(shop: Path) -> None:
    """Turn a verdict on record into another one."""
    connection = sqlite3.connect(shop)
    connection.execute(
        'UPDATE facts SET content = CAST(replace(CAST(content AS TEXT), \'"verdict":"fail"\', \'"verdict":"pass"\') AS BLOB)'
        " WHERE type = 'return.ReturnDeclined/1'"
    )
    connection.commit()
    connection.close()


def test_redecide_says_that_all_comes_out_the_same(shop: Path) -> None:
    status, out, err = returnable("redecide", "--all", "--store", f"sqlite:///{shop}")

    assert (status, err) == (0, "")
    expected = "15 events of 2 cases, 13 commands with 6 rulings decided again: no differences"
    assert one_line(out) == expected


def test_redecide_ends_with_status_1_and_names_the_fact_and_the_clause(shop: Path) -> None:
    spoil(shop)

    status, out, err = returnable("redecide", "--store", f"sqlite:///{shop}")

    assert (status, err) == (1, "")
    assert "return/R-2#1 ReturnRequested:\n    ruling[returns.window].verdict: recorded pass, now fail" in out
    assert "1 difference" in out


def test_redecide_of_one_subject_looks_at_no_other(shop: Path) -> None:
    spoil(shop)

    sound = returnable("redecide", "return/R-1", "--store", f"sqlite:///{shop}", "--json")
    spoilt = returnable("redecide", "R-2", "--store", f"sqlite:///{shop}", "--json")

    assert (sound[0], spoilt[0]) == (0, 1)
    assert json.loads(sound[1]) == {"cases": 1, "commands": 6, "rulings": 5, "facts": 7, "differences": []}
    (difference,) = json.loads(spoilt[1])["differences"]
    assert (difference["event"], difference["type"]) == ("return/R-2#1", "ReturnRequested")


def test_what_if_tells_clauses_decisions_and_money(shop: Path) -> None:
    arguments = ("what-if", "--policy", "allu-usa-earlier", "--keep", "returns.portal", "--store", f"sqlite:///{shop}")

    status, out, err = returnable(*arguments, "--flips")

    assert (status, err) == (0, "")
    assert "Candidate: allu-usa earlier, with returns.portal as before. Nothing was recorded." in out
    assert "6 decisions in 2 cases, 1 would change." in out
    assert "return/R-2#2  2026-04-02T12:00:00-04:00  request_return: declined → accepted  750.00 USD" in out
    assert "    returns.window: fail → pass  Requested at Thu 2026-04-02 12:00 EDT" in out
    assert "--keep" not in out


def test_what_if_as_json_is_the_same_and_lists_flips_when_asked(shop: Path) -> None:
    arguments = ("what-if", "order/A-1", "--policy", "allu-usa-earlier", "--store", f"sqlite:///{shop}", "--json")

    plain, listed = json.loads(returnable(*arguments)[1]), json.loads(returnable(*arguments, "--flips")[1])

    flips = listed.pop("flips")
    assert plain == listed
    assert (plain["cases"], plain["flipped"], len(flips)) == (1, 3, 3)
    assert plain["refunds"] == [
        {
            "currency": "USD",
            "recorded": 1,
            "recorded_amount": "750.00",
            "candidate": 0,
            "candidate_amount": "0.00",
            "difference": "-750.00",
            "amount_changed": 0,
        }
    ]


def test_what_if_suggests_to_keep_the_clause_about_the_way_it_came(shop: Path) -> None:
    _, out, _ = returnable("what-if", "--policy", "allu-usa-earlier", "--store", f"sqlite:///{shop}")

    assert "--keep returns.portal asks as if they had come by the right one" in out


def test_what_if_appends_nothing(shop: Path) -> None:
    before = shop.read_bytes()

    returnable("what-if", "--policy", "allu-usa-earlier", "--store", f"sqlite:///{shop}")

    assert shop.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("redecide", "R-1", "--all"), "SUBJECT and --all exclude each other"),
        (("redecide", "R-9"), "there is no order, return, claim, refund or arrival 'R-9'"),
        (("what-if",), "Missing option '--policy'"),
        (("what-if", "--policy", "nowhere.toml"), "nowhere.toml: cannot be read: No such file or directory"),
        (
            ("what-if", "--policy", "allu-usa", "--keep", "returns.kindness"),
            "--keep: 'returns.kindness' is not a clause",
        ),
    ],
)
def test_a_wrong_call_is_one_clear_line(shop: Path, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = returnable(*arguments, "--store", f"sqlite:///{shop}")

    assert (status, out) == (2, "")
    assert message in one_line(err)


def test_what_cannot_be_read_is_told_and_the_rest_is_tried(shop: Path) -> None:
    connection = sqlite3.connect(shop)
    connection.execute("UPDATE facts SET content = x'00' WHERE stream = 'return/R-2' AND version = 2")
    connection.commit()
    connection.close()

    status, out, err = returnable("what-if", "--policy", "allu-usa", "--store", f"sqlite:///{shop}")

    assert status == 1
    assert "return/R-2#2" in one_line(err)
    assert "5 decisions in 2 cases, 0 would change." in out
