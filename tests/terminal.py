"""The command line, run as a person runs it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from patience import GUARD_SECONDS

from returnable.adapters.cli.app import run


def returnable(*arguments: str, given: bytes = b"", folder: Path | None = None, **env: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command line."""
    out, err = io.StringIO(), io.StringIO()
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("RETURNABLE_S")}
    os.environ.update(env)
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given))
    try:
        with redirect_stdout(out), redirect_stderr(err), chdir(folder or "."):
            status = run(list(arguments))
    finally:
        sys.stdin = stdin
        for name in env:
            del os.environ[name]
        os.environ.update(before)
    return status, out.getvalue(), err.getvalue()


def in_a_process(*arguments: str, given: bytes = b"") -> tuple[int, str, str]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "returnable.adapters.cli.entry", *arguments]
    result = subprocess.run(command, input=given, capture_output=True, check=False, timeout=GUARD_SECONDS)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def one_line(text: str) -> str:
    """The text, which is exactly one line."""
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text.strip()
