"""The ledger's hours are closed, and a loss that nobody counted is found."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from tbg_dagster.ledger import assets
from tbg_dagster.partitions import hour_key
from tbg_dagster.resources import Database, Thresholds
from tests.tbg_dagster.conftest import Connection, Run, metadata_of

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
KEY = hour_key(HOUR)


def booked(
    connection: Connection, instance: str, missing: str, dropped: int, committed: int
) -> None:
    """An engine that sent 100 events in the hour that closed last."""
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) "
        "values (%s, 100, %s::int8multirange)",
        [instance, missing],
    )
    connection.execute(
        "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
        "select id, %s, %s, 1, 100, %s from engine_instances where instance = %s",
        [HOUR, committed + dropped, committed, instance],
    )
    if dropped:
        connection.execute(
            "insert into ledger_drops select id, 'spool/full', seq_missing "
            "from engine_instances where instance = %s",
            [instance],
        )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "SETTLE_SECONDS", 0.0)


def judged(check: dg.AssetChecksDefinition, *resources: object) -> dg.AssetCheckResult:
    result = check(*resources)
    assert isinstance(result, dg.AssetCheckResult)
    return result


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(url=database_url)


def test_an_hour_is_closed_and_closing_it_again_brings_what_came_late(
    connection: Connection, run: Run
) -> None:
    booked(connection, "pool/1", "{[4,6)}", 0, 98)
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["dagster/partition_row_count"] == 1
    closed = "select emitted, received, committed, missing, unexplained from share_ledger"
    assert tuple(connection.execute(closed).fetchone().values()) == (100, 98, 98, 2, 2)  # type: ignore[union-attr]  # there is a row
    connection.execute("update engine_instances set seq_missing = '{}'")
    connection.execute("update ledger set committed = 100, received = 100")
    run("close_ledger", KEY)
    run("close_ledger", KEY)
    assert tuple(connection.execute(closed).fetchone().values()) == (100, 100, 100, 0, 0)  # type: ignore[union-attr]  # as above
    assert connection.execute("select count(*) as n from share_ledger").fetchone() == {"n": 1}


def test_an_hour_without_events_is_closed_as_empty(run: Run) -> None:
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["dagster/partition_row_count"] == 0


def test_a_loss_that_nobody_counted_fails_the_check(
    connection: Connection, database: Database
) -> None:
    check = assets.no_unexplained_loss
    booked(connection, "explained/1", "{[4,6)}", 2, 98)
    assert judged(check, database, Thresholds()).passed
    booked(connection, "lost/1", "{[4,7)}", 0, 97)
    result = judged(check, database, Thresholds())
    assert not result.passed
    assert "3 events lost without explanation; lost/1 at" in str(result.description)


def test_books_that_do_not_balance_fail_the_check(
    connection: Connection, database: Database
) -> None:
    booked(connection, "good/1", "{[4,6)}", 0, 98)
    assert judged(assets.books_balance, database).passed
    booked(connection, "bad/1", "{}", 0, 98)  # two events that nobody misses
    result = judged(assets.books_balance, database)
    assert not result.passed
    assert "bad/1: emitted 100, accounted for 98" in str(result.description)
