"""Whether everything that came before a week's end has been counted."""

from datetime import date, timedelta
from typing import Any

import redis

from tbg_core.backlog import Waiting, find_places, waiting
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources import Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.weekly.week import bounds


def awaited(
    connection: Connection, client: "redis.Redis", thresholds: Thresholds, week: date
) -> Waiting | None:
    """What a writer must commit before the week is published; None when there is no need to wait.

    Raises:
        redis.RedisError: when Redis, which knows, does not answer.
    """
    if clock.now() >= bounds(week)[1] + timedelta(hours=thresholds.week_wait_hours):
        return None
    return _uncommitted(connection, client, week)


def completeness(connection: Connection, client: "redis.Redis", week: date) -> dict[str, Any]:
    """What a result says of it: ``complete``, and what was ``waiting`` where it is not.

    Raises:
        redis.RedisError: when Redis does not answer.
    """
    late = _uncommitted(connection, client, week)
    start, end = bounds(week)
    row = connection.execute(
        query(__package__, "uncounted.sql"), {"start": start, "end": end}
    ).fetchone()
    assert row is not None
    if late is None and not row["shares"]:
        return {"complete": True}
    return {
        "complete": False,
        "waiting": {
            "late_shares": row["shares"],
            **({"stream": late.stream, "since": late.since.isoformat()} if late else {}),
        },
    }


def _uncommitted(connection: Connection, client: "redis.Redis", week: date) -> Waiting | None:
    """The oldest entry that came before the week's end, if a writer has yet to commit it.

    By the ids of entries, which is when they came: an event that came later is a late one.
    """
    behind = waiting(find_places(connection), client)
    return behind[0] if behind and behind[0].since < bounds(week)[1] else None
