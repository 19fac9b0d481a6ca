"""Alerts: once when an incident begins, once when it is over."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg_core.names import ALERTS_STREAM
from tbg_dagster.alerts.incidents import MOST_WAITING, Alert, State
from tbg_dagster.alerts.sensors import alerts_sensor
from tbg_dagster.definitions import defs
from tbg_dagster.resources import BitcoinNode, RedisServer, Thresholds
from tests.clock import Clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

Look = Callable[..., list[tuple[str, str]]]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_an_incident_is_told_once_and_its_end_is_told_once(seen: list[tuple[str, bool]]) -> None:
    state = State()
    for number, (name, failing) in enumerate(seen):
        state.observe(
            Alert(
                state="firing" if failing else "recovered",
                incident=name,
                id=f"{name}{number}",
                title=name,
                timestamp=number,
            ),
            ["redis"],
        )
    for name in "abc":
        mine = [failing for other, failing in seen if other == name]
        told = [item.alert.state for item in state.waiting if item.alert.incident == name]
        # Every change is told, beginning with the first failure, and nothing else.
        changes = [now for before, now in zip([False, *mine], mine, strict=False) if before != now]
        assert told == ["firing" if change else "recovered" for change in changes]
        assert (name in state.open) == (bool(mine) and mine[-1])


def test_a_warning_that_becomes_an_error_is_told_once_more_and_its_end_once() -> None:
    state = State()

    def see(number: int, severity: Literal["WARN", "ERROR"], *, fails: bool = True) -> None:
        alert = Alert(
            incident="check",
            id=f"{number}",
            state="firing" if fails else "recovered",
            severity=severity,
            title="check fails",
            timestamp=number,
        )
        state.observe(alert, ["outbox"])

    see(0, "WARN")
    see(1, "WARN")
    see(2, "ERROR")
    see(3, "WARN")
    see(4, "ERROR")
    see(9, "WARN", fails=False)
    see(10, "WARN", fails=False)
    told = [(one.alert.state, one.alert.severity, one.alert.id) for one in state.waiting]
    assert told == [("firing", "WARN", "0"), ("firing", "ERROR", "0"), ("recovered", "ERROR", "0")]
    assert len({one.key for one in state.waiting}) == 3


def test_an_alert_that_is_dropped_because_too_many_wait_is_counted() -> None:
    state = State()
    for number in range(MOST_WAITING + 3):
        alert = Alert(
            incident=f"{number}", id=f"{number}", state="firing", title="fails", timestamp=number
        )
        state.observe(alert, ["redis"])
    assert len(state.waiting) == MOST_WAITING
    assert state.dropped == 3
    assert state.waiting[0].alert.incident == "3"


@pytest.fixture
def look(client: Any, instance: dg.DagsterInstance, resources: dict[str, Any]) -> Look:
    """``look()`` is one tick of the sensor; returns all that Redis was ever sent.

    ``lost=True``: Dagster ended the tick, and kept no cursor of it.
    """
    cursor: list[str | None] = [None]

    def tick(*, lost: bool = False) -> list[tuple[str, str]]:
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor[0],
            repository_def=defs.get_repository_def(),
            resources={name: resources[name] for name in ("database", "redis_server")},
        )
        result = alerts_sensor(context)
        assert isinstance(result, dg.SensorResult)
        if not lost:
            cursor[0] = result.cursor
        told = (json.loads(fields["data"]) for _, fields in client.xrange(ALERTS_STREAM))
        return [(item["state"], item["incident"]) for item in told]

    tick()
    return tick


def test_a_failed_run_is_told_once_and_its_recovery_once(
    look: Look, run: Run, resources: dict[str, Any], history: History
) -> None:
    history.block("a.1", 1, "ab" * 32)
    resources["bitcoin_node"] = BitcoinNode(url="http://127.0.0.1:1", retries=0)
    for _ in range(2):
        run("confirm_blocks", raise_on_error=False)
        assert look() == [("firing", "run:confirm_blocks")]
    history.connection.execute("delete from blocks")
    run("odds")
    assert look() == [("firing", "run:confirm_blocks")]  # another job's success is not its own


def test_more_runs_than_a_look_reads_that_end_at_one_moment_are_all_told(
    look: Look, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tbg_dagster.alerts.sensors.BATCH", 3)
    for number in range(10):
        instance.add_run(
            dg.DagsterRun(job_name=f"job_{number}", status=dg.DagsterRunStatus.FAILURE)
        )
    for _ in range(4):
        told = look()
    assert sorted(told) == [("firing", f"run:job_{number}") for number in range(10)]


def test_a_failing_check_is_told_once_and_its_recovery_once(
    look: Look, run: Run, connection: Connection
) -> None:
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) values ('x/1', 9, '{[3,5)}')"
    )

    def told() -> list[str]:
        # Other checks of the books may find the same gap.
        wanted = "check:engine_instances:no_sequence_gaps"
        return [state for state, incident in look() if incident == wanted]

    for _ in range(2):
        run("quality", raise_on_error=False)
        assert told() == ["firing"]
    connection.execute("update engine_instances set seq_missing = '{}'")
    run("quality", raise_on_error=False)
    assert told() == ["firing", "recovered"]


def test_a_channel_that_is_away_gets_its_alert_later_and_the_other_at_once(
    look: Look, run: Run, resources: dict[str, Any], connection: Connection
) -> None:
    good, key = resources["redis_server"], f"{last_monday():%Y-%m-%d}"
    resources["redis_server"] = RedisServer(url="redis://127.0.0.1:1/0")
    run("weekly_reset", key, raise_on_error=False)  # fails without Redis
    assert look() == []

    def posted() -> list[str]:
        rows = connection.execute(
            "select payload from outbox where stream = 'notify:incident' order by id"
        )
        return [f"{row['payload']['state']} {row['payload']['incident']}" for row in rows]

    incident = f"run:weekly_reset:{key}"
    assert posted() == [f"firing {incident}"]

    resources["redis_server"] = good
    assert look() == [("firing", incident)]
    run("weekly_reset", key)
    assert look() == [("firing", incident), ("recovered", incident)]
    assert posted() == [f"firing {incident}", f"recovered {incident}"]


def test_another_partitions_success_ends_no_incident_and_a_range_ends_with_its_last_partition(
    look: Look, run: Run, resources: dict[str, Any]
) -> None:
    good = resources["redis_server"]
    first, last = (f"{last_monday(weeks):%Y-%m-%d}" for weeks in (3, 2))
    resources["redis_server"] = RedisServer(url="redis://127.0.0.1:1/0")
    run("weekly_reset", first, last, raise_on_error=False)
    resources["redis_server"] = good
    incident = f"run:weekly_reset:{first}...{last}"
    assert look() == [("firing", incident)]
    run("weekly_reset", f"{last_monday():%Y-%m-%d}")
    assert look() == [("firing", incident)]
    run("weekly_reset", last)
    assert look() == [("firing", incident)]
    run("weekly_reset", first)
    assert look() == [("firing", incident), ("recovered", incident)]


def test_a_tick_that_is_lost_repeats_no_alert_although_the_check_ran_again(
    look: Look, run: Run, connection: Connection
) -> None:
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) values ('x/1', 9, '{[3,5)}')"
    )
    incident = ("firing", "check:engine_instances:no_sequence_gaps")
    for _ in range(3):
        run("quality", raise_on_error=False)
        assert look(lost=True).count(incident) == 1
    rows = connection.execute(
        "select count(*) as n from outbox where payload ->> 'incident' = %s", [incident[1]]
    ).fetchone()
    assert rows == {"n": 1}


def wrong_hours_check(result: dg.ExecuteInProcessResult) -> bool:
    [found] = [
        one
        for one in result.get_asset_check_evaluations()
        if one.check_name == "hours_equal_raw_shares"
    ]
    return found.passed


@pytest.mark.plain_postgresql  # a continuous aggregate cannot be written to
def test_only_a_look_at_the_same_hour_ends_the_incident_of_a_wrong_hour(
    look: Look, run: Run, history: History, connection: Connection, clock: Clock,
    resources: dict[str, Any],
) -> None:  # fmt: skip
    # Dagster takes the partitions of its own clock.
    now = clock.now().replace(minute=20, second=0, microsecond=0) - timedelta(hours=40)
    start = now.replace(hour=0, minute=0) - timedelta(days=3)
    history.shares(["a.1", "b.1"], start, now, 600)
    connection.execute("select rebuild_shares_hourly(%s, %s)", [start, now.replace(minute=0)])
    wrong = start + timedelta(hours=30)
    change = "update shares_hourly set shares = shares + %s where bucket = %s"
    connection.execute(change, [5, wrong])
    resources["thresholds"] = Thresholds(sampled_hours=10)
    incident = "check:shares_hourly:hours_equal_raw_shares"

    def states_of(incident: str) -> list[str]:
        return [state for state, about in look() if about == incident]

    verdicts = []
    for hour in range(30):
        clock.moment = now + timedelta(hours=hour)
        key = f"{clock.moment - timedelta(hours=1):%Y-%m-%d-%H:00}"
        verdicts.append(wrong_hours_check(run("hourly_rollup", key, raise_on_error=False)))
        assert states_of(incident) == ([] if all(verdicts) else ["firing"])
    found = verdicts.index(False)
    assert not any(verdicts[found:])
    connection.execute(change, [-5, wrong])
    clock.moment += timedelta(hours=1)
    key = f"{clock.moment - timedelta(hours=1):%Y-%m-%d-%H:00}"
    assert wrong_hours_check(run("hourly_rollup", key, raise_on_error=False))
    # The runs of other hours have not failed for it.
    assert states_of(incident) == ["firing", "recovered"]
    assert not [about for _, about in look() if about.startswith("run:")]


@pytest.mark.plain_postgresql  # it drops a partition by its own function
def test_doubled_shares_do_not_recover_by_growing_old_and_end_untold_with_their_data(
    look: Look, run: Run, history: History, connection: Connection, clock: Clock
) -> None:
    at = clock.now() - timedelta(minutes=20)
    for _ in range(2):
        history.share("a.1", at, 5000.0, share_hash=b"\x01" * 32)
    incident = "check:shares:shares_are_not_doubled"

    def told(hours: float) -> list[str]:
        clock.moment = at + timedelta(hours=hours)
        run("quality", raise_on_error=False)
        return [state for state, about in look() if about == incident]

    assert told(0.4) == ["firing"]
    for hours in (3, 30, 300):
        history.share("a.1", at + timedelta(hours=hours) - timedelta(minutes=1), 5000.0)
        assert told(hours) == ["firing"]
    connection.execute("select drop_partitions(%s)", [(at + timedelta(days=2)).date()])
    assert told(301) == ["firing"]
    # A new fault is a new incident.
    for _ in range(2):
        history.share("a.1", clock.now(), 5000.0, share_hash=b"\x02" * 32)
    assert told(301.5) == ["firing", "firing"]
    connection.execute("delete from shares where share_hash = '\\x" + "02" * 32 + "'")
    assert told(302) == ["firing", "firing", "recovered"]


def test_a_check_without_anything_to_look_at_mends_nothing(
    look: Look, run: Run, history: History, connection: Connection, clock: Clock
) -> None:
    worker = history.worker("a.1")[1]
    history.share("a.1", clock.now() - timedelta(minutes=30))
    connection.execute(
        "update workers set is_online = true, last_share = %s, current_diff = 1000, "
        "hashrate_1h = 4e11 where id = %s",
        [clock.now() - timedelta(minutes=30), worker],
    )
    incident = ("firing", "check:shares:shares_keep_arriving")
    run("quality", raise_on_error=False)
    assert incident in look()
    connection.execute(
        "update workers set is_online = false, last_share = %s", [clock.now() - timedelta(days=2)]
    )
    connection.execute("delete from shares")
    run("quality", raise_on_error=False)
    assert ("recovered", incident[1]) not in look()
