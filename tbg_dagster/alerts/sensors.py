"""The sensor that reports failed runs and failing checks."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
import psycopg
import redis

from tbg_core.messages import NOTIFY
from tbg_core.names import ALERTS_STREAM
from tbg_core.outbox import add_once, post
from tbg_core.wording import printable
from tbg_dagster import clock
from tbg_dagster.alerts.incidents import MOST_WAITING, Alert, Channel, State, Waiting
from tbg_dagster.failing import first_failure, result_of, value_of
from tbg_dagster.resources import Database, RedisServer
from tbg_dagster.sensing import sensor
from tbg_dagster.standing import GONE, LOOKED
from tbg_dagster.timetable import JOBS

# Runs end in another order than their times are written: look again at the last while.
OVERLAP: Final = timedelta(seconds=60)
BATCH: Final = 200
CHANNELS: Final[list[Channel]] = ["redis", "outbox"]
# A step whose checks fail fails as well: the check is the news.
_CHECK_FAILED: Final = "DagsterAssetCheckFailedError"


@sensor(minimum_interval_seconds=30)
def alerts_sensor(
    context: dg.SensorEvaluationContext, database: Database, redis_server: RedisServer
) -> dg.SensorResult:
    """Failed runs and failing checks go to `mining:alerts` and to the notifier.

    Once when an incident begins, once more should a warning become an error, once when it is
    over. What a channel does not take
    waits for the next tick. An incident has its id from its beginning, so that
    a tick that is lost repeats nothing.
    """
    if context.cursor:
        state = State.model_validate_json(context.cursor)
    else:
        # What failed before the first look is history.
        state = State(runs_after=clock.now().timestamp())
    _runs(context.instance, state)
    _checks(context, state)
    if state.dropped:
        context.log.error(
            "%d alerts were dropped, as more than %d waited", state.dropped, MOST_WAITING
        )
    undelivered: list[Waiting] = []
    for channel in CHANNELS:
        waiting = [one for one in state.waiting if one.channel == channel]
        if waiting:
            undelivered += _send(context, channel, waiting, database, redis_server)
    state.waiting = undelivered
    return dg.SensorResult(
        skip_reason=f"{len(state.open)} incidents open, {len(undelivered)} alerts waiting, "
        f"{state.dropped} dropped",
        cursor=state.model_dump_json(),
    )


def _send(
    context: dg.SensorEvaluationContext,
    channel: Channel,
    waiting: Sequence[Waiting],
    database: Database,
    redis_server: RedisServer,
) -> Sequence[Waiting]:
    """Sends over one connection; returns what a channel that is away has not taken."""
    connect: AbstractContextManager[Any] = (
        database.connect() if channel == "outbox" else redis_server.connect()
    )
    done = 0
    try:
        with connect as connection:
            for one in waiting:
                alert = one.alert
                if channel == "outbox":
                    post(connection, f"{NOTIFY}incident", one.key, alert)
                else:
                    add_once(
                        connection,
                        ALERTS_STREAM,
                        one.key,
                        "hosted",
                        alert.timestamp,
                        alert.payload(),
                    )
                done += 1
                context.log.info("sent to %s: %s %s", channel, alert.state, printable(alert.title))
    except (dg.Failure, psycopg.Error, redis.RedisError) as error:
        left = len(waiting) - done
        context.log.error("%s is away, and %d alerts wait: %s", channel, left, error)
    return waiting[done:]


def _runs(instance: dg.DagsterInstance, state: State) -> None:
    """Observes runs that ended since the last look, in the order in which they ended."""
    after = datetime.fromtimestamp(state.runs_after, UTC) - OVERLAP
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
            updated_after=after,
        ),
        # Beyond those that are seen: however many end within the overlap, a look goes on.
        limit=len(state.seen_runs) + BATCH,
        order_by="update_timestamp",
        ascending=True,
    )
    seen = set(state.seen_runs)
    start = state.runs_after
    remembered = []
    for record in records:
        run = record.dagster_run
        ended = record.end_time or record.update_timestamp.timestamp()
        remembered.append(run.run_id)
        if run.run_id in seen or ended < start - OVERLAP.total_seconds():
            continue
        state.runs_after = max(state.runs_after, ended)
        name = run.job_name
        if run.asset_selection and name.startswith("__"):
            name = ", ".join(sorted(key.to_user_string() for key in run.asset_selection))
        named, partitions = _partitions(run)
        timestamp = int(ended * 1_000_000)
        if run.status == dg.DagsterRunStatus.SUCCESS:
            state.succeed(name, partitions, timestamp, CHANNELS)
        elif run.tags.get("dagster/will_retry") != "true" and not _of_a_check(instance, run):
            state.fail(
                Alert(
                    incident=f"run:{name}" + (f":{named}" if named else ""),
                    id=f"run:{run.run_id}",
                    state="firing",
                    title=f"runs of {name} fail" + (f" for {named}" if named else ""),
                    detail=f"run {run.run_id}" + (f", partition {named}" if named else ""),
                    timestamp=timestamp,
                ),
                partitions,
                CHANNELS,
            )
    state.seen_runs = remembered


def _of_a_check(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether nothing of a run failed but blocking checks."""
    failures = [
        entry.dagster_event.step_failure_data.error
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        if entry.dagster_event is not None
    ]
    return bool(failures) and all(
        error is not None and error.cls_name == _CHECK_FAILED for error in failures
    )


def _partitions(run: dg.DagsterRun) -> tuple[str, Sequence[str]]:
    """The partitions of a run: how they are named, and each; none of a run without."""
    single = run.tags.get("dagster/partition")
    if single:
        return single, [single]
    first = run.tags.get("dagster/asset_partition_range_start")
    last = run.tags.get("dagster/asset_partition_range_end")
    if not first or not last:
        return "", []
    definition = next(
        (job.partitions for job in JOBS if job.name == run.job_name and job.partitions), None
    )
    if definition is None:
        return f"{first}...{last}", [f"{first}...{last}"]
    return f"{first}...{last}", definition.get_partition_keys_in_range(
        dg.PartitionKeyRange(first, last)
    )


def _checks(context: dg.SensorEvaluationContext, state: State) -> None:
    """Observes the newest result of every check."""
    assert context.repository_def is not None
    keys = sorted(context.repository_def.asset_graph.asset_check_keys)
    latest = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    for key in keys:
        record = latest.get(key)
        # Planned or crashed: no verdict. A crashed run is reported as a failed run.
        evaluation = result_of(record) if record else None
        if record is None or evaluation is None:
            continue
        incident = f"check:{key.asset_key.to_user_string()}:{key.name}"
        if evaluation.passed:
            if not value_of(evaluation.metadata, LOOKED, True):
                continue  # it had nothing to look at, which mends nothing
            if incident in state.open and value_of(evaluation.metadata, GONE, []):
                context.log.warning(
                    "%s ends without a recovery: its data is gone", state.open[incident].title
                )
                state.forget(incident)
                continue
        # What is open has its beginning; it is observed again should it have become worse.
        known = evaluation.passed or incident in state.open
        first = None if known else first_failure(context.instance, key)
        state.observe(
            Alert(
                incident=incident,
                id=f"check:{(first or record).id}",
                state="recovered" if evaluation.passed else "firing",
                severity=evaluation.severity.value,
                title=f"check {key.name} of {key.asset_key.to_user_string()} fails",
                detail=evaluation.description or "",
                timestamp=int(record.create_timestamp * 1_000_000),
            ),
            CHANNELS,
        )
