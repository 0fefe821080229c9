"""The log of a process of ours, on stderr: a line for people, or a JSON object a line for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from returnable.adapters.printable import json_text, printable

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON: ``time``, ``level``, ``logger``, ``message``, and what it was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json_text(to_json(said, fallback=str).decode())


class Lines(logging.Formatter):
    """A record as a line for people: when, how serious, who, what."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the error that it is about."""
        return printable(super().format(record), keep="\n")


_ON_STDERR = logging.StreamHandler()
"""The one handler of the process: with a second one, each record would be told twice."""


def log_to_stderr(form: str, level: int = logging.INFO) -> None:
    """Send what this package logs to stderr, as ``text`` or ``json``. The last call decides the form and the stream."""
    _ON_STDERR.stream = sys.stderr
    _ON_STDERR.setFormatter(JsonLines() if form == "json" else Lines())
    logger = logging.getLogger("returnable")
    logger.addHandler(_ON_STDERR)
    logger.setLevel(level)
    logger.propagate = False


def log_health(host: str, port: int) -> None:
    """Say where health is answered."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    logging.getLogger("returnable").info("health at %s", url, extra={"health": url})
