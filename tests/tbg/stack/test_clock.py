"""A clock that cannot be right decides nothing."""

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from tbg.stack.clock import TOLERANCE, wait_for_clock, wrong_clock
from tbg_core.first_week import EARLIEST_WEEK

NOW = datetime.now(UTC)


@pytest.fixture
def database(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into stream_offsets (stream, consumer, last_id, updated_at) "
            "values ('mining:share_submitted', 'writer', '1-1', %s)",
            [NOW],
        )
    return database_url


def test_a_clock_before_this_software_was_made_is_wrong(database_url: str) -> None:
    why = wrong_clock(database_url, datetime(1970, 1, 1, 0, 3, tzinfo=UTC))
    assert why == "the clock says 1970-01-01 00:03 UTC, which is before this software was made"
    assert EARLIEST_WEEK.isoweekday() == 1
    assert wrong_clock(database_url, NOW) is None


def test_a_clock_before_what_the_database_knows_is_wrong(database: str) -> None:
    assert wrong_clock(database, NOW) is None
    assert wrong_clock(database, NOW - TOLERANCE / 2) is None
    why = wrong_clock(database, NOW - timedelta(days=1))
    assert why is not None
    assert f"the database was written to at {NOW:%F %H:%M} UTC" in why


def test_it_waits_until_the_clock_is_set(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["it is 1970", "it is 1970", None]
    monkeypatch.setattr("tbg.stack.clock.wrong_clock", lambda *_: found.pop(0))
    monkeypatch.setattr("tbg.stack.clock.LOOK_SECONDS", 0.0)
    said: list[str] = []
    wait_for_clock(database, said.append, lambda: False)
    assert found == []
    assert len(said) == 1
    assert "waiting for the clock: it is 1970" in said[0]
    assert "--trust-clock" in said[0]


def test_the_wait_can_be_ended(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbg.stack.clock.wrong_clock", lambda *_: "it is 1970")
    wait_for_clock(database, lambda _: None, lambda: True)


def test_partitions_can_begin_on_the_earliest_week() -> None:
    assert date(2024, 1, 1) < EARLIEST_WEEK <= NOW.date()
