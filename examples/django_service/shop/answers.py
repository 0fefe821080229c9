"""What a decision, and what an error, is over HTTP.

- 2xx: it was decided, and the decision is on record. 201: accepted, and facts were recorded. 200: declined, with the whole
  ruling, or accepted with nothing new to record. A refusal is an answer of the policy and no error of the client: it is
  kept and explained, and it is the same when the request is repeated.
- 4xx: it could not be decided, and nothing was recorded.
- 5xx, or no answer: repeat it with the same Idempotency-Key.
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

UNKNOWN = "It may be on record or not. Repeat it with the same Idempotency-Key, and it happens once."

log = logging.getLogger(__name__)


def command(name: str, request: HttpRequest, *fields: str, **known: str) -> dict[str, Any]:
    """A command out of a request: ``fields`` are what the client may say, and nothing else; ``known`` is from its path.

    When things happened is for those to tell who know. What a field must be, the desk knows.
    """
    key = request.headers.get("Idempotency-Key")
    if not key or "," in key:  # servers join headers that came twice with a comma
        said = "a command needs the header Idempotency-Key, once and without a comma"
        raise Impossible("command.invalid", said, field="Idempotency-Key")
    try:
        said = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise Impossible("command.invalid", "the body is no JSON") from None
    if not isinstance(said, dict):
        raise Impossible("command.invalid", "the body is no JSON object")
    for unknown in said.keys() - set(fields):
        field = unknown[:60]  # it may be as long as the body
        raise Impossible("command.invalid", f"{field}: may not be said here", field=field)
    return said | known | {"command": name, "command_id": key}


def decided(outcome: Outcome) -> HttpResponse:
    """The answer to a command."""
    status = HTTPStatus.CREATED if outcome.accepted and outcome.events else HTTPStatus.OK
    replayed = {"Idempotency-Replayed": "true"} if outcome.replayed else None
    return JsonResponse(outcome.as_dict(), status=status, headers=replayed)


def shown(view: BaseModel) -> HttpResponse:
    """The answer to a question."""
    return HttpResponse(view.model_dump_json(), content_type="application/json")


def problem(status: HTTPStatus, code: str, detail: str, retry_after: int | None = None, **more: Any) -> HttpResponse:
    """A problem as RFC 9457 has it; ``code`` is stable, ``detail`` is for people."""
    content = {"type": f"urn:problem-type:returnable:{code}", "title": status.phrase, "status": status.value}
    content |= {"detail": detail, "code": code} | {name: value for name, value in more.items() if value is not None}
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JsonResponse(content, status=status, headers=headers, content_type="application/problem+json")


def as_problem(response: HttpResponse) -> HttpResponse:
    """The same answer; one of Django's own, such as that there is no such path, as a problem."""
    if response.status_code >= 400 and response["Content-Type"] != "application/problem+json":
        status = HTTPStatus(response.status_code)
        response.content = problem(status, f"http.{status}", status.description or status.phrase).content
        response["Content-Type"] = "application/problem+json"
    return response


class Problems(MiddlewareMixin):
    """Answers every error of the desk, and of what comes before it, with a problem."""

    def __call__(self, request: HttpRequest) -> Any:
        return self.__acall__(request) if self.async_mode else as_problem(self.get_response(request))

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        return as_problem(await self.get_response(request))  # not process_response: Django calls that in a thread

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, Impossible):
            status = STATUS.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY)
            more = {"field": error.field, "state": error.state, "allowed": error.allowed}
            return problem(status, error.code, error.message, **more)
        if isinstance(error, StoreBusy):
            log.warning("the store is busy: %s", error)
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.busy", "Nothing was recorded. Repeat it.", 1)
        if isinstance(error, StoreUnusable):
            log.error("the store cannot be used: %s", error)  # never the request: it may hold personal data
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.unusable", UNKNOWN, 5)
        if isinstance(error, TimeoutError):
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "store.slow", UNKNOWN, 1)
        return None
