"""Environments of their own that nothing is fetched for: what is installed here is linked into them."""

from __future__ import annotations

import subprocess
import zipfile
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def environment_with(wheel: Path, extra: str, place: Path, python: str) -> Path:
    """The interpreter of a new environment that holds a wheel and what it requires with an extra, and nothing else."""
    subprocess.run([python, "-m", "venv", "--without-pip", place], check=True)
    (site,) = place.glob("lib/python3.*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    (ours,) = site.glob("*.dist-info")
    link(required(PathDistribution(ours).requires or [], extra), site)
    return place / "bin" / "python"


def link(names: set[str], site: Path) -> None:
    """Have what is installed here under these names in another folder of packages."""
    for installed in map(distribution, names):
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(str(installed.locate_file(top)))


def is_compiled(name: str) -> bool:
    """Whether what is installed here under this name is made for this interpreter alone."""
    return any(file.suffix in (".so", ".pyd") for file in distribution(name).files or ())


def required(requirements: list[str], extra: str = "") -> set[str]:
    """The names of all that is required with an extra, and of what that requires in turn."""
    found: set[tuple[str, str]] = set()
    waiting = [(one, extra) for one in requirements]
    while waiting:
        text, wanted_with = waiting.pop()
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": wanted_with}):
            continue
        for each in {"", *wanted.extras}:
            if (one := (canonicalize_name(wanted.name), each)) not in found:
                found.add(one)
                waiting += [(more, each) for more in distribution(wanted.name).requires or ()]
    return {name for name, _ in found}
