"""Order cancellations and returns, event by event.

    import returnable

    desk = returnable.open("sqlite:///shop.db")
    outcome = desk.request_return(return_id="R-1", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal")

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for True; importing typing would be most of the cost of importing us
if TYPE_CHECKING:
    from typing import Any

    from returnable.asynchronous import AsyncDesk, open_async
    from returnable.domain.errors import (
        HistoryBroken,
        Impossible,
        PolicyInvalid,
        ReturnableError,
        StoreBusy,
        StoreUnusable,
    )
    from returnable.domain.outcome import Outcome
    from returnable.domain.policy import Policy, PolicyBook, read_policies
    from returnable.facade import Desk, open

__version__ = "0.1.0"

__all__ = [
    "AsyncDesk",
    "Desk",
    "HistoryBroken",
    "Impossible",
    "Outcome",
    "Policy",
    "PolicyBook",
    "PolicyInvalid",
    "ReturnableError",
    "StoreBusy",
    "StoreUnusable",
    "__version__",
    "open",
    "open_async",
    "read_policies",
]

_HOME = {
    "AsyncDesk": "returnable.asynchronous",
    "open_async": "returnable.asynchronous",
    "Desk": "returnable.facade",
    "open": "returnable.facade",
    "Outcome": "returnable.domain.outcome",
    "Policy": "returnable.domain.policy",
    "PolicyBook": "returnable.domain.policy",
    "read_policies": "returnable.domain.policy",
    "HistoryBroken": "returnable.domain.errors",
    "Impossible": "returnable.domain.errors",
    "PolicyInvalid": "returnable.domain.errors",
    "ReturnableError": "returnable.domain.errors",
    "StoreBusy": "returnable.domain.errors",
    "StoreUnusable": "returnable.domain.errors",
}


if not TYPE_CHECKING:  # to type checkers there is nothing but the names above

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(_HOME[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
