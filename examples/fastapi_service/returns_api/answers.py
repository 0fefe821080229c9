"""What a decision, and what an error, is over HTTP.

- 2xx: it was decided, and the decision is on record. 201: accepted, and facts were recorded. 200: declined, with the whole
  ruling, or accepted with nothing new to record. A refusal is an answer of the policy and no error of the client: it is
  kept and explained, and it is the same when the request is repeated.
- 4xx: it could not be decided, and nothing was recorded.
- 5xx, or no answer: repeat it with the same Idempotency-Key.
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

PATIENCE_SECONDS = float(os.environ.get("RETURNABLE_PATIENCE", "20"))
"""How long a client waits at most. What has not begun by then is not begun; what runs is carried out all the same."""

STATUS = {
    "command.conflict": HTTPStatus.UNPROCESSABLE_ENTITY,  # the Idempotency-Key was used for something else
    "order.unknown": HTTPStatus.NOT_FOUND,
    "return.unknown": HTTPStatus.NOT_FOUND,
    "claim.unknown": HTTPStatus.NOT_FOUND,
    "refund.unknown": HTTPStatus.NOT_FOUND,
    "parcel.unknown": HTTPStatus.NOT_FOUND,
    "order.exists": HTTPStatus.CONFLICT,
    "return.exists": HTTPStatus.CONFLICT,
    "claim.exists": HTTPStatus.CONFLICT,
    "refund.exists": HTTPStatus.CONFLICT,
    "quantity.exceeded": HTTPStatus.CONFLICT,
    "transition.not_allowed": HTTPStatus.CONFLICT,
    "permission.denied": HTTPStatus.FORBIDDEN,
}
"""The status of an error's code; every other one is 422, a request that says something wrong."""

log = logging.getLogger(__name__)


async def decided(command: Awaitable[Outcome]) -> JSONResponse:
    """The answer to a command."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcome = await command
    status = HTTPStatus.CREATED if outcome.accepted and outcome.events else HTTPStatus.OK
    replayed = {"Idempotency-Replayed": "true"} if outcome.replayed else None
    return JSONResponse(outcome.as_dict(), status, replayed)


def problem(status: HTTPStatus, code: str, detail: str, retry_after: int | None = None, **more: Any) -> JSONResponse:
    """A problem as RFC 9457 has it; ``code`` is stable, ``detail`` is for people."""
    content = {"type": f"urn:problem-type:returnable:{code}", "title": status.phrase, "status": status.value}
    content |= {"detail": detail, "code": code} | {name: value for name, value in more.items() if value is not None}
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def explain_errors(app: FastAPI) -> None:
    """Answer every error of the desk, and of what comes before it, with a problem."""

    @app.exception_handler(Impossible)
    async def impossible(request: Request, error: Impossible) -> JSONResponse:
        status = STATUS.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY)
        return problem(status, error.code, error.message, field=error.field, state=error.state, allowed=error.allowed)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # A part may be a key of the client's, and as long as the body.
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
        log.error("the store cannot be used: %s", error)  # never the request: it may hold personal data
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.unusable", UNKNOWN, retry_after=5)

    @app.exception_handler(TimeoutError)
    async def too_slow(request: Request, error: TimeoutError) -> JSONResponse:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.slow", UNKNOWN, retry_after=1)


UNKNOWN = "It may be on record or not. Repeat it with the same Idempotency-Key, and it happens once."
