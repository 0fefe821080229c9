"""A mailbox for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from returnable.domain.effects.answers import KeyReused
from returnable.domain.effects.mails import Mail, Mailbox, MailRefused, MailSent, MailTimeout
from returnable.testing.fakes.script import NO_TIME, Fake, Next, Outside, Plan


class NextMail(Next):
    """What happens to the next mail that is sent under a new key. Call one method."""

    def times_out_after_sending(self) -> None:
        """The mail goes out, but the answer is lost."""
        self._say("times_out_after_sending()", Plan("answer lost"))

    def times_out_before_sending(self) -> None:
        """The call is lost, and the mail with it."""
        self._say("times_out_before_sending()", Plan("call lost"))


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A mail in the mailbox's books."""

    sent: MailSent
    body: str


class FakeMailbox(Fake[Mail], Mailbox):
    """A mailbox for the mails of the shop and those of customers."""

    _name = "mailbox"
    _incoming = (Mail,)

    def __init__(
        self, clock: Callable[[], datetime] | Outside, *, seed: int | None = None, trouble: float = 0.0
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self._sent: dict[str, _Outgoing] = {}
        self._bounces: dict[str, str] = {}
        self._mails = 0

    # ---- the port -----------------------------------------------------------------------------------------------------

    def send(self, *, key: str, to: str, subject: str, body: str) -> MailSent:
        """See :meth:`~returnable.domain.effects.mails.Mailbox.send`."""
        with self._outside.lock:
            call = f"send {key} to {to}"
            known = self._sent.get(key)
            if known is not None:
                if (known.sent.to, known.sent.subject, known.body) != (to, subject, body):
                    self._called(call, "the key was used before, for another mail")
                    raise KeyReused(key, f"a mail to {known.sent.to}", f"another mail to {to}")
                self._called(call, "known already")
                return known.sent
            if to in self._bounces:
                self._stands("bounces", to)
                reason = self._bounces[to]
                self._called(call, f"refused, {reason}")
                raise MailRefused(key, to, reason)
            plan = self._outside.scripted("next_mail", to) or self._trouble(f"mail {key}")
            if plan.ending == "call lost":
                self._called(call, "timed out before sending")
                raise MailTimeout(key, "send")
            sent = MailSent(key, to, subject, self._outside.now())
            self._sent[key] = _Outgoing(sent, body)
            if plan.ending == "answer lost":
                self._called(call, "timed out after sending")
                raise MailTimeout(key, "send")
            self._called(call, f"sent, {subject!r}")
            return sent

    def find(self, key: str) -> MailSent | None:
        """See :meth:`~returnable.domain.effects.mails.Mailbox.find`."""
        with self._outside.lock:
            mail = self._sent.get(key)
            self._called(f"find {key}", "sent" if mail else "nothing")
            return mail.sent if mail else None

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def next_mail(self, to: str | None = None) -> NextMail:
        """Script the next mail under a new key (``to``: to that address)."""
        return NextMail(self._next("next_mail", to))

    def bounces(self, to: str, reason: str = "there is no such mailbox") -> None:
        """Mails to that address are refused from now on."""
        self._stand("bounces", of=to)
        self._bounces[to] = reason

    def delays(self, by: timedelta) -> None:
        """From now on a mail is read so long after its arrival; it keeps the time of its arrival."""
        self._stand("delays", by)
        self._late = by

    def receives(
        self, sender: str, subject: str, body: str = "", *, attachments: Sequence[str] = (), at: datetime | None = None
    ) -> None:
        """A customer's mail arrives now, or at an earlier instant (aware); :meth:`mails` returns it when it is due."""
        with self._outside.lock:
            arrived = self._occurred(at, "a mail cannot have arrived")
            self._mails += 1
            mail = Mail(f"mail-{self._mails}", sender, arrived, subject, body, tuple(attachments))
            self._note(f"{mail.mail_id} arrives from {sender}: {subject!r}", arrived)
            self._stands("delays")
            random = self._outside.random(mail.mail_id)
            late = self._late + (timedelta(minutes=random.randint(1, 24 * 60)) if random else NO_TIME)
            due = max(arrived + late, self._outside.now())
            self._outside.send(mail, due)
            if random is not None and random.random() < 0.5:
                self._outside.send(mail, due)

    def mails(self) -> list[Mail]:
        """The mails that came since the last call, in the order in which they came."""
        return [mail for _, mail in self.came()]

    # ---- the books ------------------------------------------------------------------------------------------------------

    def sent(self, to: str | None = None) -> tuple[MailSent, ...]:
        """Every mail that went out, or those to one address."""
        with self._outside.lock:
            return tuple(mail.sent for mail in self._sent.values() if to in (None, mail.sent.to))

    # ---- inside ---------------------------------------------------------------------------------------------------------

    def _as_noted(self, incoming: Mail) -> str:
        return f"{incoming.mail_id} is read"
