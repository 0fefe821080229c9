"""Files ``….scenario.jsonl`` as tests: each line is one, and each is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from returnable.testing import a_policy, an_order, given, request_return

STORY = given(an_order(delivered="2026-03-05")).at("2026-03-19").when(request_return()).then_accepted()


@pytest.fixture(scope="module")
def passing() -> str:
    """A scenario that comes out as it expects."""
    STORY.then_view("return/R-1", status="authorized")
    return STORY.as_scenario()


def collected(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:cov", *arguments)


def test_each_line_is_a_test_with_a_name_that_says_what_it_does(pytester: pytest.Pytester, passing: str) -> None:
    pytester.makefile(".scenario.jsonl", shop=passing)

    result = collected(pytester, "-v")

    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(
        [
            "shop.scenario.jsonl::1 confirm_order A-1 PASSED*",
            "shop.scenario.jsonl::2 record_shipment A-1 PASSED*",
            "shop.scenario.jsonl::4 request_return R-1 PASSED*",
            "shop.scenario.jsonl::5 return R-1 PASSED*",
        ]
    )


def test_other_files_are_left_alone(pytester: pytest.Pytester, passing: str) -> None:
    pytester.makefile(".jsonl", shop=passing)

    collected(pytester).assert_outcomes()


def test_a_line_that_is_not_as_expected_fails_alone_and_tells_what_led_to_it(
    pytester: pytest.Pytester, passing: str
) -> None:
    lines = passing.splitlines()
    wrong = json.loads(lines[3]) | {"expect": {"outcome": "declined", "failed": ["returns.window"]}}
    pytester.makefile(".scenario.jsonl", shop="\n".join([*lines[:3], json.dumps(wrong), *lines[4:]]))

    result = collected(pytester)

    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "shop.scenario.jsonl:4: not as expected",
            "    outcome: expected declined, came accepted",
            "    failed: expected returns.window, came none",
            "What happened, up to this line:",
            "   1  2026-03-02T10:00:00-05:00  confirm_order A-1: ACCEPTED  (Confirmed)",
            "   4  2026-03-19T00:00:00-04:00  request_return R-1: ACCEPTED  (ReturnRequested, ReturnAuthorized)",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_one_line_can_be_run_by_its_name(pytester: pytest.Pytester, passing: str) -> None:
    pytester.makefile(".scenario.jsonl", shop=passing)

    collected(pytester, "-k", "request_return").assert_outcomes(passed=1, deselected=4)
    collected(pytester, "shop.scenario.jsonl::5 return R-1").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "*shop.scenario.jsonl:1: the scenario is empty"),
        ('{"at": ', "*shop.scenario.jsonl:1: not JSON: *"),
        ("[1]", "*shop.scenario.jsonl:1: not a JSON object"),
    ],
)
def test_a_file_that_is_no_scenario_is_one_line_of_error(pytester: pytest.Pytester, content: str, says: str) -> None:
    pytester.makefile(".scenario.jsonl", shop=content or "\n")

    result = collected(pytester)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_line_that_is_wrong_in_itself_is_told_by_name(pytester: pytest.Pytester) -> None:
    wrong = '{"at": "2026-03-02T10:00:00Z", "command": 7, "expect": {"outcome": "accepted"}}'
    pytester.makefile(".scenario.jsonl", shop=f'{wrong}\n{{"[x]": "::"}}')

    result = collected(pytester, "-v")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["shop.scenario.jsonl::1 FAILED*", "shop.scenario.jsonl::2 FAILED*"])
    result.stdout.fnmatch_lines(["    error that nothing expects: command.invalid (at: is missing)"])


def test_a_scenario_is_played_under_the_policy_beside_it_else_under_that_of_the_setting(
    pytester: pytest.Pytester,
) -> None:
    def months(days: int) -> str:
        return a_policy({"returns.window": {"days": days}}).document

    late = given(an_order(delivered="2026-03-05"), policy=a_policy({"returns.window": {"days": 20}}))
    text = late.at("2026-03-22").when(request_return()).then_accepted().as_scenario()
    pytester.makefile(".scenario.jsonl", beside=text, setting=text)
    pytester.mkdir("beside.policies").joinpath("twenty.json").write_text(months(20))
    Path("ten.json").write_text(months(10))
    pytester.makeini("[pytest]\nreturnable_policy = ten.json\n")

    result = collected(pytester, "-v")

    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(["setting.scenario.jsonl::4 request_return R-1 FAILED*"])
    result.stdout.fnmatch_lines(["*FAIL returns.window: Requested at Sun 2026-03-22 00:00 EDT*"])


def test_a_policy_that_cannot_be_read_is_told_without_a_traceback(pytester: pytest.Pytester, passing: str) -> None:
    pytester.makefile(".scenario.jsonl", shop=passing)
    pytester.makefile(".policy.toml", shop="id = 3")

    result = collected(pytester)

    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(["*shop.policy.toml: id: *"])
    result.stdout.no_fnmatch_line("*Traceback*")
