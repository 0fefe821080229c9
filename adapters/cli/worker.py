"""``returnable worker``: the process that records passed deadlines."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import click
from pydantic_core import to_json

from returnable.adapters.cli.options import seconds_option, service_options
from returnable.adapters.cli.printing import print_json
from returnable.adapters.cli.service import answering_health, stopped_by_signal
from returnable.adapters.operating.logs import log_to_stderr
from returnable.adapters.wiring import assemble
from returnable.adapters.worker import DeadlineWorker, WorkerStatus


@click.command()
@seconds_option("every", 0.01, 1.0, "How often to look for deadlines while none is due.")
@seconds_option("claim", 0.1, 60.0, "How long a worker's claims are kept if it dies.")
@click.option(
    "--once",
    is_flag=True,
    help="Record the deadlines that are due, and end; exit status 1 if one could not be recorded.",
)
@click.option("--status", is_flag=True, help="Only show how many deadlines wait; exit status 1 while a case is parked.")
@seconds_option(
    "unhealthy-after",
    1,
    60.0,
    "Health answers 503 if the last successful pass is older, or a deadline is overdue for longer, than this.",
)
@service_options
def worker(
    every_seconds: float,
    claim_seconds: float,
    once: bool,
    status: bool,
    health: tuple[str, int] | None,
    unhealthy_after_seconds: float,
    log_format: str,
    store: str,
    as_json: bool,
) -> int:
    """Record deadlines when they come. These are labels that become void, missed contacts, and overdue refunds.

    No answer depends on the worker. It records events that follow from the clock alone, for the audit and for programs
    that follow the events. Several workers can share a store: each deadline is recorded once. Ctrl-C or SIGTERM ends a worker
    after the current case; killing it is safe, too. A case that cannot be read is parked and logged; the others continue.

    \b
    returnable worker --store postgresql://shop@db.example/shop
    returnable worker --health 127.0.0.1:8081 --log-format json
    returnable worker --once            from cron
    returnable worker --status
    """
    if once and status:
        raise click.UsageError("--once and --status exclude each other")
    services = assemble(store, create=store == "memory:")
    working = DeadlineWorker(services.handler, every_seconds=every_seconds, claim_seconds=claim_seconds)
    with ExitStack() as stack:
        stack.callback(services.store.close)
        if status:
            services.handler.due.catch_up()
            return _print_status(working.status(), as_json)
        log_to_stderr(log_format)
        if once:
            services.handler.due.retry_parked()
            working.work()
            return _print_status(working.status(), as_json)
        stop = stack.enter_context(stopped_by_signal())
        stack.enter_context(answering_health(health, lambda: _health(working, unhealthy_after_seconds)))
        working.run(stop)
    return 0


def _health(working: DeadlineWorker, unhealthy_after_seconds: float) -> tuple[bool, dict[str, Any]]:
    status = working.status()
    return status.healthy(unhealthy_after_seconds), asdict(status)


def _print_status(status: WorkerStatus, as_json: bool) -> int:
    if as_json:
        print_json(to_json(asdict(status), indent=2))
    else:
        first = "never" if status.first_due_at is None else status.first_due_at.isoformat()
        click.echo(f"recorded now: {status.recorded:,}")
        click.echo(f"waiting: {status.waiting:,} cases, the first deadline {first}, {status.late_seconds:g} s late")
        click.echo(f"behind: {status.behind:,} events")
        click.echo(f"parked: {status.parked:,} cases")
    return 1 if status.parked or status.failures else 0
