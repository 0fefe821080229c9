"""Asynchronous views: for ``uvicorn shop.asgi:application``. No view blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from shop.answers import command, decided, shown
from shop.desks import async_desk

View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def carry_out(name: str, *fields: str) -> View:
    """A view that carries out a command. The client may set ``fields``; the path gives the ids.

    After RETURNABLE_PATIENCE seconds a command that has not begun is dropped; one that has begun runs to its end.
    """

    @require_POST
    async def view(request: HttpRequest, **ids: str) -> HttpResponse:
        async with asyncio.timeout(settings.RETURNABLE_PATIENCE):
            return decided(await async_desk().handle(command(name, request, *fields, **ids)))

    return view


def ask(name: str) -> View:
    """A view that answers a question."""

    @require_GET
    async def view(request: HttpRequest, **ids: str) -> HttpResponse:
        return shown(await async_desk().ask({"query": name, **ids}))

    return view


@require_GET
async def health(request: HttpRequest) -> HttpResponse:
    """Whether this process answers; it does not use the store."""
    return JsonResponse({"status": "alive"})


@require_GET
async def ready(request: HttpRequest) -> HttpResponse:
    """Whether the store answers within a second."""
    async with asyncio.timeout(1):
        async for _ in async_desk().ledger(order_id="-"):
            break
    return JsonResponse({"status": "ready"})
