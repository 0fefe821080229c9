"""The texts for customers at each instant: with the fixtures `desk`, `clock` and `scenario`, and given, when, then."""

import pytest
from boutique.counter import Counter

from returnable.testing import a_return, an_order, edges, event, given, issue_label, request_return, run_deadlines

POLICY = "policy/boutique.toml"
DELIVERED = an_order(delivered="2026-11-02 15:00")


@pytest.mark.at("2026-11-20 09:00")
def test_the_page_names_the_last_day(desk, scenario):
    scenario.given(DELIVERED).at("2026-11-20 09:00")

    assert Counter(desk).page("A-1") == "You can return this until the end of Wednesday, 2 December."


def test_the_last_day_has_a_last_instant(desk, clock, scenario):
    scenario.given(DELIVERED)
    counter = Counter(desk)

    clock.move_to("2026-12-02 23:59:59.999999")
    assert "2 December" in counter.page("A-1")

    clock.tick()
    assert counter.page("A-1") == "This cannot be returned any more."
    assert "had to be returned before Thu 2026-12-03 00:00 CST" in counter.send_back("A-1", "R-1")


def test_a_month_is_a_month(scenario):
    scenario.given(DELIVERED).at("2026-12-02 23:59").when(request_return()).then_accepted()


def test_two_months_are_not(scenario):
    scenario.given(DELIVERED).at("2027-01-02").when(request_return()).then_declined("returns.window")


def test_over_thanksgiving_a_label_lives_until_the_next_wednesday(clock, scenario):
    scenario.given(DELIVERED, a_return(labelled="2026-11-25 13:00"))

    edge = clock.to_next_edge("return/R-1")

    assert edge.clause == "returns.ship_by"
    assert str(clock) == "Thu 2026-12-03 00:00 CST"  # Thursday and Friday are off, and so is the weekend
    scenario.when(run_deadlines()).then(event("LabelVoided", label_id="L-1", occurred_at="2026-12-03"))


def test_a_void_label_is_not_replaced_without_an_override():
    story = given(DELIVERED, a_return(labelled="2026-11-25 13:00"), policy=POLICY)

    story.after(business_days=4).when(issue_label("L-2")).then_declined("returns.ship_by")


@edges(an_order(delivered="2026-11-02 15:00", confirmed="2026-10-30 10:00"))
def test_the_page_never_promises_what_the_desk_refuses(desk, moment):
    counter = Counter(desk)
    promised = counter.page("A-1").startswith("You can return this until")

    answer = counter.send_back("A-1", "R-1")

    assert (answer == "We will send you a label.") == promised, moment
