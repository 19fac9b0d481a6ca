"""The sensor that reports failed runs and failing checks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
import requests
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from ingest.names import ALERTS_STREAM
from tbg_dagster import clock
from tbg_dagster.alerts.incidents import Alert, Channel, State
from tbg_dagster.outbox import NOTIFY, add_once, post
from tbg_dagster.resources import Database, RedisServer, Webhook

# Runs end in another order than their times are written: look again at the last while.
OVERLAP: Final = timedelta(seconds=60)
BATCH: Final = 200


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def alerts_sensor(
    context: dg.SensorEvaluationContext,
    database: Database,
    redis_server: RedisServer,
    webhook: Webhook,
) -> dg.SensorResult:
    """Failed runs and failing checks go to `mining:alerts`, the notifier and, if set, a webhook.

    Once when an incident begins, once when it is over. What a channel does not take
    waits for the next tick.
    """
    if context.cursor:
        state = State.model_validate_json(context.cursor)
    else:
        # What failed before the first look is history.
        state = State(runs_after=clock.now().timestamp())
    channels: list[Channel] = ["redis", "outbox"]
    if webhook.url:
        channels.append("webhook")
    for seen in [*_runs(context.instance, state), *_checks(context)]:
        state.observe(seen, channels)

    undelivered = []
    for waiting in state.waiting:
        try:
            _send(waiting.channel, waiting.alert, database, redis_server, webhook)
            context.log.info(
                "told %s: %s %s", waiting.channel, waiting.alert.state, waiting.alert.title
            )
        except (dg.Failure, requests.RequestException) as error:
            context.log.error("%s did not take an alert, which waits: %s", waiting.channel, error)
            undelivered.append(waiting)
    state.waiting = undelivered
    return dg.SensorResult(
        skip_reason=f"{len(state.open)} incidents open, {len(undelivered)} alerts waiting",
        cursor=state.model_dump_json(),
    )


def _send(
    channel: Channel,
    alert: Alert,
    database: Database,
    redis_server: RedisServer,
    webhook: Webhook,
) -> None:
    key, payload = f"alert:{alert.id}:{alert.state}", alert.model_dump()
    if channel == "webhook":
        webhook.send(payload)
    elif channel == "outbox":
        with database.connect() as connection:
            post(connection, f"{NOTIFY}incident", key, payload)
    else:
        with redis_server.connect() as client:
            add_once(client, ALERTS_STREAM, key, "hosted", alert.timestamp, payload)


def _runs(instance: dg.DagsterInstance, state: State) -> Iterator[Alert]:
    """Runs that ended since the last look, in the order in which they ended."""
    after = datetime.fromtimestamp(state.runs_after, UTC) - OVERLAP
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
            updated_after=after,
        ),
        limit=BATCH,
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
        failed = run.status == dg.DagsterRunStatus.FAILURE
        if failed and run.tags.get("dagster/will_retry") == "true":
            continue
        name = run.job_name
        if run.asset_selection and name.startswith("__"):
            name = ", ".join(sorted(key.to_user_string() for key in run.asset_selection))
        yield Alert(
            incident=f"run:{name}",
            id=f"run:{run.run_id}",
            state="firing" if failed else "recovered",
            title=f"runs of {name} fail",
            detail=f"run {run.run_id}" + _partition(run),
            timestamp=int(ended * 1_000_000),
        )
    state.seen_runs = remembered


def _partition(run: dg.DagsterRun) -> str:
    key = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start")
    return f", partition {key}" if key else ""


def _checks(context: dg.SensorEvaluationContext) -> Iterator[Alert]:
    """The newest result of every check."""
    assert context.repository_def is not None
    keys = sorted(context.repository_def.asset_graph.asset_check_keys)
    latest = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    for key in keys:
        record = latest.get(key)
        # Planned or crashed: no verdict. A crashed run is told as a failed run.
        if record is None or record.status not in (
            AssetCheckExecutionRecordStatus.SUCCEEDED,
            AssetCheckExecutionRecordStatus.FAILED,
        ):
            continue
        evaluation = record.evaluation
        assert evaluation is not None
        yield Alert(
            incident=f"check:{key.asset_key.to_user_string()}:{key.name}",
            id=f"check:{record.id}",
            state="recovered" if evaluation.passed else "firing",
            severity=evaluation.severity.value,
            title=f"check {key.name} of {key.asset_key.to_user_string()} fails",
            detail=evaluation.description or "",
            timestamp=int(record.create_timestamp * 1_000_000),
        )
