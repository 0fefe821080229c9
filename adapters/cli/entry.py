"""The entry point of the console script. It imports only the modules that the call needs."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from returnable import __version__


def main() -> None:
    """Run ``returnable`` with the arguments of the process."""
    if sys.argv[1:] == ["--version"]:
        print(f"returnable {__version__}")
        return
    from returnable.adapters.cli.app import run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for terminals with fewer characters
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
