"""What was missed is made up, and late shares are taken in where they belong."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from tbg_dagster import clock
from tbg_dagster.catch_up.sensors import (
    Memory,
    late_shares_sensor,
    missing_partitions_sensor,
    requests,
)
from tbg_dagster.definitions import defs
from tbg_dagster.partitions import HOUR, HOURLY, ranges
from tbg_dagster.timetable import HOURLY_ROLLUP
from tests.clock import Clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

Evaluate = Callable[..., list[dg.RunRequest]]


@pytest.fixture
def evaluate(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Evaluate:
    """``evaluate(sensor)`` is one tick; returns the runs that it asks for.

    The daemon has been up for a while, unless ``last`` says when the last tick was.
    """
    cursors: dict[str, str | None] = {}

    def tick(
        sensor: dg.SensorDefinition, last: str | None = clock.now().isoformat()
    ) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursors.get(sensor.name, last),
            resources={name: resources[name] for name in ("database", "thresholds")},
        )
        result = sensor(context)
        cursors[sensor.name] = context.cursor
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        return list(result.run_requests or [])

    return tick


def asked(request: dg.RunRequest) -> tuple[str, str, str | None]:
    """Job, first and last partition of a request."""
    if request.partition_key:
        return str(request.job_name), request.partition_key, None
    return (
        str(request.job_name),
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def test_neighbouring_partitions_share_a_run_and_gaps_part_them() -> None:
    monday = last_monday()
    day = f"{monday:%Y-%m-%d}"
    keys = [f"{day}-{hour:02d}:00" for hour in (0, 1, 2, 5, 6, 9)]
    found = [(first[-5:-3], last[-5:-3]) for first, last in ranges(HOURLY, keys, 2)]
    assert found == [("00", "01"), ("02", "02"), ("05", "06"), ("09", "09")]


def test_what_fails_for_good_stands_in_nobodys_way() -> None:
    monday, memory = last_monday(), Memory()
    hours = [f"{monday + 2 * hour * HOUR:%Y-%m-%d-%H:00}" for hour in range(12)]  # each alone
    ticks = [
        [
            asked(one)[1]
            for one in requests(
                HOURLY_ROLLUP, hours, "missing", monday + tick * timedelta(minutes=16), memory
            )
        ]
        for tick in range(4)
    ]
    assert max(map(len, ticks)) == 8
    assert {key for keys in ticks for key in keys} == set(hours)


def test_a_daemon_that_was_down_over_midnight_makes_up_hours_then_days_then_the_week(
    connection: Connection,
    history: History,
    run: Run,
    evaluate: Evaluate,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that it also holds in the first minutes of a Monday.
    monkeypatch.setattr("tbg_dagster.catch_up.missing.GRACE", timedelta(0))
    monday = last_monday(0)  # the one that began the running week
    history.worker("a.1")
    connection.execute("update workers set first_seen = %s", [monday - timedelta(hours=5)])
    history.shares(["a.1"], monday - timedelta(hours=5), monday, 500)

    order = []
    for _ in range(6):
        requests = evaluate(missing_partitions_sensor)
        if not requests:
            break
        for request in requests:
            order.append(asked(request))
            run(*asked(request))
    rollups = [step for step in order if step[0] not in ("close_ledger", "publish_roots")]
    jobs = [job for job, _, _ in rollups]
    expected = ["hourly_rollup", "daily_rollup", "weekly_reset"]
    assert list(dict.fromkeys(jobs)) == expected
    # From the Monday of the first miner's week, where Dagster's partitions begin.
    assert rollups[0][1] == f"{monday - timedelta(days=7):%Y-%m-%d}-00:00"
    assert rollups[-1][1] == f"{monday - timedelta(days=7):%Y-%m-%d}"
    assert client.xlen("mining:weekly_reset") == 1
    assert evaluate(missing_partitions_sensor) == []


def test_an_hour_that_closed_before_the_first_start_waits_for_no_schedule(
    connection: Connection, history: History, evaluate: Evaluate, clock: Clock
) -> None:
    closed = last_monday(1) + timedelta(hours=10)
    clock.moment = closed + timedelta(minutes=13)
    history.share("a.1", closed - timedelta(minutes=30))
    connection.execute("update workers set first_seen = %s", [closed - timedelta(minutes=30)])

    def hours() -> list[str | None]:
        found = [asked(one) for one in evaluate(missing_partitions_sensor)]
        return [last for job, _, last in found if job == "hourly_rollup"]

    hour = f"{closed - timedelta(hours=1):%Y-%m-%d-%H:%M}"
    connection.execute("update database_identity set made_at = %s", [clock.moment])
    assert hours() == [hour]
    # The schedule of a database that was there had its turn at two minutes past.
    connection.execute("update database_identity set made_at = made_at - interval '1 day'")
    assert hour not in hours()


def test_nothing_is_made_up_before_a_miner_was_seen(evaluate: Evaluate) -> None:
    assert evaluate(missing_partitions_sensor) == []


def test_missed_hours_of_the_ledger_are_closed_once_and_only_they(
    connection: Connection,
    history: History,
    run: Run,
    evaluate: Evaluate,
    instance: dg.DagsterInstance,
) -> None:
    hour = clock.this_hour()
    hours = [hour - timedelta(hours=age) for age in range(7, 1, -1)]
    keys = [f"{hour:%Y-%m-%d-%H:%M}" for hour in hours]
    history.share("a.1", hours[0])
    connection.execute("update workers set first_seen = %s", [hours[0]])
    connection.execute("insert into engine_instances (instance, seq_max) values ('pool/1', 60)")
    for number, hour in enumerate(hours):
        connection.execute(
            "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
            "select id, %s, 10, %s, %s, 10 from engine_instances",
            [hour, number * 10 + 1, number * 10 + 10],
        )
    run("close_ledger", keys[2])  # by its schedule, before and after the daemon was down

    made: list[str] = []
    for _ in range(3):
        for request in evaluate(missing_partitions_sensor):
            if request.job_name == "close_ledger":
                _, first, last = asked(request)
                made += HOURLY.get_partition_keys_in_range(
                    dg.PartitionKeyRange(first, last or first)
                )
                run(*asked(request))
    monday = hours[0] - timedelta(days=hours[0].weekday(), hours=hours[0].hour)
    assert made[0] == f"{monday:%Y-%m-%d-%H:%M}"
    assert len(set(made)) == len(made)
    assert keys[2] not in made
    assert set(keys) <= instance.get_materialized_partitions(dg.AssetKey("share_ledger"))
    closed = connection.execute("select hour, emitted from share_ledger order by hour").fetchall()
    assert closed == [{"hour": hour, "emitted": 10} for hour in hours]


@pytest.mark.parametrize("away", [None, timedelta(hours=3)])
def test_a_daemon_that_comes_back_lets_its_schedules_go_first(
    history: History, evaluate: Evaluate, away: timedelta | None
) -> None:
    history.share("a.1", clock.now() - timedelta(hours=5))
    last = (clock.now() - away).isoformat() if away else None
    assert evaluate(missing_partitions_sensor, last) == []
    assert evaluate(missing_partitions_sensor) != []


@pytest.mark.parametrize(
    ("under_way", "asked_for"),
    [
        ("hourly_rollup", {"close_ledger"}),
        ("close_ledger", {"hourly_rollup"}),
        # Assets that were chosen by hand, or by a backfill of the asset page.
        (defs.resolve_implicit_global_asset_job_def().name, set()),
    ],
)
def test_what_is_under_way_is_not_asked_for_twice_and_holds_up_nothing_else(
    history: History,
    evaluate: Evaluate,
    instance: dg.DagsterInstance,
    under_way: str,
    asked_for: set[str],
) -> None:
    def jobs() -> set[str | None]:
        return {request.job_name for request in evaluate(missing_partitions_sensor)}

    history.share("a.1", clock.now() - timedelta(hours=5))
    assert jobs() == {"hourly_rollup", "close_ledger"}
    instance.create_run_for_job(
        dg.job(name=under_way)(lambda: None), status=dg.DagsterRunStatus.STARTED
    )
    assert jobs() == asked_for


def test_late_shares_touch_exactly_their_hours_days_and_weeks_in_this_order(
    connection: Connection, history: History, run: Run, evaluate: Evaluate
) -> None:
    monday = last_monday()
    history.share("a.1", monday, 5000.0)
    run("weekly_reset", f"{monday:%Y-%m-%d}")
    for hour in (1, 2, 30):
        history.share("a.1", monday + timedelta(hours=hour, minutes=5), 9000.0 + hour)
        history.late(monday + timedelta(hours=hour), 1)

    rounds = []
    for _ in range(4):
        requests = evaluate(late_shares_sensor)
        rounds.append(sorted(asked(request) for request in requests))
        for request in requests:
            run(*asked(request))
    tuesday = monday + timedelta(days=1)
    assert rounds == [
        [
            ("hourly_rollup", f"{monday:%Y-%m-%d}-01:00", f"{monday:%Y-%m-%d}-02:00"),
            ("hourly_rollup", f"{tuesday:%Y-%m-%d}-06:00", None),
        ],
        [
            ("daily_rollup", f"{monday:%Y-%m-%d}", f"{tuesday:%Y-%m-%d}"),
            ("weekly_reset", f"{monday:%Y-%m-%d}", None),
        ],
        [],
        [],
    ]
    row = connection.execute("select best_difficulty from weekly_best_diff").fetchone()
    assert row == {"best_difficulty": 9030.0}
    # One more late share of an hour that was settled.
    history.share("a.1", monday + timedelta(hours=1, minutes=6))
    history.late(monday + timedelta(hours=1), 1)
    assert [asked(request)[0] for request in evaluate(late_shares_sensor)] == ["hourly_rollup"]


def test_late_shares_of_the_running_day_wait_for_the_daily_schedule(
    history: History, run: Run, evaluate: Evaluate
) -> None:
    hour = clock.this_hour() - timedelta(hours=1)
    history.share("a.1", hour)
    history.late(hour, 1)
    (request,) = evaluate(late_shares_sensor)
    run(*asked(request))
    later = [asked(request)[0] for request in evaluate(late_shares_sensor)]
    if hour.date() == clock.now().date():
        assert later == []
    else:  # the first hour of a day: the day before has closed
        assert "daily_rollup" in later


@pytest.mark.parametrize("age", [31, 45, 61, 75])
def test_late_shares_of_any_age_that_is_accepted_reach_hour_day_and_week(
    connection: Connection, history: History, evaluate: Evaluate, run: Run, age: int
) -> None:
    moment = clock.now() - timedelta(days=age)
    monday = (moment - timedelta(days=moment.weekday())).date()
    # The week was published without them.
    history.share("b.1", moment, 1000.0)
    hour = moment.replace(minute=0, second=0, microsecond=0)
    run("hourly_rollup", f"{hour:%Y-%m-%d-%H:00}")
    run("daily_rollup", f"{hour:%Y-%m-%d}")
    run("weekly_reset", f"{monday}")
    history.share("a.1", moment, 9000.0)
    history.late(hour, 1)
    while requests := evaluate(late_shares_sensor):
        for request in requests:
            run(*asked(request))
    for rollup in ("shares_hourly", "shares_daily"):
        rows = connection.execute(
            "select sum(shares)::integer as shares, max(best_share_diff) as best from "  # noqa: S608  # our own names
            + rollup
        ).fetchall()
        assert rows == [{"shares": 2, "best": 9000.0}]
    rows = connection.execute(
        "select rank, best_difficulty, finalized_at is null as provisional from weekly_best_diff "
        "order by rank"
    ).fetchall()
    assert rows == [
        {"rank": 1, "best_difficulty": 9000.0, "provisional": False},
        {"rank": 2, "best_difficulty": 1000.0, "provisional": False},
    ]


def test_a_provisional_row_of_a_finalised_week_gets_its_place(
    connection: Connection, history: History, evaluate: Evaluate, run: Run
) -> None:
    monday = last_monday(5)
    history.share("b.1", monday, 1000.0)
    run("hourly_rollup", f"{monday:%Y-%m-%d}-00:00")
    run("weekly_reset", f"{monday:%Y-%m-%d}")
    assert evaluate(late_shares_sensor) == []
    # The writer's row of a share whose hour is settled, or long forgotten.
    history.share("a.1", monday, 9000.0)
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "values (%s, %s, 9000, %s)",
        [history.worker("a.1")[0], monday.date(), monday],
    )
    requests = evaluate(late_shares_sensor)
    assert [asked(request) for request in requests] == [
        ("weekly_reset", f"{monday:%Y-%m-%d}", None)
    ]
    run(*asked(requests[0]))
    row = connection.execute(
        "select btc_address from weekly_best_diff join users on id = user_id where rank = 1"
    ).fetchone()
    assert row == {"btc_address": "a"}
    assert evaluate(late_shares_sensor) == []


def test_what_cannot_be_computed_is_not_asked_for(
    connection: Connection, history: History, evaluate: Evaluate, run: Run
) -> None:
    monday = last_monday(4)
    history.shares(["a.1"], monday, monday + timedelta(days=1), 48)
    run("hourly_rollup", f"{monday:%Y-%m-%d}-00:00", f"{monday:%Y-%m-%d}-23:00")
    run("daily_rollup", f"{monday:%Y-%m-%d}")
    run("weekly_reset", f"{monday:%Y-%m-%d}")
    history.drop(monday)
    # Into the empty place of the day that was dropped.
    history.share("b.1", monday + timedelta(hours=3), 9000.0)
    history.late(monday + timedelta(hours=3), 1)
    assert evaluate(late_shares_sensor) == []
    # Asked for by hand, it changes nothing, and the late share stays owed.
    run("hourly_rollup", f"{monday:%Y-%m-%d}-03:00", raise_on_error=False)
    row = connection.execute("select sum(shares)::integer as shares from shares_hourly").fetchone()
    assert row == {"shares": 48}
    row = connection.execute("select settled_hourly from late_share_hours").fetchone()
    assert row == {"settled_hourly": 0}
