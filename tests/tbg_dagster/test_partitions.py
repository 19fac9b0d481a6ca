"""Partitions, as arithmetic gives them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg_dagster.partitions import DAILY, FIRST_MOMENT, HOURLY, WEEKLY, Partitions, closed, end_of

MOMENTS = st.integers(-3 * 7 * 86_400, 6 * 7 * 86_400).map(
    lambda seconds: FIRST_MOMENT + timedelta(seconds=seconds)
)


@pytest.mark.parametrize("partitions", [HOURLY, DAILY, WEEKLY], ids=["hours", "days", "weeks"])
@given(since=MOMENTS, until=MOMENTS)
def test_closed_partitions_are_those_that_dagster_lists(
    partitions: Partitions, since: datetime, until: datetime
) -> None:
    """Each edge too: a partition is closed at its end, and one that ends then is not after it."""
    listed = partitions.get_partition_keys(current_time=until)
    wanted = [key for key in listed if end_of(partitions, key) > since]
    assert closed(partitions, since, until) == wanted


def test_a_first_moment_long_ago_costs_nothing() -> None:
    until = datetime(2126, 1, 1, tzinfo=UTC)
    assert len(closed(HOURLY, until - timedelta(hours=5), until)) == 5
