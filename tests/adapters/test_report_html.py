"""How an audit report looks, as a page and as plain text: whatever stands in an order, nothing of it is markup."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from story import TOKEN, history, replaced, retold, token
from usual import an_inspected_return

from returnable.adapters.printable import printable, visible, visible_id
from returnable.adapters.report.diagram import LAYOUTS, draw, lifecycle_svg
from returnable.adapters.report.html import report_html
from returnable.adapters.report.markup import el, page
from returnable.adapters.report.text import WIDTH, report_text
from returnable.domain.case import fold
from returnable.domain.fields import parse_instant
from returnable.domain.policy import bundled_policies
from returnable.projections.report.build import make_report, report_of
from returnable.projections.report.model import LifecyclePath, LifecycleStep, Report
from returnable.projections.subjects import Subject
from returnable.testing import Scenario

LATER = "2026-03-20T12:00:00-04:00"
VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})


class Seen(HTMLParser):
    """What a parser of HTML finds: tags with attributes in order, text, and ids, links and headings."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")

    @property
    def text(self) -> str:
        """All the text of the page."""
        return "".join(self.words)

    def attributes(self, name: str) -> list[str]:
        """Every value of that attribute."""
        return [value or "" for _, attributes in self.tags for key, value in attributes if key == name]

    def count(self, tag: str) -> int:
        """How many such elements there are."""
        return sum(found == tag for found, _ in self.tags)


def reported(texts: Mapping[str, str], kind: str = "order") -> Report:
    """The report of the case above, as if it had been given these texts."""
    order_id, _ = history()
    events = retold(texts)
    case_id, name = replaced(order_id, texts), replaced(token(kind), texts)
    case = fold(case_id, events)
    policy = next(p for p in bundled_policies().versions if p.sha256 == case.order.confirmed.pins.sha256)
    return report_of(Subject(kind, name, case_id, case, policy, events, events), parse_instant(LATER), 99)


def every_token() -> list[str]:
    """Every text that was given, once."""
    return sorted({found for entry in history()[1] for found in TOKEN.findall(f"{entry.stream} {entry.event!r}")})


HOSTILE = [
    "</title><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "<!-- --> ]]> <![CDATA[",
    "&lt;b&gt; &amp; &#60; &nbsp",
    "</style></svg></bdi></td>",
    "javascript:alert(1)",
    "{} %s ${7*7} {{x}} \\0",
    "null",
    "undefined",
    "\u202egnirts\u202c \u2067x\u2069\u2069",
    "\u2029\u2028\n\r\t",
    "\x00\x1b[31m\x7f\x9b",
    "שלום עולם 12:00",
    "مرحبا بالعالم ٣",
    "W" * 300,
    "👩\u200d👩\u200d👧 \ufe0f",
    "界" * 120,
    "e" + "\u0301" * 40,
    "\U000e0041\ufeff\ufffe",
]
"""Texts that want to be something else."""

texts = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=40))


def spread(text: str) -> dict[str, str]:
    """That text for everything that was given, each time a little different."""
    return {each: f"{text}~{number}~" for number, each in enumerate(every_token())}


@cache
def harmless(kind: str) -> Seen:
    """What a parser finds in the page where every text is harmless."""
    return Seen(report_html(reported({}, kind)))


def test_the_story_holds_every_text_an_order_can_hold() -> None:
    assert len(every_token()) >= 32
    assert {type(entry.event).__name__ for entry in history()[1]} >= {"ExceptionRaised", "RefundFailed", "ClaimDenied"}


def told_alike(text: str, given_texts: Mapping[str, str]) -> str:
    """The text with ids as other texts are shown: in an id also what a script needs is spelt out."""
    for value in given_texts.values():
        text = text.replace(visible_id(value), visible(value))
    return text


@settings(max_examples=12)
@example(HOSTILE[0], "order")
@example(HOSTILE[10], "return")
@given(texts, st.sampled_from(("order", "return", "claim", "refund")))
def test_no_text_changes_the_structure_of_the_page_and_all_of_it_can_be_read(text: str, kind: str) -> None:
    given_texts = spread(text)

    seen = Seen(report_html(reported(given_texts, kind)))

    assert seen.tags == harmless(kind).tags
    shown = {each: visible(instead) for each, instead in given_texts.items()}
    assert told_alike(seen.text, given_texts) == replaced(harmless(kind).text, shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_every_hostile_text_stays_text(text: str) -> None:
    given_texts = spread(text)
    made = reported(given_texts)

    seen = Seen(report_html(made))

    assert seen.tags == harmless("order").tags
    shown = {key: visible(value) for key, value in given_texts.items()}
    assert told_alike(seen.text, given_texts) == replaced(harmless("order").text, shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_unseen_and_no_mark_of_direction_reaches_the_page(text: str) -> None:
    content = report_html(reported(spread(text)))

    assert printable(content, keep="\n") == content


def test_everything_given_runs_in_its_own_direction() -> None:
    class Outside(Seen):
        def handle_data(self, data: str) -> None:
            # A title is no part of the page: it stands in the bar of the window, or in a tool tip.
            if not {"bdi", "title", "desc"} & set(self.open):
                super().handle_data(data)

    outside = Outside(report_html(reported({})))

    assert TOKEN.findall(outside.text) == []


def test_the_page_is_self_contained() -> None:
    content = report_html(reported({}))

    seen = harmless("order")
    assert not {tag for tag, _ in seen.tags} & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not {"src", "style", "srcset", "action", "ping"} & {key for _, found in seen.tags for key, _ in found}
    assert all(href.startswith("#") for href in seen.attributes("href"))
    assert not any(key.startswith("on") for _, found in seen.tags for key, _ in found)
    assert "://" not in content
    assert "@import" not in seen.style
    assert "url(" not in seen.style
    (policy,) = [
        dict(found)["content"] for tag, found in seen.tags if ("http-equiv", "Content-Security-Policy") in found
    ]
    digest = b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_the_page_has_the_structure_that_readers_and_tools_go_by() -> None:
    seen = harmless("order")

    assert seen.open == []
    assert [seen.count(tag) for tag in ("html", "header", "nav", "main", "footer", "h1")] == [1] * 6
    assert ("html", (("lang", "en"),)) in seen.tags
    ids = Counter(seen.attributes("id"))
    assert set(ids.values()) == {1}
    assert {href.removeprefix("#") for href in seen.attributes("href")} <= ids.keys()
    assert {name for value in seen.attributes("aria-labelledby") for name in value.split()} <= ids.keys()
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in dict(found) for tag, found in seen.tags if tag == "th")
    assert seen.count("caption") == seen.count("table") > 0
    assert seen.count("desc") == seen.count("svg") == 6


def test_the_same_store_subject_and_moment_give_the_same_bytes() -> None:
    story = Scenario().given(an_inspected_return())

    def made() -> Report:
        return make_report(story.services.store, story.services.handler.policy, "R-1", parse_instant(LATER))

    assert report_html(made()) == report_html(made())
    assert report_text(made()) == report_text(made())


def test_the_page_says_what_matters_in_words_and_not_in_colour_alone() -> None:
    text = harmless("order").text

    for said in ("✓ pass", "✗ fail", "⚑ set aside", "✗ declined", "✓ met", "– lifted", "learnt 2 h later"):
        assert said in text


def test_the_refund_asked_about_is_marked_wherever_it_is_told() -> None:
    assert harmless("refund").text.count("◆ the refund asked about") == 5  # three facts, its ruling and its sum
    assert "asked about" not in harmless("return").text


def luminance(colour: str) -> float:
    """The relative luminance of a colour, after WCAG 2."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_stands_out_from_its_ground_by_day_by_night_and_on_paper() -> None:
    blocks = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", harmless("order").style, re.DOTALL)
    ]

    assert len(blocks) == 3
    assert blocks[0] == blocks[2]
    pairs = [("ink", "page"), ("muted", "page"), ("muted", "raised"), ("accent", "page"), ("on-accent", "accent")]
    pairs += [("ink", "accent-soft"), ("muted", "accent-soft"), ("ink", "raised")]
    pairs += [(tone, ground) for tone in ("good", "bad", "warn") for ground in ("page", "raised", f"{tone}-soft")]
    for colours in blocks:
        for one, other in pairs:
            bright, dark = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (one, other)


# ---- plain text -------------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(texts)
def test_plain_text_keeps_to_its_columns_and_cannot_steer_a_terminal(text: str) -> None:
    content = report_text(reported(spread(text)))

    without_isolates = re.sub("[\u2068\u2069]", "", content)
    assert printable(without_isolates, keep="\n") == without_isolates
    assert all(cell_len(line) <= WIDTH for line in content.splitlines())


@pytest.mark.parametrize("text", HOSTILE)
def test_every_hostile_text_can_be_read_in_plain_text(text: str) -> None:
    content = report_text(reported(spread(text)))

    def squeezed(words: str) -> str:
        return re.sub(r"[\s\u2068\u2069]+", "", words)

    without_isolates = re.sub("[\u2068\u2069]", "", content)
    assert printable(without_isolates, keep="\n") == without_isolates
    assert all(cell_len(line) <= WIDTH for line in content.splitlines())
    everything = squeezed(content)
    for instead in spread(text).values():
        assert squeezed(visible(instead)) in everything or squeezed(visible_id(instead)) in everything


def test_text_from_right_to_left_is_kept_from_reordering_its_surroundings() -> None:
    content = report_text(reported(spread("שלום")))

    assert "by care \u2068שלום~" in content


def test_page_and_text_tell_the_same() -> None:
    made = reported({})
    content = re.sub(r"\s+", " ", report_text(made))

    for event in made.events:
        assert event.title in content
        assert event.event in content
    for ruling in made.rulings:
        for clause in ruling.clauses:
            assert clause.because in content
    for deadline in made.deadlines:
        assert deadline.title in content
    for sheet in made.money.sheets:
        assert all(row.what in content for row in sheet.rows)


# ---- drawings -------------------------------------------------------------------------------------------------------


def a_path(lifecycle: str, *events: tuple[str, str | None, str], clock: str | None = None) -> LifecyclePath:
    """A way through a lifecycle: event, state before, state after."""
    steps = tuple(
        LifecycleStep(
            number=number,
            event=f"x#{number}",
            type=event,
            title=event,
            before=before,
            after=after,
            occurred_at="2026-03-02T10:00:00-05:00",
        )
        for number, (event, before, after) in enumerate(events, start=1)
    )
    return LifecyclePath.model_validate(
        {"lifecycle": lifecycle, "name": "X", "of": None, "state": events[-1][2], "by_the_clock": clock, "steps": steps}
    )


@pytest.mark.parametrize("tall", [(), ("labelled", "issued", "confirmed", "requested", "open")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_line_crosses_a_box_and_no_boxes_touch(layout: str, tall: tuple[str, ...]) -> None:
    drawing = draw(layout, tall)

    boxes = list(drawing.boxes.values())
    # A curve meets boxes at its ends; a lane meets none.
    points = [line.at(share / 20) for line in drawing.lines for share in range(1, 20)]
    points += [lane.at(share / 5) for lane in drawing.lanes for share in range(6)]
    for x, y in points:
        assert 0 <= x <= drawing.width
        assert 0 <= y <= drawing.height
        for box in boxes:
            inside = abs(x - box.x) < box.width / 2 and abs(y - box.y) < box.height / 2 - 0.1
            assert not inside, (layout, box)
    for one, other in combinations(boxes, 2):
        apart_x = abs(one.x - other.x) - (one.width + other.width) / 2
        apart_y = abs(one.y - other.y) - (one.height + other.height) / 2
        assert max(apart_x, apart_y) >= 10


@pytest.mark.parametrize("tall", [(), ("labelled", "issued", "confirmed", "requested", "open")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pieces_of_every_edge_join_and_lead_from_box_to_box(layout: str, tall: tuple[str, ...]) -> None:
    drawing = draw(layout, tall)

    for edge in {edge for line in drawing.lines for edge in line.edges}:
        source, _, target = edge.partition(" to ")
        pieces = [line for line in (*drawing.lanes, *drawing.lines) if edge in line.edges]
        pieces.sort(key=lambda line: line.y1)
        upper, lower = sorted((drawing.boxes[source], drawing.boxes[target]), key=lambda box: box.y)
        assert pieces[0].y1 == upper.y + upper.height / 2
        assert abs(pieces[0].x1 - upper.x) < upper.width / 2
        assert pieces[-1].y2 == lower.y - lower.height / 2
        assert abs(pieces[-1].x2 - lower.x) < lower.width / 2
        assert all((one.x2, one.y2) == (other.x1, other.y1) for one, other in pairwise(pieces))


def test_the_way_taken_is_numbered_and_the_present_state_is_marked() -> None:
    path = a_path(
        "label",
        ("LabelIssued", None, "issued"),
        ("LabelVoided", "issued", "void"),
        ("LabelReceived", "void", "issued"),
        ("LabelReceived", "issued", "issued"),
        ("LabelVoided", "issued", "void"),
    )

    seen = Seen(page(el("div", lifecycle_svg(path, 1))))

    words = [word for word in seen.words if word.strip()]
    for badge in ("1", "2, 5", "3", "↻ 4"):
        assert badge in words
    assert words.count("now") == 1
    classes = [name for value in seen.attributes("class") for name in value.split()]
    assert classes.count("now") == 1
    assert classes.count("visited") == 2
    assert "2: LabelVoided, issued to void; 3: LabelReceived, void to issued" in seen.text


def test_a_state_reached_by_the_clock_alone_is_marked_as_such() -> None:
    path = a_path("label", ("LabelIssued", None, "issued"), clock="void")

    seen = Seen(page(el("div", lifecycle_svg(path, 1))))

    assert "now, by the clock" in seen.words
    assert "unvisited now clock" in seen.attributes("class")
    assert "By the clock it is void." in seen.text


def test_a_box_that_cannot_hold_all_its_numbers_shows_them_in_its_title() -> None:
    stay, void, back = (
        ("LabelReceived", "issued", "issued"),
        ("LabelVoided", "issued", "void"),
        ("LabelReceived", "void", "issued"),
    )
    path = a_path("label", ("LabelIssued", None, "issued"), *[stay, void, back] * 3, stay)

    drawn = lifecycle_svg(path, 1)

    assert [text.text for text in drawn.iter("text") if text.get("class") == "second"] == ["now · ↻ 2, 5, …"]
    assert "now · ↻ 2, 5, 8, 11" in [title.text for title in drawn.iter("title")]
