"""A carrier for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from returnable.domain.effects.answers import KeyReused
from returnable.domain.effects.parcels import (
    Carrier,
    CarrierRefused,
    CarrierTimeout,
    LabelBought,
    Scan,
    ScanKind,
    label_is_for,
)
from returnable.testing.fakes.script import NO_TIME, Fake, Next, Outside, Plan


class NextLabel(Next):
    """What happens to the next label that is bought under a new key. Call one method."""

    def times_out_after_buying(self) -> None:
        """The label is bought, but the answer is lost."""
        self._say("times_out_after_buying()", Plan("answer lost"))

    def times_out_before_buying(self) -> None:
        """The call is lost and never reaches the carrier."""
        self._say("times_out_before_buying()", Plan("call lost"))

    def is_refused(self, reason: str) -> None:
        """A definite no."""
        self._say(f"is_refused({reason!r})", Plan("refused", reason))


@dataclass(slots=True)
class _Label:
    """A label in the carrier's books."""

    bought: LabelBought
    void: bool = False
    used: bool = False


class FakeCarrier(Fake[Scan], Carrier):
    """A carrier that sells labels and scans parcels."""

    _name = "carrier"
    _incoming = (Scan,)

    def __init__(
        self,
        clock: Callable[[], datetime] | Outside,
        *,
        name: str = "fedex",
        seed: int | None = None,
        trouble: float = 0.0,
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self.name = name
        self._labels: dict[str, _Label] = {}
        self._scans = 0
        self._losing: dict[str, timedelta] = {}

    # ---- the port -----------------------------------------------------------------------------------------------------

    def buy_label(
        self, *, key: str, return_id: str | None = None, claim_id: str | None = None, box_id: str | None = None
    ) -> LabelBought:
        """See :meth:`~returnable.domain.effects.parcels.Carrier.buy_label`."""
        wanted_for = label_is_for(return_id, claim_id, box_id)
        with self._outside.lock:
            call = f"buy label {key} for {wanted_for}"
            known = self._labels.get(key)
            if known is not None:
                if known.bought.bought_for != wanted_for:
                    self._called(call, f"the key was used before, for {known.bought.bought_for}")
                    raise KeyReused(key, known.bought.bought_for, wanted_for)
                self._called(call, f"known already: {known.bought.label_id}")
                return known.bought
            plan = self._outside.scripted("next_label", return_id or claim_id or "") or self._trouble(f"label {key}")
            if plan.ending == "refused":
                self._called(call, f"refused, {plan.reason}")
                raise CarrierRefused(f"label {key!r}", plan.reason)
            if plan.ending == "call lost":
                self._called(call, "timed out before buying")
                raise CarrierTimeout(key, "buy_label")
            number = len(self._labels) + 1
            ids = (key, return_id, f"L-{number}", self.name, f"RT-{number}")
            label = LabelBought(*ids, self._outside.now(), claim_id, box_id)
            self._labels[key] = _Label(label)
            if plan.ending == "answer lost":
                self._called(call, f"timed out after buying {label.label_id}")
                raise CarrierTimeout(key, "buy_label")
            self._called(call, label.label_id)
            return label

    def find(self, key: str) -> LabelBought | None:
        """See :meth:`~returnable.domain.effects.parcels.Carrier.find`."""
        with self._outside.lock:
            label = self._labels.get(key)
            self._called(f"find {key}", label.bought.label_id if label else "nothing")
            return label.bought if label else None

    def void_label(self, label_id: str) -> None:
        """See :meth:`~returnable.domain.effects.parcels.Carrier.void_label`."""
        with self._outside.lock:
            label = next((each for each in self._labels.values() if each.bought.label_id == label_id), None)
            refusal = (
                "there is no such label" if label is None else "a parcel was scanned on it" if label.used else None
            )
            self._called(f"void label {label_id}", refusal or "void")
            if label is None or refusal is not None:
                raise CarrierRefused(f"label {label_id!r}", refusal or "")
            label.void = True

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def next_label(self, of: str | None = None) -> NextLabel:
        """Script the next label under a new key (``of``: for that return or claim)."""
        return NextLabel(self._next("next_label", of))

    def scans_arrive_late(self, by: timedelta) -> None:
        """Every scan from now on is reported so long after it was made."""
        self._stand("scans_arrive_late", by)
        self._late = by

    def loses(self, tracking_number: str, *, found_out_after: timedelta = timedelta(days=10)) -> None:
        """After its hand-over, the parcel is scanned only once more: as ``lost``, so long afterwards."""
        self._stand("loses", of=tracking_number)
        self._losing[tracking_number] = found_out_after

    def accepts(self, tracking_number: str, at: datetime | None = None) -> None:
        """The parcel is handed over now, or at an earlier instant."""
        self.scan(tracking_number, "accepted", at)

    def delivers(self, tracking_number: str, at: datetime | None = None) -> None:
        """The parcel is delivered now, or at an earlier instant."""
        self.scan(tracking_number, "delivered", at)

    def brings_back(self, tracking_number: str, at: datetime | None = None) -> None:
        """The parcel is back at its sender now, or at an earlier instant."""
        self.scan(tracking_number, "returned", at)

    def scan(self, tracking_number: str, kind: ScanKind, at: datetime | None = None) -> None:
        """The parcel is scanned now, or at an earlier instant (aware); :meth:`scans` returns the scan when it is due."""
        with self._outside.lock:
            occurred = self._occurred(at, "a parcel cannot be scanned")
            lost_after = self._losing.get(tracking_number)
            if lost_after is not None and kind != "accepted":
                self._note(f"{tracking_number} is lost: no scan {kind}")
                return
            for label in self._labels.values():
                label.used = label.used or label.bought.tracking_number == tracking_number
            self._report(tracking_number, kind, occurred, self._late)
            if lost_after is not None:
                self._stands("loses", tracking_number)
                self._report(tracking_number, "lost", occurred + lost_after, NO_TIME)

    def scans(self) -> list[Scan]:
        """The scans reported since the last call, in the order in which they came."""
        return [scan for _, scan in self.came()]

    # ---- the books ------------------------------------------------------------------------------------------------------

    def labels(self, return_id: str | None = None) -> tuple[LabelBought, ...]:
        """Every label bought and not handed back, or those for one return."""
        with self._outside.lock:
            live = [label.bought for label in self._labels.values() if not label.void]
            return tuple(label for label in live if return_id in (None, label.return_id))

    # ---- inside ---------------------------------------------------------------------------------------------------------

    def _as_noted(self, incoming: Scan) -> str:
        return f"scan {incoming.scan_id} is reported: {incoming.tracking_number} {incoming.kind}"

    def _report(self, tracking_number: str, kind: ScanKind, occurred: datetime, late: timedelta) -> None:
        self._scans += 1
        scan_id = f"scan-{self._scans}"
        random = self._outside.random(scan_id)
        if random is not None:
            late += timedelta(minutes=random.randint(1, 3 * 24 * 60))
        self._stands("scans_arrive_late")
        # A scan of the past comes now.
        due = max(occurred + late, self._outside.now())
        scan = Scan(scan_id, self.name, tracking_number, kind, occurred, due)
        self._note(f"scan {scan_id}: {tracking_number} {kind}", occurred)
        self._outside.send(scan, due)
        if random is not None and random.random() < 0.5:
            self._outside.send(scan, due)
