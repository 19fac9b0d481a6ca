"""Every check passes on good data, and each fails on what it is there to find."""

import ast
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from tbg_core.names import leaderboard_key, stream_of, week_start
from tbg_dagster import clock, verdict
from tbg_dagster.blocks import checks as blocks
from tbg_dagster.definitions import defs
from tbg_dagster.failing import first_failure
from tbg_dagster.partitions import FIRST_MOMENT, FIRST_WEEK, closed
from tbg_dagster.realtime import checks as upstream
from tbg_dagster.realtime import share_checks as shares
from tbg_dagster.resources import Thresholds
from tbg_dagster.shares import checks as rollups
from tbg_dagster.standing import not_looked
from tbg_dagster.timetable import CLOSE_LEDGER, PUBLISH_ROOTS, ROLLUPS
from tbg_dagster.weekly import checks as weekly
from tbg_dagster.weekly.week import finalise
from tests.clock import Clock
from tests.processes import ROOT
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

CHECKS = [item for item in defs.asset_checks or [] if isinstance(item, dg.AssetChecksDefinition)]
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

Check = Callable[..., dg.AssetCheckResult]


@pytest.fixture
def check(resources: dict[str, Any], instance: dg.DagsterInstance) -> Check:
    """``check(definition)`` evaluates one check on the test's servers."""

    def evaluate(definition: dg.AssetChecksDefinition, **other: Any) -> dg.AssetCheckResult:
        function = definition.op.compute_fn.decorated_fn  # type: ignore[union-attr]  # a decorated one
        available = {**resources, **other}
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        given = {name: available[name] for name in names if name != "context"}
        if "context" in names:
            given["context"] = dg.build_asset_context(instance=instance)
        result = function(**given)
        assert isinstance(result, dg.AssetCheckResult)
        assert result.description
        return result

    return evaluate


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "SETTLE_SECONDS", 0.0)


def online(connection: Connection, worker_id: int, silence: timedelta, hashrate: float) -> None:
    connection.execute(
        "update workers set is_online = true, last_share = %s, current_diff = 1000, "
        "hashrate_1h = %s where id = %s",
        [clock.now() - silence, hashrate, worker_id],
    )


def test_every_check_passes_on_an_empty_database(check: Check) -> None:
    assert [item.check_key.name for item in CHECKS if not check(item).passed] == []


def test_the_quality_job_runs_every_quick_check_on_real_data(
    client: Any, history: History, run: Run
) -> None:
    history.shares(["a.1", "b.1"], clock.now() - timedelta(minutes=90), clock.now(), 500)
    history.bests(client)
    result = run("quality", raise_on_error=False)
    evaluations = result.get_asset_check_evaluations()
    failed = {item.check_name: item.description for item in evaluations if not item.passed}
    # No rollup has run; nothing else is wrong.
    assert set(failed) <= {"partitions_are_there"}
    with_their_asset = {
        "hours_equal_raw_shares",
        "days_equal_hours",
        "weeks_equal_hours",
        "winners_are_proven",
        "archive_equals_database",
        "roots_rebuild",
        "week_stands_on_its_roots",
    }
    quick = {item.check_key.name for item in CHECKS} - with_their_asset
    assert quick == {item.check_name for item in evaluations}


def test_every_check_tells_what_it_finds_and_how_bad_that_is() -> None:
    for definition in defs.asset_checks or []:
        assert isinstance(definition, dg.AssetChecksDefinition)
        (spec,) = definition.check_specs
        assert spec.description is not None
        assert "WARN" in spec.description or "ERROR" in spec.description, spec.name


def test_a_red_check_says_since_when_and_what_to_do(instance: dg.DagsterInstance) -> None:
    outcomes = [verdict.verdict(False, "3 are wrong", do="Mend them")]

    @dg.asset
    def thing() -> None: ...

    @dg.asset_check(asset=thing)
    def right() -> dg.AssetCheckResult:
        if outcomes:
            return outcomes.pop()
        return verdict.verdict(False, "3 are wrong", do="Mend them")

    key = dg.AssetCheckKey(thing.key, "right")

    def looked(*outcome: dg.AssetCheckResult) -> str:
        outcomes[:] = outcome
        result = dg.materialize([thing, right], instance=instance)
        [evaluation] = result.get_asset_check_evaluations()
        return str(evaluation.description)

    assert first_failure(instance, key) is None
    looked()
    first = first_failure(instance, key)
    began = datetime.fromtimestamp(first.create_timestamp, UTC)
    said = f"3 are wrong. Since {began:%F %H:%M} UTC. Mend them."
    assert looked() == said
    looked(not_looked("nothing is there to look at"))
    assert looked() == said
    assert first_failure(instance, key).id == first.id
    assert looked(verdict.verdict(True, "none is wrong")) == "none is wrong"
    assert first_failure(instance, key) is None
    looked()
    assert first_failure(instance, key).id > first.id
    # Names of strangers do not push it out.
    assert verdict.verdict(False, "x" * 5000, do="Mend them").description.endswith("…. Mend them.")  # type: ignore[union-attr]


def test_every_check_that_can_be_red_says_what_to_do() -> None:
    calls = [
        node
        for path in (ROOT / "tbg_dagster").rglob("*checks.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "verdict"
    ]
    assert len(calls) > len(CHECKS)
    for call in calls:
        passed = isinstance(call.args[0], ast.Constant) and call.args[0].value is True
        assert passed or "do" in {word.arg for word in call.keywords}, ast.unparse(call)


# --- Shares ----------------------------------------------------------------------------


def test_silence_that_chance_cannot_explain_is_found(
    check: Check, connection: Connection, history: History
) -> None:
    _, worker = history.worker("a.1")
    pace = 1000 * 2**32 / 10.0  # a share in ten seconds
    online(connection, worker, timedelta(seconds=60), pace)
    assert check(shares.shares_keep_arriving).passed
    online(connection, worker, timedelta(seconds=180), pace)
    result = check(shares.shares_keep_arriving)
    assert (result.passed, result.severity) == (False, WARN)
    online(connection, worker, timedelta(minutes=10), pace)
    result = check(shares.shares_keep_arriving)
    assert (result.passed, result.severity) == (False, ERROR)
    # A simulation that ends leaves its workers behind.
    connection.execute("update workers set source = 'simulated'")
    result = check(shares.shares_keep_arriving)
    assert (result.passed, result.severity) == (False, WARN)
    assert str(result.description).startswith("simulated: ")
    connection.execute("update workers set source = 'hosted'")
    # Liveness marking everybody offline does not hide it.
    connection.execute("update workers set is_online = false")
    connection.execute(
        "insert into worker_liveness (worker_id, silent_since, allowed_gap_seconds) "
        "values (%s, now(), 60)",
        [worker],
    )
    assert not check(shares.shares_keep_arriving).passed


def test_a_share_that_no_workers_row_tells_of_keeps_arriving(
    check: Check, connection: Connection, history: History
) -> None:
    worker = history.worker("a.1")[1]
    online(connection, worker, timedelta(minutes=10), 1000 * 2**32 / 10)
    assert not check(shares.shares_keep_arriving).passed
    history.share("a.1", clock.now() - timedelta(seconds=20), 2000.0)
    result = check(shares.shares_keep_arriving)
    assert result.passed
    assert result.metadata["silence_seconds"].value == pytest.approx(20)


def test_a_pool_of_unnamed_workers_promises_what_their_shares_do_and_no_users_total(
    check: Check, connection: Connection, history: History, run: Run
) -> None:
    # 60 kH/s at difficulty 0.001 beside 200 TH/s, which reach another engine.
    user, worker = history.worker("a.")
    end = clock.now() - timedelta(seconds=100)
    for number in range(50):
        history.share("a.", end - number * timedelta(seconds=72), 0.002, 0.001)
    connection.execute("update users set hashrate_1h = 2e14 where id = %s", [user])
    connection.execute(
        "update workers set is_online = true, last_share = %s, current_diff = 0.001 where id = %s",
        [end, worker],
    )
    run("liveness")
    result = check(shares.shares_keep_arriving)
    assert result.passed
    assert result.metadata["rate"].value == pytest.approx(1 / 72, rel=0.05)
    gone = clock.now() - timedelta(minutes=40)
    connection.execute("delete from shares where time > %s", [gone])
    connection.execute("update workers set last_share = %s where id = %s", [gone, worker])
    assert not check(shares.shares_keep_arriving).passed


@pytest.mark.parametrize("age", [timedelta(minutes=-10), timedelta(days=98)])
def test_shares_from_the_future_or_past_retention_are_found(
    check: Check, history: History, age: timedelta
) -> None:
    history.share("a.1", clock.now())
    assert check(shares.share_times_are_plausible).passed
    history.share("a.1", clock.now() - age)
    assert not check(shares.share_times_are_plausible).passed


@pytest.mark.parametrize("column", ["user_id", "worker_id"])
def test_shares_of_nobody_are_found(
    check: Check, connection: Connection, history: History, column: str
) -> None:
    history.share("a.1", clock.now() - timedelta(minutes=1))
    assert check(shares.shares_have_users_and_workers).passed
    user, worker = history.worker("a.1")
    numbers = {"user_id": user, "worker_id": worker, column: 999}
    connection.execute(
        "insert into shares (time, difficulty, is_valid, user_id, worker_id) "
        "values (%s, 1, true, %s, %s)",
        [clock.now() - timedelta(minutes=1), numbers["user_id"], numbers["worker_id"]],
    )
    assert not check(shares.shares_have_users_and_workers).passed


def test_doubled_shares_are_found(check: Check, history: History) -> None:
    when = clock.now() - timedelta(minutes=1)
    for seq in (1, 2):
        history.share("a.1", when, instance_id=1, seq=seq, share_hash=bytes([seq]) * 32)
    history.share("a.1", when, instance_id=2, seq=1)
    history.share("a.1", when, reject="duplicate", share_hash=b"\x01" * 32)
    assert check(shares.shares_are_not_doubled).passed
    history.share("a.1", when, instance_id=1, seq=1)
    assert check(shares.shares_are_not_doubled).metadata["by_seq"].value == 1
    history.share("a.1", when, instance_id=1, seq=3, share_hash=b"\x02" * 32)
    result = check(shares.shares_are_not_doubled)
    assert not result.passed
    assert result.metadata["by_hash"].value == 1


def test_accepted_shares_below_their_difficulty_are_found(check: Check, history: History) -> None:
    when = clock.now() - timedelta(minutes=1)
    history.share("a.1", when, share_diff=1000.0 * (1 - 1e-12), difficulty=1000.0)
    history.share("a.1", when, share_diff=10.0, reject="above target")
    assert check(shares.accepted_shares_meet_their_difficulty).passed
    history.share("a.1", when, share_diff=999.0, difficulty=1000.0)
    assert not check(shares.accepted_shares_meet_their_difficulty).passed


# --- The path --------------------------------------------------------------------------


def test_a_sequence_gap_is_found_unless_a_dead_letter_explains_it(
    check: Check, connection: Connection
) -> None:
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) "
        "values ('pool/1', 100, '{[7,9)}')"
    )
    result = check(upstream.no_sequence_gaps)
    assert not result.passed
    assert "pool/1: 2" in str(result.description)
    for seq in (7, 8):
        connection.execute(
            "insert into dead_letters (stage, reason, detail, raw, instance, seq) "
            "values ('writer', 'bad', '', '', 'pool/1', %s)",
            [seq],
        )
    assert check(upstream.no_sequence_gaps).passed


def test_a_writer_that_falls_behind_is_found(
    check: Check, connection: Connection, client: Any
) -> None:
    stream = stream_of("share_submitted")
    old = int((clock.now() - timedelta(minutes=5)).timestamp() * 1000)
    client.xadd(stream, {"a": 1}, id=f"{old}-0")
    client.xadd(stream, {"a": 1}, id=f"{old}-1")
    connection.execute(
        "insert into stream_offsets (consumer, stream, last_id) values ('writer', %s, %s)",
        [stream, f"{old}-1"],
    )
    assert check(upstream.writers_keep_up).passed
    connection.execute("update stream_offsets set last_id = %s", [f"{old}-0"])
    result = check(upstream.writers_keep_up)
    assert (result.passed, result.severity) == (False, WARN)
    result = check(upstream.writers_keep_up, thresholds=Thresholds(stream_lag_error_seconds=200))
    assert result.severity == ERROR
    # Nobody reads at all: no offset yet.
    connection.execute("delete from stream_offsets")
    assert not check(upstream.writers_keep_up).passed


def test_a_cell_that_is_gone_is_behind_until_its_positions_are_deleted(
    check: Check, connection: Connection
) -> None:
    connection.execute(
        "insert into stream_offsets (cell, consumer, stream, last_id, redis, looked_at) "
        "values ('eu1', 'writer', %s, '1-1', 'gone', now() - interval '1 hour')",
        [stream_of("share_submitted")],
    )
    result = check(upstream.writers_keep_up)
    assert (result.passed, result.severity) == (False, ERROR)
    assert "{eu1}" in str(result.description)
    connection.execute("delete from stream_offsets where cell = 'eu1'")
    assert check(upstream.writers_keep_up).passed


def test_many_dead_letters_are_found(check: Check, connection: Connection) -> None:
    few = Thresholds(dead_letters_per_hour=3)
    letters = (
        "insert into dead_letters (stage, reason, detail, raw) "
        "select 'receiver', 'json', '', '' from generate_series(1, %s)"
    )
    connection.execute(letters, [3])
    assert check(upstream.few_events_are_refused, thresholds=few).passed
    connection.execute(letters, [1])
    result = check(upstream.few_events_are_refused, thresholds=few)
    assert (result.passed, result.severity) == (False, WARN)
    assert "receiver json: 4" in str(result.description)
    connection.execute(letters, [30])
    assert check(upstream.few_events_are_refused, thresholds=few).severity == ERROR
    connection.execute("update dead_letters set replayed_at = now()")
    assert check(upstream.few_events_are_refused, thresholds=few).passed
    connection.execute("update dead_letters set replayed_at = null where id = 1")
    assert check(upstream.few_events_are_refused, thresholds=few).passed
    connection.execute("update dead_letters set reason = 'number_reused' where id = 1")
    result = check(upstream.few_events_are_refused, thresholds=few)
    assert (result.passed, result.severity) == (False, WARN)


# --- Rollups ---------------------------------------------------------------------------


@pytest.mark.plain_postgresql
@pytest.mark.parametrize(
    "damage",
    [
        "update shares_hourly set shares = shares + 1",
        "update shares_hourly set work = work * 1.00001",
        "update shares_hourly set best_share_diff = 1",
        "delete from shares_hourly where worker_id = 1",
        "insert into shares_hourly select bucket, 99, 99, 1, 1, 0, 1, 1, bucket, bucket "
        "from shares_hourly where worker_id = 1",
    ],
)
def test_an_hour_that_differs_from_its_raw_shares_is_found(
    check: Check, connection: Connection, history: History, damage: str
) -> None:
    # One of the last day, and one of the sample.
    for hour in (clock.this_hour() - timedelta(hours=3), clock.this_hour() - timedelta(days=9)):
        history.shares(["a.1", "b.1"], hour, hour + timedelta(hours=1), 100)
        span = [hour, hour + timedelta(hours=1)]
        connection.execute("select rebuild_shares_hourly(%s, %s)", span)
    whole = Thresholds(sampled_hours=10_000)
    assert check(rollups.hours_equal_raw_shares, thresholds=whole).passed
    connection.execute(damage)
    result = check(rollups.hours_equal_raw_shares, thresholds=whole)
    assert not result.passed
    assert result.metadata["hours_wrong"].value == 2


@pytest.mark.plain_postgresql
def test_an_hour_whose_rollup_is_gone_is_wrong_and_one_never_computed_is_late(
    check: Check, connection: Connection, history: History, run: Run
) -> None:
    hour = clock.this_hour() - timedelta(hours=3)
    history.share("a.1", hour)
    history.share("a.1", hour + timedelta(hours=1))
    assert check(rollups.hours_equal_raw_shares).passed
    run("hourly_rollup", f"{hour:%Y-%m-%d-%H:%M}")
    assert check(rollups.hours_equal_raw_shares).passed
    connection.execute("delete from shares_hourly")
    result = check(rollups.hours_equal_raw_shares)
    assert not result.passed
    assert result.metadata["hours_wrong"].value == 1


def test_an_hour_that_waits_for_its_late_shares_is_not_called_wrong_for_a_while(
    check: Check, connection: Connection, history: History, run: Run
) -> None:
    hour = clock.this_hour() - timedelta(hours=3)
    history.share("a.1", hour)
    run("hourly_rollup", f"{hour:%Y-%m-%d-%H:%M}")
    history.share("a.1", hour + timedelta(minutes=1))
    history.late(hour, 1)
    assert check(rollups.hours_equal_raw_shares).passed
    connection.execute("update late_share_hours set last_recorded_at = now() - interval '1 hour'")
    assert not check(rollups.hours_equal_raw_shares).passed


@pytest.mark.plain_postgresql
def test_a_day_that_differs_from_its_hours_is_found(
    check: Check, connection: Connection, history: History
) -> None:
    day = clock.this_hour().replace(hour=0) - timedelta(days=2)
    history.shares(["a.1"], day, day + timedelta(days=1), 100)
    span = [day, day + timedelta(days=1)]
    connection.execute("select rebuild_shares_hourly(%s, %s)", span)
    assert check(rollups.days_equal_hours).passed  # never computed: late, not wrong
    connection.execute("select rebuild_shares_daily(%s, %s)", span)
    assert check(rollups.days_equal_hours).passed
    connection.execute("update shares_daily set rejected = rejected + 1")
    assert not check(rollups.days_equal_hours).passed


def test_partitions_that_were_never_computed_are_found(
    check: Check, history: History, instance: dg.DagsterInstance
) -> None:
    history.share("a.1", clock.now() - timedelta(hours=3))
    result = check(rollups.partitions_are_there)
    assert (result.passed, result.severity) == (False, WARN)
    for job in (*ROLLUPS, CLOSE_LEDGER, PUBLISH_ROOTS):
        assert job.partitions is not None
        for key in closed(job.partitions, clock.now() - timedelta(days=14), clock.now()):
            for asset in job.assets:
                instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))
    assert check(rollups.partitions_are_there).passed


def test_shares_before_the_first_partition_are_told_with_what_to_set(
    check: Check, connection: Connection, history: History
) -> None:
    history.share("a.1", FIRST_MOMENT - timedelta(days=3))
    connection.execute("update workers set first_seen = %s", [FIRST_MOMENT - timedelta(days=3)])
    wide = Thresholds(retention_days=(clock.now() - FIRST_MOMENT).days + 10)
    result = check(rollups.partitions_are_there, thresholds=wide)
    assert (result.passed, result.severity) == (False, WARN)
    assert f"lie before the first partition, {FIRST_WEEK}" in str(result.description)


@pytest.mark.plain_postgresql
def test_a_reject_ratio_out_of_its_history_is_found(
    check: Check, connection: Connection, history: History
) -> None:
    _, worker = history.worker("a.1")
    for age in range(1, 50):
        rejected = 10 + age % 5
        connection.execute(
            "insert into shares_hourly values (%s, 1, %s, 1000, %s, %s, 1, 1, now(), now())",
            [clock.this_hour() - timedelta(hours=age), worker, 1000 - rejected, rejected],
        )
    assert check(rollups.reject_ratio_is_usual).passed
    connection.execute(
        "update shares_hourly set rejected = 60 where bucket = %s",
        [clock.this_hour() - timedelta(hours=1)],
    )
    result = check(rollups.reject_ratio_is_usual)
    assert (result.passed, result.severity) == (False, WARN)


def uncounted(connection: Connection, hour: datetime, age: timedelta, *settled: int) -> None:
    """One late share of an hour, stored so long ago; what each rollup has taken in of it."""
    connection.execute(
        "insert into late_share_hours (hour, shares, last_recorded_at, settled_hourly, "
        "settled_daily, settled_weekly) values (%s, 1, now() - %s, %s, %s, %s)",
        [hour, age, *settled],
    )


@pytest.mark.parametrize("weeks_ago", [2, 10, 60])
@pytest.mark.parametrize("settled", [(0, 0, 0), (1, 0, 1), (1, 1, 0)])
def test_a_late_share_that_is_not_counted_everywhere_is_found_whatever_its_age(
    check: Check, connection: Connection, weeks_ago: int, settled: tuple[int, int, int]
) -> None:
    hour = last_monday(weeks_ago)
    uncounted(connection, hour, timedelta(minutes=30), *settled)
    assert check(rollups.late_shares_are_counted).passed
    connection.execute("update late_share_hours set last_recorded_at = now() - interval '2 hours'")
    result = check(rollups.late_shares_are_counted)
    assert (result.passed, result.severity) == (False, WARN)
    assert f"from {hour:%F %H}h" in str(result.description)
    connection.execute("update late_share_hours set last_recorded_at = now() - interval '2 days'")
    assert check(rollups.late_shares_are_counted).severity == ERROR
    connection.execute(
        "update late_share_hours set settled_hourly = 1, settled_daily = 1, settled_weekly = 1"
    )
    assert check(rollups.late_shares_are_counted).passed


def test_a_late_share_of_the_running_day_and_week_waits_for_their_end(
    check: Check, connection: Connection
) -> None:
    uncounted(connection, clock.today(), timedelta(hours=2), 1, 0, 0)
    assert check(rollups.late_shares_are_counted).passed


@pytest.mark.timescaledb
def test_a_retention_policy_of_timescaledb_is_found(check: Check, connection: Connection) -> None:
    assert check(rollups.only_housekeeping_drops_raw_shares).passed
    connection.execute("select add_retention_policy('shares', interval '90 days')")
    found = check(rollups.only_housekeeping_drops_raw_shares)
    assert (found.passed, found.severity) == (False, ERROR)


# --- Blocks and the game ---------------------------------------------------------------


def test_a_block_without_its_share_and_a_share_without_its_block_are_found(
    check: Check, connection: Connection, history: History
) -> None:
    found_at = clock.now() - timedelta(minutes=10)
    block_hash = "00" * 16 + "ab" * 16
    history.block("a.1", 5, block_hash, found_at)
    assert check(upstream.blocks_and_their_shares_match).metadata["blocks_without_share"].value == 1
    history.share("a.1", found_at, share_hash=bytes.fromhex(block_hash), is_block=True)
    assert check(upstream.blocks_and_their_shares_match).passed
    history.share("a.1", found_at, share_hash=b"\x07" * 32, is_block=True)
    result = check(upstream.blocks_and_their_shares_match)
    assert not result.passed
    assert result.metadata["shares_without_block"].value == 1


@pytest.mark.parametrize("status", ["found", "accepted"])
def test_an_old_block_that_is_not_final_is_found(
    check: Check, connection: Connection, history: History, status: str
) -> None:
    history.block("a.1", 5, "ab" * 32, clock.now() - timedelta(hours=23), status)
    assert check(blocks.old_blocks_are_settled).passed
    connection.execute("update blocks set found_at = now() - interval '25 hours'")
    assert not check(blocks.old_blocks_are_settled).passed
    connection.execute("update blocks set status = 'confirmed'")
    assert check(blocks.old_blocks_are_settled).passed


@pytest.mark.parametrize(
    "damage",
    [
        "update weekly_best_diff set total_shares = total_shares + 1",
        "update weekly_best_diff set best_difficulty = best_difficulty * 2",
        "update weekly_best_diff set rank = 3 - rank",
        "delete from weekly_best_diff where user_id = 1",
    ],
)
def test_a_week_that_differs_from_its_hours_is_found(
    check: Check, connection: Connection, history: History, run: Run, damage: str
) -> None:
    monday = last_monday()
    history.share("a.1", monday, 5000.0)
    history.share("b.1", monday, 4000.0)
    run("hourly_rollup", f"{monday:%Y-%m-%d-%H:%M}")
    finalise(connection, monday.date())
    assert check(weekly.weeks_equal_hours).passed
    connection.execute(damage)
    assert not check(weekly.weeks_equal_hours).passed


@pytest.mark.parametrize(
    "damage",
    [
        "update weekly_best_diff set best_difficulty = 4999.0 where user_id = 1",
        "delete from weekly_best_diff where user_id = 1",
    ],
)
def test_a_best_of_the_running_week_that_its_hours_exceed_is_found(
    check: Check,
    connection: Connection,
    history: History,
    run: Run,
    clock: Clock,
    damage: str,
) -> None:
    hour = last_monday() + timedelta(days=2)
    clock.move(hour + timedelta(hours=2, minutes=10) - clock.now())
    history.share("a.1", hour, 5000.0)
    history.share("a.1", hour, 4000.0)
    history.share("a.1", hour + timedelta(hours=2), 6000.0)  # is not rolled up
    history.worker("b.1")
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "values (1, %(week)s, 5000, %(hour)s), (2, %(week)s, 1, %(hour)s)",
        {"week": week_start(hour), "hour": hour},
    )
    run("hourly_rollup", f"{hour:%Y-%m-%d-%H:%M}")
    assert check(weekly.bests_reach_their_hours).passed
    connection.execute(damage)
    result = check(weekly.bests_reach_their_hours)
    assert not result.passed
    assert "user 1" in str(result.description)
    # The result of a closed week may leave shares out.
    connection.execute("update weekly_best_diff set finalized_at = now()")
    assert check(weekly.bests_reach_their_hours).passed


def test_a_leaderboard_that_differs_from_the_running_week_is_found(
    check: Check, connection: Connection, client: Any, history: History
) -> None:
    week = week_start(clock.now())
    for user, best in (("a.1", 5000.5), ("b.1", 0.1)):
        connection.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
            "values (%s, %s, %s, now())",
            [history.worker(user)[0], week, best],
        )
    result = check(upstream.leaderboard_equals_the_running_week)
    assert (result.passed, result.severity) == (False, WARN)
    client.zadd(leaderboard_key(week), {"a": 5000.5, "b": 0.1})
    assert check(upstream.leaderboard_equals_the_running_week).passed
    client.zadd(leaderboard_key(week), {"c": 1.0})
    assert not check(upstream.leaderboard_equals_the_running_week).passed


def test_messages_that_are_not_sent_are_found(check: Check, connection: Connection) -> None:
    connection.execute(
        "insert into outbox (stream, key, event, payload) values ('s', 'k', 'e', '{}')"
    )
    assert check(weekly.messages_are_sent).passed
    connection.execute("update outbox set created_at = now() - interval '20 minutes'")
    result = check(weekly.messages_are_sent)
    assert (result.passed, result.severity) == (False, WARN)
    connection.execute("update outbox set created_at = now() - interval '2 hours'")
    assert check(weekly.messages_are_sent).severity == ERROR


# --- Blocks that were thrown away -------------------------------------------------------

NETWORK = 1e14


def tip(connection: Connection, at: datetime, difficulty: float = NETWORK) -> None:
    """A tip that an engine saw, and what the block after it needs."""
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values (md5(random()::text), 1, %s, %s)",
        [difficulty, at],
    )


@pytest.mark.parametrize(
    ("share", "found"),
    [
        ({"share_diff": NETWORK}, True),
        ({"share_diff": NETWORK * 5}, True),
        ({"share_diff": NETWORK * 5, "reject": "stale"}, True),
        ({"share_diff": NETWORK * 5, "share_hash": None}, True),
        ({"share_diff": NETWORK * 0.999}, False),
        ({"share_diff": NETWORK * 5, "difficulty": NETWORK * 2}, False),  # a devnet's share
    ],
)
def test_a_share_that_solved_a_block_which_nobody_reported_is_named(
    connection: Connection, history: History, check: Check, share: dict[str, Any], found: bool
) -> None:
    now = clock.now()
    tip(connection, now - timedelta(hours=5))
    given = {"share_hash": b"\xab" * 32, **share}
    history.share("a.1", now - timedelta(minutes=20), **given)
    result = check(upstream.solving_shares_are_blocks)
    assert result.passed is not found
    if not found:
        return
    assert result.severity == (WARN if "reject" in share else ERROR)
    # An hour later the last while is right, and the share is still no block.
    later = now + timedelta(hours=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tbg_dagster.clock.now", lambda: later)
        assert not check(upstream.solving_shares_are_blocks).passed
        history.block("a.1", 2, "ab" * 32, now - timedelta(minutes=20))
        assert check(upstream.solving_shares_are_blocks).passed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tbg_dagster.clock.now", lambda: now + timedelta(days=8))
        assert check(upstream.solving_shares_are_blocks).passed


def test_a_best_of_the_week_is_looked_at_although_nobody_looked_at_its_hour(
    connection: Connection, history: History, client: Any, check: Check
) -> None:
    at = clock.now() - timedelta(days=2)
    tip(connection, at - timedelta(hours=5))
    history.share("a.1", at, NETWORK * 3, share_hash=b"\xab" * 32)
    history.bests(client)
    assert not check(upstream.solving_shares_are_blocks).passed


@pytest.mark.parametrize("difficulty", [4.656542373906925e-10, 9e-7])
def test_a_network_that_nearly_every_hash_solves_is_not_judged(
    connection: Connection, history: History, check: Check, difficulty: float
) -> None:
    now = clock.now()
    tip(connection, now - timedelta(hours=5), difficulty)
    history.share("a.1", now - timedelta(minutes=20), 5.0, difficulty / 10)
    assert check(upstream.solving_shares_are_blocks).passed


def test_a_change_of_difficulty_names_no_share_of_its_minutes(
    connection: Connection, history: History, check: Check
) -> None:
    at = clock.now() - timedelta(minutes=20)
    tip(connection, at - timedelta(minutes=9), NETWORK)
    tip(connection, at + timedelta(seconds=30), NETWORK * 4)
    history.share("a.1", at, NETWORK * 2, share_hash=b"\xab" * 32)
    assert check(upstream.solving_shares_are_blocks).passed


def test_an_imported_log_comes_without_blocks(
    connection: Connection, history: History, check: Check
) -> None:
    now = clock.now()
    tip(connection, now - timedelta(hours=5))
    row = connection.execute(
        "insert into engine_instances (instance) values ('sharelog/x/2026-11-22T07') returning id"
    ).fetchone()
    assert row is not None
    history.share("a.1", now - timedelta(minutes=20), NETWORK, instance_id=row["id"])
    assert check(upstream.solving_shares_are_blocks).passed
