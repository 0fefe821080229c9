"""Makes sure that nobody has an SQLite file open, and keeps others from opening it for a while."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from returnable.domain.errors import StoreBusy, StoreUnusable

# SQLite's lock bytes: pending, reserved, and the 510 of which every connection in WAL mode holds one as long as it is open.
_HOLD = """
import os, sys
try:
    import fcntl
    file = os.open(sys.argv[1], os.O_RDWR)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 512, 0x40000000)
except ImportError:
    print("unknown this system has no locks of POSIX", flush=True)
except (BlockingIOError, PermissionError) as error:
    taken = isinstance(error, BlockingIOError) or error.filename is None
    print("taken" if taken else f"unknown {error.strerror}", flush=True)
except OSError as error:
    print(f"unknown {error.strerror}", flush=True)
else:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_alone(path: str, force: bool) -> Iterator[None]:
    """Keep every process from an SQLite file, also from a damaged one; does nothing where the file does not exist.

    Raises :class:`StoreBusy` where any process, this one included, has the file open. Raises :class:`StoreUnusable` where
    that cannot be found out, unless ``force`` is given.
    """
    if not os.path.exists(path):
        yield
        return
    # In a process of its own: POSIX locks belong to a process. This one would not see the locks of its own desks, and would
    # drop them when it closed the file. The other process ends with this one, however that ends.
    command = [sys.executable, "-I", "-c", _HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            said = holder.stdout.readline().decode(errors="replace").strip()
            if said == "taken":
                raise StoreBusy(
                    f"{path}: the store is in use; close every desk and stop every process that has it open"
                )
            if said != "held" and not force:
                reason = said.removeprefix("unknown ") or "the process that was to look ended"
                raise StoreUnusable(
                    f"{path}: whether the store is in use cannot be found out ({reason}); make sure that it is not, and give "
                    "--force"
                )
            yield
        finally:
            holder.stdin.close()
