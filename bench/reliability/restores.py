"""``python -m bench.reliability.restores``: back-ups beside the WAL of another file, damaged stores, and kills in the middle.

*Copies*: a store is copied in one of five ways, more commands follow, and the process dies. Then the copy is put over the
store by hand, beside the WAL that the dead process left. ``verify`` must say no and no desk may open it, except where the
WAL is the store's own: then every fact is there.

*Damage*: rows are taken away or changed, and single pages are replaced by older ones. ``verify`` must say no.

*Kills*: ``backup`` and ``restore`` are killed with SIGKILL before every call that changes a file. The old store is there as a
whole, or the new one, or opening is refused and the same restore can be run again. The old store is kept with all its facts.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import returnable
from bench.reliability.journeys import scenario
from bench.speed.measure import table
from returnable.adapters import backups
from returnable.adapters.eventstore import connections
from returnable.domain.errors import Impossible, ReturnableError
from returnable.domain.fields import parse_instant
from returnable.projections.verified import Verification

LINES = scenario(60)

COPIES = ("vacuum into", "backup api", "backup api, again and again", "returnable backup", "cp of an idle file")

CONTROLS = ("wal", "checks", "swap")


@dataclass
class Tally:
    """What came of all rounds."""

    copies: int = 0
    own: int = 0
    refused: int = 0
    damaged: int = 0
    noticed: int = 0
    kills: int = 0
    cut_short: int = 0
    troubles: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A Markdown table."""
        rows = [
            ("copies put over a store beside a WAL", self.copies),
            ("… where the WAL was the store's own, and all facts are there", self.own),
            ("… which no desk opens", self.refused),
            ("damaged stores", self.damaged),
            ("… to which verify says no", self.noticed),
            ("kills of backup and restore", self.kills),
            ("… after which opening was refused until the restore was run again", self.cut_short),
            ("troubles", len(self.troubles)),
        ]
        return table(["What", "Count"], [[what, f"{count:,}"] for what, count in rows])


def play(path: Path, lines: Sequence[dict[str, Any]], checkpoint_pages: int | None = None) -> None:
    """Give commands in a process that dies in the end, so that the WAL stays."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        pages = connections.CHECKPOINT_PAGES if checkpoint_pages is None else checkpoint_pages
        with patch.object(connections, "CHECKPOINT_PAGES", pages):
            desk = returnable.open(f"sqlite:///{path}")
            for line in lines:
                fields = {name: value for name, value in line.items() if name != "at"}
                with suppress(Impossible):
                    desk.handle(fields, at=parse_instant(line["at"]))
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


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
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for ending in ("", "-wal"):
            if Path(f"{path}{ending}").exists():
                shutil.copy(f"{path}{ending}", Path(folder) / f"copy.db{ending}")
        try:
            with closing(sqlite3.connect(Path(folder) / "copy.db")) as connection:
                tables = ("facts", "commands", "names", "policies")
                return tuple(connection.execute(f"SELECT * FROM {one} ORDER BY 1, 2").fetchall() for one in tables)
        except sqlite3.Error:
            return None


def says_yes(path: Path) -> bool:
    """Whether ``verify`` finds all well."""
    return not backups.verify_store(f"sqlite:///{path}").problems


def opens(path: Path) -> bool:
    """Whether a desk opens it for writing."""
    try:
        returnable.open(f"sqlite:///{path}").close()
    except ReturnableError:
        return False
    return True


# ---- copies -----------------------------------------------------------------------------------------------------------


def put_copies(tally: Tally, folder: Path, rounds: int, chance: random.Random) -> None:
    """Put copies over stores whose WAL was left behind."""
    for nth in range(rounds):
        place = folder / f"copy-{nth}"
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
            tally.troubles.append(f"verify says yes: {what}")
        shutil.copyfile(target, path)
        opened = opens(path)
        tally.refused += not opened
        if opened and not own and not how.startswith("cp"):
            tally.troubles.append(f"a desk opens it: {what}")
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


def damage(tally: Tally, folder: Path, rounds: int, chance: random.Random) -> None:
    """Change rows, and put old pages back."""
    path, older = folder / "sound.db", folder / "older.db"
    play(path, LINES[:150])
    returnable.open(f"sqlite:///{path}").close()
    shutil.copy(path, older)
    play(path, LINES[150:400])
    with returnable.open(f"sqlite:///{path}") as desk:
        desk.parts.desk.due.catch_up()
    if not says_yes(path):
        tally.troubles.append("verify says no to a sound store")
    whole = content(path)
    edits: list[Callable[[Path], str]] = [partial(_edit, statement, chance) for statement in _EDITS]
    for nth in range(rounds):
        spoilt = folder / "spoilt.db"
        shutil.copy(path, spoilt)
        if nth % 2:
            what = _old_page(spoilt, older, chance)
            if content(spoilt) == whole and _pages_are_sound(spoilt):
                continue  # an old page of a table that says nothing of the facts, or of nothing at all
        else:
            what = edits[nth // 2 % len(edits)](spoilt)
        tally.damaged += 1
        yes = says_yes(spoilt)
        tally.noticed += not yes
        if yes:
            tally.troubles.append(f"verify says yes: {what}")


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


def _pages_are_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


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
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        die_before(call)
        if control == "swap":
            vars(backups).update(_announce=lambda target: None, _swap=naive_swap)
        if action == "backup":
            backups.back_up(f"sqlite:///{store}", file, force=True)
        else:
            backups.restore(file, f"sqlite:///{store}")
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def kill(tally: Tally, folder: Path, every: int, control: str | None) -> None:
    """Kill backup and restore before every call, or every second (``every=2``), and so on; 0: never."""
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
                tally.troubles.append(f"{action}, call {call}: ended with {status}")
            troubles = _after_backup if action == "backup" else _after_restore
            for trouble in troubles(tally, store, backup, old, new):
                tally.troubles.append(f"{action}, killed before call {call}: {trouble}")
            shutil.rmtree(place)


Content = tuple[list[Any], ...] | None


def _after_backup(tally: Tally, store: Path, backup: Path, old: Content, new: Content) -> Iterator[str]:
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


def _after_restore(tally: Tally, store: Path, backup: Path, old: Content, new: Content) -> Iterator[str]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy, damage, kill, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.restores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how many copies, and how many damaged stores")
    parser.add_argument("--every", type=int, default=1, help="kill before every call, every second, …; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store-dir", type=Path, help="where the stores are made (default: the temporary folder)")
    parser.add_argument(
        "--control",
        choices=CONTROLS,
        help="run one part without the look at the WAL, the checks beside redecide, or the marker of a restore: exits 1",
    )
    options = parser.parse_args(arguments)
    tally = Tally()
    chance = random.Random(options.seed)
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-restores-", dir=options.store_dir))
        folder = Path(place)
        if options.control == "wal":
            stack.enter_context(patch.object(connections, "refuse_foreign_wal", lambda path: None))
        if options.control == "checks":
            for check in ("_medium", "_policies", "_beside", "_receipt_of", "_told"):
                stack.enter_context(patch.object(Verification, check, lambda self, *told: iter(())))
        if options.control in (None, "wal"):
            put_copies(tally, folder, options.rounds, chance)
        if options.control in (None, "checks"):
            damage(tally, folder, options.rounds, chance)
        if options.control in (None, "swap"):
            (folder / "kills").mkdir()
            kill(tally, folder / "kills", options.every, options.control)
    print(tally.summary())
    for trouble in tally.troubles[:8]:
        print(f"trouble: {trouble}")
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
