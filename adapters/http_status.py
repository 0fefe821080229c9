"""The HTTP status of an error, for hosts that offer the desk over HTTP."""

from __future__ import annotations

from http import HTTPStatus

from returnable.domain.errors import ErrorCode, Impossible

STATUS: dict[ErrorCode, HTTPStatus] = {
    "order.unknown": HTTPStatus.NOT_FOUND,
    "return.unknown": HTTPStatus.NOT_FOUND,
    "claim.unknown": HTTPStatus.NOT_FOUND,
    "refund.unknown": HTTPStatus.NOT_FOUND,
    "arrival.unknown": HTTPStatus.NOT_FOUND,
    "parcel.unknown": HTTPStatus.NOT_FOUND,
    "order.exists": HTTPStatus.CONFLICT,
    "return.exists": HTTPStatus.CONFLICT,
    "claim.exists": HTTPStatus.CONFLICT,
    "refund.exists": HTTPStatus.CONFLICT,
    "arrival.exists": HTTPStatus.CONFLICT,
    "quantity.exceeded": HTTPStatus.CONFLICT,
    "transition.not_allowed": HTTPStatus.CONFLICT,
    "permission.denied": HTTPStatus.FORBIDDEN,
}
"""The codes whose status is not 422."""


def http_status(error: Impossible) -> HTTPStatus:
    """The status of an error by its code. All other codes are 422: the request is wrong, such as a key that another command
    used.

    >>> http_status(Impossible("order.unknown", "there is no order 'A-1'")).value
    404
    """
    return STATUS.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY)
