"""What became of the messages to people."""

from datetime import timedelta

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.columns import columns
from tbg_dagster.resources import Database


@dg.asset(
    deps=["blocks", "worker_liveness", "weekly_leaderboard"],
    group_name="alerts",
    owners=["team:data"],
    kinds={"postgres"},
    metadata=columns(
        message_id=("bigint", "outbox.id"),
        route=("text", "its name in alerts.yml"),
        state=("text", "waiting, sent, dropped or failed"),
        reason=("text", "why it was dropped, or the channel's last answer"),
        workers=("text[]", "that the message names on this route"),
        planned_at=("timestamptz", "when the notifier read it"),
        due_at=("timestamptz", "when it may be sent"),
        attempts=("integer", "that the channel was asked"),
        sent_at=("timestamptz", "when the channel took it"),
    ),
)
def alert_deliveries(database: Database) -> dg.MaterializeResult[None]:
    """Messages to people by route: sent, waiting, kept back and failed, of the last day.

    The notifier writes the table; this counts it. Nothing sub-minute belongs in Dagster.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "select route, count(*) filter (where state = 'sent') as sent, "
            "count(*) filter (where state = 'waiting') as waiting, "
            "count(*) filter (where state = 'dropped') as dropped, "
            "count(*) filter (where state = 'failed') as failed, "
            "max(reason) filter (where state = 'waiting' and attempts > 0) as last_answer "
            "from alert_deliveries where planned_at > %s or state = 'waiting' "
            "group by route order by route",
            [clock.now() - timedelta(days=1)],
        ).fetchall()
    states = ("sent", "waiting", "dropped", "failed")
    return dg.MaterializeResult(
        metadata={
            **{state: sum(row[state] for row in rows) for state in states},
            "routes": dg.MetadataValue.table(
                [dg.TableRecord({**row, "last_answer": row["last_answer"] or ""}) for row in rows],
                None if rows else dg.TableSchema([]),
            ),
        }
    )
