"""Bests follow from accepted shares in the order of their times."""

from hypothesis import given
from hypothesis import strategies as st

from tbg.sharelog.bests import Broken, LogBests

MONDAY = 1_764_547_200_000_000  # 2025-12-01, week 49
SECOND = 1_000_000


def test_a_new_week_begins_on_monday_at_midnight_utc() -> None:
    bests = LogBests()
    assert bests.accept(MONDAY - 1, "a", 10.0) == [
        Broken("week", 0.0, "2025-W48"),
        Broken("alltime", 0.0, "2025-W48"),
    ]
    assert bests.accept(MONDAY, "a", 5.0) == [Broken("week", 0.0, "2025-W49")]
    assert bests.accept(MONDAY, "b", 5.0)[1] == Broken("alltime", 0.0, "2025-W49")


def test_an_equal_share_breaks_nothing_and_a_late_one_only_its_own_week() -> None:
    bests = LogBests()
    bests.accept(MONDAY, "a", 10.0)
    assert bests.accept(MONDAY + SECOND, "a", 10.0) == []
    assert bests.accept(MONDAY - SECOND, "a", 7.0) == [Broken("week", 0.0, "2025-W48")]
    assert bests.accept(MONDAY + SECOND, "a", 9.0) == []


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4 * 7 * 86_400),
            st.sampled_from("ab"),
            st.integers(1, 50).map(float),
        )
    )
)
def test_nothing_is_a_best_of_all_time_that_is_not_one_of_its_week(
    shares: list[tuple[int, str, float]],
) -> None:
    """In any order: the numbers of best events rest on it."""
    bests = LogBests()
    for seconds, user, achieved in shares:
        broken = [one.period for one in bests.accept(MONDAY + seconds * SECOND, user, achieved)]
        assert broken in ([], ["week"], ["week", "alltime"])
