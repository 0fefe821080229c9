"""The HTTP answers to decisions and errors.

- 2xx: the command was decided, and the decision is on record. 201: accepted, and events were recorded. 200: declined, with
  the whole ruling, or accepted with nothing new to record. A refusal is not an error of the client: the desk records and
  explains it, and a repeated request gets the same answer.
- 4xx: the command could not be decided, and nothing was recorded.
- 5xx, or no answer: repeat the request with the same Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from returnable import Impossible, Outcome, StoreBusy, StoreUnusable
from returnable.adapters.http_status import http_status

PATIENCE_SECONDS = float(os.environ.get("RETURNABLE_PATIENCE", "20"))
"""How long a client waits at most. By then a command that has not begun is dropped; one that has begun runs to its end."""

log = logging.getLogger(__name__)


async def decided(command: Awaitable[Outcome]) -> JSONResponse:
    """The answer to a command."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcome = await command
    status = HTTPStatus.CREATED if outcome.accepted and outcome.events else HTTPStatus.OK
    replayed = {"Idempotency-Replayed": "true"} if outcome.replayed else None
    return JSONResponse(outcome.as_dict(), status, replayed)


def problem(status: HTTPStatus, code: str, detail: str, retry_after: int | None = None, **more: Any) -> JSONResponse:
    """A problem (RFC 9457). ``code`` is stable, ``detail`` is for people."""
    content = {"type": f"urn:problem-type:returnable:{code}", "title": status.phrase, "status": status.value}
    content |= {"detail": detail, "code": code} | {name: value for name, value in more.items() if value is not None}
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def explain_errors(app: FastAPI) -> None:
    """Answer every error of the desk, of validation and of routing with a problem."""

    @app.exception_handler(Impossible)
    async def impossible(request: Request, error: Impossible) -> JSONResponse:
        more = {"field": error.field, "state": error.state, "allowed": error.allowed}
        return problem(http_status(error), error.code, error.message, **more)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # A part may be a key that the client sent, and as long as the body.
        field = ".".join(str(part)[:60] for part in first["loc"][1:]) or str(first["loc"][0])
        detail = f"{field}: {first['msg']}"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "command.invalid", detail, field=field)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(HTTPStatus(error.status_code), f"http.{error.status_code}", error.detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(StoreBusy)
    async def busy(request: Request, error: StoreBusy) -> JSONResponse:
        log.warning("the store is busy: %s", error)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.busy", "Nothing was recorded. Repeat it.", retry_after=1)

    @app.exception_handler(StoreUnusable)
    async def unusable(request: Request, error: StoreUnusable) -> JSONResponse:
        log.error("the store cannot be used: %s", error)  # not the request: it may hold personal data
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.unusable", UNKNOWN, retry_after=5)

    @app.exception_handler(TimeoutError)
    async def too_slow(request: Request, error: TimeoutError) -> JSONResponse:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.slow", UNKNOWN, retry_after=1)


UNKNOWN = "The command may be on record or not. Repeat it with the same Idempotency-Key, and it happens once."
