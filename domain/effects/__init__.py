"""What the desk's events ask of the world outside, and what comes back: payments, parcels and mails.

Decisions never call outside. An event records the intent (``RefundRequested``, ``ReturnAuthorized``). A worker of the host
follows the events and calls one of these ports under a key that follows from the event alone. Then it gives the desk the
answer as a command. Every answer makes its commands (``receipt.commands()``), under ids that follow from the answer: the same
answer is recorded once, even if it comes by the call and by a notice, or before and after a crash. An answer that contradicts
an earlier one is another answer, and the desk records it, too.

A call has three ends: an answer, a definite no, and no answer (``OutcomeUnknown``). Without an answer the call may have
been carried out, or may still be: ask ``find`` before you try again, and try again under the same key only.

Amounts are in minor units and above zero, instants are aware and in UTC. A host implements the ports for its provider;
``returnable.testing.fakes`` implements them for tests.
"""

from returnable.domain.effects.answers import KeyReused as KeyReused
from returnable.domain.effects.answers import OutcomeUnknown as OutcomeUnknown
from returnable.domain.effects.mails import Mail as Mail
from returnable.domain.effects.mails import Mailbox as Mailbox
from returnable.domain.effects.mails import MailRefused as MailRefused
from returnable.domain.effects.mails import MailSent as MailSent
from returnable.domain.effects.mails import MailTimeout as MailTimeout
from returnable.domain.effects.parcels import Carrier as Carrier
from returnable.domain.effects.parcels import CarrierRefused as CarrierRefused
from returnable.domain.effects.parcels import CarrierTimeout as CarrierTimeout
from returnable.domain.effects.parcels import LabelBought as LabelBought
from returnable.domain.effects.parcels import Scan as Scan
from returnable.domain.effects.payments import GatewayRefused as GatewayRefused
from returnable.domain.effects.payments import GatewayTimeout as GatewayTimeout
from returnable.domain.effects.payments import PaymentGateway as PaymentGateway
from returnable.domain.effects.payments import PaymentNotice as PaymentNotice
from returnable.domain.effects.payments import RefundNotice as RefundNotice
from returnable.domain.effects.payments import RefundReceipt as RefundReceipt
from returnable.domain.effects.payments import refund_key as refund_key
from returnable.domain.effects.payments import tender_of as tender_of
