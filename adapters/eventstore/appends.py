"""One append as a store carries it out, and the errors that say why an append was refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import NamedTuple, TypeAlias

from returnable.domain.errors import CommandSeen, NameTaken, PolicyMissing, Stale
from returnable.domain.fields import to_text
from returnable.domain.ports import Batch, CommandReceipt, ReservedId

Row: TypeAlias = tuple[int, str, int, str, int, str, bytes]
"""A stored event: position, case, place in the case, stream, version, stored name, stored JSON."""


class Append(NamedTuple):
    """The arguments of :meth:`EventStore.append <returnable.domain.ports.EventStore.append>`."""

    batches: Sequence[Batch]
    reserved_ids: Sequence[ReservedId] = ()
    receipt: CommandReceipt | None = None
    pinned: str | None = None

    def rows(self) -> Iterator[tuple[str, int, str, int, str, bytes]]:
        """The rows of the events, without the positions that the store will give them."""
        for batch in self.batches:
            for case_seq, entry in enumerate(batch.entries, batch.after + 1):
                yield batch.case_id, case_seq, entry.stream, entry.version, *entry.encoded


def span(positions: Sequence[int]) -> tuple[int, int]:
    """The first and the last position, as a receipt keeps them; both 0 where there is none."""
    return (positions[0], positions[-1]) if positions else (0, 0)


def check_receipt(receipt: CommandReceipt | None) -> None:
    """Raise ``ValueError`` unless the instant of the receipt has an offset."""
    if receipt is not None and receipt.at.utcoffset() is None:
        raise ValueError(f"the moment of command {receipt.command_id!r} has no offset")


def check_kept(pinned: str | None, is_kept: bool) -> None:
    """Raise :class:`PolicyMissing` where events are pinned to a policy that the store does not keep."""
    if pinned is not None and not is_kept:
        raise PolicyMissing(f"the policy {pinned} is not kept")


def check_next(stream: str, last: int, version: int) -> None:
    """Raise ``ValueError`` unless ``version`` follows the ``last`` version of a stream (0: it has no event)."""
    if version != last + 1:
        raise ValueError(f"{stream} stands at version {last}: its next event cannot be version {version}")


def receipt_values(receipt: CommandReceipt) -> tuple[str, str, str, str, str]:
    """Command id, digest, command, instant and outcome as both databases store them; the instant is RFC 3339 in UTC."""
    at = to_text(receipt.at if receipt.at.tzinfo is UTC else receipt.at.astimezone(UTC))
    return receipt.command_id, receipt.digest, receipt.command, at, receipt.outcome


def conflict(
    append: Append, cause: str, *, seen: bool = False, taken: ReservedId | None = None, stale: str | None = None
) -> Exception:
    """The error that says why an append was refused. ``seen``, ``taken`` and ``stale`` are what the store found.

    A recorded command precedes everything else: its first run took the ids and moved the case.
    """
    if seen and append.receipt is not None:
        return CommandSeen(append.receipt.command_id)
    if taken is not None:
        return NameTaken(taken.kind, taken.name)
    if stale is not None:
        return Stale(stale)
    reserved: set[tuple[str, str]] = set()
    for each in append.reserved_ids:
        if (each.kind, each.name) in reserved:
            return NameTaken(each.kind, each.name)
        reserved.add((each.kind, each.name))
    return ValueError(f"these events contradict each other or begin a stream of another case: {cause}")
