"""Return: its state and that of its labels, and how events change them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from returnable.domain.aggregate import Aggregate
from returnable.domain.deadlines import Happened, passed
from returnable.domain.errors import HistoryBroken, Impossible, short
from returnable.domain.events import (
    Allotment,
    ClaimOpened,
    DispositionRecorded,
    Event,
    Inspected,
    InspectionCorrected,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    ParcelLost,
    ParcelRejected,
    Received,
    Refunded,
    RefundRequested,
    ReturnAuthorized,
    ReturnLine,
    ReturnReduced,
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
    box_id: str | None = None
    """The box it is for, where a return travels in several."""
    voided: Happened | None = None
    """When it was voided by hand."""
    lapsed: Happened | None = None
    """The deadline whose passing is recorded."""

    @property
    def tracking(self) -> tuple[str, str]:
        """What identifies the parcel: the carrier and its tracking number."""
        return self.carrier, self.tracking_number

    def status_at(self, moment: datetime) -> str:
        """``issued``, ``used`` or ``void`` at that instant. An unused label is void from ``void_at`` on, recorded or not."""
        if self.unused:
            return "void" if passed("returns.ship_by", self.void_at, moment) else "issued"
        return "void" if self.status == "void_by_hand" else self.status

    @property
    def unused(self) -> bool:
        """Whether it was neither used nor voided by hand; its deadline may have passed, recorded or not."""
        return self.status in ("issued", "void")

    @property
    def may_lapse(self) -> bool:
        """Whether the passing of its deadline is still to be recorded. A receipt recorded late may not move the deadline."""
        return self.status == "issued" and (self.lapsed is None or self.lapsed.at != self.void_at)

    def voided_by_itself(self, moment: datetime) -> bool:
        """Whether the deadline had passed by then without its use, recorded or not."""
        return self.unused and passed("returns.ship_by", self.void_at, moment)

    def in_time(self, used_at: datetime) -> bool:
        """Whether the label could still be used at that instant."""
        by_hand = self.voided is not None and used_at >= self.voided.at
        return not by_hand and not passed("returns.ship_by", self.void_at, used_at)


class HandOver(NamedTuple):
    """A hand-over as it was told. A time that cannot be (``possible``) proves nothing."""

    at: datetime
    version: int
    label_id: str | None
    tracking_number: str | None
    proof: str | None
    possible: bool


class Arrival(NamedTuple):
    """An arrival at the dock as it was told. ``proven_at``: the latest instant at which it was surely there."""

    at: datetime
    version: int
    proven_at: datetime


@dataclass(frozen=True, slots=True)
class Box:
    """A box of a return on its way back: everything that was told about it."""

    hand_overs: tuple[HandOver, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    taken_in: bool = False
    refused: bool = False
    """Whether it was refused at the dock, and not taken in since."""

    @property
    def shipped(self) -> HandOver | None:
        """The hand-over that counts: one with a proof before one without, the earliest before a later one."""
        possible = (told for told in self.hand_overs if told.possible)
        return min(possible, key=lambda told: (told.proof is None, told.at, told.version), default=None)

    @property
    def received(self) -> Arrival | None:
        """The earliest arrival."""
        return min(self.arrivals, default=None)

    @property
    def sent(self) -> Happened | None:
        """When it was handed over; without a hand-over its arrivals are the only proof, the earliest that can be."""
        if self.shipped is not None:
            return Happened(self.shipped.at, self.shipped.version)
        return min((Happened(told.proven_at, told.version) for told in self.arrivals), default=None)


def _unnamed_first(box: tuple[str | None, Box]) -> bool:
    return box[0] is not None


class Reduction(NamedTuple):
    """Units that the customer kept after all, by the parcel they came in."""

    line_id: str
    parcel_id: str | None
    quantity: int
    at: datetime


@dataclass
class Return(Aggregate):
    """A return as its events make it."""

    kind = "return"
    lifecycle = RETURN

    return_id: str
    order_id: str = ""
    cancelled: bool = False
    """Whether its units were cancelled before it was asked for: nothing is owed for them."""
    of_claim: bool = False
    """Whether it is the way back of a wrong item: its events are in the stream of the claim."""
    lines: tuple[ReturnLine, ...] = ()
    asked_at: datetime = field(init=False)
    authorized: Happened | None = None
    remind_at: datetime | None = None
    """From when on somebody has to look after it if nothing was sent."""
    labels: dict[str, Label] = field(default_factory=dict)
    boxes: dict[str | None, Box] = field(default_factory=dict)
    """The boxes it travels in; without ids it is one box, ``None``."""
    withdrawn: Happened | None = None
    reductions: tuple[Reduction, ...] = ()
    inspected_at: datetime | None = None
    lost_at: datetime | None = None
    accepted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    told_sent_back: dict[str, int] = field(default_factory=dict)
    disposed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Line and disposition → the units of which the warehouse told it."""
    refund_id: str | None = None
    refunded: dict[str, int] = field(default_factory=dict)
    """Line → the units that a refund was requested for, paid or not. They never go back to the customer."""

    def clone(self) -> Return:
        new = super().clone()
        new.labels, new.boxes = dict(self.labels), dict(self.boxes)
        new.accepted, new.rejected = dict(self.accepted), dict(self.rejected)
        new.told_sent_back = dict(self.told_sent_back)
        return new

    @classmethod
    def of_wrong_item(cls, claim: Aggregate, opened: ClaimOpened) -> Return:
        """The way back of the units of a claim, before anything happened on it."""
        new = cls(opened.claim_id)
        new.stream, new.status, new.of_claim = claim.stream, "authorized", True
        new.order_id, new.asked_at = opened.order_id, opened.occurred_at
        new.lines = (ReturnLine(line_id=opened.line_id, quantity=opened.quantity, parcels=opened.parcels),)
        return new

    @property
    def comes_free(self) -> str | None:
        """Why no clause bars its way back: nothing is owed for what comes."""
        return "cancelled" if self.cancelled else "wrong_item" if self.of_claim else None

    @property
    def name(self) -> str:
        return f"the wrong item of {super().name}" if self.of_claim else super().name

    # ---- boxes ------------------------------------------------------------------------------------------------------

    @property
    def shipped(self) -> HandOver | None:
        """The first hand-over of all boxes."""
        return min((box.shipped for box in self.boxes.values() if box.shipped is not None), default=None)

    @property
    def received(self) -> Arrival | None:
        """The first arrival of all boxes."""
        return min((box.received for box in self.boxes.values() if box.received is not None), default=None)

    @property
    def taken_in(self) -> bool:
        """Whether a box was taken in at the dock."""
        return any(box.taken_in for box in self.boxes.values())

    @property
    def refused(self) -> bool:
        """Whether a box was refused at the dock."""
        return any(box.refused for box in self.boxes.values())

    def meant(self, event: ReturnShipped | Received | ParcelRejected) -> str | None:
        """The key in :attr:`boxes` of the box that a report is about; a new one where it is about none of them.

        A hand-over on a label is about the box of that label. Where no box is named, it is one of which this was not told
        yet, if there is one; and a box that nobody named before is the one that is named now.
        """
        handed_over = isinstance(event, ReturnShipped)

        def untold(box: Box) -> bool:
            return not (box.hand_overs if handed_over else box.arrivals)

        box_id = event.box_id
        if box_id is None and isinstance(event, ReturnShipped) and event.label_id is not None:
            box_id = self._label(event.label_id).box_id
        if box_id is not None:
            unnamed = self.boxes.get(None)
            return None if box_id not in self.boxes and unnamed is not None and untold(unnamed) else box_id
        waiting = next((each for each, box in sorted(self.boxes.items(), key=_unnamed_first) if untold(box)), None)
        alone = next(iter(self.boxes), None) if len(self.boxes) == 1 else None
        return alone if waiting is None else waiting

    def void_at(self, box_id: str | None = None) -> datetime | None:
        """The deadline to hand a box over: the latest of its labels; ``None`` when no label was ever issued.

        A box without a label of its own has the deadline of all labels.
        """
        own = [label for label in self.labels.values() if box_id is not None and label.box_id in (box_id, None)]
        return max((label.void_at for label in own or self.labels.values()), default=None)

    def is_late(self) -> bool:
        """Whether a box was handed over after its deadline."""
        return any(self.box_is_late(box_id) for box_id in self.boxes)

    def box_is_late(self, box_id: str | None) -> bool:
        """Whether that box was handed over after its deadline."""
        box, void_at = self.boxes.get(box_id), self.void_at(box_id)
        sent = box.sent if box is not None else None
        return sent is not None and void_at is not None and passed("returns.ship_by", void_at, sent.at)

    def sent_with(self, label: Label) -> Happened | None:
        """When the box that a label is for was handed over."""
        named = [self.boxes[each] for each in (label.box_id, None) if each in self.boxes]
        boxes = named[:1] or ([] if label.box_id is not None else [*self.boxes.values()])
        return min((box.sent for box in boxes if box.sent is not None), default=None)

    # ---- units ------------------------------------------------------------------------------------------------------

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

        A return that is not decided yet, declined or withdrawn holds nothing. Units sent back are free again; lost ones are
        not, they may turn up.
        """
        if self.called_off or self.status == "requested":
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

    def spent_label(self, moment: datetime, box_id: str | None = None) -> Label | None:
        """The last label, of a box or of all, that had voided by itself by then."""
        labels = (label for label in self.labels.values() if box_id is None or label.box_id in (box_id, None))
        spent = (label for label in labels if label.voided_by_itself(moment))
        return max(spent, key=lambda label: label.void_at, default=None)

    def given_up(self, line_id: str, moment: datetime) -> Counter[str | None]:
        """The units of a line, by parcel, that this return gave up after its label had voided by itself."""
        found: Counter[str | None] = Counter()
        until = self.withdrawn.at if self.withdrawn is not None and self.status == "withdrawn" else moment
        if self.spent_label(until) is not None:
            held = self.held(line_id)
            for line in self.lines:
                if line.line_id == line_id:
                    found.update({each.parcel_id: each.quantity for each in line.parcels})
            found.subtract(held)
        for each in self.reductions:
            if each.line_id == line_id and self.spent_label(each.at) is not None:
                found[each.parcel_id] += each.quantity
        return found

    def labels_used(self) -> list[Label]:
        """The prepaid labels that were used."""
        return [label for label in self.labels.values() if label.status == "used"]

    def uninspected(self, line_id: str) -> int:
        """How many units of a line have no finding yet; those of a refused box that went back will never have one."""
        rejected = self.rejected.get(line_id, 0)
        unseen = self.quantity(line_id) - self.accepted.get(line_id, 0) - rejected
        return unseen - max(0, self.sent_back.get(line_id, 0) - rejected)

    def reducible(self, line_id: str) -> int:
        """How many units of a line the customer may still keep: those neither inspected nor paid back."""
        unpaid = self.quantity(line_id) - self.refunded.get(line_id, 0)
        return min(unpaid, self.uninspected(line_id))

    def _unwanted(self, line_id: str) -> int:
        """How many units of a line must not stay here, whether they went back or not."""
        quantity, accepted = self.quantity(line_id), self.accepted.get(line_id, 0)
        refunded = self.refunded.get(line_id, 0)
        if self.wholly_refused:
            return max(0, quantity - refunded)
        # A box that was refused holds some of the units without findings. An override may pay for rejected units.
        unwanted = quantity - accepted if self.refused else self.rejected.get(line_id, 0)
        return max(0, unwanted - max(0, refunded - accepted))

    @property
    def wholly_refused(self) -> bool:
        """Whether everything that came goes back: it was refused at the dock, or the return was declined before."""
        return (self.refused and not self.taken_in) or (self.status == "declined" and self.received is not None)

    @property
    def sent_back(self) -> Mapping[str, int]:
        """Line → the units that went back to the customer. What was told beyond the unwanted units does not count."""
        return {line_id: min(told, self._unwanted(line_id)) for line_id, told in self.told_sent_back.items()}

    def to_send_back(self, line_id: str) -> int:
        """How many rejected units of a line are still here."""
        return self._unwanted(line_id) - self.sent_back.get(line_id, 0)

    def anything_to_send_back(self) -> bool:
        """Whether rejected units are still here."""
        return any(self.to_send_back(line.line_id) > 0 for line in self.lines)

    def anything_uninspected(self) -> bool:
        """Whether some unit has no finding yet."""
        return any(self.uninspected(line.line_id) > 0 for line in self.lines)

    def anything_inspected(self) -> bool:
        """Whether any unit has a finding."""
        return any(self.accepted.values()) or any(self.rejected.values())

    def anything_accepted(self) -> bool:
        """Whether any unit was accepted."""
        return any(self.accepted.values())

    def more_is_accepted(self) -> bool:
        """Whether units were accepted that no refund was requested for, although one is owed."""
        return not self.cancelled and any(
            count > self.refunded.get(line_id, 0) for line_id, count in self.accepted.items()
        )

    def nothing_is_left(self) -> bool:
        """Whether everything went back to the customer, and nothing is to keep, to inspect or to send."""
        if self.wholly_refused:
            return not self.anything_to_send_back()
        return not (self.anything_to_send_back() or self.anything_accepted() or self.anything_uninspected())

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

    def here(self, line_id: str) -> int:
        """How many units of a line came and were not sent back; 0 before anything came."""
        return 0 if self.received is None else self.quantity(line_id) - self.sent_back.get(line_id, 0)

    def dispositions(self, line_id: str) -> Counter[str]:
        """What becomes of the units of a line that came back, as far as the warehouse told it."""
        return Counter({what: count for (line, what), count in self.disposed.items() if line == line_id})

    # ---- events -----------------------------------------------------------------------------------------------------

    def _move(self, event: Event, happened: Happened) -> None:
        RETURN.after(self.status, event.type)  # raises where the lifecycle forbids it
        was_refused = self.wholly_refused
        self._learn(event, happened)
        holds = False  # what the guard of the move asks; most have none
        if isinstance(event, SentBack | ReturnReduced):
            holds = self.nothing_is_left()
        elif isinstance(event, Received):
            holds = was_refused if self.status == "sent_back" else self.anything_inspected()
        elif isinstance(event, ParcelRejected):
            holds = not self.taken_in
        elif isinstance(event, Inspected | InspectionCorrected | Refunded):
            holds = self.more_is_accepted()
        self.status = RETURN.after(self.status, event.type, holds)

    def _note(self, event: Event, happened: Happened) -> None:
        if isinstance(event, DispositionRecorded):
            told = Counter[tuple[str, str]]()
            for line in event.lines:
                told[line.line_id, line.disposition] += line.quantity
            self.disposed = self.disposed + told

    def _learn(self, event: Event, happened: Happened) -> None:
        """What the event says, besides the state that it leads to."""
        if isinstance(event, ReturnRequested):
            self.order_id, self.lines, self.asked_at = event.order_id, event.lines, event.occurred_at
            self.cancelled = event.cancelled
        elif isinstance(event, ReturnAuthorized):
            self.authorized = happened
            self.remind_at = event.remind_at
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
                event.box_id,
            )
        elif isinstance(event, LabelReceived):
            self._receive_label(event, happened)
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
            self._hand_over(event, happened)
        elif isinstance(event, Received | ParcelRejected):
            self._arrive(event, happened)
        elif isinstance(event, Inspected | InspectionCorrected):
            if isinstance(event, Inspected):
                self.inspected_at = max(event.occurred_at, self.inspected_at or event.occurred_at)
            else:
                self.accepted, self.rejected = {}, {}
            for finding in event.findings:
                count = self.accepted if finding.accepted else self.rejected
                count[finding.line_id] = count.get(finding.line_id, 0) + finding.quantity
        elif isinstance(event, SentBack):
            for units in event.lines:
                self.told_sent_back[units.line_id] = self.told_sent_back.get(units.line_id, 0) + units.quantity
        elif isinstance(event, ParcelLost):
            self.lost_at = min(event.occurred_at, self.lost_at or event.occurred_at)
        elif isinstance(event, ReturnWithdrawn):
            self.withdrawn = happened
        elif isinstance(event, ReturnReduced):
            for units in event.lines:
                self._keep(units.line_id, units.quantity, event.occurred_at)
        elif isinstance(event, RefundRequested):
            self.refund_id = event.refund_id
            self.refunded = {item.line_id: item.quantity for item in event.items}

    def _label(self, label_id: str) -> Label:
        label = self.labels.get(label_id)
        if label is None:
            raise HistoryBroken(f"{self.stream}: label {short(label_id)} was never issued")
        return label

    def _receive_label(self, event: LabelReceived, happened: Happened) -> None:
        label = self._label(event.label_id)
        earlier = label.received is not None and label.received <= happened
        if happened.at < label.issued.at or earlier:  # that time cannot be, or an earlier one is known
            return
        self.labels[label.label_id] = label = replace(label, received=happened, void_at=event.void_at)
        status = LABEL.after(label.status, event.type, label in self._used_in_time())
        self.labels[label.label_id] = replace(label, status=status)

    def _hand_over(self, event: ReturnShipped, happened: Happened) -> None:
        label = None if event.label_id is None else self._label(event.label_id)
        possible = happened.at >= self.asked_at and (label is None or happened.at >= label.issued.at)
        told = HandOver(*happened, event.label_id, event.tracking_number, event.proof, possible)
        key = self.meant(event)
        known = self.boxes.get(key, Box())
        self._put(
            key, event.box_id or (label.box_id if label else None), replace(known, hand_overs=(*known.hand_overs, told))
        )
        self._judge_labels(event)

    def _arrive(self, event: Received | ParcelRejected, happened: Happened) -> None:
        key = self.meant(event)
        known = self.boxes.get(key, Box())
        # An arrival before the request cannot be. It was there when it was told.
        proven_at = happened.at if happened.at >= self.asked_at else event.recorded_at
        taken_in = known.taken_in or isinstance(event, Received)
        arrivals = (*known.arrivals, Arrival(*happened, proven_at))
        if known.refused and taken_in:  # what was sent back of it is here again
            told = self.told_sent_back.items()
            self.told_sent_back = {line_id: min(count, self.rejected.get(line_id, 0)) for line_id, count in told}
        self._put(key, event.box_id, replace(known, arrivals=arrivals, taken_in=taken_in, refused=not taken_in))
        if isinstance(event, Received):
            self._judge_labels(event)

    def _put(self, key: str | None, named: str | None, box: Box) -> None:
        if key is None and named is not None:
            self.boxes.pop(None, None)
            key = named
        self.boxes[key] = box

    def _judge_labels(self, event: Event) -> None:
        used = self._used_in_time()
        for label in self.labels.values():
            status = LABEL.after(label.status, event.type, label in used)
            self.labels[label.label_id] = replace(label, status=status)

    def _used_in_time(self) -> list[Label]:
        """The labels on which boxes travelled while they could be used.

        A box that arrives without a recorded hand-over came on the last label that could still be used then.
        """
        found: list[Label] = []
        for box_id, box in self.boxes.items():
            if box.shipped is not None:
                named = self.labels.get(box.shipped.label_id) if box.shipped.label_id is not None else None
                found += [named] if named is not None and named.in_time(box.shipped.at) else []
            elif box.taken_in and box.sent is not None:
                sent_at = box.sent.at
                usable = [each for each in self.labels.values() if each not in found and each.in_time(sent_at)]
                of_box = [each for each in usable if each.box_id in (box_id, None)] or usable
                found += of_box[-1:]
        return found

    def _keep(self, line_id: str, quantity: int, at: datetime) -> None:
        """The customer keeps units of a line: those whose window closes last."""
        lines: list[ReturnLine] = []
        for line in self.lines:
            parcels: list[Allotment] = []
            for each in reversed(line.parcels):
                kept = min(quantity, each.quantity) if line.line_id == line_id else 0
                if kept:
                    quantity -= kept
                    self.reductions += (Reduction(line_id, each.parcel_id, kept, at),)
                if each.quantity > kept:
                    parcels.insert(0, each.model_copy(update={"quantity": each.quantity - kept}))
            if parcels:
                left = sum(each.quantity for each in parcels)
                lines.append(line.model_copy(update={"quantity": left, "parcels": tuple(parcels)}))
        self.lines = tuple(lines)
