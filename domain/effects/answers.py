"""What the ports share: the errors of a call, and the commands that answers make."""

from __future__ import annotations

import hashlib

from returnable.domain.characters import NOT_IN_ID, NOT_IN_LINE, is_blank, why_refused
from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import ReturnableError
from returnable.domain.fields import LONGEST_ID, LONGEST_TEXT


class OutcomeUnknown(ReturnableError):
    """No answer came, so nobody knows whether the call was carried out. Ask ``find`` with ``key`` before you try again."""

    def __init__(self, key: str, call: str) -> None:
        super().__init__(f"{call} {key!r}: no answer came; ask `find` whether it was carried out")
        self.key = key


class KeyReused(ReturnableError):
    """An idempotency key was used before for something else; nothing was done."""

    def __init__(self, key: str, before: str, now: str) -> None:
        super().__init__(f"key {key!r} was used before for {before}, now for {now}")
        self.key = key


def command_of(command: str, actor: tuple[str, str] | None, command_id: str | None, **fields: object) -> Command:
    """The command that an answer makes; ``actor`` is a role and an id."""
    given = {name: value for name, value in fields.items() if value is not None}
    if actor is not None:
        given["actor"] = {"role": actor[0], "id": actor[1]}
    return parse_command({"command": command, "command_id": command_id} | given)


def id_of(*parts: str) -> str:
    """An id made of what the world outside uses, or its hash where the desk would refuse that as an id."""
    joined = "/".join(parts)
    if len(joined) <= LONGEST_ID and why_refused(joined, NOT_IN_ID) is None:
        return joined
    return hashlib.sha256(joined.encode()).hexdigest()


def one_line(text: str | None) -> str | None:
    """A text from outside as one line that can be recorded; ``None`` where nothing is left of it."""
    line = " ".join(NOT_IN_LINE.sub(" ", text or "").split())[:LONGEST_TEXT]
    return None if is_blank(line) else line
