"""The log on stderr: lines for people, or JSON Lines for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from returnable.adapters.printable import json_text, printable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON: ``time``, ``level``, ``logger``, ``message``, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json_text(to_json(fields, fallback=str).decode())


class Lines(logging.Formatter):
    """A record as a line for people: time, level, logger, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback of its error below it."""
        return printable(super().format(record), keep="\n")


_ON_STDERR = logging.StreamHandler()
"""The one handler of the process. A second one would write each record twice."""


def log_to_stderr(form: str, level: int = logging.INFO) -> None:
    """Write the log of this package to stderr, as ``text`` or ``json``. The last call decides the form and the stream."""
    _ON_STDERR.stream = sys.stderr
    _ON_STDERR.setFormatter(JsonLines() if form == "json" else Lines())
    logger = logging.getLogger("returnable")
    logger.addHandler(_ON_STDERR)
    logger.setLevel(level)
    logger.propagate = False


def log_health(host: str, port: int) -> None:
    """Log the URL of the health endpoint."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    logging.getLogger("returnable").info("health at %s", url, extra={"health": url})
