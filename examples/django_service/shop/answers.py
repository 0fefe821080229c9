"""The HTTP answers to decisions and errors.

- 2xx: the command was decided, and the decision is on record. 201: accepted, and events were recorded. 200: declined, with
  the whole ruling, or accepted with nothing new to record. A refusal is not an error of the client: the desk records and
  explains it, and a repeated request gets the same answer.
- 4xx: the command could not be decided, and nothing was recorded.
- 5xx, or no answer: repeat the request with the same Idempotency-Key.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin
from pydantic import BaseModel

from returnable import Impossible, Outcome, StoreBusy, StoreUnusable
from returnable.adapters.http_status import http_status

UNKNOWN = "The command may be on record or not. Repeat it with the same Idempotency-Key, and it happens once."

log = logging.getLogger(__name__)


def command(name: str, request: HttpRequest, *fields: str, **known: str) -> dict[str, Any]:
    """The command in a request. The client may set ``fields`` and no others; ``known`` comes from the path.

    A client cannot set the times of events. The desk checks the values.
    """
    key = request.headers.get("Idempotency-Key")
    if not key or "," in key:  # servers join headers that came twice with a comma
        reason = "a command needs the header Idempotency-Key, once and without a comma"
        raise Impossible("command.invalid", reason, field="Idempotency-Key")
    try:
        given = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise Impossible("command.invalid", "the body is not JSON") from None
    if not isinstance(given, dict):
        raise Impossible("command.invalid", "the body is not a JSON object")
    for unknown in given.keys() - set(fields):
        raise Impossible("command.invalid", "is not a field of this request", field=unknown[:60])  # it may be very long
    return given | known | {"command": name, "command_id": key}


def decided(outcome: Outcome) -> HttpResponse:
    """The answer to a command."""
    status = HTTPStatus.CREATED if outcome.accepted and outcome.events else HTTPStatus.OK
    replayed = {"Idempotency-Replayed": "true"} if outcome.replayed else None
    return JsonResponse(outcome.as_dict(), status=status, headers=replayed)


def shown(view: BaseModel) -> HttpResponse:
    """The answer to a question."""
    return HttpResponse(view.model_dump_json(), content_type="application/json")


def problem(status: HTTPStatus, code: str, detail: str, retry_after: int | None = None, **more: Any) -> HttpResponse:
    """A problem (RFC 9457). ``code`` is stable, ``detail`` is for people."""
    content = {"type": f"urn:problem-type:returnable:{code}", "title": status.phrase, "status": status.value}
    content |= {"detail": detail, "code": code} | {name: value for name, value in more.items() if value is not None}
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JsonResponse(content, status=status, headers=headers, content_type="application/problem+json")


def as_problem(response: HttpResponse) -> HttpResponse:
    """Turn an error of Django's own, such as an unknown path, into a problem; leave other answers as they are."""
    if response.status_code >= 400 and response["Content-Type"] != "application/problem+json":
        status = HTTPStatus(response.status_code)
        response.content = problem(status, f"http.{status}", status.description or status.phrase).content
        response["Content-Type"] = "application/problem+json"
    return response


class Problems(MiddlewareMixin):
    """Answers every error of the desk, and of Django itself, with a problem."""

    def __call__(self, request: HttpRequest) -> Any:
        return self.__acall__(request) if self.async_mode else as_problem(self.get_response(request))

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        return as_problem(await self.get_response(request))  # not process_response: Django calls that in a thread

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, Impossible):
            more = {"field": error.field, "state": error.state, "allowed": error.allowed}
            return problem(http_status(error), error.code, error.message, **more)
        if isinstance(error, StoreBusy):
            log.warning("the store is busy: %s", error)
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.busy", "Nothing was recorded. Repeat it.", 1)
        if isinstance(error, StoreUnusable):
            log.error("the store cannot be used: %s", error)  # not the request: it may hold personal data
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.unusable", UNKNOWN, 5)
        if isinstance(error, TimeoutError):
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.slow", UNKNOWN, 1)
        return None
