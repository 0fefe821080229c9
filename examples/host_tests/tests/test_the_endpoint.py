"""The shop's endpoint gives the answers of the desk for every command: with strategies and the state machine."""

import json

from boutique.counter import Counter, handle
from hypothesis import given as for_all
from hypothesis import settings

import returnable
from returnable.testing import Scenario
from returnable.testing.machine import ReturnsMachine
from returnable.testing.strategies import histories

POLICY = "policy/boutique.toml"


class TheEndpoint(ReturnsMachine):
    """Drives the endpoint and a reference desk side by side, with possible and impossible commands."""

    policy = POLICY
    legal = False

    def begin(self):
        self.desk = returnable.open("memory:", policy=POLICY, clock=lambda: self.at)

    def tell(self, step, at):
        return handle(self.desk, json.loads(json.dumps(step.fields)))

    def ask(self, question, at):
        return self.desk.ask(question).model_dump(mode="json", by_alias=True)

    def teardown(self):
        self.desk.close()


TestTheEndpoint = TheEndpoint.TestCase
TestTheEndpoint.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@settings(max_examples=50, deadline=None)
@for_all(histories(policy=POLICY))
def test_whatever_has_happened_the_page_promises_what_the_button_does(history):
    story = Scenario(policy=POLICY)
    for step in history:
        story.tell(step)
    counter = Counter(story.desk)

    for order in story.desk.orders():
        for line in order.lines:
            promised = counter.page(order.order_id, line.line_id).startswith("You can return this until")
            if promised:
                answer = counter.send_back(order.order_id, f"R-{order.order_id}-{line.line_id}", line.line_id)
                assert answer == "We will send you a label.", story.timeline
