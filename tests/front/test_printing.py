"""Nothing that somebody gave reaches a terminal as it is, whatever command prints it."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from story import TOKEN, history, retold, token
from terminal import returnable

from returnable import open as opened
from returnable.adapters.cli.app import app, run
from returnable.adapters.operating.logs import log_to_stderr
from returnable.adapters.printable import identifier, json_text, printable, visible, visible_id
from returnable.adapters.wiring import assemble
from returnable.domain.characters import look_alikes
from returnable.domain.events import ArrivalRecorded
from returnable.domain.ports import Batch, Entry, ReservedId
from returnable.testing import Scenario, a_policy, an_order

STEERING = "".join(map(chr, (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))
DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UNSEEN = "\u00ad\u034f\u115f\u1160\u17b4\u180e\u200b\u200c\u200d\u2060\u2800\u3164"
UNSEEN += "\ufe0e\ufe0f\ufeff\uffa0\U000e0041\U000e0100"
MARKS = STEERING + DIRECTION + UNSEEN
RAW = re.compile(f"[{re.escape(MARKS)}\ud800-\udfff]")
SEQUENCES = "x\x1b[2J\x1b]8;;http://a.example\x07\x1b]52;c;QQ==\x07\x9b31m\x08\x08y"
SPOILT = SEQUENCES + "".join(f"a{mark}" for mark in MARKS)
"""A text with everything that must not reach a terminal; a mark behind an ``a`` belongs to no writing."""


SUBJECTS = ("order", "return", "claim", "refund")


def spoil(text: str) -> str:
    """The text, and what must not be seen in it."""
    return f"{text}{SPOILT}"


def spoil_id(text: str) -> str:
    """An id as it may be asked for: an earlier store may hold every one of these."""
    return text + "".join(f"a{mark}" for mark in UNSEEN)


def spoil_name(text: str) -> str:
    """A text of at most 128 characters."""
    return f"{text}{SEQUENCES}{DIRECTION}{UNSEEN}"


EXAMPLE = Path(__file__).parents[2] / "examples" / "import"


# ---- a world full of them --------------------------------------------------------------------------------------------


def spoilt_story(folder: Path) -> tuple[str, dict[str, str]]:
    """A store whose every text is spoilt, and what each token of the story became."""
    url = f"sqlite:///{folder}/shop.db"
    tokens = sorted({found for entry in history()[1] for found in TOKEN.findall(f"{entry.stream} {entry.event!r}")})
    subjects = {token(name) for name in SUBJECTS}
    texts = {one: spoil_id(one) if one in subjects else spoil(one) for one in tokens}
    services = assemble(url)
    events = retold(texts)
    names = [ReservedId(kind, texts[token(kind)], events[0].case_id) for kind in ("return", "claim", "refund")]
    entries = tuple(Entry(each.stream, each.version, each.event) for each in events)
    services.store.append([Batch(events[0].case_id, 0, entries)], reserved_ids=names)
    case_id = events[0].case_id
    texts["arrival"] = spoil_id("arrival")
    stream = f"arrival/{texts['arrival']}"
    arrival = ArrivalRecorded(
        occurred_at=events[0].event.occurred_at,
        recorded_at=events[0].event.recorded_at,
        arrival_id=texts["arrival"],
        carrier=spoil("post"),
        tracking_number=spoil("T-1"),
        order_reference=case_id,
        notes=spoil("A red box."),
        pins=events[0].event.pins,
    )
    reserved = [ReservedId("arrival", texts["arrival"], stream)]
    services.store.append([Batch(stream, 0, (Entry(stream, 1, arrival),))], reserved_ids=reserved)
    services.store.close()
    return url, texts | {"case": case_id}


def spoilt_policy(folder: Path) -> str:
    """A policy file whose every text is spoilt."""
    content = json.loads(a_policy({"returns.window": {"days": 30}}, version="2").document)
    content |= {"id": spoil_name(content["id"]), "version": spoil_name("2"), "source": spoil(content["source"])}
    for clause in content["clauses"].values():
        clause["quote"], clause["reading"] = spoil(clause["quote"]), spoil(clause["reading"])
        for name, value in clause.items():
            if name == "channels":
                clause[name] = [*value, spoil("pigeon")]
    file = folder / "spoilt.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


def spoilt_scenario(folder: Path) -> str:
    """A scenario of which every line says something that must not be seen."""
    order = {"command": "confirm_order", "order_id": spoil("A-1"), "currency": spoil("USD")}
    lines: list[dict[str, Any]] = [
        {"at": "2026-03-02T10:00:00-05:00", **order},
        {"at": "2026-03-02T10:00:00-05:00", "command": spoil("cancel")},
        {
            "at": "2026-03-02T10:00:00-05:00",
            "query": "order",
            "order_id": spoil("A-1"),
            "expect": {"status": spoil("x")},
        },
        {"at": "2026-03-02T10:00:00-05:00", spoil("key"): 1},
        {"at": spoil("now")},
    ]
    file = folder / f"case{SEQUENCES.replace('/', '')}.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return str(file)


@cache
def world() -> dict[str, str]:
    """What commands are given, by name."""
    folder = Path(mkdtemp())
    url, texts = spoilt_story(folder)
    named = {name: texts[token(name)] for name in SUBJECTS} | {"arrival": texts["arrival"]}
    table = folder / "orders.csv"
    table.write_text((EXAMPLE / "webshop.csv").read_text().replace("1001", spoil("1001")), encoding="utf-8")
    absent = spoil(str(folder / "no")).replace("\0", "").replace("/a.example", "")
    return {
        "url": url,
        "folder": str(folder),
        "policy": spoilt_policy(folder),
        "scenario": spoilt_scenario(folder),
        "orders": str(table),
        "mapping": str(EXAMPLE / "webshop.toml"),
        "absent": absent,
        "spoilt": spoil("x"),
        "unknown": spoil_id("x"),
        **named,
    }


STORED = "--store {url}"
CALLS: dict[str, list[str]] = {
    "order": ["order {order}", "order {order} --json", "order {spoilt}", "order {unknown}"],
    "return": ["return {return}", "return {return} --json", "return {spoilt}", "return {unknown}"],
    "claim": ["claim {claim}", "claim {claim} --json", "claim {spoilt}", "claim {unknown}"],
    "refund": [
        "refund {refund}",
        "refund {refund} --json",
        "refund --return {return}",
        "refund {spoilt}",
        "refund {unknown}",
    ],
    "arrival": ["arrival {arrival}", "arrival {arrival} --json", "arrival {spoilt}", "arrival {unknown}"],
    "eligibility": [
        "eligibility {order}",
        "eligibility {order} --json",
        "eligibility {spoilt}",
        "eligibility {unknown}",
    ],
    "audit": ["audit order/{order}", "audit return/{return} --json", "audit {spoilt}", "audit order/{unknown}"],
    "bulk": ["bulk {absent} --command-id {spoilt}"],
    "worklist": ["worklist", "worklist --json", "worklist --kind {spoilt}"],
    "why": ["why {return}", "why {return} --json", "why order/{order}#7", "why {spoilt}", "why {unknown}"],
    "replay": ["replay order/{order}", "replay {return} --json", "replay {spoilt}", "replay {unknown}"],
    "edges": ["edges order/{order}", "edges order/{order} --json", "edges {spoilt}", "edges {unknown}"],
    "redecide": ["redecide", "redecide --json", "redecide {spoilt}", "redecide {unknown}"],
    "what-if": [
        "what-if --policy {policy} --flips",
        "what-if --policy {policy} --flips --json",
        "what-if --policy {absent}",
    ],
    "backup": ["backup {absent}/x.db", "backup {spoilt} --force"],
    "restore": ["restore {absent}", "restore {spoilt}"],
    "verify": ["verify", "verify --json"],
    "report": [
        *(f"report {{{kind}}} --format {form} -" for kind in ("order", "return") for form in ("html", "text", "json")),
        "report {spoilt}",
        "report {order} {absent}/x.html",
    ],
    "record": ["record {order} {absent}.scenario.jsonl", "record {spoilt}", "record {order} {absent}/x.scenario.jsonl"],
    "export": [
        *(f"export --format {form} -" for form in ("jsonl", "csv", "scenario")),
        "export --format csv --view clauses -",
        "export --format csv --subject {spoilt} -",
        "export --format csv {absent}/x.csv",
    ],
    "import": [
        "import {orders} --mapping {mapping} --dry-run",
        "import {orders} --mapping {mapping} --dry-run --json",
        "import {absent} --mapping {mapping} --dry-run",
        "import {orders} --mapping {absent} --dry-run",
    ],
    "project": ["project --views sqlite:///{folder}/views.db", "project --status", "project --rebuild {spoilt}"],
    **{
        name: [name, f"{name} --json", f"{name} --as-of {{spoilt}}"]
        for name in ("orders", "returns", "refunds", "claims", "ledger", "statistics")
    },
    "publish": [
        "publish --to stdout: --once",
        "publish --to stdout: --once --name {spoilt}",
        "publish --to {spoilt}",
        "publish --status",
    ],
    "worker": ["worker --once", "worker --once --log-format json", "worker --health {spoilt}", "worker --status"],
    "migrate": ["migrate", "migrate --store {spoilt}"],
    "play": [
        "play {scenario}",
        "play {scenario} --explain",
        "play {scenario} --check",
        "play --check {folder}",
        "play {absent}",
        "play {scenario} --policy {policy} --explain",
        "play {scenario} --policy {absent}",
    ],
    "policy show": [
        "policy show --policy {policy}",
        "policy show --policy {policy} --json",
        "policy show --policy {absent}",
    ],
    "policy check": ["policy check {policy}", "policy check {absent}"],
    "schema": ["schema", "schema {spoilt}"],
    "lifecycles": ["lifecycles", "lifecycles --format mermaid", "lifecycles {spoilt}"],
}
NO_STORE = ("play", "policy", "schema", "lifecycles")


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    """The name of every command that there is."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def arguments_of(call: str) -> list[str]:
    """The call with what the world has."""
    shown = [argument.format(**world()) for argument in call.split()]
    stored = call.split()[0] not in NO_STORE and "--store" not in call
    return [*shown, *(["--store", world()["url"]] if stored else [])]


def test_every_command_is_called_below() -> None:
    assert sorted(CALLS) == sorted(commands(app))


@pytest.mark.parametrize("call", [call for calls in CALLS.values() for call in calls])
def test_no_command_prints_what_would_steer_a_terminal_or_deceive(call: str) -> None:
    status, out, err = returnable(*arguments_of(call))

    assert status in (0, 1, 2), err
    assert "RETURNABLE_DEBUG" not in err
    assert out + err
    assert not RAW.findall(out.replace("\r\n", "\n") if "csv" in call else out)
    assert not RAW.findall(err)
    if "--json" in call and status != 2:
        for document in [out] if out.startswith("{\n") else out.splitlines():
            json.loads(document)


@pytest.mark.parametrize(
    "call",
    [
        "order {order}",
        "why {return}",
        "audit order/{order}",
        "policy show --policy {policy}",
        "play {scenario} --explain",
        "redecide",
        "what-if --policy {policy} --flips",
        "export --format csv {folder}/facts.csv --force",
    ],
)
def test_on_a_terminal_only_our_own_styles_steer_it(call: str) -> None:
    seen = on_a_terminal(*arguments_of(call))

    assert seen
    assert "\x1b[2J" not in seen
    without_ours = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", seen).replace("\r", "")
    assert not RAW.findall(without_ours)


def on_a_terminal(*arguments: str) -> str:
    """What a terminal is sent, on stdout and stderr."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", *arguments]
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200", "NO_COLOR": ""}
    received = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        try:
            while part := os.read(ours, 65536):
                received += part
        except OSError:  # the other end is closed
            pass
        process.wait()
    os.close(ours)
    return received.decode("utf-8", "surrogateescape")


FORGED = "too small\nFORGED 1\r\nFORGED 2\rFORGED 3\u2028FORGED 4\u2029FORGED 5"


@pytest.mark.parametrize(
    "call",
    [
        "order A-1",
        "return R-1",
        "eligibility A-1",
        "audit order/A-1",
        "audit return/R-1",
        "why R-1",
        "replay order/A-1",
        "report A-1 --format text -",
        "export --format csv -",
        "redecide",
    ],
)
def test_a_line_break_in_a_text_begins_no_line_of_ours(call: str) -> None:
    seen = returnable(*call.split(), "--store", forging_shop())[1]

    assert seen
    assert not [line for line in re.split(r"[\n\r\u2028\u2029]", seen) if line.strip(" │|*>-").startswith("FORGED")]


@cache
def forging_shop() -> str:
    """A store where every free text has several lines."""
    url = f"sqlite:///{mkdtemp()}/shop.db"
    line = {"line_id": "1", "sku": "BAG", "unit_price": "10.00", "quantity": 2, "description": FORGED}
    with opened(url, policy="allu-usa", clock=lambda: datetime(2026, 3, 2, 15, tzinfo=UTC)) as desk:
        for command in (
            {"command": "confirm_order", "order_id": "A-1", "currency": "USD", "lines": [line]}
            | {"customer": {"customer_id": "c", "account_id": "a"}}
            | {"payments": [{"payment_id": "p", "method": "card", "amount": "20.00"}]},
            {"command": "record_shipment", "order_id": "A-1", "parcel_id": "1", "carrier": "x", "tracking_number": "t"},
            {"command": "record_delivery", "order_id": "A-1", "parcel_id": "1"},
            {"command": "override", "subject": {"kind": "order", "id": "A-1"}, "clause": "returns.window"}
            | {"reason": FORGED, "approved_by": "boss"},
            {"command": "request_return", "return_id": "R-1", "order_id": "A-1", "channel": "portal"}
            | {"lines": [{"line_id": "1", "quantity": 1, "reason": FORGED}]},
            {"command": "notify_customer", "subject": {"kind": "order", "id": "A-1"}, "notice": FORGED},
        ):
            desk.handle(command)
    return url


# ---- the one door ----------------------------------------------------------------------------------------------------


def by_print() -> None:
    print(SPOILT)


def by_click() -> None:
    click.echo(SPOILT)
    click.echo(SPOILT, err=True)
    click.secho(SPOILT, err=True)


def by_bytes() -> None:
    click.echo(SPOILT.encode())
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is not None:
        buffer.write(SPOILT.encode())


def by_streams() -> None:
    sys.stdout.writelines([SPOILT, SPOILT])
    sys.stderr.write(SPOILT)


def by_tables() -> None:
    from rich.table import Table
    from rich.text import Text

    from returnable.adapters.cli.console import console_for_output

    table = Table(title=SPOILT)
    table.add_column(SPOILT)
    table.add_row(SPOILT)
    console = console_for_output()
    console.print(table, Text(SPOILT), SPOILT)
    console.out(SPOILT)


def by_log() -> None:
    for form in ("text", "json"):
        log_to_stderr(form)
        logging.getLogger("returnable.new").warning(SPOILT, extra={"order": SPOILT})


def by_an_error() -> None:
    raise click.UsageError(SPOILT)


def by_a_crash() -> None:
    raise RuntimeError(SPOILT)


@pytest.mark.parametrize(
    "printing", [by_print, by_click, by_bytes, by_streams, by_tables, by_log, by_an_error, by_a_crash]
)
def test_a_new_command_cannot_go_around_it(
    printing: Callable[[], None], capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("returnable")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", log.propagate)
    monkeypatch.setitem(app.commands, "new", click.Command("new", callback=printing))

    run(["new"])
    sys.stdout.flush()
    sys.stderr.flush()

    written = b"".join(capfdbinary.readouterr()).decode()
    assert written
    assert not RAW.findall(written)


def test_the_streams_are_what_they_were_when_the_command_has_ended() -> None:
    before = sys.stdout, sys.stderr

    run(["policy", "check", "no such file"])

    assert (sys.stdout, sys.stderr) == before


# ---- what stays readable ---------------------------------------------------------------------------------------------

READABLE = [
    "Zoë Ångström, naïve café, Việt Nam",
    "e\u0301 a\u0308 o\u0302\u0301",
    "שלום עולם, בְּרֵאשִׁית",
    "مرحبا بالعالم",
    "می\u200cخواهم",
    "क्\u200dष ക്\u200d শ্\u200cব",
    "ภาษาไทย မြန်မာ ខ្មែរ",
    "日本語 한국어 葛\U000e0100城 〇\u3000東京",
    "❤\ufe0f ☎\ufe0f 1\ufe0f\u20e3 ©\ufe0f ✌🏽",
    "👩\u200d👩\u200d👧 👩🏽\u200d💻 🏳\ufe0f\u200d🌈 🕵🏽\u200d♂\ufe0f 🇯🇵",
    "12\u00a0000\u202f€",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f ok",
    "\U0001fae8 \U0001fae9\u200d\U0001faef",
    "\u0378\U0001ecff",
]


@pytest.mark.parametrize("text", READABLE)
def test_what_a_script_or_an_emoji_needs_stays(text: str) -> None:
    assert printable(text) == text
    assert visible(text) == text


@pytest.mark.parametrize("text", ["❤\ufe0f", "می\u200cخواهم", "a\u00a0b", "👩\u200d👧", "葛\U000e0100"])
def test_in_an_id_everything_unseen_is_spelt_out(text: str) -> None:
    assert not RAW.findall(identifier(text).replace("\u00a0", "\u200b"))
    assert identifier(text) != text
    assert visible_id(text) != text


@pytest.mark.parametrize("mark", MARKS)
def test_every_mark_is_spelt_out_where_no_writing_needs_it(mark: str) -> None:
    assert not RAW.findall(printable(f"a{mark}b") + visible(f"a{mark}b") + printable(mark) + identifier(f"a{mark}b"))


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(MARKS)))
def test_json_says_the_same_after_it_and_a_second_time_changes_nothing(text: str) -> None:
    document = json.dumps({text: [text]}, ensure_ascii=False)

    assert json.loads(json_text(document)) == {text: [text]}
    assert json.loads(printable(document)) == {text: [text]}
    assert printable(printable(text)) == printable(text)
    assert identifier(identifier(text)) == identifier(text)


# ---- ids that look alike ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", ["A-1\u3164", "A\ufe0f-1", "A-\u200b1", "Ａ-1", "A-1\u2800", "A\u034f-1", "A-1 ", "\U000e0041A-1"]
)
def test_ids_that_look_the_same_are_found(other: str) -> None:
    assert look_alikes(["A-1", other, "A-2"]) == [sorted(["A-1", other])]


def test_ids_that_look_different_are_not() -> None:
    assert look_alikes(["A-1", "a-1", "A-10", "A 1", "À-1", "A-1", ""]) == []


def test_a_report_and_a_view_point_out_ids_that_look_alike(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    lines = [{"line_id": name, "sku": "BAG", "unit_price": "10.00", "quantity": 1} for name in ("1", "１")]
    story = Scenario(assemble(url)).given(an_order(lines=lines))
    story.services.store.close()

    text, page, as_json, view = (
        returnable(*call.split(), "--store", url)[1]
        for call in ("report A-1 --format text -", "report A-1 -", "report A-1 --json", "order A-1")
    )

    (found,) = json.loads(as_json)["look_alikes"]
    assert found == {"ids": ["1", "１"], "code_points": ["U+0031", "U+FF11"]}
    squeezed = re.sub(r"\s+", " ", text)
    assert "these ids look the same but differ: 1 (U+0031), １ (U+FF11)" in squeezed
    assert "these ids look the same but differ" in page
    assert "１ (U+FF11)" in re.sub(r"\s+", " ", view)


def test_a_report_without_look_alikes_says_nothing_of_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    Scenario(assemble(url)).given(an_order()).services.store.close()

    assert "Look alike" not in returnable("report", "A-1", "--format", "text", "-", "--store", url)[1]
