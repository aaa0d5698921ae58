"""Derived names: the same input always gives the same name, any other input another one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from corewatch.findings import ModelIdentity
from corewatch.identity import case_key, derived_uid, new_case_id

MODEL = ModelIdentity("net", "1.0", "ab" * 32)


def test_names_are_the_same_in_every_version() -> None:
    """A result that is sent again after an update is the same objects."""
    assert case_key("1.2.3", ["1.2.3.2", "1.2.3.1"]) == "1da08541130901df2a1c6c12b1d85300501f05b69d53581f8871708f28eeaf59"
    assert derived_uid("k", MODEL, "sc-series") == "2.25.137042600999896131643357144633145187416"
    assert derived_uid("k", None, "sc-series") == "2.25.287739857852699988393751983105438201002"


def test_whatever_differs_gives_another_uid() -> None:
    """Above all the model: a result of a newer version must not replace the older one under its UID."""
    uids = [
        derived_uid("k", MODEL, "sc-series"),
        derived_uid("l", MODEL, "sc-series"),
        derived_uid("k", MODEL, "sc-instance-1"),
        derived_uid("k", replace(MODEL, name="other"), "sc-series"),
        derived_uid("k", replace(MODEL, version="1.1"), "sc-series"),
        derived_uid("k", replace(MODEL, sha256="cd" * 32), "sc-series"),
        derived_uid("k", None, "sc-series"),
    ]
    assert all(one != other for one, other in combinations(uids, 2))


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_derived_uid_keeps_to_the_standard(key: str, role: str) -> None:
    """PS3.5 9.1 and B.2: at most 64 characters, no component with a leading zero."""
    uid = derived_uid(key, MODEL, role)
    root, arc, number = uid.split(".")
    assert (root, arc) == ("2", "25")
    assert str(int(number)) == number
    assert len(uid) <= 64


@given(st.lists(st.sampled_from(["1", "2", "3"])))
def test_a_case_is_the_set_of_its_instances(uids: list[str]) -> None:
    assert case_key("s", uids) == case_key("s", sorted(set(uids), reverse=True))
    assert case_key("s", uids) != case_key("t", uids)


def test_case_ids_can_be_read_out_over_the_telephone() -> None:
    ids = {new_case_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(one) == 10 and set(one) <= set("23456789abcdefghjkmnpqrstvwxyz") for one in ids)
