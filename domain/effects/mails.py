"""Mails: notices to customers, and what customers write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from returnable.domain.commands import Command
from returnable.domain.effects.answers import OutcomeUnknown, command_of, id_of
from returnable.domain.errors import ReturnableError
from returnable.domain.fields import Evidence


class MailTimeout(OutcomeUnknown):
    """The mail server did not answer; the mail may have gone out."""


class MailRefused(ReturnableError):
    """The mail was refused for good, and why; it reached nobody."""

    def __init__(self, key: str, to: str, reason: str) -> None:
        super().__init__(f"mail {key!r} to {to}: refused: {reason}")
        self.key = key
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MailSent:
    """A mail that the mail server accepted. Then record it at the desk with ``notify_customer``."""

    key: str
    to: str
    subject: str
    sent_at: datetime
    """UTC."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that came in; all but ``mail_id`` and ``received_at`` are personal data."""

    mail_id: str
    """The ``Message-ID``, or the mailbox's own id of it."""
    sender: str
    received_at: datetime
    """When it *arrived* in the mailbox (UTC), not when somebody read it. Windows are judged by this."""
    subject: str
    body: str = ""
    attachments: tuple[str, ...] = ()
    """The names of its files."""

    def cancellation(self, *, order_id: str, order_reference: str | None = None, order_copy: bool = False) -> Command:
        """The ``request_cancellation`` in this mail (``cancellation.window``, ``cancellation.by_email``).

        Whoever read the mail says what it shows of the order: its number, or a copy attached.
        """
        fields = {"order_id": order_id, "order_reference": order_reference, "order_copy": order_copy}
        return self._command("request_cancellation", channel="email", requested_at=self.received_at, **fields)

    def wrong_item(
        self, *, claim_id: str, order_id: str, line_id: str, quantity: int = 1, evidence: Sequence[Evidence] = ()
    ) -> Command:
        """The ``report_wrong_item`` in this mail (``wrong_item.window``); ``evidence`` is what its attachments show."""
        fields = {"claim_id": claim_id, "order_id": order_id, "line_id": line_id, "quantity": quantity}
        shown = {"attachments": tuple(evidence), "reported_at": self.received_at}
        return self._command("report_wrong_item", channel="email", **fields, **shown)

    def _command(self, command: str, **fields: object) -> Command:
        return command_of(command, None, id_of("mail", self.mail_id), **fields)


class Mailbox(Protocol):
    """Sends mails to customers. Theirs are not asked for: they come in."""

    def send(self, *, key: str, to: str, subject: str, body: str) -> MailSent:
        """Send a mail. The same key with the same body sends nothing more and returns the first answer again.

        Raises :class:`KeyReused`, :class:`MailRefused` for a definite no, and :class:`MailTimeout`.
        """
        ...

    def find(self, key: str) -> MailSent | None:
        """The mail that was sent under a key; raises :class:`MailTimeout`."""
        ...
