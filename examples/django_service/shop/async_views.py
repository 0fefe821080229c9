"""The same, asynchronous: for ``uvicorn shop.asgi:application``. No view blocks the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from shop.answers import command, decided, shown
from shop.desks import async_desk
from shop.views import ORDER


async def answered(fields: dict[str, Any]) -> HttpResponse:
    """The answer to a command, in time. What has not begun by then is not begun; what runs is carried out all the same."""
    async with asyncio.timeout(settings.RETURNABLE_PATIENCE):
        return decided(await async_desk().handle(fields))


@require_POST
async def confirm_order(request: HttpRequest) -> HttpResponse:
    return await answered(command("confirm_order", request, *ORDER))


@require_POST
async def ship(request: HttpRequest, order_id: str) -> HttpResponse:
    fields = ("parcel_id", "carrier", "tracking_number")
    return await answered(command("record_shipment", request, *fields, order_id=order_id))


@require_POST
async def deliver(request: HttpRequest, order_id: str, parcel_id: str) -> HttpResponse:
    return await answered(command("record_delivery", request, order_id=order_id, parcel_id=parcel_id))


@require_POST
async def cancel(request: HttpRequest, order_id: str) -> HttpResponse:
    fields = ("channel", "order_reference", "order_copy")
    return await answered(command("request_cancellation", request, *fields, order_id=order_id))


@require_POST
async def request_return(request: HttpRequest, order_id: str) -> HttpResponse:
    fields = ("return_id", "lines", "channel")
    return await answered(command("request_return", request, *fields, order_id=order_id))


@require_POST
async def request_refund(request: HttpRequest) -> HttpResponse:
    return await answered(command("request_refund", request, "refund_id", "order_id", "return_id"))


@require_GET
async def order(request: HttpRequest, order_id: str) -> HttpResponse:
    return shown(await async_desk().order(order_id=order_id))


@require_GET
async def eligibility(request: HttpRequest, order_id: str) -> HttpResponse:
    return shown(await async_desk().eligibility(order_id=order_id))


@require_GET
async def return_(request: HttpRequest, return_id: str) -> HttpResponse:
    return shown(await async_desk().return_(return_id=return_id))


@require_GET
async def refund(request: HttpRequest, refund_id: str) -> HttpResponse:
    return shown(await async_desk().refund(refund_id=refund_id))


@require_GET
async def worklist(request: HttpRequest) -> HttpResponse:
    return shown(await async_desk().worklist())


@require_GET
async def health(request: HttpRequest) -> HttpResponse:
    """Whether this process answers; it asks nobody."""
    return JsonResponse({"status": "alive"})


@require_GET
async def ready(request: HttpRequest) -> HttpResponse:
    """Whether the store answers, and at once: who asks does not wait until it is back."""
    async with asyncio.timeout(1):
        async for _ in async_desk().ledger(order_id="-"):
            break
    return JsonResponse({"status": "ready"})
