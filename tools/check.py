"""Everything that must hold before a change lands, in one command: `python3 tools/check.py`.

Makes a virtual environment in .venv (or uses the one that is active), installs the project with its development tools,
and runs lint, types, layers and the tests with coverage. Needs CPython 3.11 or later with pip and venv, and git.
Arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VENV = HERE / ".venv"


def environment() -> Path:
    """The folder of the scripts to run: those of the active virtual environment, else of .venv."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.executable).parent
    scripts = VENV / ("Scripts" if os.name == "nt" else "bin")
    if not (scripts / "python").exists() and not (scripts / "python.exe").exists():
        run([sys.executable, "-m", "venv", str(VENV)])
    return scripts


def run(command: list[str]) -> None:
    """Run one step; stop with its exit status when it fails."""
    print("+", " ".join(Path(word).name if index == 0 else word for index, word in enumerate(command)), flush=True)
    status = subprocess.run(command, cwd=HERE, check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Install, then check step by step; pytest is the last and has the last word."""
    scripts = environment()
    python = str(scripts / "python")
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]"])
    run([str(scripts / "ruff"), "format", "--check", "--quiet", "."])
    run([str(scripts / "ruff"), "check", "--quiet", "."])
    run([str(scripts / "lint-imports")])
    run([str(scripts / "mypy")])
    run([str(scripts / "pyright"), "--threads", "2", "--pythonpath", python])
    run([python, "tools/render_docs.py", "--check"])
    coverage = ["--cov", "--cov-report=term"] if not sys.argv[1:] else []
    run([python, "-m", "pytest", "-n", "2", *coverage, *sys.argv[1:]])


if __name__ == "__main__":
    main()
