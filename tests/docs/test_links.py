"""What the documentation points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from returnable.domain.policy import CLAUSE_IDS, bundled_policies

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
ADR = ROOT / "docs" / "adr"

LINK = re.compile(r"\]\(([^)\s]+)\)")
CLAUSE = re.compile(r"`((?:cancellation|returns|wrong_item)\.[a-z_]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that a code host makes of the headings."""
    headings = re.findall(r"^#+ +(.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(text_of(page)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_clause_that_is_named_exists(page: Path) -> None:
    assert sorted(set(CLAUSE.findall(text_of(page))) - set(CLAUSE_IDS)) == []


def test_every_decision_is_in_the_index() -> None:
    index = (ADR / "README.md").read_text(encoding="utf-8")

    assert [path.name for path in sorted(ADR.glob("0*.md")) if f"]({path.name})" not in index] == []


def test_every_decision_has_context_decision_consequences_and_a_status() -> None:
    for path in sorted(ADR.glob("0*.md")):
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert re.search(
            r"^Status: (accepted|superseded by .+), \d{4}-\d\d-\d\d$", path.read_text("utf-8"), re.MULTILINE
        )


def test_every_ambiguous_reading_of_the_policy_has_its_line() -> None:
    (policy,) = bundled_policies().versions
    ambiguous = [clause_id for clause_id in CLAUSE_IDS if policy.clause(clause_id).reading.startswith("†")]

    readings = (ADR / "0015-readings-of-the-policy.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `([a-z_.]+)` \|", readings, re.MULTILINE) == ambiguous
