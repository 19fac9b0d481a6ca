"""A miner is held to the lowest difficulty that it may know of for a job."""

from devnet.pool.assigned import CHANGES_KEPT, AssignedDifficulty
from devnet.pool.vardiff import Bounds, Vardiff

FREE = Bounds(1e-9)


def assigned(difficulty: float) -> AssignedDifficulty:
    return AssignedDifficulty(Vardiff(difficulty, started=0.0))


def test_work_from_before_a_change_may_meet_either_difficulty() -> None:
    held = assigned(8.0)
    held.change(1.0, 32.0, serial=3)
    held.change(2.0, 16.0, serial=5)
    assert [held.required(serial) for serial in (1, 3, 4, 5, 6)] == [8.0, 8.0, 16.0, 16.0, 16.0]
    assert held.now == 16.0


def test_a_lower_difficulty_counts_for_work_from_before_it_too() -> None:
    held = assigned(32.0)
    held.change(1.0, 8.0, serial=3)
    assert [held.required(serial) for serial in (3, 4)] == [8.0, 8.0]


def test_only_the_latest_changes_are_kept() -> None:
    held = assigned(1.0)
    for number in range(CHANGES_KEPT):
        held.change(1.0, 2.0 + number, serial=1)
    assert held.required(1) == 1.0
    held.change(1.0, 100.0, serial=1)
    assert held.required(1) == 2.0


def test_a_repeated_wish_is_no_news_whichever_method_repeats_it() -> None:
    held = assigned(8.0)
    assert held.wish("suggest", 512.7, FREE) == 512.0
    held.change(1.0, 512.0, serial=1)
    held.change(2.0, 900.0, serial=1)  # vardiff's
    assert held.wish("suggest", 512.7, FREE) is None
    assert held.wish("minimum", 512.7, FREE) is None
    assert held.wish("minimum", 64.0, FREE) == 64.0
    # Two wishes that take turns are repetitions, too.
    assert held.wish("suggest", 512.7, FREE) is None
    assert held.wish("minimum", 64.0, FREE) is None
    assert held.vardiff.floor == 64.0


def test_a_wish_for_the_present_difficulty_is_a_minimum_from_then_on() -> None:
    held = assigned(8.0)
    assert held.wish("suggest", 8.4, FREE) is None
    assert held.vardiff.floor == 8.0
