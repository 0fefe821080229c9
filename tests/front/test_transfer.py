"""``export`` and ``import``, run as a person runs them."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import duckdb
import pytest
from patience import GUARD_SECONDS
from usual import an_inspected_return

from returnable.adapters.cli.app import run
from returnable.adapters.wiring import assemble, policy_book
from returnable.domain.events import encode
from returnable.testing import Scenario, a_policy, an_order, declined, request_cancellation, request_refund

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "import"
MORTAL = ROOT / "tests" / "mortal.py"
TABLE, MAPPING = str(EXAMPLE / "webshop.csv"), str(EXAMPLE / "webshop.toml")


def returnable(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(list(arguments))
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with a return that was refunded, and an order that somebody asked to cancel."""
    url = f"sqlite:///{tmp_path}/shop.db"
    story = Scenario(assemble(url)).given(
        an_inspected_return(),
        request_refund(actor={"role": "care", "id": "kim"}),
        an_order("A-2", confirmed="2026-04-01 10:00"),
        declined(request_cancellation("A-2", order_reference="A-2", at="2026-04-01 13:00")),
    )
    story.services.store.close()
    return url


# ---- export ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_is_written_to_a_file_that_duckdb_reads(form: str, store: str, tmp_path: Path) -> None:
    out = tmp_path / f"facts.{form}"

    status, said, err = returnable("export", "--format", form, "--store", store, str(out))

    assert (status, said) == (0, "")
    assert err == (f"returnable: exported 13 events, of a log that ends at position 13, as {form} to {out}\n")
    answer = duckdb.sql(f"SELECT count(*) FROM '{out}'")
    assert answer is not None
    assert answer.fetchall() == [(13,)]


def test_a_dash_writes_to_standard_output_and_says_the_rest_on_stderr(store: str) -> None:
    status, out, err = returnable("export", "--format", "jsonl", "--subject", "return/R-1", "--store", store, "-")

    assert status == 0
    assert [json.loads(line)["stream"] for line in out.splitlines()] == ["return/R-1"] * 7
    assert "exported 7 events" in err


def test_csv_on_standard_output_of_a_process_has_the_line_ends_of_the_rfc(store: str) -> None:
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", "export", "--format", "csv", "--view", "clauses"]

    result = subprocess.run([*command, "--store", store, "-"], capture_output=True, check=True, timeout=GUARD_SECONDS)

    rows = list(csv.DictReader(io.StringIO(result.stdout.decode(), newline="")))
    assert result.stdout.count(b"\r\n") == result.stdout.count(b"\n") == len(rows) + 1
    assert {"cancellation.window", "returns.label_fee"} <= {row["clause"] for row in rows}


def test_a_redacted_scenario_of_one_order_passes_the_check_of_play(store: str, tmp_path: Path) -> None:
    out = tmp_path / "case.jsonl"

    exported = returnable(
        "export", "--format", "scenario", "--subject", "A-1", "--redact", "--store", store, "--json", str(out)
    )
    checked = returnable("play", "--check", str(out))

    summary = json.loads(exported[1])
    assert (summary["cases"], summary["commands"], summary["views"], summary["redacted"]) == (1, 9, 3, True)
    assert "needs the policy allu-usa 2026-01, sha256 " in exported[2]
    assert checked[:2] == (0, f"{out}: 12 lines, 12 with expectations: all met\n")
    assert "kim" not in out.read_text(encoding="utf-8")


def test_a_key_gives_the_same_pseudonyms_in_two_exports_and_no_key_gives_others(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(name: str, *options: str) -> bytes:
        out = tmp_path / name
        assert returnable("export", "--format", "jsonl", "--redact", "--store", store, *options, str(out))[0] == 0
        return out.read_bytes()

    one, two, three = export("1", "--redact-key", "k"), export("2", "--redact-key", "k"), export("3")
    monkeypatch.setenv("RETURNABLE_REDACT_KEY", "k")

    assert one == two == export("4") != three
    assert returnable("export", "--format", "jsonl", "--store", store, str(tmp_path / "5"))[0] == 0


def test_orders_under_another_policy_play_with_the_policies_that_were_written(tmp_path: Path) -> None:
    url, out, folder = f"sqlite:///{tmp_path}/shop.db", tmp_path / "case.jsonl", tmp_path / "policies"
    story = Scenario(assemble(url, policy_book(a_policy({"cancellation.window": {"hours": 5}})))).given(
        an_order(), request_cancellation(at="2026-03-02 14:00")
    )
    story.services.store.close()

    warned = returnable("export", "--format", "scenario", "--store", url, str(out))
    returnable("export", "--format", "scenario", "--store", url, "--force", "--policies", str(folder), str(out))

    assert "does not play under the bundled policy: --policies DIR" in warned[2]
    assert returnable("play", "--check", str(out))[0] == 1
    assert returnable("play", "--check", "--policy", str(folder), str(out))[0] == 0


def test_a_log_that_steps_back_in_time_is_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    story = Scenario(assemble(url)).given(
        an_order("A-2", confirmed="2026-04-01 10:00"), an_order(confirmed="2026-03-01 10:00")
    )
    story.services.store.close()

    _, out, err = returnable("export", "--format", "scenario", "--store", url, "-")

    assert "the clock of the log steps back 1 time; those lines are marked" in err
    assert [json.loads(line)["order_id"] for line in out.splitlines()] == ["A-2", "A-1", "A-1", "A-2"]


def test_an_existing_file_is_overwritten_only_by_force_and_nothing_is_left_half_written(
    store: str, tmp_path: Path
) -> None:
    out = tmp_path / "facts.jsonl"
    out.write_text("mine", encoding="utf-8")

    refused = returnable("export", "--format", "jsonl", "--store", store, str(out))
    forced = returnable("export", "--format", "jsonl", "--store", store, "--force", str(out))

    assert refused == (2, "", f"returnable: {out}: exists already; --force overwrites it\n")
    assert forced[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir() if ".part" in path.name) == []
    assert len(out.read_text(encoding="utf-8").splitlines()) == 13


OF_THE_STORE = [f"shop{name}.db{ending}" for name in ("", "-views") for ending in ("", "-wal", "-shm", "-journal")]


@pytest.mark.parametrize("name", OF_THE_STORE)
def test_an_export_never_takes_the_place_of_a_file_of_its_store(name: str, store: str, tmp_path: Path) -> None:
    out = tmp_path / name
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    status, said, err = returnable("export", "--format", "jsonl", "--store", store, "--force", str(out))

    assert (status, said, err) == (2, "", f"returnable: {out}: would overwrite a file of the store\n")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_of_the_store_is_known_by_every_name_it_has(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.db").symlink_to("shop.db")
    (tmp_path / "hard.db").hardlink_to("shop.db")
    through_link = f"sqlite:///{tmp_path}/link.db"

    came = [
        returnable("export", "--format", "jsonl", "--force", "--store", url, out)
        for url, out in [
            (store, "shop.db"),
            (store, "sub/../shop.db"),
            (store, "link.db"),
            (store, "hard.db"),
            (through_link, "shop.db"),
            (through_link, "shop.db-wal"),
            ("sqlite:///sh%6Fp.db", "shop.db"),
        ]
    ]

    assert {(status, err.partition(": would ")[2]) for status, _, err in came} == {
        (2, "overwrite a file of the store\n")
    }
    assert (tmp_path / "link.db").is_symlink()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--format", "parquet", "-"), "parquet cannot be written to standard output"),
        (("--format", "scenario", "--view", "facts", "-"), "--view is for jsonl, csv and parquet"),
        (("--format", "csv", "--no-views", "-"), "--no-views and --policies need --format scenario"),
        (("--format", "csv", "--redact-key", "k", "-"), "--redact-key needs --redact"),
        (("--format", "csv", "--redact", "--redact-key", "", "-"), "--redact-key: is empty"),
        (("--format", "csv", "--subject", "R-9", "-"), "there is no order, return, claim, refund or arrival 'R-9'"),
        (("--format", "csv", "--from", "March", "-"), "--from: 'March' is not an RFC 3339 instant"),
        (("--format", "csv", "--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z", "-"), "must be before"),
        (("--format", "xml", "-"), "'xml' is not one of"),
    ],
)
def test_what_cannot_be_exported_is_one_line(options: tuple[str, ...], reason: str, store: str) -> None:
    status, out, err = returnable("export", "--store", store, *options)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert reason in err


def test_a_store_that_does_not_exist_is_not_made_by_an_export(tmp_path: Path) -> None:
    status, _, err = returnable("export", "--format", "csv", "--store", f"sqlite:///{tmp_path}/no.db", "-")

    assert (status, list(tmp_path.iterdir())) == (2, [])
    assert "there is no store here" in err


def test_both_commands_help_with_an_example() -> None:
    assert "returnable export --format parquet facts.parquet" in returnable("export", "--help")[1]
    assert "returnable import orders.csv --mapping shop.toml" in returnable("import", "--help")[1]


# ---- import ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_happen_and_makes_no_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"

    status, out, err = returnable("import", TABLE, "--mapping", MAPPING, "--store", url, "--dry-run")

    assert status == 1
    assert out.startswith("7 rows, 6 orders: 3 would be imported, 0 already imported, 1 left out")
    assert "refused for money.mismatch payments: 1" in out
    assert "row 7, order 1005: confirm_order: confirmed_at: column 'Paid at': '2026-02-30 07:45' is not" in err
    assert list(tmp_path.iterdir()) == []


def test_an_import_reports_what_it_refused_and_does_nothing_twice(tmp_path: Path) -> None:
    url, report = f"sqlite:///{tmp_path}/shop.db", tmp_path / "refused.csv"
    options = ("--mapping", MAPPING, "--store", url, "--json", "--report", str(report), "--force")

    first, tried, again = (
        returnable("import", TABLE, *options),
        returnable("import", TABLE, *options, "--dry-run"),
        returnable("import", TABLE, *options),
    )

    summaries = [json.loads(out) for _, out, _ in (first, tried, again)]
    assert [summary["facts"] for summary in summaries] == [13, 0, 0]
    assert [(s["imported"], s["already"], s["refused"]) for s in summaries] == [(3, 0, 2), (0, 3, 2), (0, 3, 2)]
    with report.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["order_id"], row["command"], row["field"]) for row in rows] == [
        ("6", "1004", "confirm_order", "payments"),
        ("7", "1005", "confirm_order", "confirmed_at"),
    ]
    assert (first[0], first[2]) == (1, "")


def test_a_report_may_be_json_lines_and_an_import_without_refusals_succeeds(tmp_path: Path) -> None:
    url, report, table = f"sqlite:///{tmp_path}/shop.db", tmp_path / "refused.jsonl", tmp_path / "good.csv"
    rows = (EXAMPLE / "webshop.csv").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(rows[:4]), encoding="utf-8")

    good = returnable("import", str(table), "--mapping", MAPPING, "--store", url, "--report", str(report))
    empty = report.read_text(encoding="utf-8")
    bad = returnable("import", TABLE, "--mapping", MAPPING, "--store", url, "--report", str(report), "--force")

    assert (good[0], empty) == (0, "")
    assert bad[0] == 1
    assert [json.loads(line)["row"] for line in report.read_text(encoding="utf-8").splitlines()] == [6, 7]


def test_an_import_uses_the_policy_that_is_given(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    policy = str(ROOT / "examples" / "policies" / "lindenhof.policy.toml")

    returnable("import", TABLE, "--mapping", MAPPING, "--store", url, "--policy", policy)

    order = json.loads(returnable("order", "1002", "--store", url, "--json")[1])
    assert order["policy"]["id"] == "lindenhof"


@pytest.mark.parametrize(
    ("table", "mapping", "reason"),
    [
        ("none.csv", MAPPING, "none.csv: No such file or directory"),
        (TABLE, "none.toml", "none.toml: cannot be read"),
        (TABLE, TABLE, "not TOML"),
        (str(ROOT / "examples" / "README.md"), MAPPING, "has no column"),
    ],
)
def test_what_cannot_be_imported_at_all_is_one_line(table: str, mapping: str, reason: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"

    status, out, err = returnable("import", table, "--mapping", mapping, "--store", url)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert reason in err


@pytest.mark.parametrize("there", [True, False], ids=["a store that is there", "a store to be made"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("orders.csv", "the table itself"),
        ("shop.toml", "the mapping itself"),
        *((name, "a file of the store") for name in OF_THE_STORE),
    ],
)
def test_a_report_takes_the_place_of_nothing_that_the_import_needs(
    name: str, what: str, there: bool, tmp_path: Path
) -> None:
    table, mapping, url = tmp_path / "orders.csv", tmp_path / "shop.toml", f"sqlite:///{tmp_path}/shop.db"
    table.write_bytes(Path(TABLE).read_bytes())
    mapping.write_bytes(Path(MAPPING).read_bytes())
    if there:
        returnable("import", str(table), "--mapping", str(mapping), "--store", url)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    came = [
        returnable(
            "import", str(table), "--mapping", str(mapping), "--store", url, "--report", str(tmp_path / name), *more
        )
        for more in ((), ("--force",), ("--dry-run",))
    ]

    assert came == [(2, "", f"returnable: {tmp_path / name}: would overwrite {what}\n")] * 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_report_that_exists_is_overwritten_only_by_force_and_nothing_is_imported_without(tmp_path: Path) -> None:
    url, report = f"sqlite:///{tmp_path}/shop.db", tmp_path / "refused.csv"
    report.write_text("mine", encoding="utf-8")
    options = ("--mapping", MAPPING, "--store", url, "--report", str(report))

    refused = returnable("import", TABLE, *options)
    kept, made = report.read_text(encoding="utf-8"), (tmp_path / "shop.db").exists()
    forced = returnable("import", TABLE, *options, "--force")

    assert refused == (2, "", f"returnable: {report}: exists already; --force overwrites it\n")
    assert (kept, made) == ("mine", False)
    assert forced[0] == 1
    assert report.read_text(encoding="utf-8").startswith("row,order_id")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--force",), "--force needs --report"),
        (("--report", "-"), "--report: the summary goes to standard output; name a file"),
        (("--report", "."), ".: is a directory"),
        (("--report", "no/such.csv"), "no: there is no such directory"),
    ],
)
def test_a_report_that_cannot_be_written_is_one_line(options: tuple[str, ...], reason: str) -> None:
    came = returnable("import", TABLE, "--mapping", MAPPING, "--store", "memory:", *options)

    assert came[:2] == (2, "")
    assert came[2].startswith(f"returnable: {reason}")


def test_one_is_not_said_as_many(tmp_path: Path) -> None:
    table, url, out = tmp_path / "orders.csv", f"sqlite:///{tmp_path}/shop.db", str(tmp_path / "case.jsonl")
    rows = (EXAMPLE / "webshop.csv").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([rows[0], rows[6].replace("2026-02-30", "2026-02-20")]), encoding="utf-8")

    imported = returnable("import", str(table), "--mapping", MAPPING, "--store", url)
    scenario = returnable("export", "--format", "scenario", "--store", url, out)
    events = returnable("export", "--format", "jsonl", "--store", url, str(tmp_path / "facts.jsonl"))
    Path(out).write_text(Path(out).read_text(encoding="utf-8").splitlines()[0].replace("accepted", "declined") + "\n")
    checked = returnable("play", "--check", out)
    played = returnable("play", out)

    assert imported[1].startswith("1 row, 1 order: 1 imported,")
    assert "exported 1 command and 1 view of 1 case (1 event), of a log" in scenario[2]
    assert "exported 1 event, of a log" in events[2]
    assert checked[1].endswith("1 line, 1 with expectations: 1 line not as expected\n")
    assert played[2].startswith("1 line: 1 accepted, 0 declined, 0 errors, 0 questions answered; 1 event recorded\n")
    assert "expectations: 1 line, 1 not met" in played[2]


def test_hostile_cells_do_not_reach_the_terminal(tmp_path: Path) -> None:
    table = tmp_path / "orders.csv"
    rows = (EXAMPLE / "webshop.csv").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([rows[0], rows[3].replace("bob@shop.example", "bob\x1b[31m")]), encoding="utf-8")

    status, out, err = returnable("import", str(table), "--mapping", MAPPING, "--store", "memory:")

    assert status == 1
    assert "\x1b" not in out + err
    assert "customer.email: must not contain control characters" in err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
def test_an_import_that_is_killed_and_run_again_leaves_the_same_store(tmp_path: Path) -> None:
    table = tmp_path / "orders.csv"
    header, *rows = (EXAMPLE / "webshop.csv").read_text(encoding="utf-8").splitlines()
    many = [row.replace("#100", f"#{n}00").replace("RMA-1", f"RMA-{n}") for n in range(1, 36) for row in rows[:3]]
    table.write_text("\n".join([header, *many]), encoding="utf-8")
    killed, whole = tmp_path / "killed.db", tmp_path / "whole.db"
    options = ("import", str(table), "--mapping", MAPPING)

    command = [sys.executable, str(MORTAL), "after", "20", *options, "--store", f"sqlite:///{killed}"]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    before = recorded(killed)
    resumed = returnable(*options, "--store", f"sqlite:///{killed}")
    returnable(*options, "--store", f"sqlite:///{whole}")
    third = json.loads(returnable(*options, "--store", f"sqlite:///{killed}", "--json")[1])

    assert ended.returncode == -signal.SIGKILL
    assert 20 <= before < recorded(killed)
    assert resumed[0] == 0
    assert timeless(killed) == timeless(whole)
    assert (third["facts"], third["imported"], third["already"]) == (0, 0, 70)


def recorded(path: Path) -> int:
    """How many facts a file holds; 0 while it is being made."""
    import sqlite3
    from contextlib import closing

    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            count: int = connection.execute("SELECT count(*) FROM facts").fetchone()[0]
            return count
    except sqlite3.OperationalError:
        return 0


def timeless(path: Path) -> list[tuple[str, list[tuple[str, object]]]]:
    """Every case with its facts, without the time at which they were recorded, and decided."""
    services = assemble(f"sqlite:///{path}")
    found = []
    for case_id, events in services.store.cases():
        content = [(encode(e.event)[0], json.loads(encode(e.event)[1])) for e in events]
        for kind, values in content:
            values.pop("recorded_at")
            if kind.startswith("return.ReturnAuthorized"):
                values.pop("occurred_at")
        found.append((case_id, content))
    services.store.close()
    return found
