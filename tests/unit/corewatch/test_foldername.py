"""Names of delivered folders: whatever a header holds, the name is safe, and no two cases share one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.delivery import FolderSettings
from corewatch.foldername import PATIENT_FIELDS, PLAIN_FIELDS, any_name_of, fields_of, folder_name, safe
from corewatch.identity import new_case_id

FIELDS = (*PLAIN_FIELDS, *PATIENT_FIELDS)
ALLOWED = set(string.ascii_letters + string.digits + "._-")

case_ids = st.builds(new_case_id)
patterns = st.lists(st.sampled_from([f"{{{f}}}" for f in FIELDS if f != "case_id"]) | st.sampled_from(["-", "_", "a", "CON"])).map(
    lambda parts: "".join(parts) + "{case_id}"
)
values = st.fixed_dictionaries({field: st.text(max_size=60) for field in FIELDS if field != "case_id"})


@given(st.text())
def test_a_value_is_safe_for_every_file_system(value: str) -> None:
    made = safe(value)
    assert 1 <= len(made) <= 40
    assert set(made) <= ALLOWED
    assert made[0] not in ".-_"
    assert made[-1] not in ".-_"
    assert safe(made) == made


@given(patterns, values, values, case_ids, case_ids)
def test_two_cases_never_share_a_folder(pattern: str, one: dict[str, str], other: dict[str, str], first: str, second: str) -> None:
    names = folder_name(pattern, one | {"case_id": first}), folder_name(pattern, other | {"case_id": second})
    assert (names[0].casefold() == names[1].casefold()) <= (first == second)
    assert names[0].endswith(first)
    assert "/" not in names[0]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{case_id}", "k3v9x2mqpt"),
        ("{date}/{side}-{alert}-{case_id}", "2026-11-20/left-alert-k3v9x2mqpt"),
        ("Stroke {patient_id} r{revision} {case_id}", "Stroke A_B_c r2 k3v9x2mqpt"),
        ("{accession_number}/{case_id}", "_CON/k3v9x2mqpt"),
        ("{study_date}/{case_id}", "unknown/k3v9x2mqpt"),
    ],
)
def test_names(pattern: str, name: str) -> None:
    values = {
        "case_id": "k3v9x2mqpt",
        "date": "2026-11-20",
        "side": "left",
        "alert": "alert",
        "revision": "2",
        "patient_id": "../A\\B:c",
        "accession_number": "CON",
        "study_date": "",
    }
    assert folder_name(pattern, values) == name


def test_any_name_of_a_case_is_found() -> None:
    assert any_name_of("{date}/{side}-{case_id}", "k3v9x2mqpt") == "*/*-k3v9x2mqpt"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{date}", "ends with"),
        ("{case_id}-{side}", "ends with"),
        ("{case_id}-x", "ends with"),
        ("{case_id}/{case_id}", "ends with"),
        ("{patient_name}-{case_id}", "knows the fields"),
        ("{date!r}-{case_id}", "knows the fields"),
        ("{date:>20}-{case_id}", "knows the fields"),
        ("{date.year}-{case_id}", "knows the fields"),
        ("{}-{case_id}", "knows the fields"),
        ("../{case_id}", "dot"),
        ("/{case_id}", "empty"),
        ("a//{case_id}", "empty"),
        (".hidden-{case_id}", "dot"),
        ("a*{case_id}", "letters"),
        ("a\\{case_id}", "letters"),
        ("{case_id", "not a pattern"),
        ("", "ends with"),
    ],
)
def test_what_is_no_pattern_is_told_when_the_settings_are_read(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fields_of(pattern)
    with pytest.raises(ValidationError, match=words):
        FolderSettings(pattern=pattern)


def test_a_long_value_is_cut_to_what_a_windows_share_takes() -> None:
    assert safe("a" * 41) == "a" * 40
    assert safe("_" + "a" * 41) == "a" * 40
    assert safe("a" * 39 + "-b") == "a" * 39, "cut, and not left with a mark at its end"


@pytest.mark.parametrize("name", ["con", "CON", "prn", "aux", "nul", "com1", "LPT9", "con.txt", "COM3.a.b"])
def test_names_that_windows_keeps_for_devices(name: str) -> None:
    assert folder_name("{patient_id}/{case_id}", {"patient_id": name, "case_id": "k3v9"}) == f"_{name}/k3v9"


@pytest.mark.parametrize("name", ["cons", "com", "com10", "lpt", "xcon", "con-1"])
def test_names_that_only_look_like_devices(name: str) -> None:
    assert folder_name("{patient_id}/{case_id}", {"patient_id": name, "case_id": "k3v9"}) == f"{name}/k3v9"


@pytest.mark.parametrize("pattern", ["a./{case_id}", "a /{case_id}", " a/{case_id}", "./{case_id}", "a/ b-{case_id}"])
def test_no_part_begins_or_ends_with_what_a_share_would_drop(pattern: str) -> None:
    with pytest.raises(ValueError, match="dot or a space"):
        fields_of(pattern)


def test_the_fields_of_a_pattern_in_its_order() -> None:
    assert fields_of("{side}/{date}-{side}-{case_id}") == ("side", "date", "side", "case_id")
    assert fields_of("{case_id}") == ("case_id",)
    assert set(FIELDS) == {"case_id", "date", "side", "alert", "revision", "patient_id", "accession_number", "study_date"}
