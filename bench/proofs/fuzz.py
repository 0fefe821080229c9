"""``python -m bench.proofs.fuzz``: hostile input of all kinds at every entrance, found and shrunk by Hypothesis.

At a desk people do what they usually do, and among it come hostile calls of its methods, lines of a scenario and questions.
Policies, mappings and tables are spoilt as files, and stored facts as bytes on the disk. What is spoilt comes to an outcome
or to one error of this library that says where the trouble is. Afterwards every stream is read back, decided again and
projected. What goes wrong is shown as the shortest history, or the smallest change of a file, that Hypothesis finds.
"""

from __future__ import annotations

import logging
import resource
import shutil
import signal
import sqlite3
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeAlias, get_args
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import get_state_machine_test, initialize, rule
from hypothesis.strategies import DataObject, SearchStrategy
from pydantic_core import from_json, to_json

import returnable
from bench.proofs import hostile, proof
from bench.proofs.hostile import IN_JSON, IN_PYTHON, lines_of_json, spoilt, spoilt_bytes
from bench.proofs.journeys import in_time, journey
from bench.proofs.mutants import Mutants
from bench.proofs.proof import Proof, Run, counted, counted_each, main, option
from returnable.adapters import scenario
from returnable.adapters.eventstore import store
from returnable.adapters.imports.mapping import MappingInvalid, read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import TableUnreadable, read_orders
from returnable.adapters.imports.running import Live, Refusal, run_import
from returnable.adapters.scenario import ScenarioUnreadable, play, read_scenario
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble, policy_book, projector
from returnable.domain import commands, events
from returnable.domain.characters import NOT_IN_LINE, why_refused
from returnable.domain.commands import COMMANDS, QUESTIONS
from returnable.domain.errors import ErrorCode, HistoryBroken, Impossible, PolicyInvalid, ReturnableError
from returnable.domain.outcome import Outcome
from returnable.projections.redecided import redecide_store
from returnable.testing.machine import ReturnsMachine
from returnable.testing.steps import Step
from returnable.testing.strategies import commands as usual_commands

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

LONGEST = 1000
"""A message may list what is allowed, never what was given."""
LIMIT_SECONDS = 30
"""How long one case may take."""
LIMIT_BYTES = 4 << 30
"""How much memory all of it may take."""
STEPS = 20
"""How much happens at a desk before its store is looked at."""
SHRINKING_SECONDS = 20
"""How long Hypothesis looks for a simpler case that goes wrong, too."""
TWICE = "usual commands, told twice"
"""What is nothing hostile, and is not counted as a case."""

Draw: TypeAlias = Callable[..., Any]


class Endless(BaseException):
    """A case that does not come to an end; no ``except Exception`` keeps it from being seen."""


class Wrong(Exception):
    """What must not happen, and is no exception by itself."""


class Unreadable(Wrong):
    """What a store does not give back afterwards."""


def proper(error: ReturnableError) -> str:
    """What kind of no it is. Raises :class:`Wrong` for one that does not say clearly what is wrong where."""
    text = str(error)
    if len(text) > LONGEST:
        raise Wrong(f"a message of {len(text)} characters: {text[:300]!a}")
    if any(why_refused(line, NOT_IN_LINE) for line in text.split("\n") if line):
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


# ---- at a desk ----------------------------------------------------------------------------------------------------------


def a_call(draw: Draw, desk: returnable.Desk, at: Any) -> str:
    """A command, given to the method of its name or as fields."""
    fields = _usual(draw, desk, at)
    if draw(st.integers(0, 9)) == 9:  # another command's name for the same fields
        fields["command"] = draw(st.sampled_from(list(COMMANDS)))
    fields = draw(spoilt(fields, python=True) if draw(st.integers(0, 5)) < 5 else st.just(fields), label="fields")
    if draw(st.integers(0, 19)) == 19:
        at = draw(IN_PYTHON, label="at")
    name = fields.get("command")
    if isinstance(name, str) and name in COMMANDS and draw(st.booleans(), label="by its method"):
        method = getattr(desk, name)
        parameters = method.__kwdefaults__ or {}
        known = {*parameters, *COMMANDS[name].model_fields} - {"command"}
        given = {key: each for key, each in fields.items() if key in known}
        if {key for key in method.__annotations__ if key not in (*parameters, "return")} <= set(given):
            with patch.object(desk, "clock", lambda: at):
                return _told(method(**given))
    return _told(desk.handle(fields, at=at))


def _usual(draw: Draw, desk: returnable.Desk, at: datetime) -> dict[str, Any]:
    step = draw(usual_commands(desk.services, legal=draw(st.booleans()), at=at))
    head = desk.services.store.head()
    nth = draw(st.sampled_from((*[head] * 9, head // 2)))
    return {**step.fields, "command_id": f"k-{nth}", "actor": {"role": "system", "id": f"host-{nth}"}}


def _told(outcome: Outcome) -> str:
    outcome.view().model_dump_json()
    return "on record already" if outcome.replayed else outcome.outcome


def a_file(draw: Draw, desk: returnable.Desk, at: datetime) -> str:
    """Lines of a scenario, as bytes."""
    lines = []
    for _ in range(draw(st.sampled_from((1, 1, 3)))):
        fields = _question(draw, desk) if draw(st.integers(0, 6)) == 6 else _usual(draw, desk, at)
        line = {"at": at.isoformat()} | fields
        if draw(st.booleans()):
            line = draw(spoilt(line))
        if draw(st.integers(0, 9)) == 9:
            line["expect"] = draw(IN_JSON)
        lines.append(draw(lines_of_json(line)))
    content = b"\n".join(lines)
    content = draw(spoilt_bytes(content) if draw(st.booleans()) else st.just(content), label="lines")
    told = "nothing"
    for played in play(desk.services, read_scenario(content, "fuzz.jsonl")):
        if played.error is not None:
            told = proper(played.error)
        else:
            told = "answered" if played.outcome is None else played.outcome.outcome
        to_json(played.as_dict())
    return told


def _streams(services: Services) -> list[str]:
    return sorted({one.stream for _, recorded in services.store.cases() for one in recorded})


def _question(draw: Draw, desk: returnable.Desk) -> dict[str, Any]:
    name, streams = draw(st.sampled_from(list(QUESTIONS))), _streams(desk.services) or ["order/A-1"]
    question: dict[str, Any] = {"query": name}
    for field in QUESTIONS[name].model_fields:
        ids = [stream.partition("/")[2] for stream in streams if stream.startswith(f"{field.removesuffix('_id')}/")]
        if ids or field == "stream":
            question[field] = draw(st.sampled_from(ids or streams))
        elif field in _TIMES and draw(st.integers(0, 3)) == 3:
            question[field] = "2026-03-09T00:00:00Z"
    return question


_TIMES = ("as_of", "known_at")
_LOOKS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("orders", "returns", "refunds", "claims"), ("status", *_TIMES)),
    "ledger": ("order_id", *_TIMES),
    "statistics": ("since", "until", *_TIMES),
    "why": ("event", *_TIMES),
    "replay": ("until", *_TIMES),
    "edges": _TIMES,
    "report": _TIMES,
    "redecide": (),
}
_ABOUT = ("why", "replay", "edges", "report", "redecide")


def a_question(draw: Draw, desk: returnable.Desk, at: Any) -> str:
    """A question, a list or an explanation, with hostile words in it."""
    if draw(st.booleans()):
        question = draw(spoilt(_question(draw, desk), python=True), label="question")
        desk.ask(question, at=draw(IN_PYTHON, label="at") if draw(st.integers(0, 9)) == 9 else NOW)
        return "answered"
    name = draw(st.sampled_from(list(_LOOKS)), label="about what")
    given = {word: draw(IN_PYTHON, label=word) for word in _LOOKS[name] if draw(st.integers(0, 3)) == 3}
    about = draw(st.sampled_from(_streams(desk.services) or ["order/A-1"]))
    subject = draw(st.sampled_from((about, about, about.partition("/")[2], None)), label="subject")
    subject = subject or draw(IN_PYTHON, label="another subject")
    answer = getattr(desk, name)(*[subject] if name in _ABOUT else [], **given)
    if isinstance(answer, Iterator):
        list(answer)
    return "answered"


class HostileShop(ReturnsMachine):
    """A desk at which people do what they usually do, and hostile input comes in between."""

    legal = False
    tally: ClassVar[Tally]
    stores: ClassVar[SearchStrategy[str]]
    """Each draws the URL of an empty store."""
    desk: returnable.Desk | None = None

    def tell(self, step: Step, at: datetime) -> None:
        """What people usually do, possible or not, is told once more to the same desk."""
        self._come(TWICE, lambda _draw, desk, _at: _told(desk.handle(dict(step.fields), at=at)), None)

    @initialize(data=st.data(), customers=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 12)), max_size=3))
    def the_first_step(self, data: DataObject, customers: Sequence[tuple[int, int]]) -> None:
        """Some customers, of which the journey and how far they came is drawn, are there already."""
        url = data.draw(self.stores, label="store")
        self.services = assemble(url)
        self.desk = returnable.Desk(self.services, lambda: self.at, url)
        for self.at, line in in_time(line for nth, far in customers for line in journey(nth)[:far]):
            with suppress(Impossible):
                self.services.handler.handle(_PARSE(line), self.at)
        super().the_first_step(data)

    @rule(data=st.data())
    def a_call(self, data: DataObject) -> None:
        """A hostile command."""
        self._come("methods", a_call, data.draw)

    @rule(data=st.data())
    def a_file(self, data: DataObject) -> None:
        """Hostile lines of a scenario."""
        self._come("lines", a_file, data.draw)

    @rule(data=st.data())
    def a_question(self, data: DataObject) -> None:
        """A hostile question."""
        self._come("questions", a_question, data.draw)

    def _come(self, kind: str, case: Callable[[Draw, returnable.Desk, Any], str], draw: Any) -> None:
        desk, self.desk = self.desk, None  # where something went wrong already, the store is not looked at
        assert desk is not None
        self.tally.come(kind, lambda: case(draw, desk, self.at))
        self.desk = desk

    def teardown(self) -> None:
        """The store is looked at as another process finds it."""
        if self.desk is None:
            return
        try:
            if self.desk.url != "memory:":
                self.desk.close()
                self.desk = returnable.open(self.desk.url, clock=lambda: NOW)
            look_at_all(self.desk)
            self.tally.streams += len(_streams(self.desk.services))
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {str(error)[:600]}") from error
        finally:
            self.desk.close()
        self.tally.looked_at += 1


def look_at_all(desk: returnable.Desk, damaged: str | None = None) -> None:
    """Every stream but those of a damaged case is readable, comes out the same when decided again, and is in every view."""
    for case_id, _, damage in list(desk.services.store.load_page("", 100_000)):
        if damage is not None and case_id != damaged:
            raise Wrong(f"case {case_id!r} cannot be read: {damage}")
    for case in redecide_store(desk.services.store, desk.services.handler.policy):
        if case.differences and case.case_id != damaged:
            raise Wrong(f"comes out otherwise when decided again: {case.differences[0]}")
    with closing(SQLiteViews(None)) as views:
        projector(desk.services, views).run()
        for _, parked in views.parked():
            if parked.case_id != damaged:
                raise Wrong(f"parked by a view: {parked}")
    for rows in (desk.orders(), desk.returns(), desk.refunds(), desk.claims(), desk.ledger()):
        list(rows)
    desk.handle({"command": "run_deadlines"}, at=NOW)
    desk.worklist()


# ---- files --------------------------------------------------------------------------------------------------------------

POLICY = (ROOT / "domain" / "policies" / "allu-usa.toml").read_bytes()
DOCUMENT = policy_book(None).versions[0].document.encode()
MAPPING, ORDERS = ((ROOT / "examples" / "import" / f"webshop.{form}").read_bytes() for form in ("toml", "csv"))


def a_policy(draw: Draw, folder: Path) -> str:
    """A policy as a file; one that is taken judges a customer."""
    form = draw(st.sampled_from(("toml", "json")), label="form")
    file = folder / f"policy.{form}"
    file.write_bytes(draw(hostile.spoilt_toml(POLICY) if form == "toml" else spoilt_bytes(DOCUMENT), label="policy"))
    customer = draw(st.integers(0, 21), label="customer")
    with closing(returnable.open("memory:", policy=file, clock=lambda: NOW)) as desk:
        for at, line in in_time(journey(customer)):
            try:
                _told(desk.handle(line, at=at))
            except Impossible as error:
                proper(error)
        look_at_all(desk)
    return "taken"


def an_import(draw: Draw, folder: Path) -> str:
    """A table of orders and its mapping, as files."""
    mapping_file, orders_file = folder / "webshop.toml", folder / "webshop.csv"
    mapping, orders = MAPPING, ORDERS
    if draw(st.sampled_from((True, True, True, False, False))):
        orders = draw(hostile.spoilt_table(ORDERS), label="table")
    else:
        mapping = draw(hostile.spoilt_toml(MAPPING), label="mapping")
    mapping_file.write_bytes(mapping)
    orders_file.write_bytes(orders)
    read = read_mapping(str(mapping_file))
    planner = Planner(read)
    refusals: list[Refusal] = []
    with closing(returnable.open("memory:", clock=lambda: NOW)) as desk:
        rows = read_orders(str(orders_file), read, planner)
        to_json(run_import(rows, planner, Live(desk.services, lambda: NOW), refusals.append).as_dict())
        look_at_all(desk)
    for refusal in refusals:
        if not refusal.reason or len(refusal.reason) > LONGEST or why_refused(refusal.reason, NOT_IN_LINE):
            raise Wrong(f"a refusal that does not say why: {refusal!a}"[:600])
        to_json([refusal.row, refusal.order_id, refusal.field, refusal.code, refusal.reason])
    return "taken, some refused" if refusals else "taken"


class Damages:
    """Stored facts that come back damaged, in copies of one file."""

    def __init__(self, folder: Path) -> None:
        self._whole, self._copy = folder / "whole.db", folder / "damaged.db"
        with closing(returnable.open(f"sqlite:///{self._whole}")) as desk:
            for at, line in in_time(line for nth in range(11) for line in journey(nth)):
                with suppress(Impossible):
                    desk.handle(_PARSE(line), at=at)
            self._before = {case_id: self._answer(desk, case_id) for case_id in desk.services.store.case_ids()}
        with closing(sqlite3.connect(self._whole)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            query = "SELECT position, case_id, stream, type, content FROM facts"
            self._rows = connection.execute(query).fetchall()

    def a_damage(self, draw: Draw, folder: Path) -> str:
        """One stored fact is edited or taken out; only its own case may suffer, and it says where."""
        position, case_id, stream, name, content = draw(st.sampled_from(self._rows), label="row")
        names = (f"{name[:-1]}2", "", "os.system/1", name.lower(), "\u202e")
        edits: dict[str, SearchStrategy[Any]] = {
            "content": spoilt_bytes(content) | spoilt(from_json(content)).flatmap(lines_of_json) | st.just(b""),
            "type": st.sampled_from(names) | st.sampled_from(list(events.EVENTS)),
            "version": st.just(77),
            "case_seq": st.just(77),
            "stream": st.just("order/elsewhere"),
            "position": st.none(),
        }
        column = draw(st.sampled_from((*["content"] * 14, "type", "type", *edits)), label="column")
        edited = draw(edits[column], label="edited")
        shutil.copy(self._whole, self._copy)
        with closing(sqlite3.connect(self._copy)) as connection:
            edit = f"UPDATE facts SET {column} = :edited" if edited is not None else "DELETE FROM facts"
            connection.execute(f"{edit} WHERE position = :position", {"edited": edited, "position": position})
            connection.commit()
        with closing(returnable.open(f"sqlite:///{self._copy}", clock=lambda: NOW)) as desk:
            told = self._look_at_the_damaged(desk, case_id, stream)
            for other in {draw(st.sampled_from(list(self._before))) for _ in range(3)} - {case_id}:
                if self._answer(desk, other) != self._before[other]:
                    raise Wrong(f"damage to {stream} changes what is said of {other}")
            look_at_all(desk, damaged=case_id)
        return told

    def _look_at_the_damaged(self, desk: returnable.Desk, case_id: str, stream: str) -> str:
        told = "read as something else"
        looks: Sequence[Callable[[], object]] = (
            lambda: desk.services.store.load(case_id),
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
                if look is looks[0]:
                    told = "unreadable"
                    if stream not in str(error) and "missing" not in str(error):
                        raise Wrong(f"{stream} is damaged, and is not named: {error}") from None
        return told

    def _answer(self, desk: returnable.Desk, case_id: str) -> object:
        return desk.ask({"query": "order", "order_id": case_id}, at=NOW).model_dump(mode="json")


# ---- the run ------------------------------------------------------------------------------------------------------------


@dataclass
class Tally(proof.Tally):
    """What came of all cases."""

    came: Counter[str] = counted_each("{}")
    cases: int = counted("cases")
    looked_at: int = counted("stores looked at afterwards")
    streams: int = counted("streams read back")
    unreadable: int = counted("stores with something unreadable")
    crashes: int = counted("crashes")

    def come(self, kind: str, case: Callable[[], str]) -> None:
        """Let one case happen, and count what it came to."""
        came = "CRASH"
        signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS, 1)  # again every second: Python passes over some exceptions
        try:
            came = case()
        except (Impossible, ScenarioUnreadable, PolicyInvalid, MappingInvalid, TableUnreadable) as error:
            came = proper(error)
        except Endless:
            raise Wrong(f"took longer than {LIMIT_SECONDS} s") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if came != "CRASH" or isinstance(sys.exc_info()[1], Exception):  # else Hypothesis gave this one up
                self.cases += kind != TWICE
                row = kind if kind == TWICE else f"cases: {kind}"
                self.came.update((row, f"{row}: {came}"))

    def test(self, cases: Callable[[], None]) -> None:
        """Let Hypothesis go through cases, and note the trouble that it found."""
        try:
            cases()
        except Exception as trouble:
            self.unreadable += isinstance(trouble, Unreadable)
            notes = getattr(trouble, "__notes__", ())
            self.trouble("crashes", "\n".join((f"{type(trouble).__name__}: {trouble}", *notes)))


AT_A_DESK = ("methods", "lines", "questions")
ENTRANCES: Mapping[str, float] = {"desk": 0.86, "policies": 0.06, "imports": 0.05, "stored bytes": 0.03}
"""Which part of the cases comes in where."""

MIXED = (*["memory"] * 7, "sqlite")


def fuzz(run: Run) -> Tally:
    """Let at least so many cases happen."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _bark)
    warnings.simplefilter("ignore")  # of what a control lets through
    logging.disable()  # cases that are left out because they are damaged
    run.stack.enter_context(patch.object(engine, "MAX_SHRINKING_SECONDS", SHRINKING_SECONDS))
    tally, numbers = Tally(), count()
    kinds = st.sampled_from(MIXED if run.store == "mixed" else (run.store,))
    stores = kinds.map(lambda kind: run.new_store(next(numbers), kind))
    shop = type("HostileShop", (HostileShop,), {"tally": tally, "stores": stores})
    ways = {"policies": a_policy, "imports": an_import, "stored bytes": Damages(run.folder).a_damage}

    def some(examples: int) -> settings:
        return settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            report_multiple_bugs=False,  # shrinking one takes long enough
            suppress_health_check=list(HealthCheck),
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
        )

    def test(kind: str, examples: int) -> None:
        def of_files(data: DataObject) -> None:
            tally.come(kind, lambda: ways[kind](data.draw, run.folder))

        tally.test(seed(run.seed)(some(examples)(given(st.data())(of_files))))

    for kind in run.only or ENTRANCES:
        wanted = round(run.rounds * ENTRANCES[kind])
        if kind != "desk":
            test(kind, wanted)
            continue
        for nth in count():
            lacking = wanted - sum(tally.came[f"cases: {kind}"] for kind in AT_A_DESK)
            if lacking <= 0 or tally.troubles:
                break
            tally.test(
                get_state_machine_test(seed(f"{run.seed}/{nth}")(shop), settings=some(10 + lacking * 2 // STEPS))
            )
    return tally


def _bark(*_: object) -> NoReturn:
    raise Endless


# ---- controls -----------------------------------------------------------------------------------------------------------

MUTANTS = Mutants()
_PARSE = commands.parse_command


@MUTANTS.register
def boundary(patches: ExitStack) -> None:
    """Bad fields of a command pass the boundary."""
    for place in (commands, scenario):
        patches.enter_context(patch.object(place, "parse_command", _unchecked))


def _unchecked(fields: dict[str, Any]) -> Any:
    try:
        return _PARSE(fields)
    except Impossible:
        name = fields.get("command")
        if not isinstance(name, str) or name not in COMMANDS:
            raise
        return COMMANDS[name].model_construct(**fields)


@MUTANTS.replaces(store, "decode")
def storage(decode: Callable[[str, bytes], Any], stored_as: str, content: bytes) -> Any:
    """The store guesses what an unreadable event says."""
    try:
        return decode(stored_as, content)
    except HistoryBroken:
        known = events.EVENTS.get(stored_as, events.AccountLinked)
        guessed = from_json(content, allow_partial=True)
        return known.model_construct(**guessed if isinstance(guessed, dict) else {})


ONLY = option("--only", None, "this entrance alone, with its part of the cases", choices=ENTRANCES, action="append")

if __name__ == "__main__":
    stores = ("mixed", "memory", "sqlite", "postgres")
    main(Proof(fuzz, rounds=100_000, of="cases", controls=MUTANTS, stores=stores, options=[ONLY]))
