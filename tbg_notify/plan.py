"""Decides for each message and route: send, hold, or drop (quiet hours, rate limits)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
import structlog
from psycopg.rows import DictRow

from tbg_core.messages import NOTIFY
from tbg_core.names import WEEKLY_RESET_STREAM
from tbg_core.periods import midnight
from tbg_notify.collect import FRESH
from tbg_notify.kinds import WORKER_KINDS, Message, Worker, read
from tbg_notify.routes import Route

# After a message that names so many workers, the next waits and takes along what
# came meanwhile: an outage is noticed worker by worker, each by its own pace.
OUTAGE: Final = 10
OUTAGE_WAIT: Final = timedelta(minutes=15)
# The silence of a worker that flaps is sent if it lasts this much longer.
FLAPPING_WAIT: Final = timedelta(minutes=30)
BATCH: Final = 500
# The result of the last week is news however this database came by it.
LATEST_WEEK: Final = timedelta(days=7)

logger: structlog.stdlib.BoundLogger = structlog.get_logger("notify")


@dataclass(frozen=True)
class Routing:
    """What becomes of a message on a route; ``reason`` only if it is dropped or waits."""

    state: str
    reason: str | None
    workers: tuple[Worker, ...]
    due_at: datetime


@dataclass
class Memory:
    """What a route got already.

    Attributes:
        sent: messages of this day by worker, in the route's zone.
        outage: when its last message about many workers was.
        database_made: when this database was made, if a week is to be judged.
    """

    sent: Counter[str] = field(default_factory=Counter)
    outage: datetime | None = None
    database_made: datetime | None = None


Mutes = Sequence[Mapping[str, Any]]


def muted(worker: Worker, mutes: Mutes) -> bool:
    """Whether a mute that runs now covers the worker."""
    return any(
        mute["btc_address"] == worker.user
        and (mute["all_workers"] or mute["worker"] == worker.worker)
        for mute in mutes
    )


def judge(
    route: Route, message: Message, now: datetime, memory: Memory, mutes: Mutes
) -> Routing | None:
    """What becomes of a message on a route; None if the route does not want it."""
    if route.refuses(message) is not None:
        return None
    named = tuple(route.workers_of(message))
    if "weekly_result" in message.kinds and (why := _old_week(message, now, memory)):
        return Routing("dropped", why, named, now)
    if now - message.at > FRESH and "daily_digest" not in message.kinds:
        return Routing("dropped", "older than a day", named, now)
    if message.workers:
        named = tuple(one for one in named if not muted(one, mutes))
        if not named:
            return Routing("dropped", "muted", (), now)
        named = tuple(one for one in named if memory.sent[one.key] < route.cap)
        if not named:
            return Routing("dropped", f"limit of {route.cap} a day", (), now)
    due, reason = now, None
    if flaps(message) and "worker_offline" in message.kinds:
        due, reason = now + FLAPPING_WAIT, "flaps: told if it stays silent"
    elif message.workers and memory.outage and now - memory.outage < OUTAGE_WAIT:
        due, reason = memory.outage + OUTAGE_WAIT, "joins the next message of this outage"
    if route.quiet and not set(message.kinds) & set(route.wake):
        end = route.quiet.until(due, route.zone)
        if end > due:
            due, reason = end, "quiet hours"
    return Routing("waiting", reason, named, due)


def _old_week(message: Message, now: datetime, memory: Memory) -> str | None:
    """Why the result of a week is no news: an import brings weeks of long ago."""
    payload = message.payload
    if not payload["entrants"] and payload.get("kind") != "correction":
        return "nobody entered"
    monday = date.fromisoformat(payload["week_start"]) + timedelta(weeks=1)
    end = midnight(monday)
    if now - end > LATEST_WEEK and (memory.database_made is None or end <= memory.database_made):
        return "history: the week ended before this database was made"
    return None


_UNPLANNED: Final[LiteralString] = """
select id, stream, key, payload, created_at from outbox
where planned_at is null order by id limit %s for update skip locked
"""
_PLANNED: Final[LiteralString] = """
insert into alert_deliveries (message_id, route, state, reason, workers, planned_at, due_at)
values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""
_NOT_UNDERSTOOD: Final[LiteralString] = """
insert into dead_letters (received_at, stage, reason, detail, raw)
select %s, 'notifier', 'not_understood', %s || ': ' || %s, convert_to(payload::text, 'UTF8')
from outbox where id = %s
"""


def plan(
    connection: psycopg.Connection[DictRow], routes: Mapping[str, Route], now: datetime
) -> Counter[tuple[str, str]]:
    """Hands new messages to the routes; returns how many, by route and state.

    One transaction: a message is planned for all routes, or still new.
    """
    done: Counter[tuple[str, str]] = Counter()
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('tbg notify plan'))")
        rows = connection.execute(_UNPLANNED, [BATCH]).fetchall()
        if not rows:
            return done
        mutes = running_mutes(connection, now)
        memories = {name: remember(connection, name, route, now) for name, route in routes.items()}
        if any(row["stream"] == WEEKLY_RESET_STREAM for row in rows):
            [made] = connection.execute("select made_at from database_identity")
            for memory in memories.values():
                memory.database_made = made["made_at"]
        for row in rows:
            try:
                message = read(row)
                verdicts = [
                    (name, verdict)
                    for name, route in (routes.items() if message else ())
                    if message
                    and (verdict := judge(route, message, now, memories[name], mutes)) is not None
                ]
            except Exception as error:  # one that is no message holds up no other
                logger.error("a message is not understood", key=row["key"], error=repr(error))
                connection.execute(_NOT_UNDERSTOOD, [now, row["key"], repr(error)[:500], row["id"]])
                done["", "not understood"] += 1
                continue
            for name, verdict in verdicts:
                keys = [one.key for one in verdict.workers]
                connection.execute(
                    _PLANNED,
                    [row["id"], name, verdict.state, verdict.reason, keys, now, verdict.due_at],
                )
                done[name, verdict.state] += 1
                if verdict.state == "waiting":
                    memories[name].sent.update(keys)
                    if len(keys) >= OUTAGE and verdict.due_at == now:
                        memories[name].outage = now
        # Those for people alone are handed on; the others still go to Redis.
        connection.execute(
            "update outbox set planned_at = %(now)s, "
            "sent_at = case when starts_with(stream, %(ours)s) then %(now)s else sent_at end "
            "where id = any(%(ids)s)",
            {"now": now, "ours": NOTIFY, "ids": [row["id"] for row in rows]},
        )
    return done


def running_mutes(connection: psycopg.Connection[DictRow], now: datetime) -> list[DictRow]:
    """Mutes that run at this moment."""
    return connection.execute("select * from alert_mutes where until > %s", [now]).fetchall()


def remember(
    connection: psycopg.Connection[DictRow], name: str, route: Route, now: datetime
) -> Memory:
    """What a route got on this day of its zone."""
    midnight = now.astimezone(route.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    counts = connection.execute(
        "select worker, count(*) as messages from alert_deliveries, unnest(workers) as worker "
        "where route = %s and planned_at >= %s and state <> 'dropped' group by 1",
        [name, midnight],
    ).fetchall()
    outage = connection.execute(
        "select max(due_at) as at from alert_deliveries where route = %s and planned_at > %s "
        "and state <> 'dropped' and cardinality(workers) >= %s and due_at <= %s",
        [name, now - timedelta(days=1), OUTAGE, now],
    ).fetchone()
    assert outage is not None
    return Memory(Counter({row["worker"]: row["messages"] for row in counts}), outage["at"])


def flaps(message: Message) -> bool:
    """Whether it is the silence or return of workers that flap."""
    return bool(message.payload.get("flapping"))


def is_about_workers(message: Message) -> bool:
    """Whether it is sent together with others about workers."""
    return message.kinds[0] in WORKER_KINDS
