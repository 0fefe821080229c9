"""Synchronous views: for ``gunicorn shop.wsgi --threads 8``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from shop.answers import command, decided, shown
from shop.desks import desk

ORDER = ("order_id", "customer", "currency", "lines", "payments", "shipping")


@require_POST
def confirm_order(request: HttpRequest) -> HttpResponse:
    return decided(desk().handle(command("confirm_order", request, *ORDER)))


@require_POST
def ship(request: HttpRequest, order_id: str) -> HttpResponse:
    fields = ("parcel_id", "carrier", "tracking_number")
    return decided(desk().handle(command("record_shipment", request, *fields, order_id=order_id)))


@require_POST
def deliver(request: HttpRequest, order_id: str, parcel_id: str) -> HttpResponse:
    return decided(desk().handle(command("record_delivery", request, order_id=order_id, parcel_id=parcel_id)))


@require_POST
def cancel(request: HttpRequest, order_id: str) -> HttpResponse:
    fields = ("channel", "order_reference", "order_copy")
    return decided(desk().handle(command("request_cancellation", request, *fields, order_id=order_id)))


@require_POST
def request_return(request: HttpRequest, order_id: str) -> HttpResponse:
    fields = ("return_id", "lines", "channel")
    return decided(desk().handle(command("request_return", request, *fields, order_id=order_id)))


@require_POST
def request_refund(request: HttpRequest) -> HttpResponse:
    return decided(desk().handle(command("request_refund", request, "refund_id", "order_id", "return_id")))


@require_GET
def order(request: HttpRequest, order_id: str) -> HttpResponse:
    return shown(desk().order(order_id=order_id))


@require_GET
def eligibility(request: HttpRequest, order_id: str) -> HttpResponse:
    return shown(desk().eligibility(order_id=order_id))


@require_GET
def return_(request: HttpRequest, return_id: str) -> HttpResponse:
    return shown(desk().return_(return_id=return_id))


@require_GET
def refund(request: HttpRequest, refund_id: str) -> HttpResponse:
    return shown(desk().refund(refund_id=refund_id))


@require_GET
def worklist(request: HttpRequest) -> HttpResponse:
    return shown(desk().worklist())


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """Whether this process answers; it asks nobody."""
    return JsonResponse({"status": "alive"})


@require_GET
def ready(request: HttpRequest) -> HttpResponse:
    """Whether the store answers."""
    next(desk().ledger(order_id="-"), None)
    return JsonResponse({"status": "ready"})
