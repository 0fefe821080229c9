"""A policy file is read strictly, its content has one hash for ever, and its words are the merchant's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from returnable.adapters.wiring import policy_book
from returnable.domain import policy as module
from returnable.domain.errors import PolicyInvalid
from returnable.domain.policy import (
    CLAUSE_IDS,
    Policy,
    PolicyBook,
    bundled_policies,
    parse_policy,
    policy_of_document,
    read_policies,
)

TEXT = (Path(module.__file__).parent / "policies" / "allu-usa.toml").read_text(encoding="utf-8")
BUNDLED = bundled_policies().versions[0]

# Orders are confirmed under these. When this fails, the bundled file or the meaning of a clause has changed: that is a new
# file with a new version and a new effective date, and this one stays as it is.
BUNDLED_SHA256 = "32930a8dd62a66406bddbce7820339382eb72da36027b8e45dd66d2783253ca3"


def changed(old: str, new: str, text: str = TEXT) -> str:
    """The bundled text with its one ``old`` replaced."""
    assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
    return text.replace(old, new)


def version(name: str, effective: str) -> Policy:
    """The bundled policy as another version."""
    text = changed('version = "2026-01"', f'version = "{name}"')
    return parse_policy(changed("effective = 2000-01-01", f"effective = {effective}", text), name)


def without_clause(clause_id: str) -> str:
    """The bundled text without one clause."""
    head = f'[clauses."{clause_id}"]\n'
    begin = TEXT.index(head)
    end = TEXT.find("\n[", begin)
    return TEXT[:begin] + (TEXT[end + 1 :] if end >= 0 else "")


# ---- what is read ---------------------------------------------------------------------------------------------------


def test_the_bundled_policy_says_what_the_page_says() -> None:
    clauses = BUNDLED.clauses

    assert (BUNDLED.id, BUNDLED.currency, BUNDLED.zone) == ("allu-usa", "USD", "America/New_York")
    assert (clauses.cancellation_window.hours, clauses.returns_window.days) == (2, 14)
    assert (clauses.returns_ship_by.business_days, clauses.wrong_item_window.business_days) == (2, 7)
    assert (clauses.returns_label_fee.threshold, clauses.returns_label_fee.fee) == (Decimal("500.00"), Decimal("20.00"))
    assert BUNDLED.label_fee_minor == (50000, 2000)
    assert (clauses.wrong_item_contact.hours, clauses.returns_refund_timing.business_days) == (24, (10, 15))
    assert BUNDLED.pins.calendar == "us-federal/2026.1"
    assert all(BUNDLED.clause(clause_id).applies for clause_id in CLAUSE_IDS)
    assert all(BUNDLED.clause(clause_id).reading for clause_id in CLAUSE_IDS)


def test_an_unknown_clause_is_asked_for_in_vain() -> None:
    with pytest.raises(KeyError):
        BUNDLED.clause("returns.kindness")


@pytest.mark.parametrize("clause_id", CLAUSE_IDS)
def test_every_clause_must_be_there(clause_id: str) -> None:
    with pytest.raises(PolicyInvalid, match=rf"^variant\.toml: clauses\.{re.escape(clause_id)}: is missing$"):
        parse_policy(without_clause(clause_id), "variant.toml")


@pytest.mark.parametrize("clause_id", CLAUSE_IDS)
def test_an_unknown_key_in_a_clause_is_named(clause_id: str) -> None:
    head = f'[clauses."{clause_id}"]\n'

    with pytest.raises(PolicyInvalid, match=rf"^x: clauses\.{re.escape(clause_id)}\.grace: is not a known key$"):
        parse_policy(changed(head, f"{head}grace = 1\n"), "x")


@pytest.mark.parametrize("clause_id", CLAUSE_IDS)
@pytest.mark.parametrize("key", ["quote", "reading"])
def test_every_clause_carries_its_quote_and_its_reading(clause_id: str, key: str) -> None:
    begin = TEXT.index(f'[clauses."{clause_id}"]\n')
    end = TEXT.find("\n[", begin) if "\n[" in TEXT[begin:] else len(TEXT)
    part = re.sub(rf"(?m)^{key} = .*$", "", TEXT[begin:end])

    with pytest.raises(PolicyInvalid, match=rf"clauses\.{re.escape(clause_id)}\.{key}: is missing"):
        parse_policy(TEXT[:begin] + part + TEXT[end:], "x")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('source = "The', 'motto = "x"\nsource = "The', "motto"),
        ('name = "us-federal"', 'name = "us-federal"\ncolour = "red"', "calendar.colour"),
        (
            '[clauses."cancellation.window"]',
            '[clauses."returns.kindness"]\n[clauses."cancellation.window"]',
            "clauses.returns.kindness",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_place(old: str, new: str, place: str) -> None:
    with pytest.raises(PolicyInvalid, match=f"^x: {re.escape(place)}: is not a known key$"):
        parse_policy(changed(old, new), "x")


@pytest.mark.parametrize("key", ["id", "version", "effective", "currency", "zone", "source"])
def test_every_key_of_the_head_must_be_there(key: str) -> None:
    with pytest.raises(PolicyInvalid, match=f"^x: {key}: is missing$"):
        parse_policy(re.sub(rf"(?m)^{key} = .*\n", "", TEXT, count=1), "x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nhours = 2\n", "\nhours = -1\n"),
        ("\nhours = 2\n", '\nhours = "2"\n'),
        ("\nhours = 2\n", "\nhours = 2.0\n"),
        ("\nhours = 2\n", "\nhours = true\n"),
        ("\nhours = 2\n", "\nhours = 1000000\n"),
        ("\nhours = 2\n", "\nhours = [2]\n"),
        ("days = 14", "days = -14"),
        ("days = 14", "days = 14.5"),
        ("days = 14", "days = 3661"),
        ("business_days = 7", "business_days = -7"),
        ("business_days = [10, 15]", "business_days = [15, 10]"),
        ("business_days = [10, 15]", "business_days = [-1, 15]"),
        ("business_days = [10, 15]", "business_days = [10]"),
        ("business_days = [10, 15]", "business_days = [10, 12, 15]"),
        ("business_days = [10, 15]", "business_days = 10"),
        ('counting = "calendar"', 'counting = "lunar"'),
        ('anchor = "delivered"', 'anchor = "ordered"'),
        ('anchor = "label_received"', 'anchor = "label_printed"'),
        ('judged = "when_decided"', 'judged = "never"'),
        ('allocation = "pro_rata"', 'allocation = "random"'),
        ("required = true", 'required = "yes"'),
        ("required = true", "required = 1"),
        ("refunds_shipping = true", 'refunds_shipping = "yes"'),
        ("free_only_with_free_shipping = false", "free_only_with_free_shipping = 0"),
        ('channels = ["portal"]', 'channels = "portal"'),
        ('channels = ["portal"]', "channels = []"),
        ('channels = ["portal"]', 'channels = [""]'),
        ('channels = ["portal"]', "channels = [1]"),
        ('requires = ["order_reference", "order_copy"]', 'requires = ["a_smile"]'),
        ('requires = ["same_condition", "original_packaging", "tags_attached"]', 'requires = ["new"]'),
        ('requires = ["order_confirmation", "item_picture"]', 'requires = ["a_video"]'),
        ("threshold = 500.00", "threshold = -1"),
        ("threshold = 500.00", "threshold = 500.005"),
        ("threshold = 500.00", "threshold = true"),
        ("threshold = 500.00", "threshold = nan"),
        ("threshold = 500.00", "threshold = inf"),
        ("threshold = 500.00", "threshold = 1e12"),
        ("fee = 20.00", 'fee = "twenty"'),
        ("fee = 20.00", "fee = -0.0"),
        ("effective = 2000-01-01", 'effective = "soon"'),
        ("effective = 2000-01-01", "effective = true"),
        ("effective = 2000-01-01", "effective = 2000-01-01T10:00:00Z"),
        ('id = "allu-usa"', 'id = ""'),
        ('id = "allu-usa"', "id = 7"),
        ('version = "2026-01"', "version = 2026"),
        ('currency = "USD"', 'currency = "usd"'),
        ('currency = "USD"', 'currency = "BTC"'),
        ('currency = "USD"', 'currency = "JPY"'),  # 500.00 has more digits than the yen
        ('zone = "America/New_York"', 'zone = "America/Springfield"'),
        ('zone = "America/New_York"', 'zone = "../UTC"'),
        ('name = "us-federal"', 'name = "mars"'),
        ('version = "2026.1"', 'version = "1999.1"'),
        ('version = "2026.1"', 'version = "2026.1"\nclosed_also = ["someday"]'),
    ],
)
def test_what_cannot_be_meant_is_refused_and_the_file_is_named(old: str, new: str) -> None:
    with pytest.raises(PolicyInvalid, match=r"^variant\.toml: ") as refused:
        parse_policy(changed(old, new), "variant.toml")

    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("text", ["", "[", "id = ", "\x00", "id = 1\nid = 2", "[clauses]\n[clauses]", "{}"])
def test_what_is_no_toml_or_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyInvalid, match=r"^x: "):
        parse_policy(text, "x")


@given(st.text(max_size=200))
def test_no_text_does_anything_but_be_a_policy_or_be_refused(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        parse_policy(text, "x")


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 200), st.text(max_size=5))
def test_no_damage_to_the_text_does_anything_but_change_the_policy_or_be_refused(
    begin: int, length: int, put: str
) -> None:
    damaged = TEXT[:begin] + put + TEXT[begin + length :]

    try:
        policy = parse_policy(damaged, "x")
    except PolicyInvalid as error:
        assert str(error).startswith("x: ")
    else:
        assert policy_of_document(policy.document, policy.sha256) == policy


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match="cannot be read: No such file"):
        read_policies(tmp_path / "none.toml")


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('id = "café"'.encode("latin-1"))

    with pytest.raises(PolicyInvalid, match="not UTF-8"):
        read_policies(tmp_path / "latin.toml")


def test_a_directory_without_a_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("Nothing here.", encoding="utf-8")

    with pytest.raises(PolicyInvalid, match="no .toml file"):
        read_policies(tmp_path)


def test_a_broken_file_in_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "b.toml").write_text("[", encoding="utf-8")

    with pytest.raises(PolicyInvalid, match=r"b\.toml: not TOML"):
        read_policies(tmp_path)


def test_a_directory_holds_the_versions_of_one_policy(tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text(TEXT, encoding="utf-8")
    later = changed('version = "2026-01"', 'version = "2026-07"')
    (tmp_path / "a.toml").write_text(
        changed("effective = 2000-01-01", "effective = 2026-07-01", later), encoding="utf-8"
    )

    book = read_policies(str(tmp_path))

    assert [policy.version for policy in book.versions] == ["2026-01", "2026-07"]


def test_a_book_without_a_policy_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="there is no policy"):
        PolicyBook([])


def test_two_versions_of_one_name_are_refused() -> None:
    with pytest.raises(PolicyInvalid, match="same version"):
        PolicyBook([version("1", "2020-01-01"), version("1", "2021-01-01")])


def test_two_versions_of_one_day_are_refused() -> None:
    with pytest.raises(PolicyInvalid, match="same effective"):
        PolicyBook([version("1", "2020-01-01"), version("2", "2020-01-01")])


def test_versions_of_different_policies_are_refused() -> None:
    other = parse_policy(changed('id = "allu-usa"', 'id = "acme"'), "x")

    with pytest.raises(PolicyInvalid, match="different policies: acme, allu-usa"):
        PolicyBook([BUNDLED, other])


# ---- which was in force ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-06-30T23:59:59.999999-04:00", "old"),
        ("2026-07-01T03:59:59.999999+00:00", "old"),
        ("2026-07-01T00:00:00-04:00", "new"),
        ("2026-07-01T12:00:00+14:00", "old"),
        ("2030-01-01T00:00:00+00:00", "new"),
        ("2020-01-01T05:00:00+00:00", "old"),
    ],
)
def test_the_version_in_force_is_that_of_the_local_date(instant: str, expected: str) -> None:
    book = PolicyBook([version("new", "2026-07-01"), version("old", "2020-01-01")])

    assert book.in_force(datetime.fromisoformat(instant)).version == expected


def test_before_the_first_version_none_was_in_force() -> None:
    book = PolicyBook([version("old", "2020-01-01")])

    with pytest.raises(PolicyInvalid, match="before 2020-01-01"):
        book.in_force(datetime.fromisoformat("2019-12-31T23:59:59-05:00"))


def test_a_version_is_found_by_its_hash() -> None:
    old, new = version("old", "2020-01-01"), version("new", "2026-07-01")
    book = PolicyBook([old, new])

    assert book.by_sha256(new.sha256) is new
    assert book.by_sha256("0" * 64) is None


# ---- one hash for ever ----------------------------------------------------------------------------------------------


def test_the_hash_of_the_bundled_policy_is_pinned() -> None:
    assert BUNDLED.sha256 == BUNDLED_SHA256


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_hash_is_the_same_in_every_process(seed: str) -> None:
    code = "from returnable.domain.policy import bundled_policies; print(bundled_policies().versions[0].sha256)"
    environment = {**os.environ, "PYTHONHASHSEED": seed}

    came = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert came.stdout.strip() == BUNDLED_SHA256


def test_the_order_of_keys_and_the_comments_do_not_change_the_hash() -> None:
    without_comments = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    head, *parts = re.split(r"(?m)^(?=\[)", without_comments)
    turned = [
        f"{part.splitlines()[0]}\n" + "\n".join(reversed(part.splitlines()[1:])) + "\n" for part in reversed(parts)
    ]
    turned_head = "\n".join(reversed(head.splitlines())) + "\n"

    assert parse_policy(turned_head + "".join(turned), "turned").sha256 == BUNDLED_SHA256


def test_a_default_that_is_written_out_does_not_change_the_hash() -> None:
    head = '[clauses."returns.portal"]\n'

    assert parse_policy(changed(head, f"{head}applies = true\n"), "x").sha256 == BUNDLED_SHA256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("days = 14", "days = 15"),
        ("fee = 20.00", "fee = 20.01"),
        ('version = "2026.1"', 'version = "2026.1"\nclosed_also = [2026-12-24]'),
        ("AlluUsa (Valuence) does not accept exchanges.", "AlluUsa (Valuence) accepts exchanges."),
        ('zone = "America/New_York"', 'zone = "America/Chicago"'),
    ],
)
def test_whatever_changes_a_decision_or_its_words_changes_the_hash(old: str, new: str) -> None:
    assert parse_policy(changed(old, new), "x").sha256 != BUNDLED_SHA256


def test_a_policy_comes_back_from_its_kept_document() -> None:
    policy = parse_policy(changed('version = "2026.1"', 'version = "2026.1"\nclosed_also = [2026-12-24]'), "x")

    again = policy_of_document(policy.document, policy.sha256)

    assert again == policy
    assert again.document == policy.document
    assert not again.days.is_business_day(date(2026, 12, 24))
    assert again.pins == policy.pins
    assert again.pins.calendar == "us-federal+allu-usa/2026.1"


def test_a_kept_document_that_was_changed_is_refused() -> None:
    document = BUNDLED.document.replace('"days":14', '"days":99')
    assert document != BUNDLED.document

    with pytest.raises(PolicyInvalid, match="does not have the hash"):
        policy_of_document(document, BUNDLED.sha256)


@pytest.mark.parametrize("document", ["[]", "{}", "null", '{"id": 1}'])
def test_a_kept_document_that_is_no_policy_is_refused(document: str) -> None:
    with pytest.raises(PolicyInvalid, match="kept policy"):
        policy_of_document(document, BUNDLED.sha256)


@pytest.mark.parametrize("document", ["", "{", "not json"])
def test_a_kept_document_that_is_no_json_is_refused(document: str) -> None:
    with pytest.raises(PolicyInvalid, match="kept policy"):
        policy_of_document(document, BUNDLED.sha256)


# ---- the merchant's words -------------------------------------------------------------------------------------------

SEED = Path(__file__).parents[3] / "shared" / "seed"

if SEED.is_dir():

    def _plain(text: str) -> str:
        straight = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " "})
        return " ".join(text.translate(straight).split())

    @pytest.mark.parametrize("clause_id", CLAUSE_IDS)
    def test_every_quote_is_the_merchants_own_words(clause_id: str) -> None:
        pages = [file.read_text(encoding="utf-8") for file in sorted(SEED.glob("*.txt"))]
        page = " ".join(_plain(re.sub(r"(?m)^\s*\d+\.\s+", " ", text)) for text in pages)  # the numbers of its list

        for piece in BUNDLED.clause(clause_id).quote.split("…"):
            assert _plain(piece) in page


def test_the_earlier_wording_differs_from_the_one_in_force_in_two_clauses_only() -> None:
    earlier, today = bundled_policies("allu-usa-earlier").versions[0], BUNDLED

    different = [clause for clause in CLAUSE_IDS if earlier.clause(clause) != today.clause(clause)]

    assert different == ["returns.window", "returns.portal"]
    window = earlier.clauses.returns_window
    assert (window.days, window.counting, earlier.clauses.returns_portal.channels) == (14, "business", ("email",))
    assert (earlier.id, earlier.version) == (today.id, "earlier")
    assert "older returns page" in earlier.source


def test_the_earlier_wording_is_bundled_and_not_in_force() -> None:
    assert [policy.version for policy in bundled_policies().versions] == ["2026-01"]


def test_an_unknown_bundled_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(PolicyInvalid, match="no bundled policy 'allu-uk'; there are allu-usa, allu-usa-earlier"):
        bundled_policies("allu-uk")


def test_a_file_of_that_name_comes_before_a_bundled_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    by_name = policy_book("allu-usa-earlier").versions[0].version
    text = changed('version = "2026-01"', 'version = "mine"')
    (tmp_path / "allu-usa-earlier").write_text(text, encoding="utf-8")

    by_file = policy_book("allu-usa-earlier").versions[0].version

    assert (by_name, by_file) == ("earlier", "mine")
