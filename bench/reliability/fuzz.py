"""``python -m bench.reliability.fuzz``: hostile input of all kinds at every entrance, by seed.

Customers live through whole journeys while their commands are spoilt: as calls of the desk's methods, as lines of a
scenario, as questions. Policies, mappings and tables are spoilt as files, and stored facts as bytes on the disk. What is
spoilt comes to an outcome or to one error of this library that says where the trouble is. Afterwards every stream is read
back, decided again and projected.
"""

from __future__ import annotations

import argparse
import logging
import re
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias, get_args
from unittest.mock import patch

from pydantic_core import from_json, to_json

import returnable
from bench.postgres import OwnServer, with_parameters
from bench.reliability.hostile import CELLS, TOML_TOKENS, line_of, spoilt, spoilt_bytes, value
from bench.reliability.journeys import journey
from bench.speed.measure import table
from returnable.adapters import scenario
from returnable.adapters.eventstore import store
from returnable.adapters.eventstore.open import migrate_store
from returnable.adapters.eventstore.viewstore import SQLiteViews
from returnable.adapters.imports.mapping import MappingInvalid, read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import TableUnreadable, read_orders
from returnable.adapters.imports.running import Live, Refusal, run_import
from returnable.adapters.scenario import ScenarioUnreadable, play, read_scenario
from returnable.adapters.wiring import Parts, assemble, policy_book, projector
from returnable.domain import commands, events
from returnable.domain.commands import COMMANDS, QUESTIONS
from returnable.domain.errors import ErrorCode, HistoryBroken, Impossible, PolicyInvalid, ReturnableError
from returnable.domain.outcome import Outcome
from returnable.projections.redecided import redecide_store

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

LONGEST = 1000
"""A message may list what is allowed, never what was given."""

LIMIT_SECONDS = 30
"""How long one case may take."""

LIMIT_BYTES = 4 << 30
"""How much memory all of it may take."""

CASES_A_WORLD = 400
"""After so many cases a store is looked at, and a new one begun."""

SHOWN = 10
"""How many sorts of trouble are shown."""

Control: TypeAlias = Literal["boundary", "storage"]
"""What a control switches off: the check of commands, or that of stored facts."""


class Endless(BaseException):
    """A case that does not come to an end."""


@contextmanager
def watchdog() -> Iterator[None]:
    """Raise :class:`Endless` in what takes too long."""

    def bark(*_: object) -> None:
        raise Endless(f"took longer than {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, bark)
    # Once more every second: there are places where Python passes over an exception.
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Wrong(Exception):
    """What must not happen, and is no exception by itself."""


def proper(error: ReturnableError) -> str:
    """What kind of no it is. Raises :class:`Wrong` for one that does not say clearly what is wrong where."""
    text = str(error)
    if len(text) > LONGEST:
        raise Wrong(f"a message of {len(text)} characters: {text[:300]!a}")
    if not all(line.isprintable() for line in text.split("\n")):
        raise Wrong(f"a message that cannot be shown: {text[:300]!a}")
    if not isinstance(error, Impossible):
        return type(error).__name__
    if error.code not in get_args(ErrorCode):
        raise Wrong(f"an unknown code: {error.code}")
    if error.code == "command.invalid" and not error.field:
        raise Wrong(f"no field is named: {text}")
    if not (error.field or error.state or error.code.endswith((".unknown", ".exists"))):
        raise Wrong(f"neither field nor state is named: {error.code}: {text}")
    return error.code


# ---- a world ------------------------------------------------------------------------------------------------------------


class World:
    """A store on which customers live, and cases happen to them."""

    def __init__(self, url: str, dice: Random, folder: Path) -> None:
        self.url = url
        self.dice = dice
        self.folder = folder
        self.now = datetime(2026, 3, 2, tzinfo=UTC)
        self.desk = returnable.open(url, clock=lambda: self.now)
        self.live: list[list[dict[str, Any]]] = []
        self._next = dice.randrange(1000)

    @property
    def parts(self) -> Parts:
        """Store, desk and questions."""
        return self.desk.parts

    def a_step(self) -> dict[str, Any]:
        """What is told next of some customer, who has come there by good commands."""
        if len(self.live) < 6:
            self._next += 1
            self.live.append(journey(self._next))
        story = self.dice.choice(self.live)
        for _ in range(self.dice.choice((0, 0, 1, 1, 1, 2))):
            if len(story) > 1:
                self._tell(story.pop(0))
        if len(story) == 1:
            self.live.remove(story)
        return dict(story[0])

    def _tell(self, fields: dict[str, Any]) -> None:
        at = fields.pop("at")
        with suppress(Impossible):  # a spoilt command came before it
            self.desk.handle(fields, at=datetime.fromisoformat(at))

    def check(self) -> None:
        """Every stream is readable, comes out the same when decided again, and is in every view."""
        kept = self.parts.store
        for case_id, _, damage in list(kept.stretch("", 100_000)):
            if damage is not None:
                raise Wrong(f"case {case_id!r} cannot be read: {damage}")
        for case in redecide_store(kept, self.parts.desk.policy):
            if case.differences:
                raise Wrong(f"comes out otherwise when decided again: {case.differences[0]}"[:600])
        with closing(SQLiteViews(None)) as views:
            projector(self.parts, views).run()
            if views.parked():
                raise Wrong(f"parked by a view: {views.parked()[0]}"[:600])
        for kind in ("orders", "returns", "refunds", "claims"):
            list(self.parts.questions.listed(kind, NOW))
        list(self.desk.ledger())
        self.desk.handle({"command": "run_deadlines"}, at=NOW)
        self.desk.worklist()


# ---- cases --------------------------------------------------------------------------------------------------------------


def a_method(world: World, dice: Random) -> str:
    """A command, given to the method of its name or as fields."""
    fields = world.a_step()
    at: Any = datetime.fromisoformat(fields.pop("at"))
    if dice.random() < 0.1:  # another command's name for the same fields
        fields["command"] = dice.choice(list(COMMANDS))
    spoilt_fields = spoilt(fields, dice, python=True)
    if dice.random() < 0.05:
        at = value(dice, python=True)
    name = spoilt_fields.get("command")
    method = getattr(world.desk, name, None) if isinstance(name, str) and name in COMMANDS else None
    if method is not None and dice.random() < 0.7:
        parameters = method.__kwdefaults__ or {}
        known = {*parameters, *COMMANDS[str(name)].model_fields} - {"command"}
        given = {key: each for key, each in spoilt_fields.items() if key in known}
        required = [key for key in method.__annotations__ if key not in (*parameters, "return")]
        if set(required) <= set(given):
            with patch.object(world.desk, "clock", lambda: at):
                return _told(method(**given))
    return _told(world.desk.handle(spoilt_fields, at=at))


def _told(outcome: Outcome) -> str:
    outcome.view().model_dump_json()
    return "on record already" if outcome.replayed else outcome.outcome


def a_line(world: World, dice: Random) -> str:
    """Lines of a scenario, as bytes."""
    lines = []
    for _ in range(dice.choice((1, 1, 3))):
        fields = world.a_step()
        if dice.random() < 0.15:
            fields = _question(fields, dice) | {"at": fields["at"]}
        if dice.random() < 0.6:
            fields = spoilt(fields, dice)
        if dice.random() < 0.1:
            fields["expect"] = value(dice, python=False)
        try:
            line = line_of(fields, dice)
        except (TypeError, ValueError, RecursionError):  # JSON has no word for it
            line = line_of(journey(1)[0], dice)
        lines.append(line)
    content = b"\n".join(lines)
    if dice.random() < 0.6:
        content = spoilt_bytes(content, dice)
    told = "nothing"
    for played in play(world.parts, read_scenario(content, "fuzz.jsonl")):
        if played.error is not None:
            told = proper(played.error)
        else:
            told = "answered" if played.outcome is None else played.outcome.outcome
        _written(played.as_dict())
    return told


def _written(fields: dict[str, Any]) -> None:
    to_json(fields)


def _question(fields: dict[str, Any], dice: Random) -> dict[str, Any]:
    ids = {name: given for name, given in fields.items() if name.endswith("_id") and name != "command_id"}
    name = dice.choice(list(QUESTIONS))
    known = {key: given for key, given in ids.items() if key in QUESTIONS[name].model_fields}
    question = {"query": name} | known
    if name == "audit":
        question["stream"] = f"order/{ids.get('order_id', 'A-001')}"
    if dice.random() < 0.5:
        question[dice.choice(("as_of", "known_at"))] = "2026-03-09T00:00:00Z"
    return question


def a_question(world: World, dice: Random) -> str:
    """A question or a list, with hostile words in it."""
    fields = world.a_step()
    kind = dice.random()
    desk: Any = world.desk
    if kind < 0.5:
        question = _question(fields, dice)
        desk.ask(spoilt(question, dice, python=True), at=NOW if dice.random() < 0.9 else value(dice, python=True))
        return "answered"
    times = {}
    if dice.random() < 0.5:
        times = {dice.choice(("as_of", "known_at")): value(dice, python=True)}
    if kind < 0.75:
        name = dice.choice(("orders", "returns", "refunds", "claims", "ledger", "statistics"))
        if name == "ledger":
            times["order_id"] = value(dice, python=True)
        elif name == "statistics":
            times[dice.choice(("since", "until"))] = value(dice, python=True)
        elif dice.random() < 0.6:
            times["status"] = value(dice, python=True)
        list(getattr(desk, name)(**times))
        return "answered"
    subject = dice.choice(
        (value(dice, python=True), f"order/{fields.get('order_id', 'A-1')}", fields.get("order_id", ""))
    )
    name = dice.choice(("why", "replay", "edges", "report", "redecide"))
    if name == "why" and dice.random() < 0.5:
        times["event"] = value(dice, python=True)
    if name == "replay" and dice.random() < 0.5:
        times["until"] = value(dice, python=True)
    getattr(desk, name)(subject, **(times if name != "redecide" else {}))
    return "answered"


POLICY = (ROOT / "domain" / "policies" / "allu-usa.toml").read_bytes()


def a_policy(world: World, dice: Random) -> str:
    """A policy as a file; one that is taken judges a customer."""
    file = world.folder / dice.choice(("policy.toml", "policy.json"))
    if file.suffix == ".toml":
        file.write_bytes(_spoilt_toml(POLICY, dice))
    else:
        document = policy_book(None).versions[0].document.encode()
        file.write_bytes(spoilt_bytes(document, dice))
    try:
        desk = returnable.open("memory:", policy=file, clock=lambda: NOW)
    finally:
        file.unlink()
    with closing(desk):
        for step in journey(dice.randrange(22)):
            at = datetime.fromisoformat(step.pop("at"))
            try:
                _told(desk.handle(step, at=at))
            except Impossible as error:
                proper(error)
        desk.worklist()
        if desk.redecide():
            raise Wrong(f"comes out otherwise when decided again: {desk.redecide()[0]}"[:600])
    return "taken"


def _spoilt_toml(content: bytes, dice: Random) -> bytes:
    lines = content.split(b"\n")
    kind = dice.random()
    if kind < 0.2:
        return spoilt_bytes(content, dice, TOML_TOKENS)
    for _ in range(dice.choice((1, 1, 2))):
        told = [nth for nth, line in enumerate(lines) if b" = " in line or line.startswith(b"[")]
        nth = dice.choice(told)
        if kind < 0.35:
            del lines[nth]
        elif kind < 0.45:
            lines.insert(dice.randrange(len(lines)), lines[nth])
        else:
            name = lines[nth].partition(b" = ")[0]
            lines[nth] = (name if not name.startswith(b"[") else b"more") + b" = " + dice.choice(TOML_TOKENS)
    return b"\n".join(lines)


WEBSHOP = ROOT / "examples" / "import"


def an_import(world: World, dice: Random) -> str:
    """A table of orders and its mapping, as files."""
    mapping_file, orders_file = world.folder / "webshop.toml", world.folder / "webshop.csv"
    mapping, orders = (WEBSHOP / "webshop.toml").read_bytes(), (WEBSHOP / "webshop.csv").read_bytes()
    if dice.random() < 0.4:
        mapping = _spoilt_toml(mapping, dice)
    else:
        orders = _spoilt_table(orders, dice)
    mapping_file.write_bytes(mapping)
    orders_file.write_bytes(orders)
    read = read_mapping(str(mapping_file))
    planner = Planner(read)
    refusals: list[Refusal] = []
    summary = run_import(
        read_orders(str(orders_file), read, planner), planner, Live(world.parts, lambda: NOW), refusals.append
    )
    for refusal in refusals:
        if not refusal.reason or len(refusal.reason) > LONGEST or not refusal.reason.isprintable():
            raise Wrong(f"a refusal that does not say why: {refusal!a}"[:600])
        _written({"refusal": [refusal.row, refusal.order_id, refusal.field, refusal.code, refusal.reason]})
    _written(summary.as_dict())
    return "taken, some refused" if refusals else "taken"


def _spoilt_table(content: bytes, dice: Random) -> bytes:
    if dice.random() < 0.3:
        return spoilt_bytes(content, dice, tuple(cell.encode("utf-8", "surrogatepass") for cell in CELLS))
    rows = [line.split(b",") for line in content.split(b"\n") if line]
    for _ in range(dice.choice((1, 1, 2, 5))):
        row = dice.choice(rows[1:] if dice.random() < 0.9 else rows)
        cell = dice.choice(CELLS).encode("utf-8", "surrogatepass")
        row[dice.randrange(len(row))] = cell if b"," not in cell else b'"' + cell + b'"'
    return b"\n".join(b",".join(row) for row in rows)


class Damages:
    """Stored facts that come back damaged, in copies of one file."""

    def __init__(self, folder: Path) -> None:
        self._whole, self._copy = folder / "whole.db", folder / "damaged.db"
        parts = assemble(f"sqlite:///{self._whole}")
        for nth in range(11):
            for step in journey(nth):
                at = datetime.fromisoformat(step.pop("at"))
                with suppress(Impossible):
                    parts.desk.handle(commands.parse_command(step), at)
        self._cases = list(parts.store.case_ids())
        self._before = {case_id: self._answer(parts, case_id) for case_id in self._cases}
        parts.store.close()
        with closing(sqlite3.connect(self._whole)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            query = "SELECT position, case_id, stream, version, type, content FROM facts"
            self._rows = connection.execute(query).fetchall()

    def a_damage(self, world: World, dice: Random) -> str:
        """One stored fact is edited; only its own case may suffer, and it says where."""
        shutil.copy(self._whole, self._copy)
        position, case_id, stream, version, name, content = dice.choice(self._rows)
        self._edit(dice, position, name, content)
        with closing(returnable.open(f"sqlite:///{self._copy}", clock=lambda: NOW)) as desk:
            told = self._look_at_the_damaged(desk, case_id, f"{stream}#{version}")
            for other in dice.sample(self._cases, 3):
                if other != case_id and self._answer(desk.parts, other) != self._before[other]:
                    raise Wrong(f"damage to {stream}#{version} changes what is said of {other}")
            self._look_at_all(desk, case_id)
        return told

    def _edit(self, dice: Random, position: int, name: str, content: bytes) -> None:
        kind = dice.random()
        column: str
        edited: Any
        if kind < 0.45:
            column, edited = "content", spoilt_bytes(content, dice)
        elif kind < 0.7:
            fields = spoilt(from_json(content), dice)
            try:
                column, edited = "content", line_of(fields, dice)
            except (TypeError, ValueError, RecursionError):
                column, edited = "content", b"\xff"
        elif kind < 0.8:
            column, edited = "type", dice.choice((f"{name[:-1]}2", "", "os.system/1", name.lower(), "\u202e"))
        elif kind < 0.85:
            column, edited = "type", dice.choice(list(events.FACTS))
        else:
            column, edited = dice.choice(
                (("version", 77), ("case_seq", 77), ("stream", "order/elsewhere"), ("content", b""))
            )
        with closing(sqlite3.connect(self._copy)) as connection:
            if kind > 0.97:
                connection.execute("DELETE FROM facts WHERE position = ?", (position,))
            else:
                connection.execute(f"UPDATE facts SET {column} = ? WHERE position = ?", (edited, position))
            connection.commit()

    def _look_at_the_damaged(self, desk: returnable.Desk, case_id: str, event: str) -> str:
        told = "read as something else"
        try:
            desk.parts.store.load(case_id)
        except HistoryBroken as error:
            proper(error)
            if event.partition("#")[0] not in str(error) and "missing" not in str(error):
                raise Wrong(f"{event} is damaged, and is not named: {error}") from None
            told = "unreadable"
        looks: Sequence[Callable[[], object]] = (
            lambda: desk.order(order_id=case_id),
            lambda: desk.eligibility(order_id=case_id),
            lambda: desk.audit(stream=f"order/{case_id}"),
            lambda: desk.why(f"order/{case_id}"),
            lambda: desk.link_account(order_id=case_id, account_id="acc-later"),
            lambda: desk.redecide(f"order/{case_id}"),
        )
        for look in looks:
            try:
                look()
            except ReturnableError as error:
                proper(error)
        return told

    def _look_at_all(self, desk: returnable.Desk, case_id: str) -> None:
        desk.run_deadlines()
        with closing(SQLiteViews(None)) as views:
            projector(desk.parts, views).run()
            strangers = {damage.case_id for _, damage in views.parked()} - {case_id}
            if strangers:
                raise Wrong(f"damage to {case_id} parks {strangers}")
        list(desk.orders())
        list(desk.ledger())
        desk.worklist()
        desk.redecide()

    def _answer(self, parts: Parts, case_id: str) -> object:
        question = commands.parse_question({"query": "order", "order_id": case_id})
        return parts.questions.answer(question, NOW).model_dump(mode="json")


# ---- the run ------------------------------------------------------------------------------------------------------------


class Tally:
    """What came of all cases."""

    def __init__(self) -> None:
        self.came: dict[str, Counter[str]] = {}
        self.streams = 0
        self.worlds = 0
        self.unreadable = 0
        self.crashes: list[str] = []

    @property
    def cases(self) -> int:
        """How many there were."""
        return sum(counts.total() for counts in self.came.values())

    def show(self) -> int:
        """Print it; the exit status."""
        rows: list[tuple[str, str]] = []
        for kind, counts in self.came.items():
            rows.append((f"cases: {kind}", f"{counts.total():,}"))
            rows += [(f"… {what}", f"{count:,}") for what, count in counts.most_common()]
        rows += [
            ("cases", f"{self.cases:,}"),
            ("stores looked at afterwards", f"{self.worlds:,}"),
            ("streams read back", f"{self.streams:,}"),
            ("stores with something unreadable", f"{self.unreadable:,}"),
            ("crashes", f"{len(self.crashes):,}"),
        ]
        print(table(("what", "count"), rows))
        sorts = {re.sub(r"\d+", "", crash)[:60]: crash for crash in reversed(self.crashes)}
        for crash in list(sorts.values())[:SHOWN]:
            print(f"crash: {crash}")
        return 1 if self.crashes or self.unreadable else 0


ENTRANCES: dict[str, float] = {
    "methods": 0.45,
    "lines": 0.28,
    "questions": 0.13,
    "policies": 0.06,
    "imports": 0.05,
    "stored bytes": 0.03,
}
"""Which part of the cases comes in where."""


def run(cases: int, seed: int, damages: Damages, folder: Path, places: Iterator[str], only: int | None = None) -> Tally:
    """Live through so many cases; ``only`` shows the trouble of that one as it came."""
    tally = Tally()
    ways: dict[str, Callable[[World, Random], str]] = {
        "methods": a_method,
        "lines": a_line,
        "questions": a_question,
        "policies": a_policy,
        "imports": an_import,
        "stored bytes": damages.a_damage,
    }
    begin = 0 if only is None else only // CASES_A_WORLD * CASES_A_WORLD
    for first in range(begin, cases, CASES_A_WORLD):
        world = World(next(places), Random(f"{seed}/world/{first}"), folder)
        for nth in range(first, min(cases, first + CASES_A_WORLD)):
            dice = Random(f"{seed}/{nth}")
            (kind,) = dice.choices(list(ENTRANCES), list(ENTRANCES.values()))
            came = _come(ways[kind], world, dice, nth, kind, tally, raising=nth == only)
            tally.came.setdefault(kind, Counter())[came] += 1
            if nth == only:
                return tally
        _look_back(world, tally, first)
    return tally


def _come(
    way: Callable[[World, Random], str], world: World, dice: Random, nth: int, kind: str, tally: Tally, *, raising: bool
) -> str:
    try:
        with watchdog():
            try:
                return way(world, dice)
            except (Impossible, ScenarioUnreadable, PolicyInvalid, MappingInvalid, TableUnreadable) as error:
                return proper(error)
    except (Exception, Endless) as crash:
        if raising:
            raise
        tally.crashes.append(f"case {nth}, {kind}: {type(crash).__name__}: {str(crash)[:300]!a}")
        print(f"crash: {tally.crashes[-1]}", file=sys.stderr, flush=True)
        return f"CRASH {type(crash).__name__}"


def _look_back(world: World, tally: Tally, first: int) -> None:
    try:
        # As another process finds it.
        if world.url != "memory:":
            world.desk.close()
            world.desk = returnable.open(world.url, clock=lambda: NOW)
        world.check()
        tally.streams += len({one.stream for _, facts in world.parts.store.cases() for one in facts})
    except Exception as error:
        tally.unreadable += 1
        tally.crashes.append(f"the store after case {first}: {type(error).__name__}: {str(error)[:600]}")
    tally.worlds += 1
    world.desk.close()


# ---- controls -----------------------------------------------------------------------------------------------------------


@contextmanager
def switched_off(control: Control | None) -> Iterator[None]:
    """Without that check."""
    with ExitStack() as stack:
        if control == "boundary":
            stack.enter_context(patch.object(commands, "parse_command", _unchecked))
            stack.enter_context(patch.object(scenario, "parse_command", _unchecked))
        elif control == "storage":
            stack.enter_context(patch.object(store, "decode", _guessed))
        yield


def _unchecked(fields: dict[str, Any]) -> Any:
    try:
        return _PARSE(fields)
    except Impossible:
        name = fields.get("command")
        if not isinstance(name, str) or name not in COMMANDS:
            raise
        return COMMANDS[name].model_construct(**fields)


def _guessed(stored_as: str, content: bytes) -> Any:
    try:
        return events.decode(stored_as, content)
    except HistoryBroken:
        known = events.FACTS.get(stored_as, events.AccountLinked)
        return known.model_construct(**from_json(content, allow_partial=True))


_PARSE = commands.parse_command


def _places(kind: str, folder: Path, server: str | None) -> Iterator[str]:
    nth = 0
    while True:
        nth += 1
        if server is not None:
            url = with_parameters(server, schema=f"fuzz_{nth}")
            migrate_store(url)
            yield url
        elif kind == "sqlite" or (kind == "mixed" and nth % 4 == 0):
            yield f"sqlite:///{folder}/world-{nth}.db"
        else:
            yield "memory:"


def main(arguments: Sequence[str] | None = None) -> int:
    """Live through the cases, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("mixed", "memory", "sqlite", "postgres"), default="mixed")
    parser.add_argument("--only", type=int, help="live up to this case alone, and let its trouble come through")
    parser.add_argument(
        "--control",
        nargs="?",
        const="boundary",
        choices=get_args(Control),
        help="with a check switched off: shows that trouble is found, exits 1",
    )
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, resource.RLIM_INFINITY))
    logging.disable()  # cases that are left out because they are damaged
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-fuzz-")))
        server = stack.enter_context(OwnServer()).url if options.store == "postgres" else None
        damages = Damages(folder)
        stack.enter_context(switched_off(options.control))
        begin = time.monotonic()
        tally = run(options.cases, options.seed, damages, folder, _places(options.store, folder, server), options.only)
        print(f"{(time.monotonic() - begin) / max(1, tally.cases) * 1e3:.2f} ms a case\n")
    return tally.show()


if __name__ == "__main__":
    sys.exit(main())
