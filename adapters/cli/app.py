"""Runs a command of the command line. An error is one line on stderr and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from returnable import __version__
from returnable.adapters.cli.printing import guarded_streams, say
from returnable.domain.errors import ReturnableError

BROKEN_PIPE = 141
"""The exit status if the reader of the output has gone away: the one of a process that SIGPIPE ended. click exits then."""

COMMANDS = {
    "arrival": "The state of a parcel that nobody announced, and what it may be for.",
    "audit": "What was recorded in a stream.",
    "backup": "Copy a store in an SQLite file into FILE.",
    "bulk": "Carry out one command for many cases.",
    "claim": "The state of a wrong-item claim.",
    "claims": "Every wrong-item claim with its state.",
    "edges": "The instants at which an answer changes by itself.",
    "eligibility": "What could be cancelled, returned or claimed, and why not.",
    "export": "Write recorded events to a table or a scenario.",
    "import": "Import a host's existing orders, or what happened to known orders, from a CSV table.",
    "ledger": "The money of every payment: captured, refunded, remaining.",
    "lifecycles": "The state machines, as tables or diagrams.",
    "migrate": "Create a store on PostgreSQL, or bring its tables up to date.",
    "order": "The state of an order.",
    "orders": "Every order with its state.",
    "play": "Play a scenario: commands and questions in JSON Lines.",
    "policy": "Show or check a policy.",
    "project": "Bring the stored views up to date with the events.",
    "publish": "Publish every event as a CloudEvent to a broker.",
    "record": "Record a case as a scenario that is a test.",
    "redecide": "Decide everything on record again; report differences.",
    "refund": "The state of a refund.",
    "refunds": "Every refund with its state.",
    "replay": "Step through a history, event by event.",
    "report": "Write the audit report of a subject.",
    "restore": "Replace a store in an SQLite file with a back-up.",
    "return": "The state of a return.",
    "returns": "Every return with its state.",
    "schema": "The JSON Schema of the scenario format.",
    "statistics": "How often each clause failed or passed.",
    "verify": "Check that everything in a store fits together.",
    "what-if": "What another policy would have decided.",
    "why": "Why a decision came out as it did.",
    "worker": "Record deadlines when they come.",
    "worklist": "Work that waits for somebody, the most urgent first.",
}
"""Command → the first sentence of its help."""

_MODULES = {
    **dict.fromkeys(("arrival", "audit", "claim", "eligibility", "order", "refund", "return", "worklist"), "questions"),
    **dict.fromkeys(("claims", "orders", "refunds", "returns"), "lists"),
}
"""Command → its module, for modules that hold several commands."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status."""
    with guarded_streams():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        status = app.main(list(arguments), prog_name="returnable", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.Abort:
        say("interrupted")
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    except click.ClickException as error:
        return _fail(error.format_message())
    except ReturnableError as error:
        return _fail(str(error))
    except SystemExit:
        return BROKEN_PIPE
    except OSError as error:
        return _fail(f"{error.filename or 'input'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("RETURNABLE_DEBUG"):
            raise
        return _fail(f"unexpected {type(error).__name__}: {error} (RETURNABLE_DEBUG=1 shows the traceback)")


def _fail(message: str) -> int:
    say(" ".join(message.split()))
    return 2


class Commands(click.Group):
    """The commands. Each is imported when it is called; listing them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_") + ("_" if iskeyword(cmd_name) else "")
        module = import_module(f"returnable.adapters.cli.{_MODULES.get(cmd_name, name)}")
        found = getattr(module, name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


# The guarded streams spell out escape sequences. Without "color" click would remove them silently.
_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "color": True}


@click.group(cls=Commands, context_settings=_CONTEXT)
@click.version_option(__version__, message="returnable %(version)s")
def app() -> None:
    """Order cancellations and returns, event by event.

    \b
    returnable play examples/tour.jsonl --explain      play a scenario and read what happened
    returnable play examples/tour.jsonl --store sqlite:///tour.db
    returnable return R-1 --store sqlite:///tour.db    ask for the state of a return
    """
