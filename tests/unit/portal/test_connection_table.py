"""Which connection makes room: never a reader's, never one that is being answered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portal.serving.connection_table import ConnectionTable, Phase

PROXY = "10.0.0.1"


def table(most: int = 100, most_per_address: int = 4) -> ConnectionTable:
    return ConnectionTable(most, most_per_address, lambda address: address == PROXY)


def test_the_oldest_idle_connection_of_an_address_makes_room() -> None:
    held = table()
    assert [held.opened(number, "a") for number in range(4)] == [None] * 4
    held.set_phase(0, Phase.ANSWERING)
    assert held.opened(4, "a") == 1
    assert held.opened("other", "b") is None


def test_a_connection_in_excess_is_closed_itself_when_all_others_are_answered() -> None:
    held = table()
    for number in range(4):
        held.opened(number, "a")
        held.set_phase(number, Phase.ANSWERING)
    held.set_phase(0, Phase.RECEIVING)
    assert held.opened(4, "a") == 0, "one that sends its body slowly goes first"
    held.closed(0)
    assert held.opened(5, "a") == 4


def test_connections_that_come_together_each_close_another_one() -> None:
    held = table()
    for number in range(4):
        held.opened(number, "a")
    assert [held.opened(number, "a") for number in range(4, 8)] == [0, 1, 2, 3]


def test_readers_behind_one_address_do_not_count() -> None:
    held = table()
    for number in range(50):
        assert held.opened(number, "hospital") is None
        held.mark_valid(number)


def test_a_proxy_may_hold_as_many_as_there_are() -> None:
    held = table(most=100)
    assert not any(held.opened(number, PROXY) is not None for number in range(100))
    assert held.opened(100, PROXY) == 0


ACTS = st.tuples(
    st.sampled_from(["open", "valid", "answer", "wait", "close"]), st.integers(0, 30), st.sampled_from(["a", "b", PROXY])
)


@given(st.lists(ACTS, max_size=120))
def test_no_address_and_nobody_together_holds_more_than_the_bounds(acts: list[tuple[str, int, str]]) -> None:
    held, alive, valid, answering = table(most=12, most_per_address=3), dict[int, str](), set[int](), set[int]()
    for act, number, address in acts:
        if act == "open" and number not in alive:
            alive[number] = address
            surplus = held.opened(number, address)
            if surplus is not None:
                assert isinstance(surplus, int)
                assert surplus == number or surplus not in answering
                held.closed(surplus)
                alive.pop(surplus)
                valid.discard(surplus)
                answering.discard(surplus)
        elif number not in alive:
            continue
        elif act == "valid":
            held.mark_valid(number)
            valid.add(number)
        elif act in ("answer", "wait"):
            held.set_phase(number, Phase.ANSWERING if act == "answer" else Phase.WAITING)
            (answering.add if act == "answer" else answering.discard)(number)
        elif act == "close":
            held.closed(number)
            alive.pop(number)
            valid.discard(number)
            answering.discard(number)
        assert len(held) == len(alive) <= 12
        for one in ("a", "b"):
            assert sum(at == one and number not in valid for number, at in alive.items()) <= 3
