"""Settings for ``freezegun`` that make a frozen clock harmless: once a process, and only where it is used.

- A pydantic model that is built while the time is frozen finds ``FakeDatetime`` in place of ``datetime``. Pydantic does not
  know that class, so it gets the schema of ``datetime``.
- A wait with a time-out on the monotonic clock would never end, so the modules that wait see the real time.
- Pydantic asks the local time for its offset (``PastDatetime`` and the like); that of freezegun has none.
- Events must not hold fake instants, so the modules that make events keep the real classes.
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
"""Prefixes of module names. None of these modules reads the clock to decide anything: the time is an argument."""


def prepare_if_loaded() -> None:
    """Prepare ``freezegun`` if the process has loaded it."""
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
    """A frozen ``time.localtime`` with an offset from UTC, as the real one has."""

    def fake_localtime(seconds: float | None = None) -> time.struct_time:
        shown: Any = localtime(seconds)
        if shown.tm_gmtoff is not None:  # the real one, for a module that sees it
            return shown  # type: ignore[no-any-return]
        return time.struct_time(tuple(shown), {"tm_zone": time.tzname[0], "tm_gmtoff": -time.timezone})

    return fake_localtime
