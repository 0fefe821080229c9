"""The audit report as one HTML page that needs nothing else: no script, no font, no picture, no request.

The page is built as a tree and written out once, so that no value can be taken for markup. Its own content policy forbids
whatever is not the one style sheet in it. The same report gives the same bytes.
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
from returnable.projections.report import (
    DeadlineEntry,
    FactEntry,
    GoodsLine,
    LifecyclePath,
    NothingDue,
    OverrideEntry,
    RefundSheet,
    Report,
    RulingEntry,
    SumRow,
    at_a_glance,
    spelt,
    spoken,
    words,
)
from returnable.projections.views import ActorView, MoneyView, SubjectView, WorkItem

VERDICTS = {"pass": "✓ pass", "fail": "✗ fail", "overridden": "⚑ set aside", "not_applicable": "– not applicable"}
"""Verdict → sign and word: colour is never the only signal."""

OUTCOMES = {"accepted": "✓ accepted", "declined": "✗ declined"}
"""Outcome → sign and word."""

DEADLINES = {"met": "✓ met", "missed": "✗ missed", "passed": "– passed", "pending": "… pending", "lifted": "– lifted"}
"""How a deadline stands → sign and word."""

ASKED_ABOUT = "◆ the refund asked about"
"""What marks the refund in focus."""

TONES = {
    "pass": "good",
    "accepted": "good",
    "met": "good",
    "settled": "good",
    "refunded": "good",
    "fail": "bad",
    "declined": "bad",
    "missed": "bad",
    "failed": "bad",
    "overridden": "warn",
    "pending": "warn",
    "due": "warn",
    "requested": "warn",
}
"""What is good, bad or to be watched; everything else is plain."""


def report_html(report: Report) -> str:
    """The page of a report."""
    return page(_Page(report).root())


class _Page:
    """The page of one report: what every part of it needs to know."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.where = zone(report.policy.zone)
        self.anchors = {event.event: f"fact-{number}" for number, event in enumerate(report.events, start=1)}

    # ---- small pieces ---------------------------------------------------------------------------------------------------

    def time(self, instant: str, whole_seconds: bool = False) -> Element:
        """An instant, for people and for machines."""
        return el("time", spoken(instant, self.where, whole_seconds), datetime=instant)

    def event(self, event: str) -> Element:
        """A reference to a fact: a link where the fact is on this page."""
        anchor = self.anchors.get(event)
        name = el("code", named(event))
        return el("a", name, href=f"#{anchor}") if anchor else name

    def fields(self, values: Mapping[str, JsonValue]) -> Element | None:
        """Names and values of what a fact or a finding says."""
        rows = spelt(values, self.where)
        if not rows:
            return None
        return el("dl", (el("div", el("dt", name), el("dd", given(value))) for name, value in rows), class_="fields")

    # ---- the page -------------------------------------------------------------------------------------------------------

    def root(self) -> Element:
        """The whole page."""
        title = f"{self.report.kind.capitalize()} {self.report.id}: audit report"
        sections = [
            ("subject", "What it is about", self.subject()),
            ("timeline", "Timeline", self.timeline()),
            ("lifecycles", "Lifecycles", self.lifecycles()),
            ("rulings", "Rulings", self.rulings()),
            ("money", "Money", self.money()),
            ("open", "What is open", self.open()),
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
        """Which subject, how it stands, as of when, under which policy, from which facts."""
        report, store = self.report, self.report.store
        policy = report.policy
        made = self.time(report.generated_at, whole_seconds=True)
        now = ", and judged at that moment" if report.as_of is None else None
        rows: list[tuple[str, Child]] = [("Made", (made, now))]
        if report.as_of is not None:
            rows.append(("As of", ("what was true in the world at ", self.time(report.as_of))))
        if report.known_at is not None:
            rows.append(("Known at", ("what had been recorded by ", self.time(report.known_at))))
        rows += [
            ("Order", named(report.order_id)),
            ("Customer", self.customer()),
            ("Policy", (named(policy.id), " ", named(policy.version), f", engine {policy.engine}")),
            ("Policy sha256", el("code", policy.sha256)),
            ("Calendar, zone", (given(policy.calendar), ", ", given(policy.zone_and_data))),
            (
                "Made from",
                (
                    f"the store up to position {store.position}; of this case {store.facts} facts, the last ",
                    self.event(store.last_fact),
                    f" at position {store.last_fact_position}",
                ),
            ),
        ]
        if store.damaged is not None:
            rows.append(("Damaged", (el("strong", "nothing counts from here on: "), given(store.damaged))))
        rows += [("Look alike", _look_alike(each)) for each in report.look_alikes]
        if report.pays_for is not None:
            rows.insert(0, ("Pays for", named(report.pays_for)))
        return el(
            "header",
            el("p", "Audit report", class_="eyebrow"),
            el(
                "h1",
                report.kind.capitalize(),
                " ",
                named(report.id),
                " ",
                el("span", words(report.state), class_="state"),
            ),
            el("dl", (el("div", el("dt", name), el("dd", value)) for name, value in rows), class_="meta"),
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

    def customer(self) -> Child:
        """Who bought: id, name and address for mail, as far as known."""
        report = self.report
        more = [given(text) for text in (report.customer_name, report.customer_email) if text is not None]
        return (named(report.customer_id), ((", ", each) for each in more))

    def footer(self) -> Element:
        """How to read the page."""
        return el(
            "footer",
            el(
                "p",
                "Facts stand in the order in which they were recorded. “Occurred” is when something happened in the world, "
                "“recorded” when it was learnt; all times are in the zone of the policy, ",
                given(self.report.policy.zone),
                ". Deadlines are instants that a fact gave, and stand as they were given. Characters that cannot be seen "
                "are spelt out, like ⟨U+202E⟩. This page holds personal data where the order does; it loads nothing and "
                "sends nothing.",
            ),
        )

    # ---- what it is about -----------------------------------------------------------------------------------------------

    def subject(self) -> Iterator[Child]:
        """The goods."""
        currency = self.report.money.currency
        columns = ("Line", "Article", f"Unit price ({currency})", "Units", f"Tax ({currency})", "What became of them")
        yield _table(
            "Goods" if self.report.kind == "order" else "Goods, as bought",
            columns,
            [_goods(line) for line in self.report.goods],
            numbers=(2, 3, 4),
        )

    # ---- timeline -------------------------------------------------------------------------------------------------------

    def timeline(self) -> Iterator[Child]:
        """Facts and deadlines, and where the moment of the report stands among them."""
        items: list[Element] = []
        entries = self.report.timeline
        for entry in entries:
            if isinstance(entry, DeadlineEntry) and entry.ahead and not any(_is_now(item) for item in items):
                items.append(self.now())
            items.append(self.event_entry(entry) if isinstance(entry, FactEntry) else self.deadline(entry))
        if not any(_is_now(item) for item in items):
            items.append(self.now())
        yield el("ol", items, class_="timeline")

    def now(self) -> Element:
        """The moment of the report."""
        return el(
            "li",
            el("p", "The moment of this report: ", self.time(self.report.moment, whole_seconds=True)),
            class_="now",
        )

    def event_entry(self, event: FactEntry) -> Element:
        """A fact on the timeline."""
        marks = ["fact", "background" if event.background else "", "focus" if event.focus else ""]
        marks.append("declined" if event.outcome == "declined" else "")
        times: list[Child] = ["Occurred ", self.time(event.occurred_at)]
        if event.learnt_later is not None:
            times += [el("span", f"learnt {event.learnt_later} later", class_="later")]
            times += [", recorded ", self.time(event.recorded_at)]
        return el(
            "li",
            el(
                "div",
                el("h3", event.title),
                _badge(OUTCOMES[event.outcome], event.outcome) if event.outcome else None,
                _badge(ASKED_ABOUT, "focus") if event.focus else None,
                self.moved(event),
                class_="head",
            ),
            el("p", times, class_="when"),
            el("p", self.provenance(event), class_="by"),
            self.fields(event.details),
            class_=" ".join(mark for mark in marks if mark),
            id=self.anchors[event.event],
        )

    def moved(self, event: FactEntry) -> Element:
        """The states before and after."""
        main = event.event.partition("#")[0].partition("/")[0]
        said: list[Child] = []
        if event.before != event.after:
            said.append(_move(main, None, event.before, event.after))
        else:
            said.append(el("span", f"{main} stays {words(event.after)}", class_="move"))
        for move in event.moves:
            if move.lifecycle in ("label", "refund") and move.before != move.after:
                said.append(_move(move.lifecycle, move.name, move.before, move.after))
        return el("p", said, class_="moves")

    def provenance(self, event: FactEntry) -> Iterator[Child]:
        """Where the fact stands, who told it, and under which command."""
        yield el("code", named(event.event))
        yield f" · {event.type}"
        yield " · "
        yield _actor(event.actor)
        if event.command_id is not None:
            yield from (" · command ", el("code", named(event.command_id)))
        if event.background:
            yield " · of the order"

    def deadline(self, deadline: DeadlineEntry) -> Element:
        """A deadline on the timeline."""
        return el(
            "li",
            el(
                "div", el("h3", given(deadline.title)), _badge(DEADLINES[deadline.state], deadline.state), class_="head"
            ),
            el(
                "p",
                "Up to and including " if deadline.inclusive else "Before ",
                self.time(deadline.at),
                (" · ", given(deadline.note)) if deadline.note else None,
                class_="when",
            ),
            el("p", el("code", deadline.clause), (" · given by ", self.event(deadline.event)), class_="by"),
            class_=f"deadline {deadline.state}",
        )

    # ---- lifecycles -----------------------------------------------------------------------------------------------------

    def lifecycles(self) -> Iterator[Child]:
        """One drawing for each lifecycle, with its steps beside it."""
        yield el(
            "p",
            "Every state there is, with the way that was taken: thick lines, numbered in order; ↻ are facts that left the "
            "state as it was; the filled state is the present one.",
            class_="note",
        )
        for number, path in enumerate(self.report.lifecycles, start=1):
            yield self.lifecycle(path, number)

    def lifecycle(self, path: LifecyclePath, number: int) -> Element:
        """A lifecycle: the drawing and the numbered steps."""
        name: list[Child] = [named(path.name)]
        if path.of is not None:
            name += [" of return ", named(path.of)]
        clock = None
        if path.by_the_clock is not None:
            clock = f" {words(path.by_the_clock)} by the clock; that is not on record yet"
        return el(
            "article",
            el(
                "h3",
                path.lifecycle.capitalize(),
                " ",
                name,
                ": ",
                words(path.state),
                "," if clock else None,
                clock,
            ),
            el(
                "div",
                el("div", lifecycle_svg(path, number), class_="drawing"),
                el(
                    "ol",
                    (
                        el(
                            "li",
                            el("strong", step.title),
                            f" {words(step.before)} → {words(step.after)}"
                            if step.before is not None and step.before != step.after
                            else f" {'stays ' if step.before else '→ '}{words(step.after)}",
                            el("br"),
                            el("span", self.time(step.occurred_at), " · ", self.event(step.event), class_="by"),
                        )
                        for step in path.steps
                    ),
                    class_="steps",
                ),
                class_="path",
            ),
        )

    # ---- rulings --------------------------------------------------------------------------------------------------------

    def rulings(self) -> Iterator[Child]:
        """What was set aside, and every decision with every clause."""
        if not self.report.rulings:
            yield el("p", "No decision was made.")
        for override in self.report.overrides:
            yield self.override(override)
        for ruling in self.report.rulings:
            yield self.ruling(ruling)

    def override(self, override: OverrideEntry) -> Element:
        """A clause that a person set aside."""
        used = [self.event(event) for event in override.used_by]
        return el(
            "article",
            el("h3", "Set aside: ", el("code", override.clause)),
            el("p", el("strong", named(override.approved_by)), " approved it: ", given(override.reason)),
            _quote(override.quote),
            el(
                "p",
                self.time(override.granted_at),
                " · ",
                self.event(override.event),
                " · ",
                _actor(override.actor),
                " · ",
                ("taken into account by ", _listed(used)) if used else "no ruling needed it",
                class_="by",
            ),
            class_="override",
        )

    def ruling(self, ruling: RulingEntry) -> Element:
        """A decision with every clause."""
        stamp = ruling.policy
        marks = ["ruling", ruling.outcome, "focus" if ruling.focus else ""]
        return el(
            "article",
            el(
                "div",
                el("h3", ruling.title),
                _badge(OUTCOMES[ruling.outcome], ruling.outcome),
                _badge(ASKED_ABOUT, "focus") if ruling.focus else None,
                class_="head",
            ),
            el(
                "p",
                "Decided ",
                self.time(ruling.decided_at),
                " · ",
                self.event(ruling.event),
                " · ",
                _actor(ruling.actor),
                " · policy ",
                named(stamp.id),
                " ",
                named(stamp.version),
                ", sha256 ",
                el("code", f"{stamp.sha256[:12]}…" if stamp == self.report.policy else stamp.sha256),
                class_="by",
            ),
            el("ul", (self.clause(clause) for clause in ruling.clauses), class_="clauses"),
            class_=" ".join(mark for mark in marks if mark),
        )

    def clause(self, clause: ClauseView) -> Element:
        """A clause: verdict, reason, the merchant's words, and the facts it rests on."""
        events = self.fields(clause.facts)
        return el(
            "li",
            el("div", _badge(VERDICTS[clause.verdict], clause.verdict), el("code", clause.clause), class_="verdict"),
            el(
                "div",
                el("p", given(clause.because), class_="because"),
                _quote(clause.quote),
                el("details", el("summary", "Facts it rests on"), events) if events is not None else None,
            ),
            class_=clause.verdict,
        )

    # ---- money ----------------------------------------------------------------------------------------------------------

    def money(self) -> Iterator[Child]:
        """Refunds as sums, why nothing is due where nothing is, and what became of each payment."""
        money = self.report.money
        for sheet in money.sheets:
            yield self.sheet(sheet)
        for nothing in money.nothing_due:
            yield _nothing_due(nothing)
        if not money.sheets and not money.nothing_due:
            yield el("p", "No refund was asked for, and none is due.")
        columns = ("Payment", "Method", "Captured", "Refunded", "Pending", "Remaining")
        yield el("h3", "Payments of the order")
        yield _table(
            f"What became of each payment, in {money.currency}: remaining = captured − refunded − pending",
            columns,
            [_payment(named(row.payment_id), given(row.method), row) for row in money.payments],
            numbers=(2, 3, 4, 5),
            total=_payment("Total", "", money.total),
        )

    def sheet(self, sheet: RefundSheet) -> Element:
        """A refund as a sum."""
        who = _subject_name(sheet.for_)
        head: list[Child] = ["Due" if sheet.refund_id is None else ("Refund ", given(sheet.refund_id))]
        head += [" for ", given(who)]
        notes: list[Child] = []
        if sheet.issued_at is not None:
            notes += ["Issued ", self.time(sheet.issued_at)]
        if sheet.expected_between is not None:
            notes.append(f" · expected from {sheet.expected_between[0]} to {sheet.expected_between[1]}")
        if sheet.refund_id is None:
            notes.append("Not asked for yet: what would be paid at the moment of this report.")
        tenders = zip(sheet.tenders, sheet.methods, strict=True)
        return el(
            "article",
            el(
                "div",
                el("h3", head),
                _badge(words(sheet.status), sheet.status),
                _badge("✗ overdue", "missed") if sheet.overdue else None,
                _badge(ASKED_ABOUT, "focus") if sheet.focus else None,
                class_="head",
            ),
            el("p", notes, class_="by"),
            _table(
                "The sum",
                ("What", sheet.currency),
                [_sum_row(row) for row in sheet.rows],
                numbers=(1,),
                total=("Total", sheet.total),
            ),
            _table(
                "Split over the payments of the order",
                ("Payment", "Method", "Status", "Reference", sheet.currency),
                [
                    (
                        named(tender.payment_id),
                        given(method),
                        _badge(words(tender.status), tender.status),
                        named(tender.reference) if tender.reference is not None else "–",
                        tender.amount,
                    )
                    for tender, method in tenders
                ],
                numbers=(4,),
                total=("Total", "", "", "", sheet.total),
            ),
            class_="sheet focus" if sheet.focus else "sheet",
        )

    # ---- what is open ---------------------------------------------------------------------------------------------------

    def open(self) -> Iterator[Child]:
        """What waits for somebody, and the deadlines to come."""
        yield el("h3", "Waiting for somebody")
        if self.report.open.work:
            rows = [self.work(item) for item in self.report.open.work]
            yield _table("Work of the case that is not done", ("What", "About", "Due", ""), rows)
        else:
            yield el("p", "Nothing waits for anybody.")
        yield el("h3", "Deadlines to come")
        if self.report.open.deadlines:
            rows = [self.to_come(deadline) for deadline in self.report.open.deadlines]
            yield _table("The earliest first", ("Deadline", "When", "Clause", "Given by"), rows)
        else:
            yield el("p", "No deadline is to come.")

    def work(self, item: WorkItem) -> Sequence[Child]:
        """An item of the worklist."""
        due = self.time(item.due_at) if item.due_at is not None else "–"
        overdue = _badge("✗ overdue", "missed") if item.overdue else ""
        return words(item.kind), named(_subject_name(item.subject)), due, overdue

    def to_come(self, deadline: DeadlineEntry) -> Sequence[Child]:
        """A deadline to come."""
        when = ("up to and including " if deadline.inclusive else "before ", self.time(deadline.at))
        return given(deadline.title), when, el("code", deadline.clause), self.event(deadline.event)


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
    """A table; the first column names the row, ``numbers`` are the columns set to the right."""

    stacked = len(columns) > 2

    def cell(index: int, value: Child) -> Element:
        kind = "number" if index in numbers else None
        name = columns[index] if stacked and columns[index] else None
        if index == 0:
            return el("th", value, scope="row", class_=kind, data_name=name)
        # The box lets a narrow page set the name of the column beside the value.
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


def _is_now(item: Element) -> bool:
    return item.get("class") == "now"


def _badge(text: str, kind: str) -> Element:
    return el("span", text, class_=f"badge {TONES.get(kind, 'plain')}")


def _look_alike(found: LookAlike) -> Child:
    """The ids, each with its characters."""
    return (
        el("strong", "these ids look the same and are different: "),
        *(
            (", " if nth else None, named(one), " (", el("code", code_points), ")")
            for nth, (one, code_points) in enumerate(zip(found.ids, found.code_points, strict=True))
        ),
    )


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


def _listed(items: Sequence[Child]) -> Child:
    return [item if index == 0 else (", ", item) for index, item in enumerate(items)]


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


def _nothing_due(nothing: NothingDue) -> Element:
    return el(
        "article",
        el("h3", "Nothing is due yet for ", named(_subject_name(nothing.for_))),
        el("ul", (el("li", given(reason)) for reason in nothing.reasons)),
        class_="sheet",
    )


# ---- how it looks ---------------------------------------------------------------------------------------------------

STYLE = resources.files("returnable.adapters.report").joinpath("page.css").read_text(encoding="utf-8")
"""The one style sheet of the page."""

CONTENT_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'"
)
"""Nothing may be loaded, run or sent; only the style sheet with this hash counts."""
