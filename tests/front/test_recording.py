"""``returnable record``: a stored case becomes a test that plays back, without the people in it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from terminal import one_line, returnable
from usual import a_delivered_order

from returnable.adapters.wiring import assemble, policy_book
from returnable.domain.events import encode
from returnable.domain.marks import Mark
from returnable.projections.marked import marks
from returnable.testing import (
    Scenario,
    a_policy,
    an_order,
    declined,
    finding,
    inspect_return,
    issue_label,
    link_account,
    notify_customer,
    override,
    receive_return,
    record_delivery,
    record_refund_result,
    record_return_shipment,
    record_shipment,
    request_cancellation,
    request_refund,
    request_return,
)

PEOPLE = {
    "customer_id": "cust-miriam",
    "account_id": "acct-miriam",
    "name": "Miriam Blum",
    "email": "miriam@blum.example",
}
KIM = {"role": "care", "id": "kim.lee"}
FIVE_HOURS = policy_book(a_policy({"cancellation.window": {"hours": 5}}))
FILE = "order-A-1.scenario.jsonl"
PLAYS = "returnable: order/A-1 does not play back; nothing is written: "


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A store with a case that has every kind of personal data, and another order."""
    path = tmp_path / "shop.db"
    line = {"line_id": "1", "sku": "BAG-1", "unit_price": "120.00", "quantity": 2, "final_sale": False}
    tenders = [{"payment_id": "pay-7001", "method": "card", "amount": "240.00"}]
    lines = [line | {"description": "With the initials M. B."}]
    one = [{"line_id": "1", "quantity": 1, "reason": "My sister Ruth has the same."}]
    found = [finding() | {"notes": "Smells of Miriam's perfume."}]
    story = Scenario(assemble(f"sqlite:///{path}")).given(
        an_order(customer=PEOPLE, lines=lines, payments=tenders, command_id="basket-miriam", actor=KIM),
        record_shipment("PARCEL-31", tracking_number="TRACK-31", at="2026-03-03 09:00"),
        # Another time for the same parcel, and its number stands in the exception.
        record_shipment("PARCEL-31", tracking_number="TRACK-31", shipped_at="2026-03-01 09:00"),
        record_delivery("PARCEL-31", at="2026-03-05 14:00"),
        request_return(lines=one, at="2026-03-09 12:00"),
        issue_label("LABEL-44", tracking_number="TRACK-44"),
        record_return_shipment("LABEL-44", at="2026-03-10 16:00"),
        receive_return(at="2026-03-13 11:00"),
        inspect_return(findings=found, at="2026-03-16 10:00"),
        request_refund(actor=KIM),
        record_refund_result("pay-7001", reference="bank-ref-9"),
        notify_customer(notice="We wrote to Miriam."),
        override("returns.window", reason="Her flight was late.", approved_by="Ann Boss"),
        declined(request_cancellation(order_reference="the bag for Ruth", at="2026-04-01 10:00")),
        an_order("A-2", confirmed="2026-04-01 10:00"),
    )
    story.services.store.close()
    return path


def personal(shop: Path, case_id: str = "A-1") -> set[str]:
    """Every personal value and free text of a case."""

    def values(key: str, value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, one in value.items():
                yield from values(f"{key}.id" if name == "id" else name, one)
        elif isinstance(value, list):
            for one in value:
                yield from values(key, one)
        elif isinstance(value, str) and marks()[key] in (Mark.PERSONAL, Mark.FREE_TEXT):
            yield value

    services = assemble(f"sqlite:///{shop}", only_reading=True)
    with closing(services.store):
        return {one for entry in services.store.load(case_id) for one in values("", json.loads(encode(entry.event)[1]))}


def elsewhere(tmp_path: Path, name: str = "own.db") -> str:
    """A store whose one order was confirmed under a policy with five hours to cancel."""
    url = f"sqlite:///{tmp_path / name}"
    story = Scenario(assemble(url, FIVE_HOURS)).given(an_order(), request_cancellation(at="2026-03-02 14:00"))
    story.services.store.close()
    return url


def spoil(path: Path) -> None:
    """Turn every verdict on record into another one."""
    with closing(sqlite3.connect(path)) as connection:
        swapped = 'replace(CAST(content AS TEXT), \'"verdict":"fail"\', \'"verdict":"pass"\')'
        connection.execute(f"UPDATE facts SET content = CAST({swapped} AS BLOB)")
        connection.commit()


def tree(folder: Path) -> list[str]:
    """What is in the folder and below, but for stores."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".db" not in path.name]
    return sorted(names)


# ---- what is recorded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["order/A-1", "return/R-1", "refund/F-1", "R-1"])
def test_the_whole_case_of_a_subject_becomes_a_scenario_that_passes(subject: str, shop: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()

    recorded = returnable("record", subject, "--store", f"sqlite:///{shop}", folder=work)
    checked = returnable("play", "--check", FILE, folder=work)

    expected = f"recorded 17 lines of order/A-1, redacted, to {FILE}: plays back, all met\n"
    assert recorded == (0, expected, "")
    assert checked == (0, f"{FILE}: 17 lines, 17 with expectations: all met\n", "")
    assert tree(work) == [FILE]


def test_nobody_is_in_what_was_recorded(shop: Path, tmp_path: Path) -> None:
    people = personal(shop)
    work = tmp_path / "work"
    work.mkdir()

    returnable("record", "A-1", "--store", f"sqlite:///{shop}", folder=work)

    assert people >= {*PEOPLE.values(), "kim.lee", "TRACK-31", "LABEL-44", "bank-ref-9", "basket-miriam", "Ann Boss"}
    content = (work / FILE).read_text(encoding="utf-8")
    assert [one for one in people if one in content or json.dumps(one)[1:-1] in content] == []
    assert "Miriam" not in content
    for kept in ("A-1", "R-1", "F-1", "BAG-1", "120.00"):
        assert f'"{kept}"' in content


def test_a_key_gives_the_same_file_again_and_no_key_another_one(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(name: str, *options: str) -> bytes:
        out = tmp_path / name
        assert returnable("record", "A-1", str(out), "--store", f"sqlite:///{shop}", *options)[0] == 0
        return out.read_bytes()

    one, fresh, other = (
        recorded("1.scenario.jsonl", "--redact-key", "k"),
        recorded("2.scenario.jsonl"),
        recorded("3.scenario.jsonl"),
    )
    monkeypatch.setenv("RETURNABLE_REDACT_KEY", "k")
    two = recorded("4.scenario.jsonl")

    assert one == two
    assert len({one, fresh, other}) == 3


def test_people_stay_in_it_only_if_that_is_asked_for(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "case.scenario.jsonl"

    status, said, _ = returnable("record", "A-1", str(out), "--no-redact", "--store", f"sqlite:///{shop}")

    assert status == 0
    assert "with personal data" in said
    assert "Miriam Blum" in out.read_text(encoding="utf-8")
    assert returnable("play", "--check", str(out))[0] == 0


def test_json_says_what_was_recorded(shop: Path, tmp_path: Path) -> None:
    own = elsewhere(tmp_path)

    bundled = json.loads(returnable("record", "R-1", "--json", "--store", f"sqlite:///{shop}", folder=tmp_path)[1])
    with_policy = json.loads(
        returnable("record", "A-1", "own.scenario.jsonl", "--json", "--store", own, folder=tmp_path)[1]
    )

    assert bundled["policy"]["id"] == "allu-usa"
    assert bundled | {"policy": None} == {
        "subject": "order/A-1",
        "out": FILE,
        "redacted": True,
        "lines": 17,
        "commands": 14,
        "facts": 18,
        "views": 3,
        "steps_back": 0,
        "policy": None,
        "policies": None,
    }
    assert (with_policy["out"], with_policy["policies"]) == ("own.scenario.jsonl", "own.policies")


def test_the_store_is_as_it_was(shop: Path, tmp_path: Path) -> None:
    before = {place.name: place.read_bytes() for place in tmp_path.iterdir()}
    work = tmp_path / "work"
    work.mkdir()

    returnable("record", "A-1", "--store", f"sqlite:///{shop}", folder=work)

    assert {place.name: place.read_bytes() for place in tmp_path.iterdir() if place.is_file()} == before


def test_clocks_of_several_processes_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    story = Scenario(assemble(url)).given(
        a_delivered_order(),
        link_account(at="2026-03-05 13:59:59"),
        notify_customer(notice="It has arrived.", at="2026-03-05 13:00"),
    )
    story.services.store.close()

    status, out, _ = returnable("record", "A-1", "--json", "--store", url, folder=tmp_path)

    assert (status, json.loads(out)["steps_back"]) == (0, 2)
    assert returnable("play", "--check", FILE, folder=tmp_path)[0] == 0


# ---- the policy it needs ---------------------------------------------------------------------------------------------


def test_a_case_under_another_policy_plays_back_with_the_folder_beside_it(tmp_path: Path) -> None:
    url = elsewhere(tmp_path)
    (tmp_path / "cases").mkdir()

    recorded = returnable("record", "A-1", "cases", "--store", url, folder=tmp_path)
    came = [returnable("play", "--check", place, folder=tmp_path) for place in (f"cases/{FILE}", "cases")]
    without = returnable("play", "--check", "-", given=(tmp_path / "cases" / FILE).read_bytes())

    assert one_line(recorded[1]) == (
        f"recorded 3 lines of order/A-1, redacted, to cases/{FILE} with its policy in cases/order-A-1.policies: "
        "plays back, all met"
    )
    assert [status for status, _, _ in came] == [0, 0]
    assert came[1][1].endswith("cases: 1 scenario, 3 lines, 3 with expectations: all met\n")
    assert without[0] == 1
    (document,) = (tmp_path / "cases" / "order-A-1.policies").iterdir()
    assert document.name.startswith("allu-usa-2026-01-")


def test_the_policy_is_put_beside_a_case_under_the_bundled_one_if_that_is_asked_for(shop: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()

    recorded = returnable("record", "A-1", "--with-policy", "--store", f"sqlite:///{shop}", folder=work)

    assert recorded[1].endswith(f"to {FILE} with its policy in order-A-1.policies: plays back, all met\n")
    assert returnable("play", "--check", FILE, folder=work)[0] == 0


def test_a_case_is_recorded_again_with_the_policy_that_lies_there_already(tmp_path: Path) -> None:
    url = elsewhere(tmp_path)
    returnable("record", "A-1", "--store", url, folder=tmp_path)
    before = tree(tmp_path)

    again = returnable("record", "A-1", "--force", "--store", url, folder=tmp_path)

    assert one_line(again[1]) == f"recorded 3 lines of order/A-1, redacted, to {FILE}: plays back, all met"
    assert tree(tmp_path) == before


@pytest.mark.parametrize("beside", ["order-A-1.policies/other.json", "order-A-1.policy.toml"])
def test_a_policy_beside_that_is_not_the_one_of_the_case_is_refused_and_stays(
    beside: str, shop: Path, tmp_path: Path
) -> None:
    book = policy_book(a_policy({"cancellation.window": {"hours": 7}}))
    place = tmp_path / beside
    place.parent.mkdir(exist_ok=True)
    text = (Path(__file__).parents[2] / "domain" / "policies" / "allu-usa-earlier.toml").read_text(encoding="utf-8")
    place.write_text(text if beside.endswith(".toml") else book.versions[0].document, encoding="utf-8")
    before = tree(tmp_path)

    for url in (f"sqlite:///{shop}", elsewhere(tmp_path)):
        status, out, err = returnable("record", "A-1", "--force", "--store", url, folder=tmp_path)

        assert (status, out) == (2, "")
        assert f"{FILE} would be played under it, but order/A-1 needs allu-usa 2026-01; choose another OUT" in err
        assert tree(tmp_path) == before


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_replaced_only_by_force(shop: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("mine", encoding="utf-8")

    refused = returnable("record", "A-1", "--store", f"sqlite:///{shop}", folder=tmp_path)
    kept = (tmp_path / FILE).read_text(encoding="utf-8")
    forced = returnable("record", "A-1", "--force", "--store", f"sqlite:///{shop}", folder=tmp_path)

    assert refused == (2, "", f"returnable: {FILE}: exists already; --force overwrites it\n")
    assert kept == "mine"
    assert forced[0] == 0
    assert tree(tmp_path) == [FILE]


@pytest.mark.parametrize("own_policy", [False, True])
def test_what_would_not_play_back_is_refused_and_leaves_nothing(own_policy: bool, shop: Path, tmp_path: Path) -> None:
    if own_policy:
        shop = tmp_path / "own.db"
        story = Scenario(assemble(f"sqlite:///{shop}", FIVE_HOURS)).given(
            an_order(), declined(request_cancellation(channel="phone", order_reference="A-1", at="2026-03-02 16:00"))
        )
        story.services.store.close()
    spoil(shop)
    (tmp_path / "old.scenario.jsonl").write_text("old", encoding="utf-8")

    fresh = returnable("record", "A-1", "--store", f"sqlite:///{shop}", folder=tmp_path)
    forced = returnable(
        "record", "A-1", "old.scenario.jsonl", "--force", "--store", f"sqlite:///{shop}", folder=tmp_path
    )

    for (status, out, err), name in ((fresh, FILE), (forced, "old.scenario.jsonl")):
        assert (status, out) == (2, "")
        assert one_line(err).startswith(f"{PLAYS}{name}:{2 if own_policy else 14}: failed: expected none, came ")
    assert tree(tmp_path) == ["old.scenario.jsonl"]
    assert (tmp_path / "old.scenario.jsonl").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("full_at", [1, 2])
def test_a_full_disk_leaves_neither_a_scenario_nor_its_policy(
    full_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, calls = elsewhere(tmp_path), iter(range(1, 9))
    real = os.fsync

    def full(file: int) -> None:
        if next(calls) == full_at:
            raise OSError(28, "No space left on device", FILE)
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    status, out, err = returnable("record", "A-1", "--store", url, folder=tmp_path)

    assert (status, out, err) == (2, "", f"returnable: {FILE}: No space left on device\n")
    assert tree(tmp_path) == []


def test_a_damaged_case_is_told_and_not_recorded(shop: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("UPDATE facts SET content = x'00' WHERE stream = 'return/R-1' AND version = 3")
        connection.commit()

    status, out, err = returnable("record", "A-1", "--store", f"sqlite:///{shop}", folder=tmp_path)
    other = returnable("record", "A-2", "--store", f"sqlite:///{shop}", folder=tmp_path)

    assert (status, out) == (2, "")
    assert "return/R-1#3" in one_line(err)
    assert other[0] == 0
    assert tree(tmp_path) == ["order-A-2.scenario.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("R-9",), "there is no order, return, claim, refund or arrival 'R-9'"),
        (("order/A-9",), "there is no order 'A-9'"),
        (("A-1", "-"), "OUT: '-' is not a folder and does not end in .scenario.jsonl"),
        (("A-1", "case.json"), "OUT: 'case.json' is not a folder and does not end in .scenario.jsonl"),
        (("A-1", "nowhere/case.scenario.jsonl"), "nowhere: there is no such directory"),
        (("A-1", "--no-redact", "--redact-key", "k"), "--redact-key needs --redact"),
        (("A-1", "--redact-key", ""), "--redact-key: is empty"),
        (("A-1", "case.jsonl"), "OUT: 'case.jsonl' is not a folder and does not end in .scenario.jsonl"),
        (("A-1", "shop.scenario.jsonl", "--force"), "shop.scenario.jsonl: would overwrite a file of the store"),
    ],
)
def test_what_cannot_be_recorded_is_one_line(
    arguments: tuple[str, ...], reason: str, shop: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    shop.rename(store / "shop.scenario.jsonl")

    status, out, err = returnable("record", *arguments, "--store", "sqlite:///shop.scenario.jsonl", folder=store)

    assert (status, out) == (2, "")
    assert reason in one_line(err)
    assert tree(store) == ["shop.scenario.jsonl"]


def test_a_file_where_the_folder_of_policies_would_be_is_refused(tmp_path: Path) -> None:
    url = elsewhere(tmp_path)
    (tmp_path / "order-A-1.policies").write_text("mine", encoding="utf-8")

    status, _, err = returnable("record", "A-1", "--store", url, folder=tmp_path)

    assert (status, one_line(err)) == (2, "returnable: order-A-1.policies: is not a folder of policies")
    assert tree(tmp_path) == ["order-A-1.policies"]


def test_a_store_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    status, _, err = returnable("record", "A-1", "--store", "sqlite:///no.db", folder=tmp_path)

    assert (status, list(tmp_path.iterdir())) == (2, [])
    assert "there is no store here" in one_line(err)


def test_an_id_that_is_no_file_name_is_recorded_under_a_safe_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    story = Scenario(assemble(url)).given(an_order(order_id) for order_id in ("../A 1", "A/1", "a" * 128))
    story.services.store.close()

    came = [
        returnable("record", f"order/{one}", "--store", url, folder=tmp_path) for one in ("../A 1", "A/1", "a" * 128)
    ]

    assert [status for status, _, _ in came] == [0, 0, 0]
    assert len(tree(tmp_path)) == 3
    assert all(name.startswith("order-") and name.endswith(".scenario.jsonl") for name in tree(tmp_path))
