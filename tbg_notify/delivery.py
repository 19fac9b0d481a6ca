"""One route's deliveries: at least once, in order of urgency, its own delays only.

A message counts as sent when the channel has taken it. A crash between the two repeats it;
none is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

import psycopg
import structlog
from psycopg.rows import DictRow

from tbg_notify.channel import Undelivered, targets
from tbg_notify.parcels import Packed, pack
from tbg_notify.pauses import forget, paused, refuse, take
from tbg_notify.routes import Route
from tbg_notify.targets import Target, without
from tbg_notify.text import Text

# Stands for a route whose URL cannot be made, because a secret is not there.
NO_TARGET: Final = ""
NOTHING_LEFT: Final = "muted, or nothing to tell"

_DUE: Final[LiteralString] = """
select d.message_id, d.workers, d.attempts, d.planned_at, d.taken_by, d.refused_by,
    o.id, o.stream, o.key, o.payload, o.created_at
from alert_deliveries d
join outbox o on o.id = d.message_id
where d.route = %s and d.state = 'waiting' and d.due_at <= %s
order by o.stream <> 'notify:block_found', d.message_id
"""

Send = Callable[[Target, Text], None]

logger: structlog.stdlib.BoundLogger = structlog.get_logger("notify")


@dataclass
class Result:
    """What one round of a route came to, in messages."""

    sent: int = 0
    dropped: int = 0
    failed: int = 0
    unreadable: int = 0
    error: str | None = None


def deliver(
    connection: psycopg.Connection[DictRow], name: str, route: Route, now: datetime, send: Send
) -> Result:
    """Sends what is due on a route, to each target until it refuses a text."""
    with connection.transaction():
        # Two notifiers must not send the same at once.
        held = connection.execute(
            "select pg_try_advisory_lock(hashtext('tbg notify'), hashtext(%s)) as held", [name]
        ).fetchone()
    assert held is not None
    if not held["held"]:
        return Result()
    try:
        return _deliver(connection, name, route, now, send)
    finally:
        connection.execute(
            "select pg_advisory_unlock(hashtext('tbg notify'), hashtext(%s))", [name]
        )


def _deliver(
    connection: psycopg.Connection[DictRow], name: str, route: Route, now: datetime, send: Send
) -> Result:
    rows = connection.execute(_DUE, [name, now]).fetchall()
    result = Result()
    if not rows:
        return result
    if paused(connection, name, NO_TARGET, now):
        return result
    try:
        found = targets(route)
    except Undelivered as error:
        ids = [row["id"] for row in rows]
        refuse(connection, name, NO_TARGET, "the route's URL", ids, error, now)
        result.failed = _settle(connection, name, ids, [NO_TARGET], None, now)[1]
        result.error = str(error)
        return result
    forget(connection, name, [one.key for one in found])
    packed = pack(connection, name, route, rows, now)
    result.unreadable = _set_aside(connection, name, packed.unreadable, now)
    result.dropped = _settle(connection, name, packed.silent, [], NOTHING_LEFT, now)[2]
    for target in found:
        if not paused(connection, name, target.key, now):
            _serve(connection, name, route, target, rows, packed, now, send, result)
    left = [row["id"] for row in rows]
    sent, failed, _ = _settle(connection, name, left, [one.key for one in found], None, now)
    result.sent, result.failed = sent, failed
    return result


def _serve(
    connection: psycopg.Connection[DictRow],
    name: str,
    route: Route,
    target: Target,
    rows: Sequence[DictRow],
    packed: Packed,
    now: datetime,
    send: Send,
    result: Result,
) -> None:
    """Sends a target what it has not had, until it refuses a text."""
    over = {*packed.silent, *packed.unreadable}
    wanting = [
        row
        for row in rows
        if row["id"] not in over and target.key not in {*row["taken_by"], *row["refused_by"]}
    ]
    if len(wanting) + len(over) < len(rows):
        packed = pack(connection, name, route, wanting, now)
    tries = {row["id"]: row["attempts"] for row in wanting}
    # One that the channel never takes must not stand before the others.
    for parcel in sorted(packed.parcels, key=lambda one: max(tries[id_] for id_ in one.messages)):
        try:
            send(target, parcel.text)
        except Undelivered as error:
            refuse(connection, name, target.key, target.label, parcel.messages, error, now)
            result.error = result.error or str(error)
            return
        except Exception as error:  # whatever a text makes of a service's code
            why = {id_: without(repr(error), target.secrets) for id_ in parcel.messages}
            result.unreadable += _set_aside(connection, name, why, now)
            continue
        take(connection, name, target, parcel.messages)


def _settle(
    connection: psycopg.Connection[DictRow],
    name: str,
    ids: Sequence[int],
    targets: Sequence[str],
    reason: str | None,
    now: datetime,
) -> tuple[int, int, int]:
    """Ends what no target waits for; returns how many were sent, failed and dropped."""
    rows = connection.execute(
        "update alert_deliveries set reason = coalesce(%(reason)s, reason), "
        "  state = case when taken_by <> '{}' then 'sent' "
        "    when refused_by <> '{}' then 'failed' else 'dropped' end, "
        "  sent_at = case when taken_by <> '{}' then %(now)s::timestamptz end "
        "where route = %(route)s and message_id = any(%(ids)s) and state = 'waiting' "
        "  and taken_by || refused_by @> %(targets)s returning state",
        {
            "reason": reason,
            "now": now,
            "route": name,
            "ids": list(ids),
            "targets": list(targets),
        },
    ).fetchall()
    states = [row["state"] for row in rows]
    return states.count("sent"), states.count("failed"), states.count("dropped")


def _set_aside(
    connection: psycopg.Connection[DictRow], name: str, why: Mapping[int, str], now: datetime
) -> int:
    """Makes dead letters of messages that cannot be sent on a route; returns how many."""
    with connection.transaction():
        for id_, error in why.items():
            logger.error("a message cannot be told", route=name, message=id_, error=error)
            connection.execute(
                "with failed as ("
                "  update alert_deliveries set state = 'failed', reason = %(why)s"
                "  where route = %(route)s and message_id = %(id)s and state = 'waiting'"
                "  returning message_id"
                ") insert into dead_letters (received_at, stage, reason, detail, raw) "
                "select %(now)s, 'notifier', 'not_told', o.key || ' on ' || %(route)s || ': ' "
                "  || %(why)s, convert_to(o.payload::text, 'UTF8') "
                "from failed join outbox o on o.id = failed.message_id",
                {"why": f"cannot be told: {error}"[:500], "route": name, "id": id_, "now": now},
            )
    return len(why)
