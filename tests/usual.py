"""The usual histories: one order on its usual days, and one return of it, as far as the name says.

Confirmed on Monday, 2 March 2026, 10:00 in New York, shipped in parcel ``P-1`` on Tuesday, delivered on Thursday, 14:00.
Return ``R-1`` is authorized on Monday, 9 March, at noon; its label ``L-1``, issued half an hour later, voids on Thursday,
00:00. The parcel is handed over on Tuesday, received on Friday, and inspected on Monday, 16 March. Fields of the order can be
changed as in :func:`returnable.testing.an_order`; ``units`` is how many of line ``1`` come back.
"""

from __future__ import annotations

from typing import Any

from returnable.testing import Steps, a_return, an_order


def a_delivered_order(order_id: str = "A-1", **changes: Any) -> Steps:
    """The order is with the customer."""
    return an_order(order_id, **({"delivered": "2026-03-05 14:00"} | changes))


def an_authorized_return(units: int = 1, **changes: Any) -> Steps:
    """The delivered order, and a return that may be sent."""
    return a_delivered_order(**changes) + a_return(units=units, requested="2026-03-09 12:00")


def a_labelled_return(units: int = 1, **changes: Any) -> Steps:
    """The delivered order, and a return with a label."""
    return a_delivered_order(**changes) + a_return(
        units=units, requested="2026-03-09 12:00", labelled="2026-03-09 12:30"
    )


def a_whole_labelled_return(units: int = 1, **changes: Any) -> Steps:
    """The delivered order of so many units, and a return of all of them, with a label."""
    return a_labelled_return(units, quantity=units, **changes)


def an_inspected_return(units: int = 1, **changes: Any) -> Steps:
    """The delivered order, and a return that came back as it should be; nothing is refunded yet."""
    return a_delivered_order(**changes) + a_return(
        units=units,
        requested="2026-03-09 12:00",
        labelled="2026-03-09 12:30",
        shipped="2026-03-10 16:00",
        received="2026-03-13 11:00",
        inspected="2026-03-16 10:00",
    )
