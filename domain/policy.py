"""The policy as data: clauses with their words, parameters and reading; versions, and which was in force when.

A policy is a TOML file. Loading is strict: an unknown key, a missing clause or a negative window is one clear error that
names the place. The canonical SHA-256 of its content is pinned in every decision.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, ValidationError, field_validator
from pydantic_core import PydanticSerializationError, from_json, to_json

from returnable.domain.cached import cached_property
from returnable.domain.calendar import ZONE_DATA, Calendar, Counting, bundled_calendar, local_date, zone
from returnable.domain.errors import CalendarInvalid, PolicyInvalid, place_of
from returnable.domain.events import Pins
from returnable.domain.fields import LONGEST_ID, Currency, Evidence, Flag
from returnable.domain.money import MoneyInvalid, decimal_to_minor

Hours = Annotated[int, Field(strict=True, ge=0, le=24 * 366)]
Days = Annotated[int, Field(strict=True, ge=0, le=3660)]
PolicyAmount = Annotated[
    Decimal, Field(ge=0, le=10**9, allow_inf_nan=False), PlainSerializer(lambda amount: format(amount, "f"))
]
Channels = Annotated[
    tuple[Annotated[str, StringConstraints(strict=True, min_length=1)], ...], Field(min_length=1, fail_fast=True)
]


class Closed(BaseModel):
    """The base of a policy's parts: an unknown key is an error, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Clause(Closed):
    """A named rule: the merchant's words, and how they are read.

    ``applies = false`` says that the merchant has no such rule: the clause is then *not applicable* everywhere.
    """

    quote: str
    reading: str
    applies: Flag = True


class Elapsed(Clause):
    """A clause whose deadline comes ``hours`` of elapsed time after something. The deadline itself is still in time."""

    hours: Hours


class DayCounted(Clause):
    """A clause whose deadline is the end of a local day. The deadline itself is already too late."""

    @property
    def span(self) -> tuple[int, Counting]:
        """How many days it runs, and which days count."""
        raise NotImplementedError


class BusinessDays(DayCounted):
    """A clause that runs for so many business days."""

    business_days: Days

    @property
    def span(self) -> tuple[int, Counting]:
        return self.business_days, "business"


class CancellationWindow(Elapsed):
    """``cancellation.window``: ``hours`` after the confirmation."""


class CancellationNotShipped(Clause):
    """``cancellation.not_shipped``: whether a parcel with the carrier bars when deciding or when the request arrived."""

    judged: Literal["when_decided", "when_requested"] = "when_decided"


class CancellationByEmail(Clause):
    """``cancellation.by_email``: the channels, and the pieces of which one must be there."""

    channels: Channels
    requires: Annotated[tuple[Literal["order_reference", "order_copy"], ...], Field(fail_fast=True)]


class CancellationFullRefund(Clause):
    """``cancellation.full_refund``: whether outbound shipping is part of the refund."""

    refunds_shipping: Flag = True


class ReturnsWindow(DayCounted):
    """``returns.window``: ``days`` after delivery, counted in calendar or business days."""

    days: Days
    counting: Counting = "calendar"
    anchor: Literal["delivered"] = "delivered"

    @property
    def span(self) -> tuple[int, Counting]:
        return self.days, self.counting


class ReturnsAccount(Clause):
    """``returns.account``: whether an account is required."""

    required: Flag = True


class ByChannel(Clause):
    """A clause that accepts only some channels."""

    channels: Channels


class ReturnsShipBy(BusinessDays):
    """``returns.ship_by``: the life of a prepaid label, and what starts its clock.

    ``unsent_after_days``: after how many calendar days an authorized return that was never sent is on the worklist; without
    it, never.
    """

    anchor: Literal["label_received", "label_issued"] = "label_received"
    unsent_after_days: Annotated[int, Field(strict=True, ge=1, le=3660)] | None = None


class ReturnsCondition(Clause):
    """``returns.condition``: the findings a unit needs to be accepted."""

    requires: Annotated[
        tuple[Literal["same_condition", "original_packaging", "tags_attached"], ...], Field(fail_fast=True)
    ]


class ReturnsLabelFee(Clause):
    """``returns.label_fee``: the fee for each prepaid label used, and the unit price from which none is due.

    ``free_only_with_free_shipping``: whether a unit at or above the threshold is spared only when outbound shipping was
    free.
    """

    threshold: PolicyAmount
    fee: PolicyAmount
    free_only_with_free_shipping: Flag = False


class ReturnsOriginalTender(Clause):
    """``returns.original_tender``: in proportion to what remains of each payment, or in the order of the payments."""

    allocation: Literal["pro_rata", "in_order"] = "pro_rata"


class ReturnsRefundTiming(DayCounted):
    """``returns.refund_timing``: the first and the last business day on which the refund is expected."""

    business_days: tuple[Days, Days]

    @property
    def span(self) -> tuple[int, Counting]:
        return self.business_days[1], "business"

    @field_validator("business_days")
    @classmethod
    def _in_order(cls, days: tuple[int, int]) -> tuple[int, int]:
        if days[0] > days[1]:
            raise ValueError("the first day must not come after the last")
        return days


class WrongItemWindow(BusinessDays):
    """``wrong_item.window``: business days after delivery."""


class WrongItemEvidence(Clause):
    """``wrong_item.evidence``: what a claim must show before it is settled."""

    requires: Annotated[tuple[Evidence, ...], Field(fail_fast=True)]


class WrongItemContact(Elapsed):
    """``wrong_item.contact``: the hours within which customer care calls."""


class WrongItemRemedy(Clause):
    """``wrong_item.remedy``: whether a claim for the whole order pays outbound shipping back."""

    refunds_shipping_for_whole_order: Flag = True


class Clauses(Closed):
    """Every clause the engine knows. All must be there."""

    cancellation_window: CancellationWindow = Field(alias="cancellation.window")
    cancellation_not_shipped: CancellationNotShipped = Field(alias="cancellation.not_shipped")
    cancellation_by_email: CancellationByEmail = Field(alias="cancellation.by_email")
    cancellation_notice: Clause = Field(alias="cancellation.notice")
    cancellation_full_refund: CancellationFullRefund = Field(alias="cancellation.full_refund")
    returns_final_sale: Clause = Field(alias="returns.final_sale")
    returns_window: ReturnsWindow = Field(alias="returns.window")
    returns_account: ReturnsAccount = Field(alias="returns.account")
    returns_portal: ByChannel = Field(alias="returns.portal")
    returns_no_exchanges: Clause = Field(alias="returns.no_exchanges")
    returns_ship_by: ReturnsShipBy = Field(alias="returns.ship_by")
    returns_tracking: Clause = Field(alias="returns.tracking")
    returns_own_label: Clause = Field(alias="returns.own_label")
    returns_condition: ReturnsCondition = Field(alias="returns.condition")
    returns_label_fee: ReturnsLabelFee = Field(alias="returns.label_fee")
    returns_shipping_non_refundable: Clause = Field(alias="returns.shipping_non_refundable")
    returns_refund_after_inspection: Clause = Field(alias="returns.refund_after_inspection")
    returns_original_tender: ReturnsOriginalTender = Field(alias="returns.original_tender")
    returns_refund_timing: ReturnsRefundTiming = Field(alias="returns.refund_timing")
    returns_transit_risk: Clause = Field(alias="returns.transit_risk")
    wrong_item_window: WrongItemWindow = Field(alias="wrong_item.window")
    wrong_item_by_email: ByChannel = Field(alias="wrong_item.by_email")
    wrong_item_evidence: WrongItemEvidence = Field(alias="wrong_item.evidence")
    wrong_item_contact: WrongItemContact = Field(alias="wrong_item.contact")
    wrong_item_remedy: WrongItemRemedy = Field(alias="wrong_item.remedy")


CLAUSE_IDS: tuple[str, ...] = tuple(str(field.alias) for field in Clauses.model_fields.values())
"""The stable ids, in the order of the policy."""

_FIELD_OF = {str(field.alias): name for name, field in Clauses.model_fields.items()}

INCLUSIVE: frozenset[str] = frozenset(
    str(field.alias)
    for field in Clauses.model_fields.values()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Elapsed)
)
"""The clauses whose deadline itself is still in time: those that count hours. All other deadlines are exclusive."""


class CalendarChoice(Closed):
    """A bundled calendar by name and version, and the further days on which this merchant is closed."""

    name: str
    version: str
    closed_also: Annotated[tuple[date, ...], Field(fail_fast=True)] = ()


class Policy(Closed):
    """One version of a merchant's policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    id: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=LONGEST_ID)]
    version: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=LONGEST_ID)]
    effective: date
    currency: Currency
    zone: str
    source: str
    calendar: CalendarChoice
    clauses: Clauses

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zone(name)
        except CalendarInvalid as error:
            raise ValueError(str(error)) from None
        return name

    @cached_property
    def document(self) -> str:
        """The canonical content: sorted JSON, the input of :attr:`sha256`."""
        # What a policy leaves out does not change its hash.
        content = from_json(to_json(self.model_dump(mode="json", by_alias=True, exclude_none=True)))
        return to_json(_sorted(content)).decode()

    @cached_property
    def sha256(self) -> str:
        """The hash that decisions pin: of the canonical content and the business days it counts by."""
        return hashlib.sha256(f"{self.document}\n{self.days.sha256}".encode()).hexdigest()

    @cached_property
    def days(self) -> Calendar:
        """The business days of this policy."""
        calendar = bundled_calendar(self.calendar.name, self.calendar.version)
        if self.calendar.closed_also:
            name = f"{calendar.name}+{self.id}"
            return calendar.closed_also(name, calendar.version, self.calendar.closed_also)
        return calendar

    @cached_property
    def pins(self) -> Pins:
        """What a decision under this policy was judged by."""
        return Pins(
            policy=self.id,
            version=self.version,
            sha256=self.sha256,
            calendar=f"{self.days.name}/{self.days.version}",
            zone=self.zone,
            tzdata=ZONE_DATA,
        )

    @cached_property
    def label_fee_minor(self) -> tuple[int, int]:
        """Threshold and fee of ``returns.label_fee`` in minor units of the policy's currency."""
        clause = self.clauses.returns_label_fee
        return decimal_to_minor(clause.threshold, self.currency), decimal_to_minor(clause.fee, self.currency)

    def clause(self, clause_id: str) -> Clause:
        """The clause with that id; ``KeyError`` for an unknown one."""
        found: Clause = getattr(self.clauses, _FIELD_OF[clause_id])
        return found


PolicyOf = Callable[[str], Policy]
"""Finds a pinned policy by its hash; raises ``HistoryBroken`` where it was not kept."""


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(entry) for entry in value]
    return value


def parse_policy(text: str, where: str) -> Policy:
    """The policy a TOML text states; raises :class:`PolicyInvalid` naming ``where`` and the place in it."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:  # also from a number of thousands of digits
        raise PolicyInvalid(f"{where}: not TOML: {error}") from None
    except RecursionError:
        raise PolicyInvalid(f"{where}: not TOML: nested too deeply") from None
    return policy_from(content, where)


def policy_of_document(document: str, sha256: str) -> Policy:
    """The policy of a kept canonical document; raises :class:`PolicyInvalid` unless it has that hash."""
    try:
        content = from_json(document)
    except ValueError as error:
        raise PolicyInvalid(f"the kept policy {sha256[:12]} is not JSON: {error}") from None
    policy = policy_from(content, f"the kept policy {sha256[:12]}")
    if policy.sha256 != sha256:
        raise PolicyInvalid(f"the kept policy {sha256[:12]} does not have the hash it is kept under")
    return policy


def policy_from(content: Mapping[str, Any], where: str) -> Policy:
    """The policy that parsed content states; raises :class:`PolicyInvalid` naming ``where`` and the place in it."""
    try:
        policy = Policy.model_validate(content)
        policy.label_fee_minor  # noqa: B018  (amounts must fit the currency)
        policy.days  # noqa: B018  (the calendar must exist)
        policy.sha256  # noqa: B018  (every text must be one that can be written)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise PolicyInvalid(f"{where}: {place_of(first['loc'])}: {_said(first['type'], first['msg'])}") from None
    except MoneyInvalid as error:
        raise PolicyInvalid(f"{where}: clauses.returns.label_fee: {error}") from None
    except CalendarInvalid as error:
        raise PolicyInvalid(f"{where}: calendar: {error}") from None
    except PydanticSerializationError:
        raise PolicyInvalid(f"{where}: holds a text with half a character in it (a lone surrogate)") from None
    return policy


def _said(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a known key"
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


class PolicyBook:
    """The versions of a policy, and which was in force when.

    >>> book = bundled_policies()
    >>> book.in_force(datetime.fromisoformat("2026-03-02T10:00:00-05:00")).id
    'allu-usa'
    """

    def __init__(self, versions: Iterable[Policy], where: str = "the policies") -> None:
        self.versions = tuple(sorted(versions, key=lambda policy: (policy.effective, policy.version)))
        if not self.versions:
            raise PolicyInvalid(f"{where}: there is no policy")
        ids = {policy.id for policy in self.versions}
        if len(ids) > 1:
            raise PolicyInvalid(f"{where}: versions of different policies: {', '.join(sorted(ids))}")
        seen: dict[object, Policy] = {}
        for policy in self.versions:
            for key in (("version", policy.version), ("effective", policy.effective)):
                if key in seen:
                    raise PolicyInvalid(f"{where}: two versions of {policy.id} have the same {key[0]} ({key[1]})")
                seen[key] = policy
        self._by_sha256 = {policy.sha256: policy for policy in self.versions}

    def in_force(self, confirmed_at: datetime) -> Policy:
        """The version in force on the local date of that instant; raises :class:`PolicyInvalid` before the first."""
        for policy in reversed(self.versions):
            if policy.effective <= local_date(confirmed_at, policy.zone):
                return policy
        first = self.versions[0]
        raise PolicyInvalid(f"no version of the policy {first.id} was in force before {first.effective}")

    def by_sha256(self, sha256: str) -> Policy | None:
        """The version with that hash, if it is one of these."""
        return self._by_sha256.get(sha256)


def read_policies(path: str | Path) -> PolicyBook:
    """The policy in a TOML file, or all versions in a directory of TOML files; a file ``.json`` is a canonical document.

    Raises :class:`PolicyInvalid` naming the file and the place.
    """
    place = Path(path)
    try:
        files = sorted((*place.glob("*.toml"), *place.glob("*.json"))) if place.is_dir() else [place]
        texts = [(str(file), file.read_text(encoding="utf-8-sig")) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise PolicyInvalid(f"{path}: cannot be read: {reason}") from None
    if not texts:
        raise PolicyInvalid(f"{path}: there is no .toml file in this directory, and no .json document")
    return PolicyBook((_parsed(text, where) for where, text in texts), str(path))


def _parsed(text: str, where: str) -> Policy:
    if not where.endswith(".json"):
        return parse_policy(text, where)
    try:
        content = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PolicyInvalid(f"{where}: not JSON: {error}") from None
    return policy_from(content, where)


BUNDLED = ("allu-usa", "allu-usa-earlier")
"""The names of the policies that ship with the library; the first is the one in force."""


@cache
def bundled_policies(name: str = BUNDLED[0]) -> PolicyBook:
    """A policy that ships with the library, by name; by default the one in force.

    ``allu-usa-earlier`` is an older wording of the same retailer, to compare with. Raises :class:`PolicyInvalid` for an
    unknown name.
    """
    if name not in BUNDLED:
        raise PolicyInvalid(f"there is no bundled policy {name!r}; there are {', '.join(BUNDLED)}")
    file = resources.files("returnable.domain") / "policies" / f"{name}.toml"
    return PolicyBook([parse_policy(file.read_text(encoding="utf-8"), file.name)])
