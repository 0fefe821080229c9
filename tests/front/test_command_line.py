"""The command line, run as a person runs it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from patience import GUARD_SECONDS
from terminal import in_a_process, one_line, returnable

from returnable.adapters.cli.app import COMMANDS, app
from returnable.testing import confirm_order

AT = "2026-03-02T10:00:00-05:00"


def lines(*entries: dict[str, Any]) -> bytes:
    """A scenario."""
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def confirm(order_id: str = "A-1", **more: Any) -> dict[str, Any]:
    """A line that confirms the usual order."""
    return {"at": AT, **confirm_order(order_id).fields, **more}


def cancel(**more: Any) -> dict[str, Any]:
    """A line that asks to cancel a second too late."""
    at = "2026-03-02T12:00:01-05:00"
    return {
        "at": at,
        "command": "request_cancellation",
        "order_id": "A-1",
        "channel": "email",
        "order_reference": "A-1",
        **more,
    }


def test_play_prints_one_json_line_for_each_line_and_a_summary_on_stderr() -> None:
    scenario = lines(confirm(), cancel(), {"at": "2026-03-02T13:00:00-05:00", "query": "order", "order_id": "A-1"})

    status, out, err = returnable("play", "-", given=scenario)

    assert status == 0
    confirmed, declined, answer = (json.loads(line) for line in out.splitlines())
    assert (confirmed["line"], confirmed["outcome"], confirmed["error"]) == (1, "accepted", None)
    assert declined["outcome"] == "declined"
    assert declined["ruling"]["allowed"] is False
    assert answer["answer"]["status"] == "confirmed"
    assert "3 lines: 1 accepted, 1 declined, 0 errors, 1 question answered" in err
    assert "declined by cancellation.window: 1" in err


def test_check_reports_each_unmet_expectation_with_its_line_and_fails() -> None:
    scenario = lines(
        confirm(expect={"outcome": "accepted", "events": ["Confirmed"]}),
        cancel(expect={"outcome": "accepted", "failed": []}),
        {"at": "2026-03-02T13:00:00-05:00", "query": "order", "order_id": "A-1", "expect": {"status": "cancelled"}},
    )

    status, out, _ = returnable("play", "--check", "-", given=scenario)

    assert status == 1
    assert "standard input:2: outcome: expected accepted, came declined (failed: cancellation.window)" in out
    assert "standard input:2: failed: expected none, came cancellation.window" in out
    assert "standard input:3: status: expected 'cancelled', came 'confirmed'" in out
    assert "3 lines, 3 with expectations: 2 lines not as expected" in out


def test_an_unknown_key_in_an_expectation_is_an_error_and_not_a_test_that_always_passes() -> None:
    status, out, _ = returnable("play", "--check", "-", given=lines(confirm(expect={"outcom": "accepted"})))

    assert status == 1
    assert "expect.outcom" in out


def test_check_says_which_error_nothing_expects() -> None:
    status, out, _ = returnable("play", "--check", "-", given=lines(confirm(currency="usd")))

    assert status == 0
    assert out.splitlines() == [
        "standard input:1: error that nothing expects: command.invalid (currency: is not an ISO 4217 currency code)",
        "standard input: 1 line, 0 with expectations: all met; 1 error that nothing expects",
    ]


def test_an_expectation_that_is_a_list_is_named_as_such() -> None:
    status, out, _ = returnable("play", "--check", "-", given=lines(confirm(expect=["accepted"])))

    assert (status, out.splitlines()[0]) == (1, "standard input:1: expect: must be an object")


def test_explain_tells_the_clauses_that_failed_in_words() -> None:
    status, out, _ = returnable("play", "-", "--explain", given=lines(confirm(), cancel()))

    assert status == 0
    assert "FAIL cancellation.window: The request arrived at Mon 2026-03-02 12:00:01 EST; too late" in out
    assert "within 2 hours of having received your order confirmation" in out


def test_a_second_process_answers_from_the_file_what_the_first_one_recorded(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/shop.db"
    in_a_process("play", "-", "--store", store, given=lines(confirm()))

    status, out, _ = in_a_process("order", "A-1", "--store", store, "--json")

    assert status == 0
    assert json.loads(out)["cancel_by"] == "2026-03-02T12:00:00-05:00"


def test_questions_are_answered_for_people_too(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/shop.db"
    returnable("play", "-", "--store", store, given=lines(confirm(), cancel()))

    for arguments, expected in (
        (("order", "A-1"), "confirmed_at"),
        (("eligibility", "A-1"), "cancellation.window"),
        (("worklist",), "notify_customer"),
        (("audit", "order/A-1"), "CancellationDeclined"),
    ):
        status, out, err = returnable(*arguments, RETURNABLE_STORE=store)
        assert (status, err) == (0, "")
        assert expected in out


def test_as_of_and_known_at_look_back(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/shop.db"
    late = {
        "at": "2026-03-04T10:00:00-05:00",
        "command": "record_shipment",
        "order_id": "A-1",
        "parcel_id": "P-1",
        "carrier": "fedex",
        "tracking_number": "T-1",
        "shipped_at": "2026-03-03T09:00:00-05:00",
    }
    returnable("play", "-", "--store", store, given=lines(confirm(), late))

    def status_with(*options: str) -> str:
        return str(json.loads(returnable("order", "A-1", "--store", store, "--json", *options)[1])["status"])

    assert status_with() == "shipped"
    assert status_with("--as-of", "2026-03-03T08:59:59-05:00") == "confirmed"
    assert status_with("--as-of", "2026-03-03T09:00:00-05:00") == "shipped"
    assert status_with("--known-at", "2026-03-04T09:59:59-05:00") == "confirmed"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("order", "nope"), "order_id: there is no order 'nope'"),
        (("order", "A-1", "--as-of", "2026-03-03"), "--as-of: '2026-03-03' is not an RFC 3339 instant"),
        (("audit", "A-1"), "stream: "),
        (("worklist", "--kind", "dance"), "kinds[0]: "),
        (("refund",), "refund_id: exactly one of"),
        (("order",), "Missing argument"),
        (("dance",), "No such command"),
        (("lifecycles", "dance"), "there is no lifecycle 'dance'"),
        (("order", "A-1", "--store", "mysql://x"), "'mysql://x' names no store"),
        (("order", "A-1", "--store", "sqlite:///not/there.db"), "there is no store here"),
        (("policy", "check", "nope.toml"), "nope.toml: cannot be read"),
        (("play", "nope.jsonl"), "nope.jsonl: No such file or directory"),
        (("play", "."), "is a directory"),
        (("play", "x.jsonl", "--check", "--explain"), "exclude each other"),
        (("audit", "refund/F-1"), "must be order/ID, return/ID, claim/ID or arrival/ID"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/shop.db"
    returnable("play", "-", "--store", store, given=lines(confirm()))

    status, out, err = returnable(*arguments, folder=tmp_path, RETURNABLE_STORE=store)

    assert (status, out) == (2, "")
    assert expected in one_line(err)


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (b"", ":1: the scenario is empty"),
        (b"\n \n", ":1: the scenario is empty"),
        (lines(confirm()) + b"not json\n", ":2: not JSON"),
        (lines(confirm()) + b'{"at": "2026-03-02T10:', ":2: not JSON"),
        (lines(confirm()) + b'{"a": "\xff"}\n', ":2: not UTF-8"),
        (lines(confirm()) + b"[1, 2]\n", ":2: not a JSON object"),
        (lines(confirm()) + b'{"at": "x", "at": "y"}\n', ":2: not JSON: the key 'at' appears more than once"),
        (lines(confirm()) + b'{"at": NaN}\n', ":2: not JSON: NaN"),
        (b"\x00\x01\x02", ":1: not JSON"),
    ],
)
def test_a_file_that_is_no_scenario_names_the_line_and_plays_not_even_in_part(
    scenario: bytes, expected: str, tmp_path: Path
) -> None:
    file, store = tmp_path / "case.jsonl", tmp_path / "shop.db"
    file.write_bytes(scenario)

    status, out, err = returnable("play", str(file), "--store", f"sqlite:///{store}")

    assert (status, out) == (2, "")
    assert f"case.jsonl{expected}" in one_line(err)
    assert not store.exists()


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"command": "run_deadlines"}, "at"),
        ({"at": "2026-03-02T10:00:00", "command": "run_deadlines"}, "at"),
        ({"at": 5, "command": "run_deadlines"}, "at"),
        ({"at": AT}, "command"),
        ({"at": AT, "command": "run_deadlines", "query": "worklist"}, "command"),
        ({"at": AT, "command": ["run_deadlines"]}, "command"),
        ({"at": AT, "query": None}, "query"),
        ({"at": AT, "query": "worklist", "kinds": ["dance"]}, "kinds[0]"),
    ],
)
def test_a_line_that_is_no_command_is_an_error_outcome_that_names_the_field(line: dict[str, Any], field: str) -> None:
    _, out, _ = returnable("play", "-", given=lines(line))

    error = json.loads(out)["error"]
    assert (error["code"], error["field"]) == ("command.invalid", field)


def test_the_clock_never_goes_back_within_a_scenario() -> None:
    earlier = {"at": "2026-03-02T09:59:59-05:00", "command": "run_deadlines"}

    _, out, _ = returnable("play", "-", given=lines(confirm(), earlier))

    error = json.loads(out.splitlines()[1])["error"]
    assert (error["code"], error["field"]) == ("command.invalid", "at")


@pytest.mark.parametrize("mode", [(), ("--explain",), ("--check",)])
@pytest.mark.parametrize("key", ["at", "command", "query", "order_id"])
@pytest.mark.parametrize("text", ["\\ud800", "a\\u001b[31m\\n"])
def test_hostile_text_neither_stops_a_scenario_nor_reaches_the_terminal(
    text: str, key: str, mode: tuple[str, ...]
) -> None:
    hostile = {"at": AT, "command": "run_deadlines", key: "HERE"}
    if key == "query":
        del hostile["command"]
    line = json.dumps(hostile).replace("HERE", text).encode() + b"\n"

    status, out, err = returnable("play", "-", *mode, given=line + lines(confirm()))

    assert (status, err.count("unexpected")) == (0, 0)
    assert "\x1b" not in out
    out.encode()
    if not mode:
        first, second = (json.loads(text) for text in out.splitlines())
        assert (first["error"]["code"], second.get("outcome")) == ("command.invalid", "accepted")


def test_a_reader_that_goes_away_is_not_an_unmet_expectation(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(lines(*(confirm(f"A-{number}") for number in range(500))))
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "play", str(file)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(GUARD_SECONDS) == 141


def test_output_that_goes_to_a_file_gets_there_also_while_a_terminal_shows_how_far_it_is(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    file, out = tmp_path / "case.jsonl", tmp_path / "outcomes.jsonl"
    file.write_bytes(lines(confirm(), cancel()))
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "play", str(file)]
    reading, terminal = pty.openpty()

    with out.open("wb") as stdout:
        subprocess.run(command, stdout=stdout, stderr=terminal, check=True, timeout=GUARD_SECONDS)

    os.close(terminal)
    shown = os.read(reading, 100_000)
    os.close(reading)
    assert [json.loads(line)["outcome"] for line in out.read_bytes().splitlines()] == ["accepted", "declined"]
    assert b"outcome" not in shown


def test_a_terminal_that_knows_fewer_characters_still_gets_it_all() -> None:
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "play", "-", "--explain"]
    env = os.environ | {"PYTHONIOENCODING": "ascii"}

    result = subprocess.run(command, input=lines(confirm(), cancel()), capture_output=True, env=env, check=False)

    assert result.returncode == 0
    assert b"within 2 hours" in result.stdout


def test_an_id_is_not_taken_for_money_when_expectations_are_checked() -> None:
    story = lines(confirm("1.00"), {"at": AT, "query": "order", "order_id": "1.00", "expect": {"order_id": "1.0"}})

    status, out, _ = returnable("play", "--check", "-", given=story)

    assert status == 1
    assert "order_id: expected '1.0', came '1.00'" in out


def test_a_process_that_fails_says_so_in_one_line_with_its_exit_status() -> None:
    status, out, err = in_a_process("play", "-", given=b"{")

    assert (status, out) == (2, "")
    assert "standard input:1: not JSON" in one_line(err)


@pytest.mark.parametrize("levels", [100, 100_000])
def test_a_deeply_nested_field_is_named(levels: int) -> None:
    line = json.dumps(confirm()).encode()
    nested = line.replace(b'"currency": "USD"', b'"currency": ' + b"[" * levels + b"]" * levels)

    status, out, _ = returnable("play", "-", given=nested)

    error = json.loads(out)["error"]
    assert (status, error["code"], error["field"]) == (0, "command.invalid", "currency")


def test_a_foreign_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "foreign.db"
    with sqlite3.connect(file) as foreign:
        foreign.execute("CREATE TABLE pets (name TEXT)")
    foreign.close()
    before = file.read_bytes()

    status, _, err = returnable("play", "-", "--store", f"sqlite:///{file}", given=lines(confirm()))

    assert status == 2
    assert "foreign.db" in one_line(err)
    assert file.read_bytes() == before


def test_version_policy_schema_and_lifecycles_say_what_they_are(tmp_path: Path) -> None:
    from returnable import __version__

    assert in_a_process("--version")[1] == f"returnable {__version__}\n"
    assert "cancellation.window" in returnable("policy", "show")[1]
    assert json.loads(returnable("policy", "show", "--json")[1])["id"] == "allu-usa"
    assert "$defs" in json.loads(returnable("schema")[1])
    assert "stateDiagram-v2" in returnable("lifecycles", "return", "--format", "mermaid")[1]
    assert "| labelled" in returnable("lifecycles", "return")[1].lower()


def test_a_policy_of_ones_own_governs_the_orders_confirmed_under_it(tmp_path: Path) -> None:
    bundled = Path(__file__).parents[2] / "domain" / "policies" / "allu-usa.toml"
    own = tmp_path / "own.toml"
    text = bundled.read_text(encoding="utf-8")
    own.write_text(text.replace("hours = 2\n", "hours = 3\n").replace('"2026-01"', '"own"'), encoding="utf-8")
    store = f"sqlite:///{tmp_path}/shop.db"

    status, out, _ = returnable("policy", "check", str(own))
    assert (status, out.startswith("allu-usa own, in force from 2000-01-01: sha256 ")) == (0, True)
    returnable("play", "-", "--store", store, "--policy", str(own), given=lines(confirm()))

    # The policy is kept with the facts: nobody has to name the file again.
    _, out, _ = returnable("play", "-", "--store", store, given=lines(cancel()))
    assert json.loads(out)["outcome"] == "accepted"
    assert json.loads(returnable("order", "A-1", "--store", store, "--json")[1])["policy"]["version"] == "own"


def test_every_command_has_help_with_an_example() -> None:
    _, out, _ = returnable("--help")
    names = [line.split()[0] for line in out.split("Commands:")[1].splitlines() if line.strip()]

    assert set(names) >= COMMANDS.keys()
    for name in COMMANDS:
        status, text, _ = returnable(name, "--help")
        assert status == 0
        assert f"returnable {name}" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_help_of_each_begins_with(name: str) -> None:
    command = app.get_command(click.Context(app), name)

    assert command is not None
    assert (command.help or "").startswith(COMMANDS[name])


def test_listing_the_commands_imports_none_of_them() -> None:
    listing = "import sys; from returnable.adapters.cli.app import run; run(['--help']); print(*sys.modules, sep='\\n')"

    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)

    names = {
        f"returnable.adapters.cli.{name.replace('-', '_')}" for name in (*COMMANDS, "lists", "questions", "options")
    }
    assert not names & set(done.stdout.split())
    assert not {"eventsourcing", "rich", "statemachine"} & set(done.stdout.split())


def test_a_line_may_step_back_in_time_if_it_says_so() -> None:
    late, early = confirm(), {**confirm("A-2"), "at": "2026-03-02T09:00:00-05:00"}

    refused = returnable("play", "-", given=lines(late, early))[1]
    told = returnable(
        "play", "-", given=lines(late, {**early, "steps_back": True}, {**confirm("A-3"), "at": early["at"]})
    )[1]
    wrong = returnable("play", "-", given=lines({**late, "steps_back": "yes"}))[1]

    assert [json.loads(line)["outcome"] for line in refused.splitlines()] == ["accepted", "error"]
    assert [json.loads(line)["outcome"] for line in told.splitlines()] == ["accepted", "accepted", "accepted"]
    assert json.loads(wrong)["error"]["field"] == "steps_back"
