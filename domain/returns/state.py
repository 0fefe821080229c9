"""Return: its state and that of its labels, and how events change them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from returnable.domain.aggregate import Aggregate
from returnable.domain.deadlines import Happened, passed
from returnable.domain.errors import HistoryBroken, Impossible, short
from returnable.domain.events import (
    Event,
    Inspected,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    ParcelLost,
    ParcelRejected,
    Received,
    RefundRequested,
    ReturnLine,
    ReturnRequested,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
)
from returnable.domain.lifecycles import LABEL, NOTHING, RETURN


@dataclass(frozen=True, slots=True)
class Label:
    """A prepaid return label."""

    label_id: str
    carrier: str
    tracking_number: str
    issued: Happened
    first_void_at: datetime
    """The deadline it was issued with; the customer's receipt may move it."""
    void_at: datetime
    received: Happened | None = None
    status: str = NOTHING
    """The status that events say. The effective one is :meth:`status_at`: a label voids at its deadline without an event."""
    scanned_at: datetime | None = None
    voided: Happened | None = None
    """When it was voided by hand."""
    lapsed: Happened | None = None
    """The deadline whose passing is recorded."""

    @property
    def tracking(self) -> tuple[str, str]:
        """What identifies the parcel: the carrier and its tracking number."""
        return self.carrier, self.tracking_number

    def status_at(self, moment: datetime) -> str:
        """``issued``, ``used`` or ``void`` at that instant. An unused label is void from ``void_at`` on."""
        if self.status == "issued" and passed("returns.ship_by", self.void_at, moment):
            return "void"
        return "void" if self.status == "void_by_hand" else self.status

    @property
    def may_lapse(self) -> bool:
        """Whether the passing of its deadline is still to be recorded. A receipt recorded late may not move the deadline."""
        return self.status == "issued" and (self.lapsed is None or self.lapsed.at != self.void_at)

    def voided_by_itself(self, moment: datetime) -> bool:
        """Whether the deadline passed before it was used."""
        return self.status_at(moment) == "void" and self.status != "void_by_hand"

    def in_time(self, used_at: datetime) -> bool:
        """Whether the label could still be used at that instant."""
        by_hand = self.voided is not None and used_at >= self.voided.at
        return not by_hand and not passed("returns.ship_by", self.void_at, used_at)


@dataclass
class Return(Aggregate):
    """A return as its events make it."""

    kind = "return"
    lifecycle = RETURN

    return_id: str
    order_id: str = ""
    lines: tuple[ReturnLine, ...] = ()
    asked_at: datetime = field(init=False)
    labels: dict[str, Label] = field(default_factory=dict)
    shipped: Happened | None = None
    shipped_with: str | None = None
    proof: str | None = None
    received: Happened | None = None
    withdrawn: Happened | None = None
    refused: bool = False
    inspected_at: datetime | None = None
    lost_at: datetime | None = None
    accepted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    sent_back: dict[str, int] = field(default_factory=dict)
    refund_id: str | None = None
    refunded: dict[str, int] = field(default_factory=dict)
    """Line → the units that a refund was requested for, paid or not. They never go back to the customer."""

    @property
    def sent(self) -> Happened | None:
        """When the parcel was handed over; without a hand-over its arrival is the only proof."""
        return self.shipped or self.received

    def clone(self) -> Return:
        new = super().clone()
        new.labels = dict(self.labels)
        new.accepted, new.rejected, new.sent_back = dict(self.accepted), dict(self.rejected), dict(self.sent_back)
        return new

    def quantity(self, line_id: str) -> int:
        """How many units of a line are in this return."""
        return sum(line.quantity for line in self.lines if line.line_id == line_id)

    def parcels_of(self, line_id: str) -> set[str | None]:
        """The parcels in which its units of a line came."""
        return {taken.parcel_id for line in self.lines if line.line_id == line_id for taken in line.parcels}

    @property
    def called_off(self) -> bool:
        """Whether it was declined or withdrawn: the customer keeps the goods."""
        return self.status in ("declined", "withdrawn")

    def held(self, line_id: str) -> Mapping[str | None, int]:
        """The units of a line that cannot be returned or claimed elsewhere, by the parcel they came in.

        A declined or withdrawn return holds nothing. Units sent back are free again; lost ones are not, they may turn up.
        """
        if self.called_off:
            return {}
        freed = self.sent_back.get(line_id, 0)
        held: dict[str | None, int] = {}
        for line in self.lines:
            if line.line_id == line_id:
                for allotment in line.parcels:
                    gone = min(freed, allotment.quantity)
                    freed -= gone
                    held[allotment.parcel_id] = held.get(allotment.parcel_id, 0) + allotment.quantity - gone
        return held

    @property
    def void_at(self) -> datetime | None:
        """The deadline to hand the parcel over: the latest of its labels; ``None`` when no label was ever issued."""
        return max((label.void_at for label in self.labels.values()), default=None)

    def is_late(self) -> bool:
        """Whether the parcel was handed over after the deadline."""
        sent, void_at = self.sent, self.void_at
        return sent is not None and void_at is not None and passed("returns.ship_by", void_at, sent.at)

    def labels_used(self) -> list[Label]:
        """The prepaid labels that were used."""
        return [label for label in self.labels.values() if label.status == "used"]

    def uninspected(self, line_id: str) -> int:
        """How many units of a line have no finding yet."""
        return self.quantity(line_id) - self.accepted.get(line_id, 0) - self.rejected.get(line_id, 0)

    def to_send_back(self, line_id: str) -> int:
        """How many rejected units of a line are still here."""
        rejected = self.quantity(line_id) if self.refused else self.rejected.get(line_id, 0)
        # An override may pay for rejected units; those stay here.
        paid = max(0, self.refunded.get(line_id, 0) - self.accepted.get(line_id, 0))
        return rejected - paid - self.sent_back.get(line_id, 0)

    def anything_to_send_back(self) -> bool:
        """Whether rejected units are still here."""
        return any(self.to_send_back(line.line_id) > 0 for line in self.lines)

    def anything_uninspected(self) -> bool:
        """Whether some unit has no finding yet."""
        return any(self.uninspected(line.line_id) for line in self.lines)

    def anything_accepted(self) -> bool:
        """Whether any unit was accepted."""
        return any(self.accepted.values())

    # ---- checks -----------------------------------------------------------------------------------------------------

    def known_label(self, label_id: str) -> Label:
        """A label of this return; raises ``label.unknown``."""
        label = self.labels.get(label_id)
        if label is None:
            raise Impossible("label.unknown", f"{self.name} has no label {label_id!r}", field="label_id")
        return label

    @property
    def line_ids(self) -> Collection[str]:
        return {line.line_id for line in self.lines}

    # ---- events -----------------------------------------------------------------------------------------------------

    def _move(self, event: Event, happened: Happened) -> None:
        if isinstance(event, SentBack):
            for units in event.lines:
                self.sent_back[units.line_id] = self.sent_back.get(units.line_id, 0) + units.quantity
            waiting = not self.refused and self.anything_uninspected()
            done = not (self.anything_to_send_back() or self.anything_accepted() or waiting)
            self.status = RETURN.after(self.status, event.type, done)
            return
        self.status = RETURN.after(self.status, event.type)
        if isinstance(event, ReturnRequested):
            self.order_id, self.lines, self.asked_at = event.order_id, event.lines, event.occurred_at
        elif isinstance(event, LabelIssued):
            self.labels[event.label_id] = Label(
                event.label_id,
                event.carrier,
                event.tracking_number,
                happened,
                event.void_at,
                event.void_at,
                None if event.received_at is None else happened._replace(at=event.received_at),
                LABEL.after(NOTHING, event.type),
            )
        elif isinstance(event, LabelReceived):
            label = replace(self._label(event.label_id), received=happened, void_at=event.void_at)
            in_time = label.scanned_at is not None and label.in_time(label.scanned_at)
            self.labels[label.label_id] = replace(label, status=LABEL.after(label.status, event.type, in_time))
        elif isinstance(event, LabelVoided):
            label = self._label(event.label_id)
            by_hand = event.cause == "by_hand"
            self.labels[label.label_id] = replace(
                label,
                status=LABEL.after(label.status, event.type, by_hand),
                voided=happened if by_hand else label.voided,
                lapsed=label.lapsed if by_hand else happened,
            )
        elif isinstance(event, ReturnShipped):
            self.shipped = happened
            self.shipped_with, self.proof = event.label_id, event.proof
            if event.label_id is not None:
                label = replace(self._label(event.label_id), scanned_at=event.occurred_at)
                status = LABEL.after(label.status, event.type, label.in_time(event.occurred_at))
                self.labels[label.label_id] = replace(label, status=status)
        elif isinstance(event, Received | ParcelRejected):
            self.received = happened
            self.refused = isinstance(event, ParcelRejected)
            if isinstance(event, Received) and self.shipped is None:
                self._use_label(event)
        elif isinstance(event, Inspected):
            self.inspected_at = event.occurred_at
            for finding in event.findings:
                count = self.accepted if finding.accepted else self.rejected
                count[finding.line_id] = count.get(finding.line_id, 0) + finding.quantity
        elif isinstance(event, ParcelLost):
            self.lost_at = event.occurred_at
        elif isinstance(event, ReturnWithdrawn):
            self.withdrawn = happened
        elif isinstance(event, RefundRequested):
            self.refund_id = event.refund_id
            self.refunded = {item.line_id: item.quantity for item in event.items}

    def _label(self, label_id: str) -> Label:
        label = self.labels.get(label_id)
        if label is None:
            raise HistoryBroken(f"{self.stream}: label {short(label_id)} was never issued")
        return label

    def _use_label(self, event: Received) -> None:
        # A parcel that arrives without a recorded hand-over came on the last label that could still be used then.
        for label in reversed(list(self.labels.values())):
            if LABEL.allows(label.status, event.type) and label.in_time(event.occurred_at):
                self.labels[label.label_id] = replace(label, status=LABEL.after(label.status, event.type, True))
                return
