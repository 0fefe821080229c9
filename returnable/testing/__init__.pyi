from returnable.testing.around_edges import edges as edges
from returnable.testing.around_edges import turning_days as turning_days
from returnable.testing.clock import Clock as Clock
from returnable.testing.clock import ClockTaken as ClockTaken
from returnable.testing.clock import FrozenClock as FrozenClock
from returnable.testing.clock import Moment as Moment
from returnable.testing.policies import a_policy as a_policy
from returnable.testing.scenario import Scenario as Scenario
from returnable.testing.scenario import event as event
from returnable.testing.scenario import given as given
from returnable.testing.steps import *  # noqa: F403
