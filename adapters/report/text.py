"""The audit report as plain text: 100 columns, readable in a terminal and in a letter.

No text in it can control a terminal: characters that cannot be seen are spelt out, and text that runs from right to left
cannot reorder the text around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import JsonValue
from rich.cells import cell_len, chop_cells

from returnable.adapters.printable import visible, visible_id
from returnable.domain.calendar import zone
from returnable.domain.outcome import ClauseView
from returnable.projections.report.model import (
    DeadlineEntry,
    EventEntry,
    LifecyclePath,
    OverrideEntry,
    RefundSheet,
    Report,
    RulingEntry,
)
from returnable.projections.report.wording import at_a_glance, spelt, spoken, words
from returnable.projections.views import ActorView, MoneyView, SubjectView

WIDTH = 100
"""Columns of a terminal; wide characters take two."""

_VERDICTS = {"pass": "pass", "fail": "FAIL", "overridden": "SET ASIDE", "not_applicable": "n/a"}
# Unicode 16.0, DerivedBidiClass.txt: every block whose characters, also those not assigned yet, are R, AL or AN.
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
_FOCUS = {True: " (the refund asked about)", False: ""}
_FIRST_STRONG_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"


def report_text(report: Report) -> str:
    """The text of a report, with a line break at its end."""
    lines = [line.rstrip() for line in _Letter(report).lines()]
    return "\n".join(lines) + "\n"


class _Letter:
    """The text of one report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.tz = zone(report.policy.zone)

    def lines(self) -> Iterator[str]:
        yield from self.header()
        parts = (
            ("Goods", self.subject()),
            ("Timeline", self.timeline()),
            ("Lifecycles", self.lifecycles()),
            ("Rulings", self.rulings()),
            ("Money", self.money()),
            ("Open tasks and deadlines", self.open()),
        )
        for number, (name, content) in enumerate(parts, start=1):
            yield from ("", "", f"{number}. {name.upper()}", "=" * WIDTH)
            yield from content

    def time(self, instant: str) -> str:
        return spoken(instant, self.tz)

    def until(self, deadline: DeadlineEntry) -> str:
        return f"{'up to and including' if deadline.inclusive else 'before'} {self.time(deadline.at)}"

    def fields(self, values: Mapping[str, JsonValue], indent: str) -> Iterator[str]:
        for name, value in spelt(values, self.tz):
            yield from _wrapped(f"{indent}{name + ':':<18} ", value)

    # ---- the parts ------------------------------------------------------------------------------------------------------

    def header(self) -> Iterator[str]:
        report, store, policy = self.report, self.report.store, self.report.policy
        yield from _wrapped("", f"AUDIT REPORT: {report.kind} {_id(report.id)}, {words(report.state)}", given=False)
        yield "=" * WIDTH
        made = spoken(report.generated_at, self.tz, whole_seconds=True)
        rows = [("Made", made if report.as_of is not None else f"{made}, and judged at that moment")]
        if report.pays_for is not None:
            rows.append(("Pays for", visible_id(report.pays_for)))
        if report.as_of is not None:
            rows.append(("As of", f"what was true in the world at {self.time(report.as_of)}"))
        if report.known_at is not None:
            rows.append(("Known at", f"what had been recorded by {self.time(report.known_at)}"))
        customer = [report.customer_id, report.customer_name, report.customer_email]
        rows += [
            ("Order", visible_id(report.order_id)),
            ("Customer", ", ".join(text for text in customer if text is not None)),
            ("Policy", f"{policy.id} {policy.version}, engine {policy.engine}"),
            ("Policy sha256", policy.sha256),
            ("Calendar, zone", f"{policy.calendar}, {policy.zone_and_data}"),
            (
                "Made from",
                f"the store up to position {store.position}; of this case {store.facts} events, the last "
                f"{store.last_fact} at position {store.last_fact_position}",
            ),
        ]
        if store.damaged is not None:
            rows.append(("Damaged", f"nothing counts from here on: {store.damaged}"))
        for name, value in rows:
            yield from _wrapped(f"{name:<16}", value)
        for found in report.look_alikes:
            ids = found.in_words(_id)
            yield from _wrapped(f"{'Look alike':<16}", f"these ids look the same but differ: {ids}", given=False)
        yield ""
        for what, value, _ in at_a_glance(report):
            yield f"{value:>16}  {what}"

    def subject(self) -> Iterator[str]:
        currency = self.report.money.currency
        for line in self.report.goods:
            sale = ", final sale" if line.final_sale else ""
            described = f", {_safe(line.description)}" if line.description is not None else ""
            article = (
                f"{_id(line.sku)}{described}: {line.quantity} × {line.unit_price} {currency}, tax {line.tax}{sale}"
            )
            yield from _wrapped("Line ", f"{_id(line.line_id)}: {article}", hang=" " * 8, given=False)
            fates = ", ".join(f"{count} {what}" for what, count in line.fates)
            if fates:
                yield from _wrapped("        ", fates)

    def timeline(self) -> Iterator[str]:
        for entry in self.report.timeline:
            if isinstance(entry, EventEntry) or not entry.ahead:
                yield ""
                yield from self.event(entry) if isinstance(entry, EventEntry) else self.deadline(entry)
        moment = f"---- the moment of this report: {spoken(self.report.moment, self.tz, whole_seconds=True)} "
        yield from ("", moment.ljust(WIDTH, "-"))
        for deadline in self.report.deadlines:
            if deadline.ahead:
                yield ""
                yield from self.deadline(deadline)

    def event(self, event: EventEntry) -> Iterator[str]:
        outcome = f": {event.outcome.upper()}" if event.outcome is not None else ""
        yield from _wrapped("* ", f"{event.title}{outcome}{_FOCUS[event.focus]}", hang="  ")
        learnt = ""
        if event.learnt_later is not None:
            learnt = f"; learnt {event.learnt_later} later, recorded {self.time(event.recorded_at)}"
        yield from _wrapped("  ", f"{self.time(event.occurred_at)}{learnt}")
        background = ", of the order" if event.background else ""
        command = f", command {_id(event.command_id)}" if event.command_id is not None else ""
        yield from _wrapped(
            "  ", f"{_id(event.event)} {event.type}, {_actor(event.actor)}{command}{background}", given=False
        )
        yield from _wrapped("  ", "; ".join(_moves(event)), given=False)
        yield from self.fields(event.details, "    ")

    def deadline(self, deadline: DeadlineEntry) -> Iterator[str]:
        yield from _wrapped("> ", f"{deadline.state.upper()}: {_safe(deadline.title)}", hang="  ", given=False)
        note = f"; {_safe(deadline.note)}" if deadline.note is not None else ""
        yield from _wrapped("  ", f"{self.until(deadline)}{note}", given=False)
        yield from _wrapped("  ", f"{deadline.clause}, set by {_id(deadline.event)}", given=False)

    def lifecycles(self) -> Iterator[str]:
        for path in self.report.lifecycles:
            yield ""
            yield from self.lifecycle(path)

    def lifecycle(self, path: LifecyclePath) -> Iterator[str]:
        clock = f"; by the clock {words(path.by_the_clock)}, which no event records yet" if path.by_the_clock else ""
        of = f" of return {_id(path.of)}" if path.of is not None else ""
        yield from _wrapped("", f"{path.lifecycle} {_id(path.name)}{of}: {words(path.state)}{clock}", given=False)
        for step in path.steps:
            if step.before == step.after:
                way = f"stays {words(step.after)}"
            else:
                way = f"{words(step.before)} -> {words(step.after)}" if step.before else f"-> {words(step.after)}"
            yield from _wrapped(
                f"  {step.number:>3}. ",
                f"{way}: {step.title}, {self.time(step.occurred_at)} ({_id(step.event)})",
                given=False,
            )

    def rulings(self) -> Iterator[str]:
        if not self.report.rulings:
            yield "No decision was made."
        for override in self.report.overrides:
            yield ""
            yield from self.override(override)
        for ruling in self.report.rulings:
            yield ""
            yield from self.ruling(ruling)

    def override(self, override: OverrideEntry) -> Iterator[str]:
        yield f"SET ASIDE: {override.clause}"
        yield from _wrapped("  ", f"{_id(override.approved_by)} approved it: {_safe(override.reason)}", given=False)
        used = ", ".join(_id(event) for event in override.used_by)
        used = f"cited by {used}" if used else "no ruling cites it"
        place = f"{self.time(override.granted_at)}, {_id(override.event)}, {_actor(override.actor)}; {used}"
        yield from _wrapped("  ", place, given=False)
        lines = f"lines {', '.join(map(_id, override.lines))}" if override.lines else "all lines"
        end = f"until {self.time(override.expires_at)}" if override.expires_at is not None else "no expiry"
        uses = "for one decision" if override.once else "for every decision"
        if override.used_up_by is not None:
            uses = f"used up by {_id(override.used_up_by)}"
        yield from _wrapped("  ", f"{lines}; {end}; {uses}", given=False)

    def ruling(self, ruling: RulingEntry) -> Iterator[str]:
        stamp = ruling.policy
        yield f"{ruling.title}: {ruling.outcome.upper()}{_FOCUS[ruling.focus]}"
        place = f"{self.time(ruling.decided_at)}, {_id(ruling.event)}, {_actor(ruling.actor)}"
        yield from _wrapped("  ", place, given=False)
        yield from _wrapped("  ", f"policy {stamp.id} {stamp.version}, sha256 {stamp.sha256}")
        for clause in ruling.clauses:
            yield from self.clause(clause)

    def clause(self, clause: ClauseView) -> Iterator[str]:
        yield from _wrapped(f"  {_VERDICTS[clause.verdict]:<10}{clause.clause}: ", clause.because, hang=" " * 12)
        if clause.quote:
            yield from _wrapped(" " * 12 + "“", clause.quote + "”", hang=" " * 13)
        yield from self.fields(clause.facts, " " * 14)

    def money(self) -> Iterator[str]:
        money = self.report.money
        for sheet in money.sheets:
            yield ""
            yield from self.sheet(sheet)
        for nothing in money.nothing_due:
            yield ""
            yield from _wrapped("", f"Nothing is due yet for {_subject_name(nothing.for_)}:", given=False)
            for reason in nothing.reasons:
                yield from _wrapped("  ", reason)
        if not money.sheets and not money.nothing_due:
            yield "No refund was requested, and none is due."
        yield ""
        yield f"Payments of the order in {money.currency} (remaining = captured - refunded - pending)"
        head = ("Payment", "Captured", "Refunded", "Pending", "Remaining")
        yield from _row(head)
        for row in money.payments:
            yield from _row(_payment(_payment_name(row.payment_id, row.method), row))
        yield "-" * WIDTH
        yield from _row(_payment("Total", money.total))

    def sheet(self, sheet: RefundSheet) -> Iterator[str]:
        name = f"Refund {_id(sheet.refund_id)}" if sheet.refund_id is not None else "Due, not requested yet,"
        overdue = ", OVERDUE" if sheet.overdue else ""
        head = f"{name} for {_subject_name(sheet.for_)}: {words(sheet.status)}{overdue}{_FOCUS[sheet.focus]}"
        yield from _wrapped("", head, given=False)
        if sheet.issued_at is not None:
            expected = f"; expected from {' to '.join(sheet.expected_between)}" if sheet.expected_between else ""
            yield f"  issued {self.time(sheet.issued_at)}{expected}"
        for row in sheet.rows:
            yield from _amount(_safe(row.what), row.amount)
            if row.because is not None:
                yield from _wrapped("      ", row.because)
        yield "  " + "-" * (WIDTH - 2)
        yield from _amount("Total", f"{sheet.total} {sheet.currency}")
        for tender, method in zip(sheet.tenders, sheet.methods, strict=True):
            reference = f", reference {_id(tender.reference)}" if tender.reference is not None else ""
            what = f"of this to {_payment_name(tender.payment_id, method)}: {words(tender.status)}{reference}"
            yield from _amount(what, tender.amount)

    def open(self) -> Iterator[str]:
        yield "Waiting for somebody:"
        for item in self.report.open.work:
            due = f", due {self.time(item.due_at)}" if item.due_at is not None else ""
            overdue = ", OVERDUE" if item.overdue else ""
            yield from _wrapped("  ", f"{words(item.kind)}: {_subject_name(item.subject)}{due}{overdue}", given=False)
        if not self.report.open.work:
            yield "  nothing"
        yield "Deadlines to come:"
        for deadline in self.report.open.deadlines:
            source = f"({deadline.clause}, {_id(deadline.event)})"
            yield from _wrapped("  ", f"{self.until(deadline)}: {_safe(deadline.title)} {source}", given=False)
        if not self.report.open.deadlines:
            yield "  none"


# ---- pieces ---------------------------------------------------------------------------------------------------------


def _safe(text: str) -> str:
    """Text that somebody gave, made safe among ours."""
    shown = visible(text)
    if _RIGHT_TO_LEFT.search(shown):
        return f"{_FIRST_STRONG_ISOLATE}{shown}{_END_OF_ISOLATE}"
    return shown


def _id(text: str) -> str:
    """The same for an id: every character that cannot be seen is spelt out."""
    return _safe(visible_id(text))


def _actor(actor: ActorView | None) -> str:
    return f"by {actor.role} {_id(actor.id)}" if actor is not None else "actor not given"


def _subject_name(subject: SubjectView) -> str:
    return f"{subject.kind} {_id(subject.id)}"


def _moves(event: EventEntry) -> Iterator[str]:
    main = event.event.partition("/")[0]
    if event.before == event.after:
        yield f"{main} stays {words(event.after)}"
    else:
        yield f"{main} {words(event.before) + ' ' if event.before is not None else ''}-> {words(event.after)}"
    for move in event.moves:
        if move.lifecycle in ("label", "refund") and move.before != move.after:
            before = f"{words(move.before)} " if move.before is not None else ""
            yield f"{move.lifecycle} {_id(move.name)} {before}-> {words(move.after)}"


def _payment(name: str, row: MoneyView) -> Sequence[str]:
    return name, row.captured, row.refunded, row.pending, row.remaining


def _payment_name(payment_id: str, method: str) -> str:
    return _id(payment_id) if payment_id == method else f"{_id(payment_id)} ({_safe(method)})"


def _row(cells: Sequence[str]) -> Iterator[str]:
    """A name and amounts in columns; a long name takes lines of its own."""
    *before, last = _wrapped("", cells[0], width=34, given=False)
    yield from before
    yield last + " " * (36 - cell_len(last)) + "".join(f"{cell:>16}" for cell in cells[1:])


def _amount(what: str, amount: str) -> Iterator[str]:
    """A name, and an amount at the right margin."""
    *before, last = _wrapped("  ", what, hang="    ", width=WIDTH - 24, given=False)
    yield from before
    yield last + " " + "." * (WIDTH - cell_len(last) - cell_len(amount) - 2) + " " + amount


def _wrapped(
    first: str, text: str, hang: str | None = None, width: int = WIDTH, *, given: bool = True
) -> Iterator[str]:
    """The text in lines of at most ``width`` columns: the first begins with ``first``, the others with ``hang`` (default:
    as many spaces). ``given``: the text holds text from outside that was not made safe yet."""
    indent = hang if hang is not None else " " * cell_len(first)
    line, empty = first, True
    for word in _pieces(_safe(text) if given else text, width - max(cell_len(first), cell_len(indent))):
        if not empty and cell_len(line) + 1 + cell_len(word) > width:
            yield line
            line, empty = indent, True
        line, empty = line + ("" if empty else " ") + word, False
    yield line


def _pieces(text: str, width: int) -> Iterable[str]:
    """The words of a text; a word that is too long for a line is cut."""
    for word in text.split(" "):
        if cell_len(word) <= width:
            yield word
        else:
            yield from chop_cells(word, max(width, 8))
