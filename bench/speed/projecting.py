"""Stored views: how fast they are built anew from all facts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import orjson

from bench.speed.lifecycle import filled
from bench.speed.measure import Measured, Row, Sizes, in_turns, show
from returnable.adapters.wiring import assemble, projector, stored_views
from returnable.projections.stored import VIEWS


def rebuilding(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Every stored view, and one of them alone, built anew beside a plain read of the same rows, and beside one that decodes
    them."""
    path = folder / "projecting.db"
    events = filled(path, sizes.replay_events)
    connection = sqlite3.connect(path)

    def read() -> None:
        rows = connection.execute("SELECT * FROM facts ORDER BY position")
        assert sum(1 for _ in rows) == events

    def read_and_decode() -> None:
        decode = orjson.loads
        rows = connection.execute(
            "SELECT position, case_id, stream, version, type, content FROM facts ORDER BY position"
        )
        assert sum(1 for row in rows if decode(row[5])) == events

    raws = (("the rows read", read), ("… and decoded", read_and_decode))
    for name, views in (("all eight views", tuple(VIEWS)), ("`orders` alone", ("orders",))):
        for beside, raw in raws:
            pairs = in_turns(sizes.replay_rounds, lambda views=views: rebuild(f"sqlite:///{path}", views), raw)  # type: ignore[misc]
            ours = median(of_ours for of_ours, _ in pairs)
            yield Row(
                f"rebuild {name} ÷ {beside}",
                [of_raw / of_ours for of_ours, of_raw in pairs],
                "≥ 0.25",
                f"{events / median(of_raw for _, of_raw in pairs):,.0f} events/s; ours {events / ours:,.0f}",
                f"{events:,} events, {len(pairs)} rounds",
            )
    connection.close()


def rebuild(store_url: str, views: Sequence[str], views_url: str | None = None) -> None:
    """Build views of a store anew, in a file beside it or in the one that is named."""
    services = assemble(store_url, create=False)
    kept = stored_views(store_url, views_url)
    assert kept is not None
    try:
        working = projector(services, kept, views)
        working.rebuild(views)
        working.run()
        assert all(mark.position == services.store.head() for mark in (kept.marks()[view] for view in views))
    finally:
        kept.close()
        services.store.close()


ROWS: dict[str, Measured] = {"project": rebuilding}

if __name__ == "__main__":
    show("python -m bench.speed.projecting", ROWS, __doc__)
