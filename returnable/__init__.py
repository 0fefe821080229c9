"""Order cancellations and returns, event by event.

    import returnable

    desk = returnable.open("sqlite:///shop.db")
    outcome = desk.request_return(return_id="R-1", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal")

Nothing heavy is imported until it is used.
"""

from returnable.lazy import lazy

__version__ = "0.1.0"

lazy(
    globals(),
    {
        "returnable.asynchronous": "AsyncDesk open_async",
        "returnable.domain.errors": "HistoryBroken Impossible PolicyInvalid ReturnableError StoreBusy StoreUnusable",
        "returnable.domain.outcome": "Outcome",
        "returnable.domain.policy": "Policy PolicyBook read_policies",
        "returnable.facade": "Desk open",
    },
)
