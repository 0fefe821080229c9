"""Returns over HTTP, asynchronous: ``uvicorn returns_api.app:app --workers 2``.

The store is the variable RETURNABLE_STORE, such as ``postgresql://returns@db/shop``. Each process holds at most
RETURNABLE_CONNECTIONS connections (8) and carries out as many commands at a time. The service has no authentication, no
ownership and no roles: the README lists what must stand in front of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse

import returnable
from returnable import AsyncDesk, Impossible
from returnable.domain.commands import Customer, OrderLine, OrderPayment, ReturnedLine, ShippingCharge
from returnable.domain.fields import Input, Many
from returnable.domain.outcome import OutcomeView
from returnable.projections.views import EligibilityView, OrderView, RefundView, ReturnView, WorklistView
from returns_api.answers import decided, explain_errors


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep the desk open while the process serves. At the end, the desk carries out every command that it has accepted."""
    connections = int(os.environ.get("RETURNABLE_CONNECTIONS", "8"))
    async with returnable.open_async(os.environ["RETURNABLE_STORE"], connections=connections) as desk:
        yield {"desk": desk}


app = FastAPI(title="Returns", lifespan=lifespan)
explain_errors(app)


async def the_desk(request: Request) -> AsyncDesk:
    desk: AsyncDesk = request.state.desk
    return desk


Opened = Annotated[AsyncDesk, Depends(the_desk)]


async def the_key(
    request: Request, key: Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=128)]
) -> str:
    # A proxy may join repeated headers with a comma.
    if len(request.headers.getlist("Idempotency-Key")) > 1 or "," in key:
        raise Impossible("command.invalid", "one key, and without a comma", field="Idempotency-Key")
    return key


Key = Annotated[str, Depends(the_key)]
"""The idempotency key, used as ``command_id``. The client makes one for each operation and repeats it with the request."""

DECIDED: dict[int | str, dict[str, Any]] = {
    200: {"model": OutcomeView, "description": "Declined, with the whole ruling; or nothing new to record"},
    201: {"model": OutcomeView, "description": "Accepted and recorded"},
}


# The fields that a client may set. The times of events are not among them. Validation of an Input and its lists (Many)
# stops at the first error, however large a body is.


class ConfirmedOrder(Input):
    order_id: str
    customer: Customer
    currency: str
    lines: Many[OrderLine]
    payments: Many[OrderPayment]
    shipping: ShippingCharge | None = None


class Shipment(Input):
    parcel_id: str
    carrier: str
    tracking_number: str


class Cancellation(Input):
    channel: str
    order_reference: str | None = None
    order_copy: bool = False


class WantedReturn(Input):
    return_id: str
    lines: Many[ReturnedLine]
    channel: str


class WantedRefund(Input):
    refund_id: str
    order_id: str | None = None
    return_id: str | None = None


# ---- commands --------------------------------------------------------------------------------------------------------


@app.post("/orders", responses=DECIDED)
async def confirm_order(order: ConfirmedOrder, key: Key, desk: Opened) -> JSONResponse:
    return await decided(desk.confirm_order(**dict(order), command_id=key))


@app.post("/orders/{order_id:path}/shipments", responses=DECIDED)
async def ship(order_id: str, shipment: Shipment, key: Key, desk: Opened) -> JSONResponse:
    return await decided(desk.record_shipment(order_id=order_id, **dict(shipment), command_id=key))


@app.post("/orders/{order_id:path}/parcels/{parcel_id:path}/delivery", responses=DECIDED)
async def deliver(order_id: str, parcel_id: str, key: Key, desk: Opened) -> JSONResponse:
    return await decided(desk.record_delivery(order_id=order_id, parcel_id=parcel_id, command_id=key))


@app.post("/orders/{order_id:path}/cancellation", responses=DECIDED)
async def cancel(order_id: str, cancellation: Cancellation, key: Key, desk: Opened) -> JSONResponse:
    return await decided(desk.request_cancellation(order_id=order_id, **dict(cancellation), command_id=key))


@app.post("/orders/{order_id:path}/returns", responses=DECIDED)
async def request_return(order_id: str, wanted: WantedReturn, key: Key, desk: Opened) -> JSONResponse:
    return await decided(desk.request_return(order_id=order_id, **dict(wanted), command_id=key))


@app.post("/refunds", responses=DECIDED)
async def request_refund(wanted: WantedRefund, key: Key, desk: Opened) -> JSONResponse:
    return await decided(desk.request_refund(**dict(wanted), command_id=key))


# ---- questions -------------------------------------------------------------------------------------------------------


@app.get("/orders/{order_id:path}/eligibility")
async def eligibility(order_id: str, desk: Opened) -> EligibilityView:
    return await desk.eligibility(order_id=order_id)


# An id may hold a slash, so this path comes after the longer ones.
@app.get("/orders/{order_id:path}")
async def order(order_id: str, desk: Opened) -> OrderView:
    return await desk.order(order_id=order_id)


@app.get("/returns/{return_id:path}")
async def return_(return_id: str, desk: Opened) -> ReturnView:
    return await desk.return_(return_id=return_id)


@app.get("/refunds/{refund_id:path}")
async def refund(refund_id: str, desk: Opened) -> RefundView:
    return await desk.refund(refund_id=refund_id)


@app.get("/worklist")
async def worklist(desk: Opened) -> WorklistView:
    return await desk.worklist()


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether this process answers; it does not use the store."""
    return {"status": "alive"}


@app.get("/ready")
async def ready(desk: Opened) -> dict[str, str]:
    """Whether the store answers within a second."""
    async with asyncio.timeout(1):
        async for _ in desk.ledger(order_id="-"):
            break
    return {"status": "ready"}
