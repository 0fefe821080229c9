"""Parcels: labels that a carrier sells, and its scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from returnable.domain.commands import Command
from returnable.domain.effects.answers import OutcomeUnknown, command_of, id_of
from returnable.domain.errors import ReturnableError


class CarrierTimeout(OutcomeUnknown):
    """The carrier did not answer; a label may have been bought."""


class CarrierRefused(ReturnableError):
    """The carrier refused, for good, and why; no label was bought or voided."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LabelBought:
    """A prepaid label that the carrier sold: for a return, or for the wrong item of a claim."""

    key: str
    return_id: str | None
    label_id: str
    carrier: str
    tracking_number: str
    bought_at: datetime
    """UTC."""
    claim_id: str | None = None
    box_id: str | None = None
    """The box that it is for, where a return travels in several."""

    @property
    def bought_for(self) -> str:
        """What it is for, as errors name it: ``return R-1``, ``box 2 of return R-1``, ``claim C-1``."""
        return label_is_for(self.return_id, self.claim_id, self.box_id)

    def command(self) -> Command:
        """The ``issue_label`` for the desk. Until the customer's receipt is recorded, ``returns.ship_by`` counts from
        ``bought_at``."""
        return command_of(
            "issue_label",
            ("carrier", self.carrier),
            id_of("label", self.key),
            return_id=self.return_id,
            claim_id=self.claim_id,
            box_id=self.box_id,
            label_id=self.label_id,
            carrier=self.carrier,
            tracking_number=self.tracking_number,
            issued_at=self.bought_at,
        )


def label_is_for(return_id: str | None, claim_id: str | None = None, box_id: str | None = None) -> str:
    """What a label is for, as errors name it. Raises ``ValueError`` unless a return or a claim is named, and not both."""
    if (return_id is None) == (claim_id is None):
        raise ValueError("a label is for a return or for a claim: name one of them")
    whole = f"claim {claim_id}" if return_id is None else f"return {return_id}"
    return whole if box_id is None else f"box {box_id} of {whole}"


ScanKind = Literal["accepted", "in_transit", "delivered", "exception", "lost", "returned"]
"""``accepted``: the carrier took the parcel; ``delivered``: it reached whom it was sent to; ``exception``: a delay or
damage; ``lost``: the carrier gave it up; ``returned``: the carrier brought it back to the sender."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A carrier's scan of a parcel. Windows are judged by ``occurred_at``, however late it is reported."""

    scan_id: str
    carrier: str
    tracking_number: str
    kind: ScanKind
    occurred_at: datetime
    """When the parcel was scanned (UTC)."""
    reported_at: datetime
    """When the carrier reported it (UTC)."""

    def delivery(self, *, order_id: str, parcel_id: str) -> Command:
        """The ``record_delivery`` of an outbound parcel; ``ValueError`` when this is not the scan of a delivery."""
        fields = {"order_id": order_id, "parcel_id": parcel_id, "delivered_at": self.occurred_at}
        return self._command("record_delivery", "delivered", fields)

    def hand_over(
        self,
        *,
        return_id: str | None = None,
        claim_id: str | None = None,
        label_id: str | None = None,
        box_id: str | None = None,
    ) -> Command:
        """The ``record_return_shipment`` of a parcel on its way back, dated by the scan (``returns.ship_by``).

        Without ``label_id`` it travels on a label of the customer's own. ``ValueError`` when the carrier took nothing.
        """
        fields = {
            "return_id": return_id,
            "claim_id": claim_id,
            "label_id": label_id,
            "box_id": box_id,
            "tracking_number": self.tracking_number,
            "shipped_at": self.occurred_at,
            "proof": "carrier_scan",
        }
        return self._command("record_return_shipment", "accepted", fields)

    def loss(
        self, *, return_id: str | None = None, order_id: str | None = None, parcel_id: str | None = None
    ) -> Command:
        """``report_return_lost`` of a return (``returns.transit_risk``), or the ``report_parcel_lost`` of an outbound parcel.

        ``ValueError`` when the parcel is not lost.
        """
        if return_id is not None:
            fields: dict[str, object] = {"return_id": return_id, "reported_at": self.occurred_at}
            return self._command("report_return_lost", "lost", fields)
        fields = {"order_id": order_id, "parcel_id": parcel_id, "reported_at": self.occurred_at}
        return self._command("report_parcel_lost", "lost", fields)

    def way_back(self, *, order_id: str, parcel_id: str) -> Command:
        """The ``record_parcel_returned`` of an outbound parcel; ``ValueError`` when it did not come back to the sender."""
        fields = {"order_id": order_id, "parcel_id": parcel_id, "returned_at": self.occurred_at}
        return self._command("record_parcel_returned", "returned", fields)

    def arrival(self, *, arrival_id: str) -> Command:
        """The ``record_arrival`` of a parcel that nobody announced; ``ValueError`` when it did not reach the shop."""
        fields = {
            "arrival_id": arrival_id,
            "carrier": self.carrier,
            "tracking_number": self.tracking_number,
            "arrived_at": self.occurred_at,
        }
        return self._command("record_arrival", "delivered", fields)

    def _command(self, command: str, kind: ScanKind, fields: Mapping[str, object]) -> Command:
        if self.kind != kind:
            raise ValueError(f"scan {self.scan_id!r} says {self.kind}, not {kind}: it makes no {command}")
        command_id = id_of("scan", self.carrier, self.scan_id)
        return command_of(command, ("carrier", self.carrier), command_id, **fields)


class Carrier(Protocol):
    """Sells prepaid return labels. Scans are not asked for: they come in."""

    def buy_label(
        self, *, key: str, return_id: str | None = None, claim_id: str | None = None, box_id: str | None = None
    ) -> LabelBought:
        """Buy a label for a return, or for one box of it, or for the wrong item of a claim.

        The same key for the same thing returns the same label and costs nothing more.

        Raises :class:`KeyReused`, :class:`CarrierRefused` for a definite no, and :class:`CarrierTimeout`.
        """
        ...

    def find(self, key: str) -> LabelBought | None:
        """The label that was bought under a key; raises :class:`CarrierTimeout`."""
        ...

    def void_label(self, label_id: str) -> None:
        """Hand a label back; a repetition has no further effect.

        Raises :class:`CarrierRefused` when it is unknown or a parcel was scanned on it, and :class:`CarrierTimeout`.
        """
        ...
