"""Sequence numbers: new, late and resent ones are told apart."""

from hypothesis import given
from hypothesis import strategies as st

from ingest import sequence
from ingest.sequence import Arrival, Seen


def test_events_in_order_leave_no_hole() -> None:
    seen = Seen()
    assert [seen.add(seq) for seq in (1, 2, 3)] == [Arrival.NEW] * 3
    assert (seen.highest, seen.missing, seen.gap_events) == (3, [], 0)


def test_a_hole_is_known_until_it_is_filled() -> None:
    seen = Seen()
    seen.add(1)
    seen.add(5)
    assert seen.missing == [(2, 5)]
    assert seen.add(3) is Arrival.LATE
    assert seen.missing == [(2, 3), (4, 5)]
    assert seen.add(3) is Arrival.DUPLICATE
    seen.add(2)
    seen.add(4)
    assert seen.missing == []


def test_what_came_before_the_first_event_is_missing() -> None:
    seen = Seen()
    seen.add(4)
    assert seen.missing == [(1, 4)]


def test_before_the_holes_that_are_remembered_it_does_not_know() -> None:
    seen = Seen()
    for seq in range(2, 2 * sequence.MAX_HOLES + 4, 2):
        seen.add(seq)
    seen.forget()
    assert len(seen.missing) == sequence.MAX_HOLES
    # The hole at 1 is forgotten: neither 1 nor what was stored next to it is guessed at.
    assert seen.floor == 2
    assert seen.add(1) is Arrival.UNKNOWN
    assert seen.add(2) is Arrival.DUPLICATE
    assert seen.add(3) is Arrival.LATE


def test_late_events_that_split_one_hole_are_forgotten_alike() -> None:
    seen = Seen()
    seen.add(10**9)
    for seq in range(2, 4 * sequence.MAX_HOLES, 2):
        seen.add(seq)
    seen.forget()
    assert len(seen.missing) == sequence.MAX_HOLES


@given(st.lists(st.integers(min_value=1, max_value=60), max_size=120), st.integers(0, 40))
def test_any_order_gives_what_a_set_gives(numbers: list[int], restart_at: int) -> None:
    seen, model = Seen(), set[int]()
    for index, seq in enumerate(numbers):
        if index == restart_at:  # stored and loaded again
            seen = Seen(seen.highest, seen.missing)
        expected = (
            Arrival.DUPLICATE
            if seq in model
            else Arrival.NEW
            if not model or seq > max(model)
            else Arrival.LATE
        )
        assert seen.add(seq) is expected
        model.add(seq)
        holes = {n for start, end in seen.missing for n in range(start, end)}
        assert holes == set(range(1, max(model) + 1)) - model
