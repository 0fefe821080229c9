"""What is installed: one package, its layers inside it, and nothing that could clash with a host's own names."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import returnable
import returnable.testing

HERE = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("layer", ["domain", "projections", "adapters"])
def test_the_links_of_the_front_door_lead_to_the_layers(layer: str) -> None:
    assert (HERE / "returnable" / layer).is_symlink()
    assert os.path.samefile(HERE / "returnable" / layer, HERE / layer)


def test_the_wheel_installs_one_package_with_policies_and_types(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=HERE, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"returnable"}
    for expected in (
        "py.typed",
        "__init__.pyi",
        "lazy.py",
        "testing/__init__.pyi",
        "facade.py",
        "asynchronous.py",
        "domain/policies/allu-usa.toml",
        "domain/calendars/us-federal-2026.1.json",
        "projections/questions.py",
        "adapters/cli/entry.py",
        "adapters/report/lifecycles.json",
        "testing/plugin.py",
    ):
        assert f"returnable/{expected}" in names


@pytest.mark.parametrize("package", [returnable, returnable.testing])
def test_type_checkers_see_the_names_that_a_package_has(package: ModuleType) -> None:
    stub = Path(str(package.__file__)).with_suffix(".pyi")
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    seen: dict[str, tuple[str, str]] = {}
    for node in imports:
        module = str(node.module)
        for name in node.names:
            assert name.asname == name.name or name.name == "*"
            every = import_module(module).__all__ if name.name == "*" else [name.name]
            seen |= {each: (module, each) for each in every}

    assert sorted(seen) == package.__all__
    for name, (module, there) in seen.items():
        assert getattr(package, name) is getattr(import_module(module), there)


def test_the_core_has_few_dependencies_and_all_are_bounded() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert len(project["dependencies"]) <= 6
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    for requirement in [*project["dependencies"], *extras]:
        assert ">=" in requirement
        assert "<" in requirement, requirement
