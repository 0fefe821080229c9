"""What ``freezegun`` needs to be told so that a frozen clock does no harm: once a process, and only where it is used.

- A pydantic model that is built while the time is frozen finds ``FakeDatetime`` where it says ``datetime``, of which
  pydantic knows nothing: it is told that they are the same.
- A wait with a time-out that compares monotonic clocks would never end: the modules that wait see the real time.
- The facts are to hold no instants of a test's own kind: the modules that make them keep the real classes.
"""

from __future__ import annotations

import sys
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
