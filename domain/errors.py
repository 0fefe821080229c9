"""The errors. Each names the field, the id or the state that was wrong. Those marked * are public::

ReturnableError *
  Impossible *        a command or question that cannot be carried out
  StoreBusy *         another writer held the store too long
  StoreUnusable *     the store cannot be opened or trusted
  PolicyInvalid *     a policy file is wrong
  HistoryBroken *     stored events are damaged, or contradict each other
  CalendarInvalid     a calendar is unknown or malformed
  CalendarExhausted   a deadline lies outside the dates of its calendar
  Stale               another writer was faster: decide again
  PolicyMissing       the store lacks the policy: send it along
  NameTaken           an id is in use: decide again
  CommandSeen         a command id is recorded already: return its outcome
  ...                 for calls to the world outside: ``effects/``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from returnable.domain.characters import NOT_IN_LINE, why_refused

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
    "arrival.unknown",
    "arrival.exists",
    "line.unknown",
    "parcel.unknown",
    "label.unknown",
    "quantity.exceeded",
    "money.mismatch",
    "transition.not_allowed",
    "override.no_effect",
    "permission.denied",
]
"""Every code an ``error`` outcome can carry. ``permission.denied`` is reserved."""


class ReturnableError(Exception):
    """The base of every error this library raises on purpose."""


class Impossible(ReturnableError):
    """A command or question that cannot be carried out; nothing was recorded.

    ``code`` is stable. ``field`` names the wrong field, if there is one, and ``reason`` says what is wrong; ``message`` is
    both, for people. ``state`` is the state of the lifecycle, and ``allowed`` the other commands that would be accepted now
    with some arguments. Who raises it for an order, return or claim names its stream in ``about``, and
    :func:`returnable.domain.decisions.say_allowed` adds the list.
    """

    def __init__(
        self,
        code: ErrorCode,
        reason: str,
        *,
        field: str | None = None,
        state: str | None = None,
        allowed: tuple[str, ...] | None = None,
        about: str | None = None,
    ) -> None:
        self.code: ErrorCode = code
        self.reason = reason
        self.field = field
        self.state = state
        self.about = about
        self._allowed: tuple[str, ...] | Callable[[], tuple[str, ...]] | None = allowed
        super().__init__(reason)

    @property
    def allowed(self) -> tuple[str, ...] | None:
        """The other commands that would be accepted now with some arguments; ``None`` where that is not the question."""
        if callable(self._allowed):
            self._allowed = self._allowed()
        return self._allowed

    def allow(self, commands: Callable[[], tuple[str, ...]]) -> None:
        """Add the list of what is allowed. It is made when it is first read, because most errors are not read."""
        self._allowed = commands

    @property
    def message(self) -> str:
        """The field, what is wrong, and what is allowed now."""
        now = f"; allowed now: {', '.join(self.allowed)}" if self.allowed else ""
        return f"{self.field}: {self.reason}{now}" if self.field else f"{self.reason}{now}"

    def __str__(self) -> str:
        return self.message


def checked_text(field: str, given: object, longest: int) -> str:
    """Validate an id that a question names; raises ``command.invalid``."""
    if not isinstance(given, str) or not 1 <= len(given) <= longest:
        raise Impossible("command.invalid", f"must be a text of 1 to {longest} characters", field=field)
    if why := why_refused(given, NOT_IN_LINE):
        raise Impossible("command.invalid", why, field=field)
    return given


def short(text: object) -> str:
    """A given text as an error can repeat it: on one line, and at most 60 characters.

    >>> short("r\u00f4le\\n" + 99 * "x")
    "'r\u00f4le\\\\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"
    """
    if not isinstance(text, str):
        return f"a {type(text).__name__}"
    said = repr(text[:60])
    return said if len(text) <= 60 and len(said) <= 62 else f"{said[:60]}…"


def place_of(steps: Iterable[object]) -> str:
    """A place in nested content as an error names it, such as ``clauses.returns.window.days``."""
    place = ".".join(str(step) for step in steps)
    return place if place.isprintable() and len(place) <= 120 else short(place)


class PolicyInvalid(ReturnableError):
    """A policy file is wrong; the message names the file and the place."""


class CalendarInvalid(ReturnableError):
    """A calendar is unknown or malformed."""


class CalendarExhausted(ReturnableError):
    """A deadline lies outside the dates a calendar knows."""


class HistoryBroken(ReturnableError):
    """Stored events cannot be read, or contradict their lifecycle. Never ignored."""


class StoreUnusable(ReturnableError):
    """The store cannot be opened or trusted: not a store, of a newer version, read-only, or without durability."""


class StoreBusy(ReturnableError):
    """The store could not be written in time because another writer held it; nothing was recorded."""


class Stale(ReturnableError):
    """Another writer recorded events of the same case first: load it again and decide again."""

    def __init__(self, case_id: str) -> None:
        super().__init__(f"case {case_id!r} has moved on")
        self.case_id = case_id


class PolicyMissing(ReturnableError):
    """The store does not keep the policy that an event pins; nothing was appended."""


class NameTaken(ReturnableError):
    """A return, claim or refund of this id exists already."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} exists already")
        self.kind = kind
        self.name = name


class CommandSeen(ReturnableError):
    """A command with this id is recorded already: return its outcome."""

    def __init__(self, command_id: str) -> None:
        super().__init__(f"command {command_id!r} is recorded already")
        self.command_id = command_id
