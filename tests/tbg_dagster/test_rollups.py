"""Hours and days."""

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tbg_dagster import clock
from tbg_dagster.partitions import FIRST_MOMENT, FIRST_WEEK
from tbg_dagster.resources import Thresholds
from tbg_dagster.rollup import rollup_of
from tbg_dagster.timetable import JOBS
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of


def hours(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute(
        "select * from shares_hourly order by bucket, user_id, worker_id"
    ).fetchall()


def days(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute(
        "select * from shares_daily order by bucket, user_id, worker_id"
    ).fetchall()


def test_an_hour_adds_up_what_each_worker_did(
    connection: Connection, history: History, run: Run
) -> None:
    hour = last_monday()
    history.share("alice.rig", hour, share_diff=1500.0)
    history.share("alice.rig", hour + timedelta(minutes=59, seconds=59.999999), 9000.0)
    history.share("alice.rig", hour + timedelta(minutes=5), None, reject="stale")
    history.share("alice.other", hour, 1100.0, difficulty=512.0)
    history.share("bob.", hour + timedelta(hours=1), 1100.0)  # the next hour

    result = run("hourly_rollup", f"{hour:%Y-%m-%d-%H:%M}")

    in_hour = [row for row in hours(connection) if row["bucket"] == hour]
    assert [(row["shares"], row["accepted"], row["rejected"]) for row in in_hour] == [
        (3, 2, 1),
        (1, 1, 0),
    ]
    assert [(row["work"], row["best_share_diff"]) for row in in_hour] == [
        (2000.0, 9000.0),
        (512.0, 1100.0),
    ]
    metadata = metadata_of(result, "shares_hourly")
    assert metadata["dagster/partition_row_count"] == 2
    assert {name: metadata[name] for name in ("shares", "accepted", "rejected", "workers")} == {
        "shares": 4,
        "accepted": 3,
        "rejected": 1,
        "workers": 2,
    }
    assert metadata["hashrate"] == pytest.approx(2512 * 2**32 / 3600)


def test_a_range_in_one_run_gives_what_single_runs_give_and_repeating_changes_nothing(
    connection: Connection, history: History, run: Run
) -> None:
    start = last_monday()
    history.shares(["a.1", "a.2", "b.1"], start, start + timedelta(hours=6), 3000)
    run("hourly_rollup", f"{start:%Y-%m-%d-%H:%M}", f"{start:%Y-%m-%d}-05:00")
    in_one = hours(connection)
    assert sum(row["shares"] for row in in_one) == 3000

    for number in (3, 0, 5):
        run("hourly_rollup", f"{start:%Y-%m-%d}-{number:02d}:00")
    assert hours(connection) == in_one


def test_an_hour_without_shares_is_a_zero_result(connection: Connection, run: Run) -> None:
    result = run("hourly_rollup", f"{last_monday(3):%Y-%m-%d}-04:00")
    assert result.success
    assert metadata_of(result, "shares_hourly")["shares"] == 0
    assert hours(connection) == []


@pytest.mark.plain_postgresql
def test_hours_whose_raw_shares_were_dropped_keep_their_rollup(
    connection: Connection, history: History, run: Run
) -> None:
    start = last_monday(2)
    history.shares(["a.1"], start, start + timedelta(days=2), 200)
    span = f"{start:%Y-%m-%d-%H:%M}", f"{start + timedelta(days=1):%Y-%m-%d}-23:00"
    run("hourly_rollup", *span)
    before = hours(connection)
    connection.execute("select drop_partitions(%s)", [(start + timedelta(days=1)).date()])
    run("hourly_rollup", *span)
    assert hours(connection) == before


@pytest.mark.timescaledb
def test_refreshing_a_later_hour_alone_hides_no_earlier_one(
    connection: Connection, history: History, run: Run
) -> None:
    start = last_monday()
    history.shares(["a.1", "b.1"], start, start + timedelta(hours=56), 5000)
    run("hourly_rollup", f"{start + timedelta(hours=54):%Y-%m-%d-%H:%M}")
    assert sum(row["shares"] for row in hours(connection)) == 5000
    run("daily_rollup", f"{start + timedelta(days=1):%Y-%m-%d}")
    assert sum(row["shares"] for row in days(connection)) == 5000


@pytest.mark.timescaledb
def test_a_refresh_never_reaches_back_over_dropped_chunks(
    connection: Connection, history: History, run: Run
) -> None:
    start = last_monday(2)
    history.shares(["a.1"], start, start + timedelta(days=2), 200)
    span = f"{start:%Y-%m-%d-%H:%M}", f"{start + timedelta(days=1):%Y-%m-%d}-23:00"
    run("hourly_rollup", *span)
    before = hours(connection)
    connection.execute("select drop_chunks('shares', %s::timestamptz)", [start + timedelta(days=1)])
    run("hourly_rollup", *span)
    assert hours(connection) == before


def test_a_day_adds_up_its_hours(connection: Connection, history: History, run: Run) -> None:
    day = last_monday()
    history.shares(["a.1", "b.1"], day, day + timedelta(days=1), 2400)
    run("hourly_rollup", f"{day:%Y-%m-%d}-00:00", f"{day:%Y-%m-%d}-23:00")
    result = run("daily_rollup", f"{day:%Y-%m-%d}")
    found = days(connection)
    assert [(row["shares"], row["accepted"], row["work"]) for row in found] == [
        (1200, 1080, 1080_000.0),
        (1200, 1200, 1200_000.0),
    ]
    metadata = metadata_of(result, "shares_daily")
    assert "data:image/png;base64," in metadata["difficulties"]


def test_late_shares_of_an_hour_are_taken_in_and_noted(
    connection: Connection, history: History, run: Run
) -> None:
    hour = last_monday()
    key = f"{hour:%Y-%m-%d-%H:%M}"
    history.share("a.1", hour)
    run("hourly_rollup", key)
    history.share("a.1", hour + timedelta(minutes=1))
    history.late(hour, 1)
    run("hourly_rollup", key)
    assert [row["shares"] for row in hours(connection)] == [2]
    row = connection.execute("select * from late_share_hours").fetchone()
    assert row is not None
    assert (row["settled_hourly"], row["settled_daily"]) == (1, 0)
    run("daily_rollup", f"{hour:%Y-%m-%d}")
    row = connection.execute("select * from late_share_hours").fetchone()
    assert row is not None
    assert (row["settled_hourly"], row["settled_daily"], row["settled_weekly"]) == (1, 1, 0)


def spoil(connection: Connection, what: str) -> None:
    """Lets a trigger change or refuse the rows of shares_hourly."""
    connection.execute(
        psycopg.sql.SQL(
            "create function spoil() returns trigger language plpgsql as "
            "$$ begin {} return new; end $$"
        ).format(psycopg.sql.SQL(what))
    )
    connection.execute(
        "create trigger spoil before insert on shares_hourly for each row execute function spoil()"
    )


@pytest.mark.plain_postgresql
def test_a_run_compares_the_hours_that_it_has_computed_however_old_they_are(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    hour = last_monday(3)
    history.shares(["a.1"], hour, hour + timedelta(days=2), 480)
    resources["thresholds"] = Thresholds(sampled_hours=0)
    key = f"{hour:%Y-%m-%d-%H:%M}"
    assert run("hourly_rollup", key).success
    spoil(connection, "new.rejected := new.rejected + 1;")
    assert not run("hourly_rollup", key, raise_on_error=False).success


@pytest.mark.plain_postgresql
def test_a_partition_that_cannot_be_computed_is_named_and_those_before_it_are_kept(
    connection: Connection, history: History, run: Run
) -> None:
    start = last_monday()
    second = start + timedelta(days=1)
    history.shares(["a.1"], start, start + timedelta(days=3), 720)
    spoil(connection, f"if new.bucket >= '{second}' then raise 'disk full'; end if;")
    result = run(
        "hourly_rollup",
        f"{start:%Y-%m-%d}-00:00",
        f"{start + timedelta(days=2):%Y-%m-%d}-23:00",
        raise_on_error=False,
    )
    text = str([event.step_failure_data.error for event in result.get_step_failure_events()])
    assert f"shares_hourly: {second:%F} 00:00 to {start + timedelta(days=2):%F} 00:00 UTC" in text
    assert "disk full" in text
    assert sum(row["shares"] for row in hours(connection)) == 240


@pytest.mark.parametrize("job", ["hourly_rollup", "daily_rollup", "weekly_reset", "close_ledger"])
def test_a_run_that_begins_before_the_first_partition_is_refused_before_it_writes(
    connection: Connection, history: History, run: Run, job: str
) -> None:
    partitions = {item.name: item.partitions for item in JOBS}[job]
    assert partitions is not None
    before = FIRST_MOMENT - timedelta(days=14)
    history.share("a.1", before)
    span = before.strftime(partitions.fmt), FIRST_MOMENT.strftime(partitions.fmt)
    result = run(job, *span, raise_on_error=False)
    assert not result.success
    failures = [event for event in result.all_node_events if event.is_step_failure]
    text = str(failures[0].step_failure_data.error)
    assert f"they begin on {FIRST_WEEK} (TBG_FIRST_WEEK). Nothing was changed" in text
    assert connection.execute("select * from weekly_best_diff").fetchall() == []
    assert connection.execute("select * from share_ledger").fetchall() == []


def totals(connection: Connection, rollup: str) -> list[Any]:
    return connection.execute(
        "select bucket, worker_id, shares, accepted, work, best_share_diff, first_share, "  # noqa: S608  # our own names
        f"last_share from {rollup} order by bucket, worker_id"
    ).fetchall()


# Of the seven days of a week, those whose raw shares are there; a day in brackets has got one
# late share since it was dropped.
@pytest.mark.parametrize(
    ("there", "late"),
    [
        ([1], []),  # one that came back from the archive
        ([0], []),  # one that was held back
        ([6], []),
        ([0, 3], []),  # two gaps
        ([1, 2, 5], []),
        ([], []),
        ([0, 6], [2]),  # a place for a day that holds a part of it
        ([3], [0, 6]),
        ([], [1]),
    ],
)
@pytest.mark.parametrize("asked", [(0, 168), (48, 49), (24, 144), (0, 336)])
def test_hours_whose_raw_shares_are_gone_stay_whichever_days_are_there(
    connection: Connection,
    history: History,
    there: list[int],
    late: list[int],
    asked: tuple[int, int],
) -> None:
    start = last_monday(3)
    day, hour = timedelta(days=1), timedelta(hours=1)
    history.shares(["a.1", "b.1"], start, start + 14 * day, 14 * 48)
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, start, start + 14 * day)
    rollup.refresh_days(connection, start, start + 14 * day)
    before = totals(connection, "shares_hourly"), totals(connection, "shares_daily")
    history.drop(*(start + number * day for number in range(7) if number not in there))
    for number in late:
        history.share("c.1", start + number * day + 2.5 * hour, 9e9)
    span = start + asked[0] * hour, start + asked[1] * hour
    for _ in range(2):
        rollup.refresh_hours(connection, *span)
        rollup.refresh_days(connection, start, start + 14 * day)
        assert (totals(connection, "shares_hourly"), totals(connection, "shares_daily")) == before


def test_a_late_share_of_a_dropped_day_counts_in_an_hour_that_had_none(
    connection: Connection, history: History
) -> None:
    start = last_monday(3)
    day = timedelta(days=1)
    # At 01:00, 03:00 and so on: every second hour is empty.
    history.shares(["a.1"], start, start + 7 * day, 7 * 12)
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, start, start + 7 * day)
    rollup.refresh_days(connection, start, start + 7 * day)
    history.drop(start + day, start + 2 * day, start + 3 * day)
    history.share("b.1", start + 2 * day, 9e9)
    rollup.refresh_hours(connection, start, start + 7 * day)
    rollup.refresh_days(connection, start, start + 7 * day)
    for name in ("shares_hourly", "shares_daily"):
        rows = totals(connection, name)
        assert sum(row["shares"] for row in rows) == 7 * 12 + 1
        assert [row["bucket"] for row in rows if row["best_share_diff"] == 9e9] == [start + 2 * day]


def test_a_day_that_was_computed_follows_when_its_hours_are_computed_again(
    connection: Connection, history: History, run: Run
) -> None:
    day = last_monday(7)
    history.shares(["a.1"], day, day + timedelta(days=1), 24)
    run("hourly_rollup", f"{day:%Y-%m-%d}-00:00", f"{day:%Y-%m-%d}-23:00")
    run("daily_rollup", f"{day:%Y-%m-%d}")
    history.share("b.1", day + timedelta(hours=5), 9e9)
    run("hourly_rollup", f"{day:%Y-%m-%d}-05:00")
    assert sum(row["shares"] for row in days(connection)) == 25


# --- Shares that are not committed yet -------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbg_dagster.rollup.raw.PATIENCE", 0.3)


@pytest.mark.plain_postgresql
def test_a_share_that_commits_after_the_hour_was_read_is_asked_for(
    connection: Connection, history: History, run: Run, database_url: str, impatient: None
) -> None:
    hour = clock.this_hour() - timedelta(hours=1)
    history.shares(["a.1"], hour, hour + timedelta(hours=1), 60)
    user, worker = history.worker("a.1")
    with psycopg.connect(database_url) as writer:
        writer.execute(
            "insert into shares (time, difficulty, share_diff, user_id, worker_id, is_valid) "
            "values (%s, 1000, 1e12, %s, %s, true)",
            [hour + timedelta(minutes=59, seconds=59), user, worker],
        )
        run("hourly_rollup", f"{hour:%Y-%m-%d-%H:00}")
        writer.commit()
    owed = connection.execute(
        "select hour from late_share_hours where shares > settled_hourly"
    ).fetchall()
    assert owed == [{"hour": hour}]
    run("hourly_rollup", f"{hour:%Y-%m-%d-%H:00}")
    assert sum(row["shares"] for row in hours(connection)) == 61
    assert (
        connection.execute(
            "select hour from late_share_hours where shares > settled_hourly"
        ).fetchall()
        == []
    )


@pytest.mark.plain_postgresql
def test_a_rollup_waits_for_a_transaction_that_is_about_to_commit(
    connection: Connection, history: History, run: Run, database_url: str
) -> None:
    hour = clock.this_hour() - timedelta(hours=1)
    user, worker = history.worker("a.1")
    history.days(hour, hour)
    with psycopg.connect(database_url) as writer:
        writer.execute(
            "insert into shares (time, difficulty, share_diff, user_id, worker_id, is_valid) "
            "values (%s, 1000, 1e12, %s, %s, true)",
            [hour, user, worker],
        )
        timer = threading.Timer(0.5, writer.commit)
        timer.start()
        run("hourly_rollup", f"{hour:%Y-%m-%d-%H:00}")
        timer.join()
    assert sum(row["shares"] for row in hours(connection)) == 1
    assert connection.execute("select * from late_share_hours").fetchall() == []


def test_readers_of_shares_are_not_waited_for(
    connection: Connection, history: History, run: Run, impatient: None
) -> None:
    hour = clock.this_hour() - timedelta(hours=1)
    history.share("a.1", hour)
    run("hourly_rollup", f"{hour:%Y-%m-%d-%H:00}")
    row = connection.execute("select read_until from rollup_progress").fetchone()
    assert row == {"read_until": clock.this_hour()}
    assert connection.execute("select * from late_share_hours").fetchall() == []
    # An older hour moves nothing back.
    run("hourly_rollup", f"{hour - timedelta(hours=5):%Y-%m-%d-%H:00}")
    assert row == connection.execute("select read_until from rollup_progress").fetchone()
