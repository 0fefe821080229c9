"""``returnable play --check DIR``, and the policy that lies beside a scenario."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from terminal import one_line, returnable

from returnable.adapters.scenario import ScenarioUnreadable, play_file, policy_beside
from returnable.domain import policy as policies
from returnable.domain.errors import PolicyInvalid
from returnable.testing import confirm_order

AT = "2026-03-02T10:00:00-05:00"
BUNDLED = (Path(policies.__file__).parent / "policies" / "allu-usa.toml").read_text(encoding="utf-8")


def scenario(outcome: str = "declined", order_id: str = "A-1") -> bytes:
    """An order, and a request to cancel it three hours later: too late under the bundled policy."""
    asked: dict[str, Any] = {"order_id": order_id, "channel": "email", "order_reference": order_id}
    lines = [
        {"at": AT, **confirm_order(order_id).fields, "expect": {"outcome": "accepted"}},
        {"at": "2026-03-02T13:00:00-05:00", "command": "request_cancellation"}
        | asked
        | {"expect": {"outcome": outcome}},
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def put(folder: Path, name: str, content: bytes | str) -> Path:
    """A file below the folder."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return place


def lenient() -> str:
    """The bundled policy with five hours to cancel."""
    assert BUNDLED.count("hours = 2\n") == 1
    return BUNDLED.replace("hours = 2\n", "hours = 5\n")


# ---- a directory -----------------------------------------------------------------------------------------------------


def test_every_scenario_below_a_directory_is_played_on_a_store_of_its_own_in_order(tmp_path: Path) -> None:
    for name in ("b.scenario.jsonl", "a.jsonl", "returns/late.scenario.jsonl"):
        put(tmp_path, f"cases/{name}", scenario())
    put(tmp_path, "cases/notes.txt", "no scenario")

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "cases/a.jsonl: 2 lines, 2 with expectations: all met",
        "cases/b.scenario.jsonl: 2 lines, 2 with expectations: all met",
        "cases/returns/late.scenario.jsonl: 2 lines, 2 with expectations: all met",
        "cases: 3 scenarios, 6 lines, 6 with expectations: all met",
    ]


def test_what_is_not_as_expected_is_told_with_file_and_line_and_the_rest_is_still_played(tmp_path: Path) -> None:
    put(tmp_path, "cases/a.jsonl", scenario("accepted"))
    put(tmp_path, "cases/b.jsonl", scenario())

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert (status, err) == (1, "")
    assert out.splitlines() == [
        "cases/a.jsonl:2: outcome: expected accepted, came declined (failed: cancellation.window)",
        "cases/a.jsonl: 2 lines, 2 with expectations: 1 line not as expected",
        "cases/b.jsonl: 2 lines, 2 with expectations: all met",
        "cases: 2 scenarios, 4 lines, 4 with expectations: 1 line not as expected",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cases/b.jsonl:1: the scenario is empty"),
        (b"\n  \n", "cases/b.jsonl:1: the scenario is empty"),
        (b"[1]\n", "cases/b.jsonl:1: not a JSON object"),
        (b"{}\n{'at'}\n", "cases/b.jsonl:2: not JSON: "),
        (b"\xff\xfe\n", "cases/b.jsonl:1: not UTF-8: byte 1 of the line"),
    ],
)
def test_a_file_that_is_no_scenario_is_told_when_the_others_were_played(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    put(tmp_path, "cases/a.jsonl", scenario("accepted"))
    put(tmp_path, "cases/b.jsonl", content)
    put(tmp_path, "cases/c.jsonl", scenario())

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert status == 2
    assert one_line(err).startswith(f"returnable: {reason}")
    assert out.splitlines()[1:] == [
        "cases/a.jsonl: 2 lines, 2 with expectations: 1 line not as expected",
        "cases/c.jsonl: 2 lines, 2 with expectations: all met",
        "cases: 2 scenarios, 4 lines, 4 with expectations: 1 line not as expected; 1 cannot be played",
    ]


def test_a_link_to_nowhere_and_a_pipe_are_told_and_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path, "cases/a.jsonl", scenario())
    (tmp_path / "cases" / "b.jsonl").symlink_to("nowhere")
    os.mkfifo(tmp_path / "cases" / "c.jsonl")

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert status == 2
    assert err.splitlines() == [
        "returnable: cases/b.jsonl: No such file or directory",
        "returnable: cases/c.jsonl: is not a regular file",
    ]
    assert out.endswith("cases: 1 scenario, 2 lines, 2 with expectations: all met; 2 cannot be played\n")


def test_what_is_hidden_is_left_out_and_a_folder_that_links_to_itself_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "cases/deep/a.jsonl", scenario())
    put(tmp_path, "cases/.git/b.jsonl", b"no")
    put(tmp_path, "cases/.c.jsonl", b"no")
    (tmp_path / "cases" / "deep" / "again").symlink_to("..")
    (tmp_path / "cases" / "folder.jsonl").mkdir()

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert (status, err) == (0, "")
    assert out.startswith("cases/deep/a.jsonl: ")
    assert out.count("\n") == 2


def test_a_name_that_would_steer_a_terminal_is_spelt_out(tmp_path: Path) -> None:
    put(tmp_path, "cases/a\x1b[2J\n.jsonl", scenario("accepted"))
    put(tmp_path, "cases/b\x1b[2J.jsonl", b"")

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert status == 2
    assert "\x1b" not in out + err
    assert "cases/a\\x1b[2J\\n.jsonl:2: outcome: expected accepted" in out
    assert "cases/b\\x1b[2J.jsonl:1: the scenario is empty" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("cases",), "cases: is a directory; --check plays the scenarios below it"),
        (("cases", "--explain"), "cases: is a directory; --check plays the scenarios below it"),
        (("cases", "--check", "--store", "sqlite:///shop.db"), "--store is for one scenario"),
        (("cases", "--check", "--policy", "nowhere.toml"), "nowhere.toml: cannot be read: No such file"),
        (("empty", "--check"), "empty: there is no scenario below this directory"),
        (("nowhere", "--check"), "nowhere: No such file or directory"),
    ],
)
def test_what_cannot_be_done_with_a_directory_is_one_line(
    arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    put(tmp_path, "cases/a.jsonl", scenario())
    put(tmp_path, "empty/.hidden/a.jsonl", scenario())

    status, out, err = returnable("play", *arguments, folder=tmp_path)

    assert (status, out) == (2, "")
    assert reason in one_line(err)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["cases", "empty"]


# ---- the policy beside a scenario ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["late.policy.toml", "late.policies/own.toml"])
@pytest.mark.parametrize("name", ["late.scenario.jsonl", "late.jsonl"])
def test_a_scenario_is_played_under_the_policy_beside_it(name: str, beside: str, tmp_path: Path) -> None:
    put(tmp_path, f"cases/{name}", scenario("accepted"))
    put(tmp_path, f"cases/{beside}", lenient())
    put(tmp_path, "cases/other.jsonl", scenario("declined"))

    of_the_folder = returnable("play", "--check", "cases", folder=tmp_path)
    of_the_file = returnable("play", "--check", name, folder=tmp_path / "cases")
    told = returnable("play", "--explain", f"cases/{name}", folder=tmp_path)

    assert (of_the_folder[0], of_the_file[0]) == (0, 0)
    assert "request_cancellation A-1: ACCEPTED" in told[1]


def test_a_policy_that_is_given_comes_before_the_one_beside(tmp_path: Path) -> None:
    put(tmp_path, "cases/late.jsonl", scenario("declined"))
    put(tmp_path, "cases/late.policy.toml", lenient())

    came = [
        returnable("play", "--check", "--policy", "allu-usa", place, folder=tmp_path)[0]
        for place in ("cases", "cases/late.jsonl")
    ]

    assert came == [0, 0]


def test_two_policies_beside_a_scenario_are_one_too_many(tmp_path: Path) -> None:
    file = put(tmp_path, "late.scenario.jsonl", scenario())
    put(tmp_path, "late.policy.toml", lenient())
    put(tmp_path, "late.policies/own.toml", lenient())

    status, out, err = returnable("play", "--check", "late.scenario.jsonl", folder=tmp_path)

    assert (status, out) == (2, "")
    assert "both late.policies and late.policy.toml are next to it; keep one" in one_line(err)
    with pytest.raises(PolicyInvalid, match="keep one"):
        policy_beside(file)


@pytest.mark.parametrize(
    ("beside", "content", "reason"),
    [
        ("b.policy.toml", "no = ", "b.policy.toml: not TOML"),
        ("b.policies/read.me", "", "b.policies: there is no .toml file in this directory"),
    ],
)
def test_a_policy_beside_that_is_none_is_told_with_the_file_it_is_of(
    beside: str, content: str, reason: str, tmp_path: Path
) -> None:
    put(tmp_path, "cases/a.jsonl", scenario())
    put(tmp_path, "cases/b.jsonl", scenario())
    put(tmp_path, f"cases/{beside}", content)

    status, out, err = returnable("play", "--check", "cases", folder=tmp_path)

    assert status == 2
    assert one_line(err).startswith("returnable: cases/b.jsonl: ")
    assert reason in err
    assert out.startswith("cases/a.jsonl: 2 lines, 2 with expectations: all met\n")


def test_nothing_lies_beside_standard_input_or_a_file_of_another_name(tmp_path: Path) -> None:
    put(tmp_path, "-.policy.toml", lenient())
    put(tmp_path, "late.policy.toml", lenient())
    put(tmp_path, "late.txt", scenario("declined"))

    piped = returnable("play", "--check", "-", folder=tmp_path, given=scenario("declined"))
    other = returnable("play", "--check", "late.txt", folder=tmp_path)

    assert (piped[0], other[0]) == (0, 0)
    assert policy_beside(tmp_path / "late.txt") is None
    assert policy_beside(tmp_path / "none.scenario.jsonl") is None


def test_a_file_is_played_twice_with_the_same_lines_because_nothing_is_kept(tmp_path: Path) -> None:
    file = put(tmp_path, "late.jsonl", scenario("accepted"))

    first, second = play_file(file), play_file(str(file))
    put(tmp_path, "late.policy.toml", lenient())
    under_its_own = play_file(file)

    assert [line.as_dict() for line in first] == [line.as_dict() for line in second]
    assert [(line.line, bool(line.mismatches)) for line in first] == [(1, False), (2, True)]
    assert [line.mismatches for line in under_its_own] == [[], []]


def test_a_file_that_cannot_be_played_is_named(tmp_path: Path) -> None:
    for place, reason in ((tmp_path / "none.jsonl", "No such file"), (tmp_path, "is not a regular file")):
        with pytest.raises(ScenarioUnreadable, match=reason):
            play_file(place)
