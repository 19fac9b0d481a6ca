"""Weeks of times in microseconds are the ISO weeks, in UTC."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tbg_core.names import week_start
from tbg_core.periods import SECOND, from_micros, iso_week, week_begins

LATEST = 253_402_300_799_999_999  # the last microsecond that a datetime can hold


@given(st.integers(0, LATEST))
def test_a_week_begins_on_the_monday_that_the_database_names(micros: int) -> None:
    moment = from_micros(micros)
    begins = from_micros(week_begins(micros))
    assert begins == datetime.combine(week_start(moment), datetime.min.time(), UTC)


@given(st.integers(0, LATEST))
def test_the_iso_week_is_the_one_of_the_standard_library(micros: int) -> None:
    moment = datetime.fromtimestamp(micros // SECOND, UTC)
    assert iso_week(micros) == moment.strftime("%G-W%V")
