"""One specific error each: what was impossible, said in terms of the field, the id or the state."""

from __future__ import annotations

from typing import Literal

ErrorCode = Literal[
    "command.invalid",
    "command.conflict",
    "order.unknown",
    "order.exists",
    "return.unknown",
    "return.exists",
    "claim.unknown",
    "claim.exists",
    "refund.unknown",
    "refund.exists",
    "line.unknown",
    "parcel.unknown",
    "label.unknown",
    "quantity.exceeded",
    "money.mismatch",
    "transition.not_allowed",
    "permission.denied",
]
"""Every code an ``error`` outcome can carry. ``permission.denied`` is reserved."""


class ReturnableError(Exception):
    """The base of every error this library raises on purpose."""


class Impossible(ReturnableError):
    """A command or question that cannot be carried out; nothing was recorded.

    ``code`` is stable, ``message`` is for people, ``field`` names the field of the command where one is to blame, and
    ``state`` and ``allowed`` say where the lifecycle stands and which commands it allows now.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        state: str | None = None,
        allowed: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.field = field
        self.state = state
        self.allowed = allowed


class PolicyInvalid(ReturnableError):
    """A policy file does not say what a policy must say; the message names the file and the place."""


class CalendarInvalid(ReturnableError):
    """A calendar is unknown or malformed."""


class CalendarExhausted(ReturnableError):
    """A deadline lies outside the dates a calendar knows."""


class HistoryBroken(ReturnableError):
    """Recorded facts contradict their lifecycle or cannot be read: stored history was damaged. Never ignored."""


class StoreUnusable(ReturnableError):
    """The store cannot be opened or trusted: not a store, of a newer version, read-only, or without durability."""


class StoreBusy(ReturnableError):
    """The store could not be written in time because another writer held it; nothing was recorded."""


class Stale(ReturnableError):
    """Another writer recorded facts of the same case first: load it again and decide again."""

    def __init__(self, case_id: str) -> None:
        super().__init__(f"case {case_id!r} has moved on")
        self.case_id = case_id


class NameTaken(ReturnableError):
    """A return, claim or refund of this id exists already."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} exists already")
        self.kind = kind
        self.name = name


class CommandSeen(ReturnableError):
    """A command with this id is on record already: read it back."""

    def __init__(self, command_id: str) -> None:
        super().__init__(f"command {command_id!r} is on record already")
        self.command_id = command_id
