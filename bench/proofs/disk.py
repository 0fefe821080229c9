"""What SQLite asks of the disk, seen and answered from outside: every file it opens, reads, writes, cuts, syncs and deletes.

SQLite reaches the disk through a table of functions, its VFS, which a program may put another one in front of. This one does
so with ctypes, in the library that CPython's own ``sqlite3`` uses. It hands everything on to the original, tells a
:class:`Watch` of it, and gives the error that the watch names instead.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_int64, c_void_p
from functools import cache
from typing import Any

OK = 0

CALLS = ("open", "access", "read", "write", "cut", "sync", "size", "delete", "lock", "map", "lock-shared")
"""What can be asked of the disk. The last two concern the memory that connections to one file share (``-shm``)."""

KINDS = ("db", "wal", "journal")
"""The files of one database, by their use."""


class Unwatchable(Exception):
    """This interpreter's SQLite cannot be watched, and why: nothing was shown."""


class Watch:
    """Somebody who looks on. This one changes nothing.

    A ``file`` is whatever ``opened`` gave for it.
    """

    def answer(self, call: str, path: str) -> int:
        """The result code of SQLite to give instead of doing what is asked; 0: it is done."""
        return OK

    def part_of(self, path: str, size: int) -> int:
        """Of a write that is answered with an error: how many of its bytes are written nevertheless."""
        return 0

    def opened(self, path: str, flags: int) -> Any:
        """A file was opened, and perhaps created."""
        return path

    def wrote(self, file: Any, offset: int, data: bytes) -> None:
        """Bytes were written."""

    def cut(self, file: Any, size: int) -> None:
        """The file was cut to that size."""

    def syncs(self, file: Any) -> Any:
        """A sync begins: what it will have made durable."""

    def synced(self, file: Any, begun: Any, failed: bool) -> None:
        """A sync ended; ``begun`` is what :meth:`syncs` gave. ``failed``: nobody knows what is on the disk."""

    def deleted(self, path: str, with_folder: bool) -> None:
        """A name was removed; ``with_folder``: and the folder synced."""


def kind_of(path: str) -> str:
    """Whether a path names a database, its WAL or its rollback journal."""
    return next((kind for kind in KINDS[1:] if path.endswith(f"-{kind}")), "db")


# ---- as SQLite's header has it ------------------------------------------------------------------------------------------

_Close = CFUNCTYPE(c_int, c_void_p)
_Read = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Cut = CFUNCTYPE(c_int, c_void_p, c_int64)
_Int = CFUNCTYPE(c_int, c_void_p, c_int)
_Out = CFUNCTYPE(c_int, c_void_p, c_void_p)
_Map = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p)
_LockShared = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int)


class _Methods(Structure):
    _fields_ = (
        ("version", c_int),
        ("close", _Close),
        ("read", _Read),
        ("write", _Read),
        ("cut", _Cut),
        ("sync", _Int),
        ("size", _Out),
        ("lock", _Int),
        ("unlock", c_void_p),
        ("check_lock", c_void_p),
        ("control", c_void_p),
        ("sector_size", c_void_p),
        ("characteristics", c_void_p),
        ("map", _Map),
        ("lock_shared", _LockShared),
        ("barrier", c_void_p),
        ("unmap", c_void_p),
        ("fetch", c_void_p),
        ("unfetch", c_void_p),
    )


_SIZES = {1: _Methods.map.offset, 2: _Methods.fetch.offset}
"""How much of it an older version has."""

_SQLITE_SHM_UNLOCK = 0x1

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Access = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_void_p)


class _Vfs(Structure):
    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _Open),
        ("delete", _Delete),
        ("access", _Access),
        ("rest", c_void_p * 13),
    )


def _original(table: Structure, field: str, kind: Any) -> Callable[..., int]:
    """A function of a table, whatever is put into its place later."""
    address = c_void_p.from_address(addressof(table) + getattr(type(table), field).offset).value
    function: Callable[..., int] = kind(address)
    return function


class _Shim:
    """A VFS in front of the default one. It lives as long as the process: open files lead here."""

    def __init__(self) -> None:
        # The extension module leads to the very library it uses, and to no other copy; where SQLite is part of the
        # interpreter there is no such file.
        import _sqlite3

        self._library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        try:
            find, self._register = self._library.sqlite3_vfs_find, self._library.sqlite3_vfs_register
        except AttributeError as error:
            raise Unwatchable(
                f"the SQLite of this interpreter cannot be reached ({error}): it is linked statically"
            ) from None
        find.restype = POINTER(_Vfs)
        self._register.argtypes = (c_void_p, c_int)
        self._default = find(None).contents
        self._methods: dict[int, _Methods] = {}
        self._files: dict[int, tuple[str, Any]] = {}
        self._lock = threading.Lock()
        self.watch: Watch | None = None
        self.troubles: list[BaseException] = []
        self._own = _Vfs.from_buffer_copy(self._default)
        self._own.name = b"returnable-watched"
        self._put_before_vfs()

    def stand_in_front(self) -> None:
        """From here on files are opened through this one."""
        self._register(addressof(self._own), 1)

    def step_aside(self) -> None:
        """From here on files are opened as ever."""
        self._register(addressof(self._default), 1)

    def _answer(self, call: str, path: str) -> int:
        return OK if self.watch is None else self.watch.answer(call, path)

    def _put_before_vfs(self) -> None:
        default = addressof(self._default)
        open_file, delete, access = (
            _original(self._default, field, kind)
            for field, kind in (("open", _Open), ("delete", _Delete), ("access", _Access))
        )

        def opens(_: int, name: int | None, file: int, flags: int, out: int | None) -> int:
            path = "" if name is None else os.fsdecode(ctypes.string_at(name))
            c_void_p.from_address(file).value = None
            if code := self._answer("open", path):
                return code
            code = open_file(default, name, file, flags, out)
            if code == OK and self.watch is not None:
                with self._lock:
                    self._files[file] = path, self.watch.opened(path, flags)
                    c_void_p.from_address(file).value = addressof(self._methods_before(file))
            return code

        def deletes(_: int, name: int, with_folder: int) -> int:
            path = os.fsdecode(ctypes.string_at(name))
            code = self._answer("delete", path) or delete(default, name, with_folder)
            if code == OK and self.watch is not None:
                self.watch.deleted(path, bool(with_folder))
            return code

        def accesses(_: int, name: int, flags: int, out: int) -> int:
            return self._answer("access", os.fsdecode(ctypes.string_at(name))) or access(default, name, flags, out)

        self._own.open = _Open(self._guarded(opens))
        self._own.delete = _Delete(self._guarded(deletes))
        self._own.access = _Access(self._guarded(accesses))

    def _methods_before(self, file: int) -> _Methods:
        there = c_void_p.from_address(file).value or 0
        if there not in self._methods:
            size = _SIZES.get(c_int.from_address(there).value, ctypes.sizeof(_Methods))
            own = _Methods()
            ctypes.memmove(addressof(own), there, size)
            self._put_before_methods(own)
            self._methods[there] = own
        return self._methods[there]

    def _put_before_methods(self, own: _Methods) -> None:
        files = self._files
        write, cut, sync = (
            _original(own, field, kind) for field, kind in (("write", _Read), ("cut", _Cut), ("sync", _Int))
        )

        def writes(file: int, data: int, size: int, offset: int) -> int:
            path, watched = files[file]
            code = self._answer("write", path)
            if code and self.watch is not None:
                size = self.watch.part_of(path, size)
            done = write(file, data, size, offset) if size else OK
            if size and done == OK and self.watch is not None:
                self.watch.wrote(watched, offset, ctypes.string_at(data, size))
            return code or done

        def cuts(file: int, size: int) -> int:
            path, watched = files[file]
            code = self._answer("cut", path) or cut(file, size)
            if code == OK and self.watch is not None:
                self.watch.cut(watched, size)
            return code

        def syncs(file: int, flags: int) -> int:
            path, watched = files[file]
            begun = self.watch.syncs(watched) if self.watch is not None else None
            code = self._answer("sync", path) or sync(file, flags)
            if self.watch is not None:
                self.watch.synced(watched, begun, code != OK)
            return code

        own.write, own.cut, own.sync = (
            kind(self._guarded(each)) for kind, each in ((_Read, writes), (_Cut, cuts), (_Int, syncs))
        )
        plain: tuple[tuple[str, str, Any], ...] = (
            ("read", "read", _Read),
            ("size", "size", _Out),
            ("lock", "lock", _Int),
            ("map", "map", _Map),
            ("lock_shared", "lock-shared", _LockShared),
        )
        for field, call, kind in plain:
            if getattr(own, field):
                setattr(own, field, kind(self._guarded(self._before(call, _original(own, field, kind)))))

    def _before(self, call: str, original: Callable[..., int]) -> Callable[..., int]:
        def asks(file: int, *values: Any) -> int:
            # That a lock is given up does not fail, and SQLite does not ask whether it did.
            if call == "lock-shared" and values[2] & _SQLITE_SHM_UNLOCK:
                return original(file, *values)
            return self._answer(call, self._files[file][0]) or original(file, *values)

        return asks

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        # What is raised in a callback goes nowhere, and SQLite would be told that all went well.
        def guarded(*values: Any) -> int:
            try:
                return function(*values)
            except BaseException as error:
                self.troubles.append(error)
                return sqlite3.SQLITE_INTERNAL

        return guarded


@cache
def _shim() -> _Shim:
    shim = _Shim()
    seen = Watch()
    paths: list[str] = []
    seen.opened = lambda path, flags: paths.append(path)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, _in_front(shim, seen):
        with closing(sqlite3.connect(f"{folder}/looked-at.db")) as connection:
            connection.execute("CREATE TABLE looked_at (id)")
        if not paths:
            raise Unwatchable("sqlite3 opens its files without asking the VFS that was registered")
    return shim


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """While this lasts, SQLite in this process asks ``watch``, for every file opened from now on.

    Files that stay open longer work on unwatched. One watch at a time. Raises :class:`Unwatchable`.
    """
    with _in_front(_shim(), watch):
        yield


@contextmanager
def _in_front(shim: _Shim, watch: Watch) -> Iterator[None]:
    shim.watch = watch
    shim.troubles.clear()
    shim.stand_in_front()
    try:
        yield
    finally:
        gc.collect()  # connections that nobody closed and an error still holds
        shim.step_aside()
        shim.watch = None
    if shim.troubles:
        raise RuntimeError("the watch itself failed") from shim.troubles[0]
