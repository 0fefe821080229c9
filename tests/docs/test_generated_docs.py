"""Files that follow from the code say what the code says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from returnable.domain.policy import CLAUSE_IDS
from tools import render_docs

ROOT = Path(__file__).parents[2]


def render(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run the tool as people do."""
    return subprocess.run(
        [sys.executable, "tools/render_docs.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_the_generated_files_are_what_the_code_says_under_any_hash_seed(hash_seed: str) -> None:
    checked = render("--check", hash_seed=hash_seed)

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ["docs/policy.md", "adapters/report/lifecycles.json"])
def test_a_file_that_was_edited_by_hand_is_named(name: str, tmp_path: Path) -> None:
    written = render("--into", str(tmp_path))
    assert written.returncode == 0, written.stderr
    page = tmp_path / name
    page.write_text(page.read_text(encoding="utf-8").replace("14", "15"), encoding="utf-8")

    checked = render("--check", "--into", str(tmp_path))

    assert checked.returncode == 1
    assert checked.stderr == f"{page}: is not what the code says; run tools/render_docs.py\n"


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    checked = render("--check", "--into", str(tmp_path))

    assert checked.returncode == 1
    assert len(checked.stderr.splitlines()) == 5
    assert not list(tmp_path.iterdir())


def test_the_page_on_the_policy_has_every_clause_below_its_group_also_those_of_a_new_group() -> None:
    with (
        patch.object(render_docs, "CLAUSE_IDS", (*CLAUSE_IDS, "gift_cards.window")),
        patch.object(render_docs, "_clause", lambda clause_id, policy: [f"### `{clause_id}`"]),
    ):
        page = render_docs.policy_page()

    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert [line[5:-1] for line in page.splitlines() if line.startswith("### ")] == [*CLAUSE_IDS, "gift_cards.window"]
    assert headings == ["## Cancellation", "## Returns", "## Wrong item", "## Gift cards"]


def test_the_schema_in_the_docs_is_json() -> None:
    schema = json.loads((ROOT / "docs" / "scenario.schema.json").read_text(encoding="utf-8"))

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
