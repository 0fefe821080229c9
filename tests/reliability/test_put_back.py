"""A store is put back to an older copy of itself under a running desk."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres import own_server

from bench.reliability.put_back import Copier, InFile, OnServer, run


def copier(store: str, folder: Path, nth: int) -> Copier:
    return InFile(folder, nth) if store == "sqlite" else OnServer(own_server(), folder, nth)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_running_desk_answers_as_a_new_one_would(store: str, tmp_path: Path) -> None:
    tally = run(lambda nth: copier(store, tmp_path, nth), rounds=6, seed=20)

    assert not tally.troubles, tally.shown
    assert tally.by_the_old_desk > 10


def test_the_comparison_finds_a_desk_that_only_counts_facts(tmp_path: Path) -> None:
    tally = run(lambda nth: InFile(tmp_path, nth), rounds=20, seed=20, control=True)

    assert tally.troubles
