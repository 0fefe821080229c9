"""What ``freezegun`` needs to be told so that a frozen clock does no harm: once a process, and only where it is used.

- A pydantic model that is built while the time is frozen finds ``FakeDatetime`` where it says ``datetime``, of which
  pydantic knows nothing: it is told that they are the same.
- A wait with a time-out that compares monotonic clocks would never end: the modules that wait see the real time.
- pydantic asks the local time for its offset (``PastDatetime`` and the like), which freezegun's has not.
- The facts are to hold no instants of a test's own kind: the modules that make them keep the real classes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

SEE_THE_REAL_TIME = (
    "returnable.domain",
    "returnable.projections",
    "returnable.adapters.eventstore",
    "_pytest.timing",
    "eventsourcing.persistence",
    "psycopg",
    "psycopg_pool",
)
"""Beginnings of names of modules. None of them reads the clock for what it decides: the desk is told what time it is."""


def prepare_if_loaded() -> None:
    """Prepare ``freezegun`` where the process has loaded it; do nothing where it has not."""
    if sys.modules.get("freezegun") is not None:
        prepare()


@cache
def prepare() -> None:
    """Prepare ``freezegun`` for this library and for pydantic; the first call does it."""
    import freezegun
    from freezegun import api
    from pydantic_core import core_schema

    freezegun.configure(extend_ignore_list=list(SEE_THE_REAL_TIME))
    fakes: list[tuple[Any, Any]] = [
        (api.FakeDatetime, core_schema.datetime_schema),  # before the class it is made of
        (api.FakeDate, core_schema.date_schema),
    ]
    for fake, schema in fakes:
        if not hasattr(fake, "__get_pydantic_core_schema__"):
            fake.__get_pydantic_core_schema__ = classmethod(lambda cls, source, handler, schema=schema: schema())
    of_freezegun: Any = api
    of_freezegun.fake_localtime = _with_offset(api.fake_localtime)


def _with_offset(localtime: Callable[[float | None], time.struct_time]) -> Callable[[float | None], time.struct_time]:
    """A frozen ``time.localtime`` that says its offset from UTC, as the real one does."""

    def fake_localtime(seconds: float | None = None) -> time.struct_time:
        shown: Any = localtime(seconds)
        if shown.tm_gmtoff is not None:  # the real one, for a module that sees it
            return shown  # type: ignore[no-any-return]
        return time.struct_time(tuple(shown), {"tm_zone": time.tzname[0], "tm_gmtoff": -time.timezone})

    return fake_localtime
