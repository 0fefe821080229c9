"""What every proof shares: its tally, command line, table of results and exit status.

A proof ends with status 1 if it found trouble, and with 0 if not. With ``--control`` a mechanism is missing, so that the
proof must find trouble and end with 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from bench.postgres import OwnServer, with_parameters
from bench.proofs.mutants import Mutants
from bench.speed.measure import table
from returnable.adapters.eventstore.open import migrate_store

SHOWN = 3
"""How many troubles of each kind are shown."""

FILE_OR_SERVER = ("sqlite", "postgres")


# ---- what was counted ---------------------------------------------------------------------------------------------------


def counted(label: str) -> Any:
    """A number of a tally, and its row in the table."""
    return field(default=0, metadata={"label": label})


def counted_each(label: str) -> Any:
    """Several numbers by name, and a row for each, with the name in place of ``{}``."""
    return field(default_factory=Counter, metadata={"label": label})


@dataclass
class Tally:
    """What a proof counted and what was wrong. A proof adds a field for each row of its table. Any number of threads."""

    troubles: list[str] = field(default_factory=list, kw_only=True)
    _lock: threading.Lock = field(default_factory=threading.Lock, kw_only=True, repr=False)

    def trouble(self, kind: str, what: str, count: int = 1) -> None:
        """Count what must not happen in the field of that name."""
        with self._lock:
            setattr(self, kind, getattr(self, kind) + count)
            self.troubles.append(f"{kind}: {what}")

    def rows(self) -> Iterator[tuple[str, int | float]]:
        for each in fields(self):
            if label := each.metadata.get("label"):
                value = getattr(self, each.name)
                counts = sorted(value.items()) if isinstance(value, Counter) else [(None, value)]
                yield from ((label if key is None else label.format(key), count) for key, count in counts)
        yield "troubles", len(self.troubles)

    def show(self) -> None:
        rows = [(label, f"{count:,.1f}" if isinstance(count, float) else f"{count:,}") for label, count in self.rows()]
        print(table(("what", "count"), rows))
        shown: Counter[str] = Counter()
        for trouble in self.troubles:
            kind = trouble.partition(":")[0]
            shown[kind] += 1
            if shown[kind] <= SHOWN:
                print("trouble:", "\n".join(line[:1000] for line in trouble.splitlines()))


# ---- the command --------------------------------------------------------------------------------------------------------


class Run(argparse.Namespace):
    """One run of a proof: the options, a folder that is removed in the end, and stores."""

    rounds: int
    seed: int
    control: str | None
    store: str
    folder: Path
    stack: ExitStack

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A further option."""

    @cached_property
    def server(self) -> OwnServer:
        """A PostgreSQL server of its own, which runs until the end."""
        return self.stack.enter_context(OwnServer())

    def new_store(self, name: object, kind: str = "") -> str:
        """The URL of a new store of that kind, or of the one that ``--store`` names."""
        kind = kind or self.store
        if kind == "memory":
            return "memory:"
        if kind == "sqlite":
            return f"sqlite:///{self.folder}/{name}.db"
        url = with_parameters(self.server.url, schema=f"store_{name}")
        migrate_store(url)
        return url

    @contextmanager
    def new_folder(self, name: object) -> Iterator[Path]:
        """A folder that is removed with the block."""
        folder = self.folder / f"{name}"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


Option: TypeAlias = tuple[str, Mapping[str, Any]]


def option(name: str, default: Any, help: str | None = None, **settings: Any) -> Option:
    """An option of one proof, with the arguments that ``argparse`` takes."""
    if isinstance(default, bool):
        settings["action"] = "store_true"
    elif default is not None:
        settings.setdefault("type", type(default))
    return name, {"default": default, "help": help, **settings}


@dataclass(frozen=True)
class Proof:
    """A proof and what its command line offers beyond what all have."""

    prove: Callable[[Run], Tally]
    rounds: int
    """How many rounds there are where nothing else is asked for."""
    controls: Mutants | Mapping[str, str]
    """Mutants, which are switched on around the proof; or names that the proof looks at itself, with what they do."""
    options: Sequence[Option] = ()
    stores: Sequence[str] = ()
    of: str = "rounds"
    """What a round is."""
    seed: int = 1
    """The seed, or the first of them, where no other is given."""

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        controls = self.controls.described() if isinstance(self.controls, Mutants) else self.controls
        parser.set_defaults(proof=self)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "\n".join(["controls:", *(f"  {name}: {what}" for name, what in controls.items())])
        parser.add_argument("--rounds", type=int, default=self.rounds, help=f"how many {self.of}")
        parser.add_argument("--seed", type=int, default=self.seed)
        parser.add_argument("--store-dir", type=Path, help="where files are made (default: the temporary folder)")
        parser.add_argument(
            "--control",
            nargs="?",
            const=next(iter(controls)),
            choices=[*controls],
            help="with a mechanism missing (the first below): shows that the proof finds trouble, exits 1",
        )
        if self.stores:
            parser.add_argument("--store", choices=self.stores, default=self.stores[0])
        for name, settings in self.options:
            parser.add_argument(name, **settings)

    def carry_out(self, run: Run) -> Tally:
        with ExitStack() as run.stack:
            folder = tempfile.TemporaryDirectory(prefix="returnable-", dir=run.store_dir, ignore_cleanup_errors=True)
            run.folder = Path(run.stack.enter_context(folder))
            if isinstance(self.controls, Mutants):
                run.stack.enter_context(self.controls.switched_on(run.control))
            return self.prove(run)


def main(*proofs: Proof) -> NoReturn:
    """Carry out the proof that the command line names, print its tally and exit."""
    module = sys.modules["__main__"]
    assert module.__spec__ is not None
    parser = argparse.ArgumentParser(prog=f"python -m {module.__spec__.name}", description=module.__doc__)
    if len(proofs) == 1:
        proofs[0].add_to(parser)
    else:
        chosen = parser.add_subparsers(required=True, metavar="PROOF")
        for proof in proofs:
            name = proof.prove.__name__.replace("_", "-")
            proof.add_to(chosen.add_parser(name, help=proof.prove.__doc__, description=proof.prove.__doc__))
    run = parser.parse_args(namespace=Run())
    tally = run.proof.carry_out(run)
    tally.show()
    status = 1 if tally.troubles else 0
    if any(thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(status)  # threads that nobody will ever answer
    sys.exit(status)
