"""The guide for services: its code runs, what it quotes of the examples stands there, and its tables are true."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import get_args

import psycopg
import pytest
from postgres import database_url, fresh_store_url, sql, with_parameters

import returnable
from bench.speed.services import with_labels_long_void
from returnable.adapters.http_status import http_status
from returnable.domain.errors import ErrorCode, Impossible

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"
URL = "postgresql://returns@db.example/shop"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_guide_runs_one_after_another_on_a_store() -> None:
    store = fresh_store_url()
    runs = [code for code in blocks("python") if code.startswith("import")]
    assert len(runs) == 8

    for code in runs:
        for given in (f'"{URL}"', "url"):  # to libpq the schema of the store means nothing
            code = code.replace(f"ConnectionPool({given},", f'ConnectionPool("{database_url()}",')
        exec(compile(code.replace(URL, store), "services.md", "exec"), {})

    with returnable.open(store) as desk:
        assert desk.refund(refund_id="F-1").total == "480.00"


def test_what_the_guide_shows_of_the_examples_stands_there() -> None:
    whole = "\n".join(path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.rglob("*.py")))
    shown = [code for code in blocks("python") if not code.startswith("import")]
    assert len(shown) == 4

    for code in shown:
        assert code in whole, textwrap.shorten(code, 80)


def test_errors_have_the_status_that_the_guide_says_in_both_examples() -> None:
    rows = [row.split(" | ") for row in re.findall(r"^\| `Impossible`, (.*) \|$", PAGE, re.MULTILINE)]
    told = {code: row[1].strip() for row in rows for code in re.findall(r"`([a-z.]+_?[a-z]*)`", row[0])}
    codes: tuple[ErrorCode, ...] = get_args(ErrorCode)

    assert {code: str(http_status(Impossible(code, "no")).value) for code in codes} == dict.fromkeys(
        codes, "422"
    ) | told
    assert [row[1].strip() for row in rows if row[0] == "every other code"] == ["422"]
    for answers in ("fastapi_service/returns_api/answers.py", "django_service/shop/answers.py"):
        assert "problem(http_status(error), error.code" in (EXAMPLES / answers).read_text(encoding="utf-8")


def test_the_privileges_of_the_guide_are_enough_and_no_fact_can_be_changed_with_them() -> None:
    store = fresh_store_url()
    schema = store.rsplit("schema=", 1)[1]
    role = f"role_{schema}"
    sql(f"CREATE ROLE {role} LOGIN")
    grants, books = blocks("sql")
    try:
        sql(
            grants.replace("SCHEMA returnable", f"SCHEMA {schema}")
            .replace("returnable.", f"{schema}.")
            .replace("TO returns", f"TO {role}")
        )
        sql(books.replace("returnable.", f"{schema}.").replace("TO returns", f"TO {role}"))
        as_role = with_parameters(store, options=f"-crole%3D{role}")
        with_labels_long_void(as_role, range(4))
        with returnable.open(as_role) as desk:
            assert desk.deadline_worker().work() == 4
            with_labels_long_void(as_role, range(4, 6))
            assert len(desk.run_deadlines().events) == 2
            assert desk.redecide() == ()
        for statement in (f"UPDATE {schema}.facts SET version = 2", f"DELETE FROM {schema}.facts"):
            with psycopg.connect(database_url()) as connection:
                connection.execute(f"SET ROLE {role}".encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
    finally:
        sql(f"DROP OWNED BY {role}")
        sql(f"DROP ROLE {role}")


def test_the_defaults_of_the_guide_are_those_of_the_code() -> None:
    from returnable.adapters.eventstore.postgres_connections import Limits

    limits = Limits()

    assert f"| Connections of a process, at most | `connections=` | {limits.connections} |" in PAGE
    assert f"{limits.busy_seconds:g} s for other writers" in PAGE
    assert f"{limits.statement_seconds:g} s for one statement" in PAGE
    assert f"{limits.patience_seconds:g} s for a server that was lost" in PAGE
