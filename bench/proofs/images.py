"""What a power failure may leave of a folder: made from a recording of all that SQLite did to the files in it.

A file that was synced keeps what was written before. Of what came after its last sync any part may be there and any may
not, sector by sector, whatever the order in which it was written; so may the size of the file, and what was never written
where the size says that there is something. A name appears and goes for certain when the folder was synced. A sync that
failed makes nothing durable, and neither does a later one: an operating system may by then have forgotten what to write.

A sector is taken to be written as a whole or not at all, with what it was to hold after any of the writes that touch it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeAlias

from bench.proofs.disk import Watch, kind_of

SECTORS = (512, 4096)

SQLITE_OPEN_CREATE = 0x4

SHARED_SUFFIX = "-shm"
"""Of the memory that connections share: SQLite makes it anew when the power comes back, whatever it holds."""


class Write(NamedTuple):
    """Bytes of a file."""

    file: int
    offset: int
    data: bytes


class Cut(NamedTuple):
    """A file was made that long, or short."""

    file: int
    size: int


class Sync(NamedTuple):
    """What happened to a file before the event of number ``upto`` is durable, or with ``failed`` forgotten."""

    file: int
    upto: int
    failed: bool


class Named(NamedTuple):
    """A name leads to another file, or to none."""

    name: str
    file: int | None


class FolderSync(NamedTuple):
    """What happened to names before is durable."""


class Exchange(NamedTuple):
    """A host gave a command, or was answered; ``line`` is its number."""

    line: int
    answered: bool


Event: TypeAlias = "Write | Cut | Sync | Named | FolderSync | Exchange"


@dataclass
class Recording:
    """What was done to the files of a folder since they stood as ``before`` says, all of it durable."""

    before: dict[str, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    """The lines that were answered before."""
    files: int = 0
    """How many files there have been."""
    names: dict[str, int] = field(default_factory=dict)
    """Which file each name leads to, at the end."""

    def __post_init__(self) -> None:
        self.names = {name: number for number, name in enumerate(self.before)}
        self.files = len(self.before)

    def answered(self) -> list[int]:
        return self.told + [event.line for event in self.events if isinstance(event, Exchange) and event.answered]


class _Open(NamedTuple):
    file: int
    kind: str
    synced_with_folder: list[bool]
    """Whether the folder was synced since this handle could have made the file: SQLite does it once."""


class Recorder(Watch):
    """Records what happens to the files of one folder. Any number of threads."""

    def __init__(self, folder: Path, recording: Recording | None = None) -> None:
        self._folder = str(folder)
        self._lock = threading.Lock()
        self.recording = recording or Recording({path.name: path.read_bytes() for path in _files_of(folder)})

    def told(self, line: int, answered: bool) -> None:
        self.recording.events.append(Exchange(line, answered))

    def opened(self, path: str, flags: int) -> Any:
        """The file a name leads to; a new one, if there was none."""
        if os.path.dirname(path) != self._folder:
            return None
        with self._lock:
            recording, name = self.recording, os.path.basename(path)
            if name not in recording.names:
                recording.names[name] = recording.files
                recording.files += 1
                recording.events.append(Named(name, recording.names[name]))
            # As SQLite has it: the first sync of a journal or a WAL syncs the folder, too.
            done = kind_of(path) == "db" or not flags & SQLITE_OPEN_CREATE
            return _Open(recording.names[name], kind_of(path), [done])

    def wrote(self, file: _Open | None, offset: int, data: bytes) -> None:
        """Seen by everybody, and not durable."""
        if file is not None:
            self.recording.events.append(Write(file.file, offset, data))

    def cut(self, file: _Open | None, size: int) -> None:
        if file is not None:
            self.recording.events.append(Cut(file.file, size))

    def syncs(self, file: _Open | None) -> int:
        """What is written from here on by other threads is not in it."""
        return len(self.recording.events)

    def synced(self, file: _Open | None, begun: int, failed: bool) -> None:
        """The file is durable, and where it may be a new one, its name."""
        if file is None:
            return
        self.recording.events.append(Sync(file.file, begun, failed))
        if not failed and not file.synced_with_folder[0]:
            file.synced_with_folder[0] = True
            self.recording.events.append(FolderSync())

    def deleted(self, path: str, with_folder: bool) -> None:
        """The name is gone, durably only with the folder."""
        if os.path.dirname(path) != self._folder:
            return
        with self._lock:
            self.recording.names.pop(os.path.basename(path), None)
            self.recording.events.append(Named(os.path.basename(path), None))
            if with_folder:
                self.recording.events.append(FolderSync())


def _files_of(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.endswith(SHARED_SUFFIX))


# ---- at a moment --------------------------------------------------------------------------------------------------------

Change: TypeAlias = "Write | Cut"


@dataclass
class _File:
    durable: bytearray
    changes: list[tuple[int, Change, str]] = field(default_factory=list)
    """The numbers of the events, what they did, and whether that is ``pending``, ``certain`` or ``forgotten``."""


class Moment:
    """Goes through a recording, and stops wherever an image is wanted."""

    def __init__(self, recording: Recording) -> None:
        self._events = recording.events
        self._files = {number: _File(bytearray(content)) for number, content in enumerate(recording.before.values())}
        self._names: dict[str, int] = {name: number for number, name in enumerate(recording.before)}
        self._renamed: list[Named] = []
        self.at = 0
        """How many events have been."""
        self.given: set[int] = {*recording.told}
        """The lines whose commands were given."""
        self.answered: set[int] = {*recording.told}
        """The lines whose commands were answered."""

        self.failed = False
        """Whether a sync has failed."""

    def go_to(self, at: int) -> None:
        """Go on to where so many events have been."""
        while self.at < at:
            self._do(self._events[self.at])
            self.at += 1

    def _do(self, event: Event) -> None:
        match event:
            case Exchange():
                (self.answered if event.answered else self.given).add(event.line)
            case Named():
                self._renamed.append(event)
                if event.file is not None:
                    self._files.setdefault(event.file, _File(bytearray()))
            case FolderSync():
                self._names = _after(self._names, self._renamed)
                self._renamed.clear()
            case Sync():
                self.failed = self.failed or event.failed
                self._sync(self._files[event.file], event)
            case _:
                self._files[event.file].changes.append((self.at, event, "pending"))

    @staticmethod
    def _sync(file: _File, sync: Sync) -> None:
        into = "forgotten" if sync.failed else "certain"
        file.changes = [
            (nth, change, into if state == "pending" and nth < sync.upto else state)
            for nth, change, state in file.changes
        ]
        while file.changes and file.changes[0][2] == "certain":
            _apply(file.durable, file.changes.pop(0)[1])

    def whole(self) -> dict[str, bytes]:
        """Every file as it is seen while the power lasts."""
        return {
            name: bytes(_with_all(self._files[number])) for name, number in _after(self._names, self._renamed).items()
        }

    def durable(self) -> dict[str, bytes]:
        """Every file with nothing but what is certain to be there when the power comes back."""

        def never(nth: int, sector: int) -> bool:
            return False

        return {name: bytes(self._survivor(number, 512, never, None)) for name, number in self._names.items()}

    def image(self, dice: Random) -> dict[str, bytes]:
        """Every file as it may be found when the power comes back."""
        sector = dice.choice(SECTORS)
        keeps = _survival(dice, self.pending())
        renamed = [named for named in self._renamed if dice.random() < 0.5] if dice.random() < 0.7 else self._renamed
        names = _after(self._names, renamed)
        return {name: bytes(self._survivor(number, sector, keeps, dice)) for name, number in names.items()}

    def pending(self) -> list[int]:
        """The numbers of the events that are not durable, or not for certain."""
        return sorted(nth for file in self._files.values() for nth, _, state in file.changes if state != "certain")

    def _survivor(self, number: int, sector: int, keeps: Callable[[int, int], bool], dice: Random | None) -> bytearray:
        file = self._files[number]
        content = bytearray(file.durable)
        longest = len(content)
        for nth, change, state in file.changes:
            if state == "certain":
                _apply(content, change)
                longest = len(content) if isinstance(change, Cut) else max(longest, len(content))
            elif isinstance(change, Cut):
                if keeps(nth, -1):
                    _apply(content, change)
            else:
                for begin, piece in _pieces(change, sector):
                    longest = max(longest, begin + len(piece))
                    if keeps(nth, begin // sector):
                        _apply(content, Write(number, begin, piece))
        if (
            dice is not None and longest > len(content) and dice.random() < 0.3
        ):  # the size was written, and not what it stands for
            rest = longest - len(content)
            content += bytes(rest) if dice.random() < 0.5 else dice.randbytes(rest)
        return content


def _after(names: dict[str, int], renamed: Sequence[Named]) -> dict[str, int]:
    names = dict(names)
    for named in renamed:
        if named.file is None:
            names.pop(named.name, None)
        else:
            names[named.name] = named.file
    return names


def _with_all(file: _File) -> bytearray:
    content = bytearray(file.durable)
    for _, change, _ in file.changes:
        _apply(content, change)
    return content


def _apply(content: bytearray, change: Change) -> None:
    match change:
        case Write(_, offset, data):
            if len(content) < offset:
                content += bytes(offset - len(content))
            content[offset : offset + len(data)] = data
        case Cut(_, size):
            content[size:] = bytes(max(0, size - len(content)))


def _pieces(write: Write, sector: int) -> Iterator[tuple[int, bytes]]:
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        behind = min(end, (at // sector + 1) * sector)
        yield at, write.data[at - write.offset : behind - write.offset]
        at = behind


def _survival(dice: Random, pending: Sequence[int]) -> Callable[[int, int], bool]:
    """Which of what is not durable is there: by the number of the event and of the sector (-1: a cut)."""
    if not pending:
        return lambda nth, sector: True
    one = dice.choice(pending)
    share = dice.random()
    return dice.choice(
        (
            lambda nth, sector: False,
            lambda nth, sector: True,
            lambda nth, sector: dice.random() < 0.5,
            lambda nth, sector: dice.random() < share,
            lambda nth, sector: nth < one or (nth == one and dice.random() < 0.5),  # in order, the last one torn
            lambda nth, sector: nth != one or dice.random() < 0.5,
            lambda nth, sector: nth == one,
            lambda nth, sector: nth > one,
        )
    )


def same_as(recording: Recording, folder: Path) -> bool:
    """Whether a recording leads to what is in the folder: if not, something was not seen."""
    moment = Moment(recording)
    moment.go_to(len(recording.events))
    return moment.whole() == {path.name: path.read_bytes() for path in _files_of(folder)}
