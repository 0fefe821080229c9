"""``python -m bench.proofs.restores``: back-ups beside the WAL of another file, damaged stores, and kills in the middle.

*Copies*: a store is copied in one of five ways, more commands follow, and the process dies. Then the copy is put over the
store by hand, beside the WAL that the dead process left. ``verify`` must say no and no desk may open it, except where the
WAL is the store's own: then every fact is there.

*Damage*: rows are taken away or changed, and single pages are replaced by older ones. ``verify`` must say no.

*Kills*: ``backup`` and ``restore`` are killed with SIGKILL before every call that changes a file. The old store is there as a
whole, or the new one, or opening is refused and the same restore can be run again. The old store is kept with all its facts.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import returnable
from bench.proofs.files import copied, damage_in
from bench.proofs.journeys import in_time, scenario
from bench.proofs.mutants import Mutants
from bench.proofs.processes import forked
from bench.proofs.proof import Proof, Run, Tally, counted, main, option
from returnable.adapters import backups
from returnable.adapters.eventstore import sqlite_connections, sqlite_schema
from returnable.domain.errors import Impossible, ReturnableError
from returnable.projections.verified import Verification

LINES = scenario(60)

COPIES = ("vacuum into", "backup api", "backup api, again and again", "returnable backup", "cp of an idle file")


@dataclass
class Restores(Tally):
    """What came of all rounds."""

    copies: int = counted("copies put over a store beside a WAL")
    own: int = counted("… where the WAL was the store's own, and all facts are there")
    refused: int = counted("… which no desk opens")
    damaged: int = counted("damaged stores")
    noticed: int = counted("… to which verify says no")
    kills: int = counted("kills of backup and restore")
    cut_short: int = counted("… after which opening was refused until the restore was run again")
    accepted: int = counted("copies and damaged stores that are accepted, or sound ones that are not")
    mixed: int = counted("kills that left something else")


def play(path: Path, lines: Sequence[dict[str, Any]], checkpoint_pages: int | None = None) -> None:
    """Give commands in a process that dies in the end, so that the WAL stays."""

    def give_and_die() -> None:
        try:
            pages = sqlite_connections.CHECKPOINT_PAGES if checkpoint_pages is None else checkpoint_pages
            with patch.object(sqlite_connections, "CHECKPOINT_PAGES", pages):
                desk = returnable.open(f"sqlite:///{path}")
                for at, fields in in_time(lines):
                    with suppress(Impossible):
                        desk.handle(fields, at=at)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(give_and_die), 0)


def copy(path: Path, target: Path, how: str) -> None:
    """Make a back-up in one of the ways in which people make them."""
    if how == "returnable backup":
        backups.back_up(f"sqlite:///{path}", target)
    elif how == "cp of an idle file":
        returnable.open(f"sqlite:///{path}").close()
        shutil.copy(path, target)
    else:
        with closing(sqlite3.connect(path)) as source:
            if how == "vacuum into":
                source.execute("VACUUM INTO ?", (str(target),))
            for _ in range(0 if how == "vacuum into" else 20 if how.endswith("again") else 1):
                with closing(sqlite3.connect(target)) as backup:
                    source.backup(backup)


def content(path: Path) -> tuple[list[Any], ...] | None:
    """What a store holds, without looking at it as a store; ``None`` where SQLite cannot read it."""
    with copied(path) as copy, suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as connection:
        tables = ("facts", "commands", "names", "policies")
        return tuple(connection.execute(f"SELECT * FROM {one} ORDER BY 1, 2").fetchall() for one in tables)
    return None


def says_yes(path: Path) -> bool:
    return not backups.verify_store(f"sqlite:///{path}").problems


def opens(path: Path) -> bool:
    try:
        returnable.open(f"sqlite:///{path}").close()
    except ReturnableError:
        return False
    return True


# ---- copies -----------------------------------------------------------------------------------------------------------


def put_copies(run: Run, tally: Restores, chance: random.Random) -> None:
    for nth in range(run.rounds):
        place = run.folder / f"copy-{nth}"
        place.mkdir()
        path, target = place / "shop.db", place / "copy.db"
        how = COPIES[nth % len(COPIES)]
        before = chance.choice((3, 30, 90, 150, 200))
        after = chance.choice((1, 5, 20, 60, 120, 250))
        pages = chance.choice((None, None, 5, 20, 40, 150))
        play(path, LINES[:before], chance.choice((None, 10)))
        copy(path, target, how)
        if chance.random() < 0.3:  # a checkpoint between the copy and what comes after it
            returnable.open(f"sqlite:///{path}").close()
        play(path, LINES[before : before + after], pages)
        whole = content(path)
        if os.path.getsize(f"{path}-wal") == 0:
            continue
        shutil.copyfile(target, path)
        if chance.random() < 0.5:
            Path(f"{path}-shm").unlink(missing_ok=True)
        tally.copies += 1
        what = f"{how}, {before} commands before, {after} after, a checkpoint after {pages} pages"
        own = how.startswith("cp") and content(path) == whole
        tally.own += own
        yes = says_yes(path)
        if yes and not own:
            tally.trouble("accepted", f"verify says yes: {what}")
        shutil.copyfile(target, path)
        opened = opens(path)
        tally.refused += not opened
        if opened and not own and not how.startswith("cp"):
            tally.trouble("accepted", f"a desk opens it: {what}")
        shutil.rmtree(place)


# ---- damage -----------------------------------------------------------------------------------------------------------

_EDITS = (
    "DELETE FROM facts WHERE position = {fact}",
    "DELETE FROM facts WHERE position > {fact}",
    "DELETE FROM facts WHERE case_id = (SELECT case_id FROM facts WHERE position = {fact})",
    "UPDATE facts SET position = position + 1000000 WHERE position = {head}",
    "UPDATE facts SET content = (SELECT content FROM facts ORDER BY position LIMIT 1) WHERE position = {fact}",
    "UPDATE sqlite_sequence SET seq = seq + 3 WHERE name = 'facts'",
    "UPDATE sqlite_sequence SET seq = seq - 3 WHERE name = 'facts'",
    "DELETE FROM commands WHERE rowid_of = {nth}",
    "UPDATE commands SET last = last + 1, first = first + 1 WHERE last > 0 AND rowid_of = {nth}",
    "UPDATE commands SET outcome = iif(outcome = 'accepted', 'declined', 'accepted') WHERE last > 0 AND rowid_of = {nth}",
    "INSERT INTO commands SELECT 'x-' || command_id, digest, command, at, outcome, first, last, 0 FROM commands LIMIT 1",
    "DELETE FROM names WHERE rowid_of = {nth}",
    "UPDATE names SET case_id = 'A-999' WHERE rowid_of = {nth}",
    "INSERT INTO names VALUES ('return', 'R-unheard-of', 'A-000')",
    "DELETE FROM policies",
    "UPDATE policies SET document = replace(document, ' the ', ' thy ')",
    "UPDATE bookmarks SET position = position + 1000000",
    "DELETE FROM due WHERE at = (SELECT min(at) FROM due)",
)


def damage(run: Run, tally: Restores, chance: random.Random) -> None:
    folder = run.folder
    path, older = folder / "sound.db", folder / "older.db"
    play(path, LINES[:150])
    returnable.open(f"sqlite:///{path}").close()
    shutil.copy(path, older)
    play(path, LINES[150:400])
    with returnable.open(f"sqlite:///{path}") as desk:
        desk.services.handler.due.catch_up()
    if not says_yes(path):
        tally.trouble("accepted", "verify says no to a sound store")
    whole = content(path)
    edits: list[Callable[[Path], str]] = [partial(_edit, statement, chance) for statement in _EDITS]
    for nth in range(run.rounds):
        spoilt = folder / "spoilt.db"
        shutil.copy(path, spoilt)
        if nth % 2:
            what = _old_page(spoilt, older, chance)
            if content(spoilt) == whole and damage_in(spoilt) is None:
                continue  # an old page of a table that says nothing of the facts, or of nothing at all
        else:
            what = edits[nth // 2 % len(edits)](spoilt)
        tally.damaged += 1
        yes = says_yes(spoilt)
        tally.noticed += not yes
        if yes:
            tally.trouble("accepted", f"verify says yes: {what}")


def _edit(statement: str, chance: random.Random, path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        ((head,),) = connection.execute("SELECT max(position) FROM facts")
        for name, key in (("commands", "command_id"), ("names", "(kind, name)")):
            if f" {name} " in statement and "rowid_of" in statement:
                wanted = " WHERE last > 0" if "last > 0" in statement else ""
                ((count,),) = connection.execute(f"SELECT count(*) FROM {name}{wanted}")
                columns = key.strip("()")
                one = f"(SELECT {columns} FROM {name}{wanted} LIMIT 1 OFFSET {chance.randrange(count)})"
                statement = statement.replace("rowid_of = {nth}", f"{key} = {one}")
        statement = statement.format(fact=chance.randrange(2, head), head=head)
        changed = connection.execute(statement).rowcount
        connection.commit()
    assert changed, statement
    return statement


def _old_page(path: Path, older: Path, chance: random.Random) -> str:
    old, new = older.read_bytes(), path.read_bytes()
    pages = [n for n in range(1, len(old) // 4096) if old[n * 4096 : (n + 1) * 4096] != new[n * 4096 : (n + 1) * 4096]]
    page = chance.choice(pages)
    path.write_bytes(new[: page * 4096] + old[page * 4096 : (page + 1) * 4096] + new[(page + 1) * 4096 :])
    return f"page {page + 1} is an old one"


# ---- kills ------------------------------------------------------------------------------------------------------------

_CHANGES = ("rename", "replace", "link", "unlink", "fsync", "chmod", "ftruncate", "open")


def die_before(call: int) -> None:
    """Have this process killed before so many calls that change files."""
    calls = 0

    def counted(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    for name in _CHANGES:
        setattr(os, name, partial(counted, getattr(os, name)))


def naive_swap(target: Path, part: Path) -> str | None:
    """A seeded mistake: the new file takes its place first, and what lay beside the old one is removed then."""
    kept = f"{target}.before-restore-naive"
    os.rename(target, kept)
    os.rename(part, target)
    for ending in ("-wal", "-shm"):
        Path(f"{target}{ending}").unlink(missing_ok=True)
    return kept


def in_a_process(action: str, file: Path, store: Path, call: int, control: str | None) -> int:
    """Back up or restore in a process that may be killed; how it ended: 0, or the signal as a negative number."""

    def act() -> None:
        die_before(call)
        if control == "swap":
            vars(backups).update(_announce=lambda target: None, _swap=naive_swap)
        if action == "backup":
            backups.back_up(f"sqlite:///{store}", file, force=True)
        else:
            backups.restore(file, f"sqlite:///{store}")

    return os.waitstatus_to_exitcode(os.waitpid(forked(act), 0)[1])


def kill(run: Run, tally: Restores) -> None:
    """Kill backup and restore before every call, or every second (``--every 2``), and so on; 0: never."""
    folder, every, control = run.folder / "kills", run.every, run.control
    folder.mkdir()
    shop, file = folder / "shop.db", folder / "kept.db"
    play(shop, LINES[:60])
    backups.back_up(f"sqlite:///{shop}", file)
    new = content(file)
    play(shop, LINES[60:160])
    old = content(shop)
    for action in ("restore",) if control else ("backup", "restore"):
        for call in count(1, every) if every else ():
            place = folder / f"{action}-{call}"
            place.mkdir()
            for one in folder.glob("*.db*"):
                shutil.copy(one, place / one.name)
            store, backup = place / "shop.db", place / "kept.db"
            status = in_a_process(action, backup, store, call, control)
            if status == 0:
                shutil.rmtree(place)
                break
            tally.kills += 1
            if status != -signal.SIGKILL:
                tally.trouble("mixed", f"{action}, call {call}: ended with {status}")
            troubles = _after_backup if action == "backup" else _after_restore
            for trouble in troubles(tally, store, backup, old, new):
                tally.trouble("mixed", f"{action}, killed before call {call}: {trouble}")
            shutil.rmtree(place)


Content = tuple[list[Any], ...] | None


def _after_backup(tally: Restores, store: Path, backup: Path, old: Content, new: Content) -> Iterator[str]:
    if content(backup) not in (old, new):
        yield "the back-up is neither the one before nor the one after"
    if content(store) != old:
        yield "the store has changed"
    backups.back_up(f"sqlite:///{store}", backup, force=True)
    if content(backup) != old:
        yield "the next back-up is not the store"
    left = [one.name for one in store.parent.iterdir() if "part" in one.name]
    if left:
        yield f"the next back-up has left {', '.join(left)}"


def _after_restore(tally: Restores, store: Path, backup: Path, old: Content, new: Content) -> Iterator[str]:
    if opens(store):
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA wal_checkpoint")
        if content(store) not in (old, new):
            yield "the store that a desk opens is neither the old one nor the new one"
    else:
        tally.cut_short += 1
    backups.restore(backup, f"sqlite:///{store}")
    if content(store) != new or not says_yes(store):
        yield "a second restore does not make the new store"
    kept = [one for one in store.parent.glob("shop.db.before-restore-*") if not one.name.endswith(("-wal", "-shm"))]
    if not any(content(one) == old for one in kept):
        yield "the old store is not kept with all its facts"
    left = [one.name for one in store.parent.iterdir() if "part" in one.name or one.name.endswith("-restoring")]
    if left:
        yield f"the second restore has left {', '.join(left)}"


CONTROLS = Mutants()


@CONTROLS.register
def _wal(patches: ExitStack) -> None:
    """Copies, without the check of the WAL."""
    for module in (sqlite_schema, sqlite_connections):
        patches.enter_context(patch.object(module, "refuse_foreign_wal", lambda path: None))


@CONTROLS.register
def _checks(patches: ExitStack) -> None:
    """Damage, without the checks beside redecide."""
    for check in ("_medium", "_policies", "_other_tables", "_receipt_of", "_compare"):
        patches.enter_context(patch.object(Verification, check, lambda self, *told: iter(())))


@CONTROLS.register
def _swap(patches: ExitStack) -> None:
    """Kills, without the marker of a restore; the process that is killed makes the mistake."""


def restores(run: Run) -> Restores:
    tally, chance = Restores(), random.Random(run.seed)
    if run.control in (None, "wal"):
        put_copies(run, tally, chance)
    if run.control in (None, "checks"):
        damage(run, tally, chance)
    if run.control in (None, "swap"):
        kill(run, tally)
    return tally


if __name__ == "__main__":
    every = option("--every", 1, "kill before every call, every second, …; 0: never")
    main(Proof(restores, rounds=200, of="copies, and damaged stores", controls=CONTROLS, options=[every]))
