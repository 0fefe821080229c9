"""Synchronous views: for ``gunicorn shop.wsgi --threads 8``."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from shop.answers import command, decided, shown
from shop.desks import desk


def carry_out(name: str, *fields: str) -> Callable[..., HttpResponse]:
    """A view that carries out a command. The client may set ``fields``; the path gives the ids."""

    @require_POST
    def view(request: HttpRequest, **ids: str) -> HttpResponse:
        return decided(desk().handle(command(name, request, *fields, **ids)))

    return view


def ask(name: str) -> Callable[..., HttpResponse]:
    """A view that answers a question."""

    @require_GET
    def view(request: HttpRequest, **ids: str) -> HttpResponse:
        return shown(desk().ask({"query": name, **ids}))

    return view


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """Whether this process answers; it does not use the store."""
    return JsonResponse({"status": "alive"})


@require_GET
def ready(request: HttpRequest) -> HttpResponse:
    """Whether the store answers."""
    next(desk().ledger(order_id="-"), None)
    return JsonResponse({"status": "ready"})
