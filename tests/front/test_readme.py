"""What the README says is what happens."""

from __future__ import annotations

import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from terminal import returnable

from returnable.adapters.cli.app import run
from returnable.domain.lifecycles import RETURN

HERE = Path(__file__).resolve().parents[2]
README = (HERE / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_embedding_example_runs_and_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example, _ = blocks("python")
    out = StringIO()

    with redirect_stdout(out):
        scope: dict[str, object] = {}
        exec(compile(example, "README.md", "exec"), scope)
        scope["desk"].close()  # type: ignore[attr-defined]

    assert out.getvalue() == blocks("text")[0]
    assert (tmp_path / "shop.db").exists()
    assert len([line for line in example.splitlines() if line.strip()]) <= 20


def test_the_example_of_a_test_passes(pytester: pytest.Pytester) -> None:
    _, example = blocks("python")
    pytester.makepyfile(example)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:cov")

    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] > 20


def test_the_tour_says_what_the_readme_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    command = next(line for line in blocks("sh")[0].splitlines() if "returnable play" in line)
    arguments = command.split(".venv/bin/returnable ")[1].split()
    out = StringIO()

    with redirect_stdout(out), redirect_stderr(StringIO()):
        assert run(arguments) == 0

    for line in blocks("text")[1].splitlines():
        assert line in out.getvalue().splitlines()


def test_what_an_auditor_asks_is_answered_as_the_readme_quotes(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/tour.db"
    returnable("play", str(HERE / "examples" / "tour.jsonl"), "--store", store)
    (questions,) = blocks("console")
    said = ""

    for question in questions.splitlines():
        arguments = question.removeprefix("$ returnable ").split()
        status, out, err = returnable(*arguments, folder=tmp_path, RETURNABLE_STORE=store)
        assert status == 0, (question, err)
        said += out

    for line in blocks("text")[2].splitlines():
        assert line in [each.rstrip() for each in said.splitlines()]
    assert (tmp_path / "a-1.html").exists()


def test_the_test_command_is_the_one_that_integration_runs() -> None:
    command = blocks("sh")[1].strip()

    assert command in (HERE / ".ci" / "run").read_text(encoding="utf-8")


def test_every_arrow_of_the_readmes_diagram_is_a_move_of_the_machine() -> None:
    (diagram,) = blocks("mermaid")
    arrows = set(re.findall(r"^    (\w+) --> (\w+)", diagram, flags=re.MULTILINE))
    moves = {(source, target) for (source, _), move in RETURN.moves.items() for target in move.targets}

    assert arrows
    assert arrows <= moves


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (HERE / target).exists(), target
