"""The audit report as one HTML page that needs nothing else: no script, no font, no picture, no request.

The page is built as a tree and serialized once, so that no value can become markup. Its content security policy allows
nothing but its one style sheet. The same report gives the same bytes.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from xml.etree.ElementTree import Element

from pydantic import JsonValue

from returnable.adapters.report.diagram import lifecycle_svg
from returnable.adapters.report.markup import Child, el, given, named, page, style
from returnable.domain.calendar import zone
from returnable.domain.outcome import ClauseView
from returnable.projections.lookalikes import LookAlike
from returnable.projections.report.model import (
    DeadlineEntry,
    EventEntry,
    GoodsLine,
    LifecyclePath,
    OverrideEntry,
    RefundSheet,
    Report,
    RulingEntry,
    SumRow,
)
from returnable.projections.report.wording import at_a_glance, spelt, spoken, words
from returnable.projections.views import ActorView, MoneyView, SubjectView, WorkItem

BADGES = {
    "pass": ("✓ pass", "good"),
    "fail": ("✗ fail", "bad"),
    "overridden": ("⚑ set aside", "warn"),
    "not_applicable": ("– not applicable", "plain"),
    "accepted": ("✓ accepted", "good"),
    "declined": ("✗ declined", "bad"),
    "met": ("✓ met", "good"),
    "missed": ("✗ missed", "bad"),
    "passed": ("– passed", "plain"),
    "pending": ("… pending", "warn"),
    "lifted": ("– lifted", "plain"),
    "overdue": ("✗ overdue", "bad"),
    "focus": ("◆ the refund asked about", "plain"),
    "due": ("due", "warn"),
    "requested": ("requested", "warn"),
    "settled": ("settled", "good"),
    "refunded": ("refunded", "good"),
    "failed": ("failed", "bad"),
}
"""Verdict, outcome or state → sign and word, and tone: colour is never the only signal."""


def report_html(report: Report) -> str:
    """The page of a report."""
    return page(_Page(report).root())


class _Page:
    """The page of one report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.tz = zone(report.policy.zone)
        self.anchors = {event.event: f"event-{number}" for number, event in enumerate(report.events, start=1)}

    # ---- small pieces ---------------------------------------------------------------------------------------------------

    def time(self, instant: str, whole_seconds: bool = False) -> Element:
        """An instant, for people and for machines."""
        return el("time", spoken(instant, self.tz, whole_seconds), datetime=instant)

    def until(self, deadline: DeadlineEntry) -> Child:
        """The instant of a deadline, and whether it is included."""
        return "up to and including " if deadline.inclusive else "before ", self.time(deadline.at)

    def event(self, event: str) -> Element:
        """A reference to an event: a link if the event is on this page."""
        anchor = self.anchors.get(event)
        name = el("code", named(event))
        return el("a", name, href=f"#{anchor}") if anchor else name

    def fields(self, values: Mapping[str, JsonValue]) -> Element | None:
        """The fields of an event, or the grounds of a verdict."""
        return _definitions([(name, given(value)) for name, value in spelt(values, self.tz)], "fields")

    # ---- the page -------------------------------------------------------------------------------------------------------

    def root(self) -> Element:
        """The whole page."""
        title = f"{self.report.kind.capitalize()} {self.report.id}: audit report"
        sections = [
            ("subject", "Goods", self.subject()),
            ("timeline", "Timeline", self.timeline()),
            ("lifecycles", "Lifecycles", self.lifecycles()),
            ("rulings", "Rulings", self.rulings()),
            ("money", "Money", self.money()),
            ("open", "Open tasks and deadlines", self.open()),
        ]
        return el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", http_equiv="Content-Security-Policy", content=CONTENT_POLICY),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", name="referrer", content="no-referrer"),
                el("meta", name="robots", content="noindex"),
                el("meta", name="color-scheme", content="light dark"),
                el("meta", name="generator", content="returnable"),
                el("title", title),
                style(STYLE),
            ),
            el(
                "body",
                el("a", "Skip to the report", class_="skip", href="#subject"),
                self.header(),
                el(
                    "nav",
                    el("ol", (el("li", el("a", name, href=f"#{key}")) for key, name, _ in sections)),
                    aria_label="Contents",
                ),
                el("main", (_section(key, name, content) for key, name, content in sections)),
                self.footer(),
            ),
            lang="en",
        )

    def header(self) -> Element:
        """The subject and its state, the instants and the policy by which it is judged, and the events behind it."""
        report, store, policy = self.report, self.report.store, self.report.policy
        made = self.time(report.generated_at, whole_seconds=True)
        rows: list[tuple[str, Child]] = [("Pays for", named(report.pays_for))] if report.pays_for is not None else []
        rows.append(("Made", (made, ", and judged at that moment" if report.as_of is None else None)))
        if report.as_of is not None:
            rows.append(("As of", ("what was true in the world at ", self.time(report.as_of))))
        if report.known_at is not None:
            rows.append(("Known at", ("what had been recorded by ", self.time(report.known_at))))
        buyer = [given(text) for text in (report.customer_name, report.customer_email) if text is not None]
        counted = f"the store up to position {store.position}; of this case {store.facts} events, the last "
        rows += [
            ("Order", named(report.order_id)),
            ("Customer", _joined([named(report.customer_id), *buyer], ", ")),
            ("Policy", (named(policy.id), " ", named(policy.version), f", engine {policy.engine}")),
            ("Policy sha256", el("code", policy.sha256)),
            ("Calendar, zone", (given(policy.calendar), ", ", given(policy.zone_and_data))),
            ("Made from", (counted, self.event(store.last_fact), f" at position {store.last_fact_position}")),
        ]
        if store.damaged is not None:
            rows.append(("Damaged", (el("strong", "nothing counts from here on: "), given(store.damaged))))
        rows += [("Look alike", _look_alike(each)) for each in report.look_alikes]
        state = el("span", words(report.state), class_="state")
        return el(
            "header",
            el("p", "Audit report", class_="eyebrow"),
            el("h1", report.kind.capitalize(), " ", named(report.id), " ", state),
            _definitions(rows, "meta"),
            el(
                "ul",
                (
                    el("li", el("strong", value), " ", el("span", what), class_=tone or None)
                    for what, value, tone in at_a_glance(report)
                ),
                class_="glance",
                aria_label="At a glance",
            ),
        )

    def footer(self) -> Element:
        """Notes for the reader."""
        return el(
            "footer",
            el(
                "p",
                "Events are listed in the order in which they were recorded. “Occurred” is when an event happened in the "
                "world, “recorded” when the system recorded it. All times are in the zone of the policy, ",
                given(self.report.policy.zone),
                ". A deadline is the instant that an event set, as it was set then. Characters that cannot be seen are "
                "spelt out, like ⟨U+202E⟩. This page holds personal data if the order does. It loads nothing and sends "
                "nothing.",
            ),
        )

    # ---- goods ----------------------------------------------------------------------------------------------------------

    def subject(self) -> Iterator[Child]:
        """The lines of the order that the report is about."""
        currency = self.report.money.currency
        columns = ("Line", "Article", f"Unit price ({currency})", "Units", f"Tax ({currency})", "State of the units")
        caption = "Goods" if self.report.kind == "order" else "Goods, as bought"
        yield _table(caption, columns, [_goods(line) for line in self.report.goods], numbers=(2, 3, 4))

    # ---- timeline -------------------------------------------------------------------------------------------------------

    def timeline(self) -> Iterator[Child]:
        """Events and deadlines, with the moment of the report among them."""
        past = [entry for entry in self.report.timeline if isinstance(entry, EventEntry) or not entry.ahead]
        moment = self.time(self.report.moment, whole_seconds=True)
        items = [self.event_entry(each) if isinstance(each, EventEntry) else self.deadline(each) for each in past]
        items.append(el("li", el("p", "The moment of this report: ", moment), class_="now"))
        items += [self.deadline(deadline) for deadline in self.report.deadlines if deadline.ahead]
        yield el("ol", items, class_="timeline")

    def event_entry(self, event: EventEntry) -> Element:
        """An event on the timeline."""
        marks = ["event", "background" if event.background else "", "focus" if event.focus else ""]
        marks.append("declined" if event.outcome == "declined" else "")
        times: list[Child] = ["Occurred ", self.time(event.occurred_at)]
        if event.learnt_later is not None:
            times += [el("span", f"learnt {event.learnt_later} later", class_="later")]
            times += [", recorded ", self.time(event.recorded_at)]
        source: list[Child] = [el("code", named(event.event)), event.type, _actor(event.actor)]
        if event.command_id is not None:
            source.append(("command ", el("code", named(event.command_id))))
        if event.background:
            source.append("of the order")
        return el(
            "li",
            _head(event.title, event.outcome, "focus" if event.focus else None, more=_moved(event)),
            el("p", times, class_="when"),
            el("p", _joined(source), class_="by"),
            self.fields(event.details),
            class_=" ".join(mark for mark in marks if mark),
            id=self.anchors[event.event],
        )

    def deadline(self, deadline: DeadlineEntry) -> Element:
        """A deadline on the timeline."""
        note = [given(deadline.note)] if deadline.note else []
        return el(
            "li",
            _head(given(deadline.title), deadline.state),
            el("p", _joined([self.until(deadline), *note]), class_="when"),
            el("p", _joined([el("code", deadline.clause), ("set by ", self.event(deadline.event))]), class_="by"),
            class_=f"deadline {deadline.state}",
        )

    # ---- lifecycles -----------------------------------------------------------------------------------------------------

    def lifecycles(self) -> Iterator[Child]:
        """One drawing for each lifecycle, with its steps beside it."""
        note = "All states of each lifecycle. Thick lines are the path taken, with the number of each step. ↻ marks events "
        yield el("p", note + "that left the state as it was. The filled state is the present one.", class_="note")
        for number, path in enumerate(self.report.lifecycles, start=1):
            yield self.lifecycle(path, number)

    def lifecycle(self, path: LifecyclePath, number: int) -> Element:
        """A lifecycle: the drawing and the numbered steps."""
        of = (" of return ", named(path.of)) if path.of is not None else None
        clock = f", {words(path.by_the_clock)} by the clock; no event records that yet" if path.by_the_clock else None
        steps = (
            el(
                "li",
                el("strong", step.title),
                f" {words(step.before)} → {words(step.after)}"
                if step.before is not None and step.before != step.after
                else f" {'stays ' if step.before else '→ '}{words(step.after)}",
                el("br"),
                el("span", _joined([self.time(step.occurred_at), self.event(step.event)]), class_="by"),
            )
            for step in path.steps
        )
        drawing = el("div", lifecycle_svg(path, number), class_="drawing")
        return el(
            "article",
            el("h3", path.lifecycle.capitalize(), " ", named(path.name), of, ": ", words(path.state), clock),
            el("div", drawing, el("ol", steps, class_="steps"), class_="path"),
        )

    # ---- rulings --------------------------------------------------------------------------------------------------------

    def rulings(self) -> Iterator[Child]:
        """The clauses that were set aside, and every decision with every clause."""
        if not self.report.rulings:
            yield el("p", "No decision was made.")
        yield from map(self.override, self.report.overrides)
        yield from map(self.ruling, self.report.rulings)

    def override(self, override: OverrideEntry) -> Element:
        """A clause that a person set aside."""
        used = [self.event(event) for event in override.used_by]
        source: list[Child] = [self.time(override.granted_at), self.event(override.event), _actor(override.actor)]
        lines: Child = ("lines ", _joined(map(named, override.lines), ", ")) if override.lines else "all lines"
        end: Child = ("until ", self.time(override.expires_at)) if override.expires_at is not None else "no expiry"
        uses: Child = "for one decision" if override.once else "for every decision"
        if override.used_up_by is not None:
            uses = ("used up by ", self.event(override.used_up_by))
        return el(
            "article",
            el("h3", "Set aside: ", el("code", override.clause)),
            el("p", el("strong", named(override.approved_by)), " approved it: ", given(override.reason)),
            _quote(override.quote),
            el(
                "p",
                _joined(
                    [*source, lines, end, uses, ("cited by ", _joined(used, ", ")) if used else "no ruling cites it"]
                ),
                class_="by",
            ),
            class_="override",
        )

    def ruling(self, ruling: RulingEntry) -> Element:
        """A decision with every clause."""
        stamp = ruling.policy
        sha256 = f"{stamp.sha256[:12]}…" if stamp == self.report.policy else stamp.sha256
        policy = ("policy ", named(stamp.id), " ", named(stamp.version), ", sha256 ", el("code", sha256))
        decided = ("Decided ", self.time(ruling.decided_at))
        return el(
            "article",
            _head(ruling.title, ruling.outcome, "focus" if ruling.focus else None),
            el("p", _joined([decided, self.event(ruling.event), _actor(ruling.actor), policy]), class_="by"),
            el("ul", map(self.clause, ruling.clauses), class_="clauses"),
            class_=f"ruling {ruling.outcome}{' focus' if ruling.focus else ''}",
        )

    def clause(self, clause: ClauseView) -> Element:
        """A clause: verdict, reason, the merchant's words, and the grounds."""
        grounds = self.fields(clause.facts)
        return el(
            "li",
            el("div", _badge(clause.verdict), el("code", clause.clause), class_="verdict"),
            el(
                "div",
                el("p", given(clause.because), class_="because"),
                _quote(clause.quote),
                el("details", el("summary", "What it rests on"), grounds) if grounds is not None else None,
            ),
            class_=clause.verdict,
        )

    # ---- money ----------------------------------------------------------------------------------------------------------

    def money(self) -> Iterator[Child]:
        """Refunds as sums, the reasons why nothing is due, and the balance of each payment."""
        money = self.report.money
        yield from map(self.sheet, money.sheets)
        for nothing in money.nothing_due:
            yield el(
                "article",
                el("h3", "Nothing is due yet for ", named(_subject_name(nothing.for_))),
                el("ul", (el("li", given(reason)) for reason in nothing.reasons)),
                class_="sheet",
            )
        if not money.sheets and not money.nothing_due:
            yield el("p", "No refund was requested, and none is due.")
        yield el("h3", "Payments of the order")
        yield _table(
            f"Each payment in {money.currency}: remaining = captured − refunded − pending",
            ("Payment", "Method", "Captured", "Refunded", "Pending", "Remaining"),
            [_payment(named(row.payment_id), given(row.method), row) for row in money.payments],
            numbers=(2, 3, 4, 5),
            total=_payment("Total", "", money.total),
        )

    def sheet(self, sheet: RefundSheet) -> Element:
        """A refund as a sum."""
        head = ("Refund ", given(sheet.refund_id)) if sheet.refund_id is not None else "Due"
        notes: list[Child] = []
        if sheet.issued_at is not None:
            notes.append(("Issued ", self.time(sheet.issued_at)))
        if sheet.expected_between is not None:
            notes.append(f"expected from {sheet.expected_between[0]} to {sheet.expected_between[1]}")
        if sheet.refund_id is None:
            notes.append("Not requested yet: what would be paid at the moment of this report.")
        badges = sheet.status, "overdue" if sheet.overdue else None, "focus" if sheet.focus else None
        sums = [_sum_row(row) for row in sheet.rows]
        tenders = [
            (
                named(tender.payment_id),
                given(method),
                _badge(tender.status),
                named(tender.reference) if tender.reference is not None else "–",
                tender.amount,
            )
            for tender, method in zip(sheet.tenders, sheet.methods, strict=True)
        ]
        columns = ("Payment", "Method", "Status", "Reference", sheet.currency)
        total = ("Total", "", "", "", sheet.total)
        return el(
            "article",
            _head((head, " for ", given(_subject_name(sheet.for_))), *badges),
            el("p", _joined(notes), class_="by"),
            _table("The sum", ("What", sheet.currency), sums, numbers=(1,), total=("Total", sheet.total)),
            _table("Split over the payments of the order", columns, tenders, numbers=(4,), total=total),
            class_="sheet focus" if sheet.focus else "sheet",
        )

    # ---- open tasks and deadlines ---------------------------------------------------------------------------------------

    def open(self) -> Iterator[Child]:
        """The tasks that wait for somebody, and the deadlines to come."""
        yield el("h3", "Waiting for somebody")
        if self.report.open.work:
            rows = [self.work(item) for item in self.report.open.work]
            yield _table("Tasks of the case that are not done", ("Task", "Subject", "Due", ""), rows)
        else:
            yield el("p", "No task waits for anybody.")
        yield el("h3", "Deadlines to come")
        if self.report.open.deadlines:
            rows = [
                (given(each.title), self.until(each), el("code", each.clause), self.event(each.event))
                for each in self.report.open.deadlines
            ]
            yield _table("The earliest first", ("Deadline", "When", "Clause", "Set by"), rows)
        else:
            yield el("p", "No deadline is to come.")

    def work(self, item: WorkItem) -> Sequence[Child]:
        """A task of the worklist."""
        due = self.time(item.due_at) if item.due_at is not None else "–"
        return words(item.kind), named(_subject_name(item.subject)), due, _badge("overdue") if item.overdue else ""


# ---- pieces that need no page ---------------------------------------------------------------------------------------


def _section(key: str, name: str, content: Child) -> Element:
    return el("section", el("h2", name, id=f"{key}-heading"), content, id=key, aria_labelledby=f"{key}-heading")


def _table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Child]],
    numbers: Sequence[int] = (),
    total: Sequence[Child] | None = None,
) -> Element:
    """A table; the first column names the row, the columns ``numbers`` are aligned to the right."""

    stacked = len(columns) > 2

    def cell(index: int, value: Child) -> Element:
        kind = "number" if index in numbers else None
        name = columns[index] if stacked and columns[index] else None
        if index == 0:
            return el("th", value, scope="row", class_=kind, data_name=name)
        # The box lets a narrow page show the name of the column beside the value.
        return el("td", el("div", value) if stacked else value, class_=kind, data_name=name)

    def line(values: Sequence[Child]) -> Element:
        return el("tr", (cell(index, value) for index, value in enumerate(values)))

    heads = (
        el("th", name, scope="col", class_="number" if index in numbers else None) if name else el("td")
        for index, name in enumerate(columns)
    )
    return el(
        "div",
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", heads)),
            el("tbody", (line(row) for row in rows)),
            el("tfoot", line(total)) if total is not None else None,
            class_="stacked" if stacked else None,
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex=0,
    )


def _definitions(rows: Sequence[tuple[str, Child]], kind: str) -> Element | None:
    if not rows:
        return None
    return el("dl", (el("div", el("dt", name), el("dd", value)) for name, value in rows), class_=kind)


def _head(title: Child, *badges: str | None, more: Child = None) -> Element:
    return el("div", el("h3", title), (_badge(badge) for badge in badges if badge is not None), more, class_="head")


def _badge(kind: str) -> Element:
    text, tone = BADGES[kind]
    return el("span", text, class_=f"badge {tone}")


def _joined(items: Iterable[Child], separator: str = " · ") -> Child:
    return [item if index == 0 else (separator, item) for index, item in enumerate(items)]


def _moved(event: EventEntry) -> Element:
    """The states before and after."""
    main = event.event.partition("/")[0]
    moves: list[tuple[str, str | None, str | None, str]] = []
    if event.before != event.after:
        moves.append((main, None, event.before, event.after))
    moves += [
        (move.lifecycle, move.name, move.before, move.after)
        for move in event.moves
        if move.lifecycle in ("label", "refund") and move.before != move.after
    ]
    stays = None if event.before != event.after else el("span", f"{main} stays {words(event.after)}", class_="move")
    return el("p", stays, (_move(*move) for move in moves), class_="moves")


def _look_alike(found: LookAlike) -> Child:
    """The ids, each with its characters."""
    each = zip(found.ids, found.code_points, strict=True)
    ids = [(named(one), " (", el("code", code_points), ")") for one, code_points in each]
    return el("strong", "these ids look the same but differ: "), _joined(ids, ", ")


def _actor(actor: ActorView | None) -> Child:
    return ("by ", actor.role, " ", named(actor.id)) if actor is not None else "actor not given"


def _move(lifecycle: str, name: str | None, before: str | None, after: str) -> Element:
    return el(
        "span",
        f"{lifecycle} ",
        (given(name), " ") if name is not None else None,
        words(before) if before is not None else None,
        " → ",
        el("strong", words(after)),
        class_="move",
    )


def _quote(quote: str) -> Element | None:
    return el("blockquote", el("p", "“", given(quote), "”")) if quote else None


def _subject_name(subject: SubjectView) -> str:
    return f"{subject.kind} {subject.id}"


def _goods(line: GoodsLine) -> Sequence[Child]:
    fates = [f"{count} {what}" for what, count in line.fates]
    article: list[Child] = [named(line.sku)]
    if line.description is not None:
        article += [el("br"), given(line.description)]
    if line.final_sale:
        article += [" ", el("span", "final sale", class_="badge warn")]
    return named(line.line_id), article, line.unit_price, str(line.quantity), line.tax, given(", ".join(fates) or "–")


def _sum_row(row: SumRow) -> Sequence[Child]:
    what: list[Child] = [given(row.what)]
    if row.because is not None:
        what += [el("br"), el("span", given(row.because), class_="by")]
    return what, row.amount.replace("-", "−")


def _payment(name: Child, method: Child, row: MoneyView) -> Sequence[Child]:
    return name, method, row.captured, row.refunded, row.pending, row.remaining


# ---- how it looks ---------------------------------------------------------------------------------------------------

STYLE = resources.files("returnable.adapters.report").joinpath("page.css").read_text(encoding="utf-8")
"""The one style sheet of the page."""

CONTENT_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'"
)
"""Nothing may be loaded, run or sent; only the style sheet with this hash applies."""
