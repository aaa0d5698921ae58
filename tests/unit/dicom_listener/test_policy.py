from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.intake import Peer
from dicom_listener.negotiation import APPLICATION_CONTEXT, AssociateRequest
from dicom_listener.policy import AssociationPolicy, Rejection
from foundation.addresses import parse_address

TITLES = st.from_regex(r"[A-Z0-9]{1,16}", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)
NAMES = {"pacs.hospital": frozenset({"10.0.0.7", "fd00::7"})}


def resolve(name: str) -> frozenset[str]:
    return NAMES.get(name, frozenset())


def policy(*peers: tuple[str, str], limit: int = 4) -> AssociationPolicy:
    return AssociationPolicy("COREWATCH", [Peer(ae_title=t, host=h) for t, h in peers], limit)


def ask(
    calling: str = "PACS", called: str = "COREWATCH", context: str = APPLICATION_CONTEXT, *, version_supported: bool = True
) -> AssociateRequest:
    return AssociateRequest(called, calling, context, (), 0, {}, b"", version_supported)


def decide(
    policy: AssociationPolicy, request: AssociateRequest | None = None, address: str = "10.0.0.7", count: int = 0, of_peer: int = 0
) -> Rejection | None:
    return policy.decide(request or ask(), address, count, resolve, of_peer)


@given(calling=TITLES, address=ADDRESSES)
def test_without_peers_exactly_loopback_may_send(calling: str, address: str) -> None:
    decision = decide(policy(), ask(calling), address)
    parsed = parse_address(address)
    assert parsed is not None
    assert (decision is None) == parsed.is_loopback
    assert decision in (None, Rejection.NOT_LOOPBACK)


@given(
    peers=st.lists(st.tuples(TITLES, ADDRESSES), min_size=1, max_size=5),
    calling=TITLES,
    address=ADDRESSES,
    pick=st.integers(0, 4),
    same_title=st.booleans(),
    same_host=st.booleans(),
)
def test_with_peers_title_and_host_must_belong_together(
    peers: list[tuple[str, str]], calling: str, address: str, pick: int, same_title: bool, same_host: bool
) -> None:
    title, host = peers[pick % len(peers)]
    calling = title if same_title else calling
    address = host if same_host else address
    decision = decide(policy(*peers), ask(calling), address)
    parsed = parse_address(address)
    assert parsed is not None
    listed = any(t == calling and parse_address(h) == parsed for t, h in peers)
    assert (decision is None) == (listed or parsed.is_loopback)
    if decision is not None:
        assert decision is (Rejection.HOST if any(t == calling for t, _ in peers) else Rejection.CALLING_AE_TITLE)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@given(calling=TITLES)
def test_this_machine_may_send_whatever_the_peers(address: str, calling: str) -> None:
    assert decide(policy(("PACS", "10.0.0.7")), ask(calling), address) is None


@given(called=TITLES.filter(lambda t: t != "COREWATCH"))
def test_the_called_title_must_be_ours(called: str) -> None:
    assert decide(policy(), ask(called=called), "127.0.0.1") is Rejection.CALLED_AE_TITLE


@given(limit=st.integers(1, 50), count=st.integers(0, 100))
def test_never_more_associations_than_allowed(limit: int, count: int) -> None:
    decision = decide(policy(limit=limit), ask(), "127.0.0.1", count)
    assert decision is (Rejection.TOO_MANY if count >= limit else None)


@given(limit=st.none() | st.integers(1, 50), count=st.integers(0, 100), others=st.integers(0, 100))
def test_one_address_leaves_room_for_others(limit: int | None, count: int, others: int) -> None:
    rules = AssociationPolicy("COREWATCH", (), 1000, limit)
    decision = decide(rules, ask(), "127.0.0.1", count + others, count)
    assert decision is (Rejection.TOO_MANY_OF_PEER if limit is not None and count >= limit else None)


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("10.0.0.7", "::ffff:10.0.0.7", True),
        ("10.0.0.0/24", "10.0.0.200", True),
        ("10.0.0.0/24", "10.0.1.200", False),
        ("10.0.0.9/24", "10.0.0.1", True),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.0/120", "10.0.0.200", True),
        ("::ffff:10.0.0.0/120", "10.0.1.200", False),
        ("::/0", "fd00::7", True),
        ("pacs.hospital", "10.0.0.7", True),
        ("pacs.hospital", "fd00::7", True),
        ("pacs.hospital", "10.0.0.8", False),
        ("nowhere.hospital", "10.0.0.7", False),
        ("fe80::1", "fe80::1%eth0", True),
    ],
)
def test_hosts(host: str, address: str, allowed: bool) -> None:
    assert (decide(policy(("PACS", host)), ask(), address) is None) == allowed


def test_titles_are_compared_without_padding() -> None:
    assert decide(policy(("PACS", "10.0.0.7")), ask(calling=" PACS   ", called="COREWATCH  ")) is None


def test_another_application_context_is_rejected_as_such() -> None:
    assert decide(policy(), ask(called="OTHER", context="1.2.3"), count=99) is Rejection.APPLICATION_CONTEXT


def test_an_invalid_address_is_refused() -> None:
    assert decide(policy(("PACS", "10.0.0.7")), address="?") is Rejection.HOST
    assert decide(policy(), address="") is Rejection.NOT_LOOPBACK


def test_names_are_resolved_for_known_titles_only() -> None:
    asked: list[str] = []

    def watch(name: str) -> frozenset[str]:
        asked.append(name)
        return frozenset()

    policy(("PACS", "pacs.hospital")).decide(ask(calling="STRANGER"), "10.0.0.7", 0, watch)
    assert asked == []


CODES = {
    Rejection.PROTOCOL_VERSION: (1, 2, 2),
    Rejection.APPLICATION_CONTEXT: (1, 1, 2),
    Rejection.CALLED_AE_TITLE: (1, 1, 7),
    Rejection.NO_CALLING_AE_TITLE: (1, 1, 3),
    Rejection.CALLING_AE_TITLE: (1, 1, 3),
    Rejection.HOST: (1, 1, 3),
    Rejection.NOT_LOOPBACK: (1, 1, 3),
    Rejection.TOO_MANY: (2, 3, 2),
    Rejection.TOO_MANY_OF_PEER: (2, 3, 2),
    Rejection.STOPPING: (2, 3, 1),
}
"""Result, source and reason of PS3.8 Table 9-21; result 2 (transient) is for what passes by itself."""


@pytest.mark.parametrize("rejection", Rejection)
def test_codes_are_those_of_the_standard(rejection: Rejection) -> None:
    assert rejection.codes == CODES[rejection]
    assert rejection.by_provider == (CODES[rejection][1] in (2, 3))
    assert isinstance(rejection.explanation, str)


def test_the_first_rule_that_speaks_against_a_request_is_the_answer() -> None:
    """One fault after the other is removed; what is left is still the worst of all."""
    rules = AssociationPolicy("COREWATCH", [Peer(ae_title="PACS", host="10.0.0.7")], 4, 2)
    steps: list[tuple[AssociateRequest, str, int, int]] = [
        (ask("", "OTHER", "1.2.3", version_supported=False), "10.0.0.8", 4, 2),
        (ask("", "OTHER", "1.2.3"), "10.0.0.8", 4, 2),
        (ask("", "OTHER"), "10.0.0.8", 4, 2),
        (ask(""), "10.0.0.8", 4, 2),
        (ask("CT"), "10.0.0.8", 4, 2),
        (ask("PACS"), "10.0.0.8", 4, 2),
        (ask("PACS"), "10.0.0.7", 4, 2),
        (ask("PACS"), "10.0.0.7", 3, 2),
        (ask("PACS"), "10.0.0.7", 3, 1),
    ]
    assert [decide(rules, *step) for step in steps] == [
        Rejection.PROTOCOL_VERSION,
        Rejection.APPLICATION_CONTEXT,
        Rejection.CALLED_AE_TITLE,
        Rejection.NO_CALLING_AE_TITLE,
        Rejection.CALLING_AE_TITLE,
        Rejection.HOST,
        Rejection.TOO_MANY,
        Rejection.TOO_MANY_OF_PEER,
        None,
    ]


@pytest.mark.parametrize("calling", ["", "   "])
def test_an_empty_title_is_rejected_on_this_machine_too(calling: str) -> None:
    assert decide(policy(), ask(calling), "127.0.0.1") is Rejection.NO_CALLING_AE_TITLE


def test_a_listed_title_may_have_several_hosts() -> None:
    rules = policy(("PACS", "10.0.0.6"), ("CT", "10.0.0.8"), ("PACS", "10.0.0.7"))
    assert [decide(rules, address=f"10.0.0.{n}") for n in (6, 7, 8)] == [None, None, Rejection.HOST]


def test_without_a_limit_one_peer_may_have_all() -> None:
    assert decide(policy(limit=100), address="127.0.0.1", count=99, of_peer=99) is None


@pytest.mark.parametrize(("most", "rejection"), [(0, Rejection.TOO_MANY_OF_PEER), (1, None)])
def test_a_peer_has_no_association_unless_said_otherwise(most: int, rejection: Rejection | None) -> None:
    assert AssociationPolicy("COREWATCH", (), 4, most).decide(ask(), "127.0.0.1", 0, resolve) is rejection
