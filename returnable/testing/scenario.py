"""Given, when, then: a story on a desk, step by step, each step at its own instant.

    given(an_order(delivered="2026-03-05")).at("2026-03-20 00:00").when(request_return()).then_declined("returns.window")

Nothing is frozen: every command carries its time. An unmet expectation raises ``AssertionError`` with the history, the clock
and the deadlines on one time line, and the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pydantic_core import to_json

from returnable.adapters.files import written_whole
from returnable.adapters.scenario import Played, differences, play, policies_folder, read_scenario
from returnable.adapters.wiring import AnyPolicy, Services, policy_book
from returnable.domain.calendar import zone
from returnable.domain.errors import Impossible
from returnable.domain.events import EVENTS, Event
from returnable.domain.outcome import Outcome, ruling_view
from returnable.domain.recorded_commands import outcome_of
from returnable.testing.clock import Clock
from returnable.testing.instants import ONE_TICK, When, resolved
from returnable.testing.steps import Fields, Step, Steps, flat
from returnable.testing.timeline import event_lines, indented, ruling_lines, timeline

if TYPE_CHECKING:
    from returnable.facade import Desk

Happening = Step | Iterable[Step] | Fields


class event:  # noqa: N801  (reads as a word in a list of events)
    """An event as a test expects it: its type, and the fields that matter.

    Times may be wall times, structures are compared as far as they are given, money is in minor units as in the events:
    ``event("LabelVoided", label_id="L-1", occurred_at="2026-03-12 00:00")``. ``of`` is the stream it is in:
    ``event("ReturnWithdrawn", of="return/R-1")``.
    """

    __slots__ = ("fields", "of", "type")

    def __init__(self, type_: str, /, *, of: str | None = None, **fields: Any) -> None:
        _known(type_)
        self.type = type_
        self.of = of
        self.fields = fields

    def __repr__(self) -> str:
        of = {} if self.of is None else {"of": self.of}
        fields = ", ".join(f"{name}={value!r}" for name, value in (of | self.fields).items())
        return f"{self.type}({fields})" if fields else self.type


Expected = str | event | Event


Recorded = tuple[str, Event]
"""An event and its stream."""


@dataclass(frozen=True, slots=True)
class _Came:
    """The result of the last ``when``."""

    past: str
    at: datetime
    outcome: str
    recorded: tuple[Recorded, ...] = ()
    ruling: Mapping[str, Any] | None = None
    error: Impossible | None = None
    stored: tuple[Recorded, ...] = ()
    """The events of a command that was recorded before."""

    @property
    def failed(self) -> list[str]:
        clauses = self.ruling["clauses"] if self.ruling else ()
        return sorted({clause["clause"] for clause in clauses if clause["verdict"] == "fail"})

    @property
    def types(self) -> list[str]:
        return [event.type for _, event in self.recorded]

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.outcome} {self.error.code}: {self.error.message}"
        failed = f" by {', '.join(self.failed)}" if self.failed else ""
        return f"{self.outcome}{failed} ({', '.join(self.types) or 'no events'})"


NO_OUTCOME = "no outcome"
"""The outcome of a call that recorded nothing and returned no outcome."""


def given(*history: Happening, policy: AnyPolicy = None) -> Scenario:
    """A new story on a fresh desk in memory, in which this has happened; see :meth:`Scenario.given`."""
    return Scenario(policy=policy).given(*history)


class Scenario:
    """A story on a desk. The clock stays where the last step left it.

    ``given``, ``at``, ``when`` and the ``then``… return the story, so that they can be chained. ``tell`` and ``ask`` return
    the outcome of a command and the answer to a question as the JSON values that ``returnable play`` prints.
    """

    def __init__(
        self,
        desk: Desk | Services | None = None,
        *,
        clock: Clock | None = None,
        policy: AnyPolicy = None,
    ) -> None:
        from returnable import facade

        services = desk if isinstance(desk, Services) or desk is None else desk.services
        book = policy_book(policy) if services is None else services.handler.policies
        self.clock = clock or Clock(policy=book)
        if isinstance(desk, Services):
            desk = facade.Desk(desk, self.clock)
        self.desk: Desk = desk or facade.open("memory:", policy=book, clock=self.clock)
        self.clock.desk = self.desk
        self.lines: list[dict[str, Any]] = []
        """Every command and question, as lines of a scenario."""
        self._came: _Came | None = None

    @property
    def services(self) -> Services:
        """The store, the desk and the questions behind it."""
        return self.desk.services

    @property
    def now(self) -> str:
        """The time of the clock in the policy's zone, with its offset."""
        return self.clock.local.isoformat()

    # ---- commands and questions ----------------------------------------------------------------------------------------

    def tell(self, command: str | Happening, at: When | None = None, **fields: Any) -> dict[str, Any]:
        """Carry out a command by its name and its fields exactly as given, or steps; the outcome of the last.

        ``at``: the instant, by default that of the clock. An impossible command has the outcome ``error``.
        """
        if isinstance(command, str):
            return self._play({"command": command} | fields, at).as_dict()
        steps = list(flat([command]))
        if not steps:
            raise TypeError("there is no step to tell")
        self._move(at)
        return [self._tell(step, fields).as_dict() for step in steps][-1]

    def ask(self, query: str, at: When | None = None, **fields: Any) -> Any:
        """The answer to a question: ``ask("return", return_id="R-1")``, or ``ask("return/R-1")``.

        ``as_of`` and ``known_at`` may be wall times. An impossible question raises ``AssertionError``.
        """
        played = self._play(self._question(query, fields), at)
        if played.error is not None:
            raise AssertionError(f"{query} cannot be answered: {played.error.code}: {played.error.message}")
        return played.answer

    def ask_in_vain(self, query: str, at: When | None = None, **fields: Any) -> dict[str, Any]:
        """The error of a question that cannot be answered."""
        result = self._play(self._question(query, fields), at).as_dict()
        if result["error"] is None:
            raise AssertionError(f"{query} was expected to be impossible; the answer is {result['answer']!r}")
        return dict(result["error"])

    def play(self, scenario: str | Path | Iterable[Fields]) -> list[dict[str, Any]]:
        """Play the file or the lines of a scenario on this desk; the outcome of each. Unmet expectations raise."""
        if isinstance(scenario, str | Path):
            lines = read_scenario(Path(scenario).read_bytes(), str(scenario))
        else:
            lines = [(number, to_json(line)) for number, line in enumerate(scenario, start=1)]
        came = list(play(self.services, lines))
        unmet = [f"line {played.line}: {problem}" for played in came for problem in played.problems]
        if came and came[-1].at:
            self.clock.move_to(came[-1].at)
        if unmet:
            raise AssertionError(self._report("the scenario does not come out as it expects", unmet))
        return [played.as_dict() for played in came]

    def _tell(self, step: Step, more: Fields | None = None) -> Played:
        fields = step.resolved(self.clock.zone_name) | dict(more or {})
        return self._play(fields, step.when)

    def _question(self, subject: str, fields: Fields) -> dict[str, Any]:
        query, _, name = subject.partition("/")
        field = {"eligibility": "order_id", "audit": "stream"}.get(query, f"{query}_id")
        zone_name = self.clock.zone_name
        times = {key: resolved(fields[key], zone_name) for key in ("as_of", "known_at") if key in fields}
        return {"query": query} | ({field: name} if name else {}) | dict(fields) | times

    def _move(self, at: When | None) -> None:
        if at is not None:
            self.clock.move_to(at)

    def _play(self, fields: Mapping[str, Any], at: When | None) -> Played:
        self._move(at)
        self.clock.check()
        line = {"at": self.now} | dict(fields)
        self.lines.append(line)
        (played,) = play(self.services, [(len(self.lines), to_json(line))])
        return played

    # ---- given, when --------------------------------------------------------------------------------------------------

    def given(self, *history: Happening) -> Self:
        """This has happened: every step was accepted, or declined if :func:`~returnable.testing.steps.declined` marks it.

        Raises ``AssertionError`` for a step with another outcome.
        """
        __tracebackhide__ = True
        self._came = None
        for step in flat(history):
            played = self._tell(step)
            came = self._what_came(played)
            if came.outcome != step.outcome:
                says = f"given: {step.command} was to be {step.outcome}"
                raise AssertionError(self._report(says, [f"came {came}", *ruling_lines(came.ruling)], came))
        return self

    def at(self, when: When) -> Self:
        """It is this instant."""
        self.clock.move_to(when)
        return self

    def just_before(self, when: When) -> Self:
        """It is one tick (a microsecond) before this instant."""
        self.clock.move_to(self.clock.instant(when) - ONE_TICK)
        return self

    def after(self, *, days: int = 0, business_days: int = 0, **elapsed: float) -> Self:
        """So much later: first calendar and business days at the same wall time, then elapsed time (``hours=2``)."""
        self.clock.advance_days(days)
        self.clock.advance_business_days(business_days)
        self.clock.advance(timedelta(**elapsed))
        return self

    def when(self, *happens: Happening | Callable[[], object]) -> Self:
        """This happens now: steps, or a call into the code under test that reaches the same desk.

        The outcome is that of the last one; the events are those of all. A call that raises
        :class:`~returnable.domain.errors.Impossible` has the outcome ``error``; a call may also return an outcome.
        """
        came: list[_Came] = []
        for happening in happens:
            if callable(happening):
                came.append(self._call(happening))
            else:
                came += [self._what_came(self._tell(step)) for step in flat([happening])]
        if not came:
            raise TypeError("when() needs something that happens")
        self._came = replace(came[-1], recorded=tuple(each for one in came for each in one.recorded))
        return self

    def _call(self, action: Callable[[], object]) -> _Came:
        before = self.services.store.head()
        past = getattr(action, "__name__", "a call")
        past = "a call" if past == "<lambda>" else past
        result: object = None
        error: Impossible | None = None
        try:
            result = action()
        except Impossible as impossible:
            error = impossible
        if isinstance(result, Step | Steps):
            raise TypeError(f"{past} makes a step and does nothing: when({past}()), with parentheses")
        recorded = tuple((entry.stream, entry.event) for entry in self.services.store.read(before, 1_000_000))
        came = _Came(past, self.clock.now, NO_OUTCOME, recorded, error=error)
        if error is not None:
            return replace(came, outcome="error")
        if isinstance(result, Outcome):
            stored = tuple((stream, event) for stream, _, event in result.recorded_events) if result.replayed else ()
            ruling = result.view().model_dump(mode="json")["ruling"]
            return replace(came, past=result.command, outcome=result.outcome, ruling=ruling, stored=stored)
        return self._of_the_facts(came)

    def _of_the_facts(self, came: _Came) -> _Came:
        """The result of a call that returned no outcome: what its last event says."""
        if not came.recorded:
            return came
        _, last = came.recorded[-1]
        if last.ruling is None or last.pins is None:
            return replace(came, outcome="accepted")
        outcome = outcome_of([last])
        ruling = ruling_view(last.ruling, self.services.handler.policy(last.pins.sha256), outcome == "accepted")
        return replace(came, outcome=outcome, ruling=ruling.model_dump(mode="json"))

    def _what_came(self, played: Played) -> _Came:
        past = f"{played.command} {played.subject}".strip()
        came = _Came(past, self.clock.now, "error", error=played.error)
        if played.outcome is None:
            return came
        view = played.as_dict()
        events = tuple((stream, event) for stream, _, event in played.outcome.recorded_events)
        new, stored = ((), events) if played.outcome.replayed else (events, ())
        return replace(came, outcome=view["outcome"], recorded=new, ruling=view["ruling"], stored=stored)

    # ---- then ---------------------------------------------------------------------------------------------------------

    def then(self, *events: Expected) -> Self:
        """Exactly these events were recorded, in this order: the names of their types, :class:`event`, or whole events."""
        __tracebackhide__ = True
        came = self._last("then")
        self._compare("then: other events were recorded than expected", events, came.recorded, came)
        return self

    def then_replayed(self, *events: Expected) -> Self:
        """The command was recorded before under its id: these are its events from then, and nothing was recorded now."""
        __tracebackhide__ = True
        came = self._last("then_replayed")
        self._compare("then_replayed: something was recorded now", (), came.recorded, came)
        self._compare("then_replayed: other events are recorded than expected", events, came.stored, came)
        return self

    def _compare(self, says: str, expected: Sequence[Expected], events: Sequence[Recorded], came: _Came) -> None:
        __tracebackhide__ = True
        for one in expected:
            if isinstance(one, str):
                _known(one)
        problems = list(_unlike(expected, events, self.clock.zone_name))
        if problems:
            past = list(event_lines((event for _, event in events), zone(self.clock.zone_name))) or ["nothing"]
            self._fail(says, came, [*problems, "recorded was:", *(f"  {line}" for line in past)])

    def then_accepted(self) -> Self:
        """The command was accepted."""
        __tracebackhide__ = True
        came = self._last("then_accepted")
        self._had_outcome("then_accepted", came)
        if came.outcome != "accepted":
            self._fail("then_accepted: it was not", came, [f"expected accepted, came {came}"])
        return self

    def then_declined(self, *clauses: str) -> Self:
        """The command was declined, and exactly these clauses failed (none given: any)."""
        __tracebackhide__ = True
        came = self._last("then_declined")
        self._had_outcome("then_declined", came)
        wanted = sorted(set(clauses))
        if came.outcome != "declined":
            by = f" by {', '.join(wanted)}" if wanted else ""
            self._fail(f"then_declined: it was {came.outcome}", came, [f"expected declined{by}", f"came     {came}"])
        elif clauses and came.failed != wanted:
            problems = [f"expected to fail: {', '.join(wanted)}", f"failed:           {', '.join(came.failed)}"]
            problems += [f"{clause} did not fail" for clause in wanted if clause not in came.failed]
            problems += [f"{clause} failed, too" for clause in came.failed if clause not in wanted]
            self._fail("then_declined: other clauses failed than expected", came, problems)
        return self

    def then_failed(self, *clauses: str) -> Self:
        """Exactly these clauses failed, whatever the outcome; none given: none failed."""
        __tracebackhide__ = True
        came = self._last("then_failed")
        if came.failed != sorted(set(clauses)):
            wanted, failed = ", ".join(sorted(set(clauses))) or "none", ", ".join(came.failed) or "none"
            self._fail("then_failed: other clauses failed", came, [f"expected {wanted}", f"failed   {failed}"])
        return self

    def _had_outcome(self, asked: str, came: _Came) -> None:
        __tracebackhide__ = True
        if came.outcome == NO_OUTCOME:
            says = f"{asked}: {came.past} recorded nothing and returned no outcome of the desk: compare with then()"
            self._fail(says, came, ["came no outcome"])

    def then_error(
        self,
        code: str,
        field: str | None = None,
        *,
        message: str | None = None,
        state: str | None = None,
        allowed: Sequence[str] | None = None,
    ) -> Self:
        """The command was impossible with that code, and nothing was recorded. Also compared, if given: the wrong field, a
        part of the message, the state, and the commands that are allowed now."""
        __tracebackhide__ = True
        came = self._last("then_error")
        error = came.error
        if error is None or error.code != code:
            self._fail("then_error: it was another", came, [f"expected {code}", f"came     {came}"])
        problems = [f"field: expected {field!r}, came {error.field!r}"] if field not in (None, error.field) else []
        problems += [f"state: expected {state!r}, came {error.state!r}"] if state not in (None, error.state) else []
        if message is not None and message not in error.message:
            problems.append(f"message: expected {message!r} in {error.message!r}")
        if allowed is not None and sorted(allowed) != sorted(error.allowed or ()):
            problems.append(
                f"allowed: expected {', '.join(allowed)}, came {', '.join(error.allowed or ()) or 'nothing'}"
            )
        if came.recorded:
            problems.append(f"something was recorded all the same: {', '.join(came.types)}")
        if problems:
            self._fail(f"then_error: {code} came out otherwise", came, problems)
        return self

    def then_verdicts(self, verdicts: Mapping[str, str]) -> Self:
        """The ruling has exactly these verdicts: clause id → verdict."""
        __tracebackhide__ = True
        came = self._last("then_verdicts")
        weighed = {each["clause"]: each["verdict"] for each in (came.ruling["clauses"] if came.ruling else ())}
        every = dict.fromkeys([*weighed, *verdicts])
        problems = [
            f"{clause}: expected {verdicts.get(clause, 'not weighed')}, came {weighed.get(clause, 'not weighed')}"
            for clause in every
            if verdicts.get(clause) != weighed.get(clause)
        ]
        if problems:
            self._fail("then_verdicts: the clauses came out otherwise", came, problems)
        return self

    def then_clause(self, clause: str, verdict: str | None = None, **events: Any) -> Self:
        """The ruling on one clause: its verdict, a part of its ``because``, and grounds such as ``deadline``.

        Times may be wall times.
        """
        __tracebackhide__ = True
        came = self._last("then_clause")
        weighed = {each["clause"]: each for each in (came.ruling["clauses"] if came.ruling else ())}
        if clause not in weighed:
            self._fail(f"then_clause: {clause} was not weighed", came, [f"weighed: {', '.join(weighed) or 'nothing'}"])
        finding = weighed[clause]
        problems = []
        if verdict is not None and finding["verdict"] != verdict:
            problems.append(f"verdict: expected {verdict}, came {finding['verdict']}")
        because = events.pop("because", None)
        if because is not None and because not in finding["because"]:
            problems.append(f"because: expected {because!r} in {finding['because']!r}")
        expected = {name: self._as_instant(name, value) for name, value in events.items()}
        problems += differences(expected, finding["facts"], "")
        if problems:
            self._fail(f"then_clause: {clause} came out otherwise", came, problems)
        return self

    def then_view(self, subject: str, asked: Fields | None = None, /, **expected: Any) -> Self:
        """The present answer to a question, as far as it is given: ``then_view("return/R-1", status="labelled")``.

        ``order/…``, ``return/…``, ``refund/…``, ``claim/…``, ``eligibility/A-1``, ``audit/return/R-1`` or ``worklist``;
        further fields of the question are in ``asked``: ``then_view("refund", {"return_id": "R-1"}, total="530.00")``. Lists
        have as many elements as are given. Times of keys such as ``void_at`` may be wall times.
        """
        __tracebackhide__ = True
        if not expected:
            raise TypeError("then_view() compares what it is given, such as status=…; ask() only asks")
        played = self._play(self._question(subject, asked or {}), None)
        if played.error is not None:
            problems = [f"{played.error.code}: {played.error.message}"]
            raise AssertionError(self._report(f"then_view: {subject} cannot be answered", problems))
        zone_name = self.clock.zone_name
        problems = [
            problem
            for name, value in expected.items()
            for problem in differences({name: _walls(name, value, zone_name)}, played.answer, "")
        ]
        if problems:
            raise AssertionError(self._report(f"then_view: {subject} is otherwise than expected", problems))
        return self

    @property
    def outcome(self) -> str:
        """The outcome of the last ``when``: ``accepted``, ``declined`` or ``error``."""
        return self._last("outcome").outcome

    @property
    def error(self) -> Impossible | None:
        """The error of the last ``when``; ``None`` where it was possible."""
        return self._last("error").error

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that the last ``when`` recorded."""
        return tuple(event for _, event in self._last("events").recorded)

    @property
    def ruling(self) -> Mapping[str, Any] | None:
        """The ruling of the last ``when``."""
        return self._last("ruling").ruling

    # ---- for people ---------------------------------------------------------------------------------------------------

    @property
    def timeline(self) -> str:
        """The history, the clock and the deadlines, in order of time."""
        return timeline(self.desk, self.clock.now, zone(self.clock.zone_name))

    def as_scenario(self) -> str:
        """The story as a scenario, with its outcomes as expectations. Save it as ``….scenario.jsonl``, and it is a test."""
        written = []
        with_expectations = Scenario(policy=self.services.handler.policies)
        for line in self.lines:
            played = with_expectations._play({name: each for name, each in line.items() if name != "at"}, line["at"])
            came = played.as_dict()
            if "query" in line:
                expect = came["answer"] if came["error"] is None else {"error": came["error"]["code"]}
            elif came.get("error"):
                expect = {"outcome": "error", "error": came["error"]["code"]}
            else:
                failed = sorted(set(played.outcome.failed)) if played.outcome else []
                expect = {
                    "outcome": came["outcome"],
                    "events": [each["type"] for each in came["events"]],
                    "failed": failed,
                }
            written.append(to_json(line | {"expect": expect}).decode() + "\n")
        with_expectations.desk.close()
        return "".join(written)

    def save(self, path: str | Path) -> None:
        """Write :meth:`as_scenario` to ``NAME.scenario.jsonl``, and a policy that is not the bundled one next to it.

        Raises ``ValueError`` for another ending, which pytest would not find.
        """
        place = Path(path)
        if not place.name.endswith(".scenario.jsonl"):
            raise ValueError(f"{place.name}: the name of a scenario that is a test ends in .scenario.jsonl")
        versions = self.services.handler.policies.versions
        if versions != policy_book(None).versions:
            folder = policies_folder(place)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for version in versions:
                with written_whole(str(folder / f"{version.effective}.json"), force=True) as file:
                    file.write(version.document.encode())
        content = self.as_scenario().encode()
        with written_whole(str(place), force=True) as file:
            file.write(content)

    def _last(self, asked: str) -> _Came:
        if self._came is None:
            raise RuntimeError(f"{asked} comes after when()")
        return self._came

    def _as_instant(self, name: str, value: Any) -> Any:
        return _walls("deadline_at" if name == "deadline" else name, value, self.clock.zone_name)

    def _fail(self, says: str, came: _Came, problems: Sequence[str]) -> NoReturn:
        __tracebackhide__ = True
        ruling = list(ruling_lines(came.ruling))
        weighed = ["the ruling:", *(f"  {line}" for line in ruling)] if ruling else []
        raise AssertionError(self._report(says, [*problems, *weighed], came))

    def _report(self, says: str, problems: Iterable[str], came: _Came | None = None) -> str:
        policy = self.clock.policy
        name = self.clock.zone_name
        now_says = f"{came.past} → {came.outcome}" if came else ""
        head = f"{says}\n\n{indented(problems)}\n\nThe history ({policy.id} {policy.version}, {name}):\n"
        return head + timeline(self.desk, came.at if came else self.clock.now, zone(name), now_says)


def _known(type_: str) -> None:
    if type_ not in EVENT_TYPES:
        from difflib import get_close_matches

        near = get_close_matches(type_, EVENT_TYPES, 1)
        meant = f"; {near[0]}?" if near else ""
        raise ValueError(f"there is no event {type_!r}{meant}")


EVENT_TYPES = frozenset(kind.__name__ for kind in EVENTS.values())
"""The names of all events."""


def _unlike(expected: Sequence[Expected], came: Sequence[Recorded], zone_name: str) -> Iterator[str]:
    wanted = [one if isinstance(one, str) else one.type for one in expected]
    types = [event.type for _, event in came]
    if wanted != types:
        yield f"expected {', '.join(wanted) or 'no events'}"
        yield f"came     {', '.join(types) or 'no events'}"
        return
    for one, (stream, recorded) in zip(expected, came, strict=True):
        if isinstance(one, str) or one == recorded:
            continue
        if isinstance(one, event) and one.of not in (None, stream):
            yield f"{one.type}: expected in {one.of}, came in {stream}"
        fields = one.fields if isinstance(one, event) else one.model_dump(mode="json")
        wanted_fields, values = (_walls("", each, zone_name) for each in (fields, recorded.model_dump(mode="json")))
        for difference in differences(wanted_fields, values, ""):
            yield f"{one.type}.{difference}"


_TIMES = ("_at", "_by", "_before")


def _walls(name: str, value: Any, zone_name: str) -> Any:
    """An expectation, with its times as instants with an offset."""
    if isinstance(value, Mapping):
        return {key: _walls(str(key), each, zone_name) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_walls(name, each, zone_name) for each in value]
    return resolved(value, zone_name) if name.endswith(_TIMES) else value
