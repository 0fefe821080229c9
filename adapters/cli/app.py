"""The commands of the command line. Errors are one line on stderr and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from returnable import __version__
from returnable.adapters.cli.options import policy_option, question_options, say_damaged
from returnable.adapters.cli.printing import console_for_progress, guarded_streams, say, say_json
from returnable.adapters.printable import identifier, json_text
from returnable.domain.errors import ReturnableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from returnable.adapters.wiring import Parts
    from returnable.domain.commands import Question

BROKEN_PIPE = 141
"""The exit status when the reader of our output went away, as if the signal had ended us; click exits for that."""


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
        return _fail(f"unexpected {type(error).__name__}: {error} (RETURNABLE_DEBUG=1 shows where)")


def _fail(message: str) -> int:
    say(" ".join(message.split()))
    return 2


class Grouped(click.Group):
    """A group whose further commands are imported when they are called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _ELSEWHERE.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, name = place
        found = getattr(import_module(f"returnable.adapters.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found


_ELSEWHERE: dict[str, tuple[str, str]] = {
    "edges": ("explaining", "edges"),
    "replay": ("explaining", "replay"),
    "why": ("explaining", "why"),
    "claims": ("viewing", "claims"),
    "ledger": ("viewing", "ledger"),
    "orders": ("viewing", "orders"),
    "project": ("viewing", "project"),
    "refunds": ("viewing", "refunds"),
    "returns": ("viewing", "returns"),
    "statistics": ("viewing", "statistics"),
    "export": ("transfer", "export"),
    "import": ("transfer", "import_"),
    "redecide": ("checking", "redecide"),
    "what-if": ("checking", "what_if"),
    "verify": ("verifying", "verify"),
    "backup": ("backing_up", "backup"),
    "restore": ("backing_up", "restore"),
    "report": ("reporting", "report"),
    "record": ("recording", "record"),
    "migrate": ("migrating", "migrate"),
    "publish": ("publishing", "publish"),
    "worker": ("working", "worker"),
}
"""Command → the module it is in, and its name there."""


# What is printed is spelt out behind click, which otherwise takes escape sequences away without a word.
_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "color": True}


@click.group(cls=Grouped, context_settings=_CONTEXT)
@click.version_option(__version__, message="returnable %(version)s")
def app() -> None:
    """Order cancellations and returns, event by event.

    \b
    returnable play examples/tour.jsonl --explain      play a scenario and read what happened
    returnable play examples/tour.jsonl --store sqlite:///tour.db
    returnable return R-1 --store sqlite:///tour.db    ask how a return stands
    """


# ---- play -------------------------------------------------------------------------------------------------------------


@app.command()
@click.argument("file")
@click.option("--store", metavar="URL", default="memory:", show_default=True, help="Where the facts go.")
@policy_option
@click.option("--check", is_flag=True, help="Report where expectations are not met; exit status 1 if any is not.")
@click.option("--explain", is_flag=True, help="Tell what happened in words instead of JSON Lines.")
def play(file: str, store: str, policy: str | None, check: bool, explain: bool) -> int:
    """Play a scenario: FILE (or - for standard input) holds JSON Lines of commands and questions.

    Each line runs with the clock at its "at". JSON Lines go to stdout, one for each line; a summary goes to stderr.

    Without --policy the policy beside it counts, where there is one: of NAME.jsonl or NAME.scenario.jsonl the folder
    NAME.policies or the file NAME.policy.toml.

    With --check FILE may be a directory: every *.jsonl below it is played, each on a store of its own. Exit status 2 if one
    cannot be. What is hidden is left out, and links to folders are not followed.

    \b
    returnable play examples/tour.jsonl --explain
    returnable play orders.jsonl --store sqlite:///orders.db > outcomes.jsonl
    returnable play --check case.jsonl
    returnable play --check tests/scenarios
    """
    from pydantic_core import to_json

    from returnable.adapters import scenario
    from returnable.adapters.cli.words import checked, counted, explained, summary_lines
    from returnable.adapters.wiring import assemble

    if check and explain:
        raise click.UsageError("--check and --explain exclude each other")
    if file == "-" and sys.stdin is None:
        raise click.UsageError("there is no standard input to read from")
    if file != "-" and Path(file).is_dir():
        return _play_folder(file, store, policy, check)
    name = "standard input" if file == "-" else file
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    lines = scenario.read_scenario(content, name)
    if policy is None and file != "-":
        beside = scenario.policy_beside(file)
        policy = None if beside is None else str(beside)
    parts = assemble(store, policy)
    summary = scenario.Summary()
    try:
        with _progress(len(lines), acknowledge=store != "memory:") as (print_line, advance):
            for played in scenario.play(parts, lines):
                summary.add(played)
                if check:
                    for mismatch in played.mismatches:
                        print_line(f"{name}:{played.line}: {mismatch}")
                elif explain:
                    for line in explained(played):
                        print_line(line)
                else:
                    print_line(json_text(to_json(played.as_dict()).decode()))
                advance()
    finally:
        parts.store.close()
    if check:
        click.echo(checked(name, counted(summary.lines, "line"), summary))
        return 1 if summary.unmet else 0
    for line in summary_lines(summary):
        click.echo(line, err=True)
    return 0


def _play_folder(folder: str, store: str, policy: str | None, check: bool) -> int:
    from returnable.adapters.cli.folder import check_folder

    if not check:
        raise click.UsageError(f"{folder}: Is a directory; --check plays the scenarios below it")
    if store != "memory:":
        raise click.UsageError("--store is of one scenario; those below a directory have a store each, in memory")
    return check_folder(folder, policy)


@contextmanager
def _progress(total: int, *, acknowledge: bool) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """How to say a line on stdout and how to advance; a bar is shown where somebody can see it.

    With ``acknowledge`` every line is flushed at once: whoever reads it may rely on the command being durable.
    """

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        if acknowledge:
            sys.stdout.flush()

    if not sys.stderr.isatty():
        yield write, lambda: None
        sys.stdout.flush()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shared = sys.stdout.isatty()
    console = console_for_progress(sys.stdout if shared else sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Output that goes elsewhere stays there: redirected it would be printed on the terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as bar, guarded_streams():
        task = bar.add_task("playing", total=total)

        def write_above(line: str) -> None:
            if shared:
                console.out(line, highlight=False)
            else:
                write(line)

        yield write_above, lambda: bar.advance(task)
    sys.stdout.flush()


# ---- questions --------------------------------------------------------------------------------------------------------


def _ask(store: str, as_of: str | None, known_at: str | None, as_json: bool, **fields: Any) -> None:
    from returnable.adapters.clock import system_clock
    from returnable.adapters.wiring import assemble
    from returnable.domain.commands import parse_question

    times = {"as_of": as_of, "known_at": known_at}
    given = fields | {name: value for name, value in times.items() if value is not None}
    question: Question = parse_question(given)
    parts: Parts = assemble(store, create=store == "memory:", only_reading=True)
    parts.questions.damaged = say_damaged
    try:
        answer = parts.questions.answer(question, system_clock())
    finally:
        parts.store.close()
    if as_json:
        say_json(answer.model_dump_json(by_alias=True, indent=2))
        return
    from returnable.adapters.cli.tables import show

    show(answer)


def _question(name: str, field: str, text: str, example: str) -> None:
    """Add a command that asks about one subject by id."""

    @app.command(name, help=f"{text}\n\n\b\nreturnable {name} {example}\nreturnable {name} {example} --json")
    @click.argument(field)
    @question_options
    def command(store: str, as_of: str | None, known_at: str | None, as_json: bool, **given: str) -> None:
        _ask(store, as_of, known_at, as_json, query=name, **given)


_question("order", "order_id", "How an order stands.", "A-1")
_question("return", "return_id", "How a return stands.", "R-1 --as-of 2026-03-12T00:00:00-04:00")
_question("claim", "claim_id", "How a wrong-item claim stands.", "W-1")
_question("eligibility", "order_id", "What could be cancelled, returned or claimed now, and why not.", "A-1")
_question("audit", "stream", "What was recorded in a stream (order/ID, return/ID, claim/ID).", "return/R-1")


@app.command()
@click.argument("refund_id", required=False)
@click.option("--return", "return_id", metavar="ID", help="The refund of this return, or what is due.")
@click.option("--order", "order_id", metavar="ID", help="The refund of this cancelled order, or what is due.")
@click.option("--claim", "claim_id", metavar="ID", help="The refund of this claim, or what is due.")
@question_options
def refund(store: str, as_of: str | None, known_at: str | None, as_json: bool, **given: str | None) -> None:
    """How a refund stands: by its own id, or by what it pays for.

    \b
    returnable refund F-1
    returnable refund --return R-1
    """
    _ask(store, as_of, known_at, as_json, query="refund", **{k: v for k, v in given.items() if v is not None})


@app.command()
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind; may be repeated.")
@question_options
def worklist(store: str, as_of: str | None, known_at: str | None, as_json: bool, kinds: tuple[str, ...]) -> None:
    """What waits for somebody, the most urgent first.

    \b
    returnable worklist
    returnable worklist --kind inspect --kind refund_overdue
    """
    given = {"kinds": list(kinds)} if kinds else {}
    _ask(store, as_of, known_at, as_json, query="worklist", **given)


# ---- policy, schema, lifecycles ---------------------------------------------------------------------------------------


@app.group()
def policy() -> None:
    """Show or check a policy.

    \b
    returnable policy show
    returnable policy check my-policy.toml
    """


@policy.command("show")
@policy_option
@click.option("--json", "as_json", is_flag=True, help="The canonical documents as JSON Lines.")
def policy_show(policy: str | None, as_json: bool) -> None:
    """The clauses of a policy: the merchant's words, the parameters, the reading.

    \b
    returnable policy show
    returnable policy show --policy my-policy.toml --json
    """
    from returnable.adapters.wiring import policy_book

    book = policy_book(policy)
    for version in book.versions:
        if as_json:
            say_json(version.document)
        else:
            from returnable.adapters.cli.tables import show_policy

            show_policy(version)


@policy.command("check")
@click.argument("file")
def policy_check(file: str) -> None:
    """Check a policy FILE or a directory of versions; exit status 2 and one line if something is wrong.

    \b
    returnable policy check my-policy.toml
    """
    from returnable.adapters.wiring import policy_book

    for version in policy_book(file).versions:
        named = f"{identifier(version.id)} {identifier(version.version)}"
        click.echo(f"{named}, in force from {version.effective}: sha256 {version.sha256}")


@app.command()
def schema() -> None:
    """The JSON Schema of the scenario format: lines, outcomes and views.

    \b
    returnable schema > scenario.schema.json
    """
    from returnable.adapters.schema import scenario_schema

    click.echo(scenario_schema())


@app.command()
@click.argument("name", required=False)
@click.option("--format", "form", type=click.Choice(["mermaid", "table"]), default="table", show_default=True)
def lifecycles(name: str | None, form: str) -> None:
    """The state machines of orders, returns, labels, refunds and claims.

    \b
    returnable lifecycles return
    returnable lifecycles order --format mermaid
    """
    from returnable.domain.lifecycles import MACHINES, drawing

    if name is not None and name not in MACHINES:
        raise click.UsageError(f"there is no lifecycle {name!r}; there are {', '.join(MACHINES)}")
    for key, machine in MACHINES.items():
        if name in (None, key):
            if name is None:
                click.echo(f"{key}\n")
            click.echo(drawing(machine, "mermaid" if form == "mermaid" else "md"))
