"""What is remembered of each target: what it took, what it refuses, and its pause.

A target that does not take a text is left alone for a while, whatever waits for it. A text
that it refuses for good is not sent to it again; one that it did not take now is, until the
message is too old.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

import psycopg
from psycopg.rows import DictRow

from tbg_notify.channel import Undelivered
from tbg_notify.targets import Target

FIRST_RETRY: Final = timedelta(seconds=5)
LONGEST_RETRY: Final = timedelta(minutes=10)
# A channel that was down for longer has lost what waited for it.
GIVE_UP: Final = timedelta(days=3)


def pause_after(failures: int) -> timedelta:
    """How long a target rests that has failed so often, one time after the other."""
    doublings = max(min(failures - 1, 20), 0)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)


def paused(connection: psycopg.Connection[DictRow], name: str, target: str, now: datetime) -> bool:
    """Whether a target is to be left alone now."""
    row = connection.execute(
        "select pause_until > %s as paused from alert_targets where route = %s and target = %s",
        [now, name, target],
    ).fetchone()
    return row is not None and bool(row["paused"])


def take(
    connection: psycopg.Connection[DictRow],
    name: str,
    target: Target,
    ids: Sequence[int],
) -> None:
    """Notes that a target has taken messages: it is well."""
    with connection.transaction():
        connection.execute(
            "delete from alert_targets where route = %s and target = %s", [name, target.key]
        )
        connection.execute(
            "update alert_deliveries set attempts = attempts + 1, "
            "taken_by = taken_by || %s::text where route = %s and message_id = any(%s)",
            [target.key, name, list(ids)],
        )


def refuse(
    connection: psycopg.Connection[DictRow],
    name: str,
    target: str,
    label: str,
    ids: Sequence[int],
    error: Undelivered,
    now: datetime,
) -> None:
    """Notes a refusal, and lets the target rest: for twice as long each time, or as it asks."""
    with connection.transaction():
        row = connection.execute(
            "select failures from alert_targets where route = %s and target = %s", [name, target]
        ).fetchone()
        failures = 1 + (row["failures"] if row else 0)
        connection.execute(
            "insert into alert_targets as t "
            "(route, target, label, failures, failing_from, pause_until, permanent, answer) "
            "values (%(route)s, %(target)s, %(label)s, %(failures)s, %(now)s, %(until)s, "
            "  %(permanent)s, %(answer)s) "
            "on conflict (route, target) do update set failures = excluded.failures, "
            "  pause_until = excluded.pause_until, permanent = excluded.permanent, "
            "  answer = excluded.answer, label = excluded.label",
            {
                "route": name,
                "target": target,
                "label": label,
                "failures": failures,
                "now": now,
                "until": now + max(pause_after(failures), error.rest or timedelta(0)),
                "permanent": error.permanent,
                "answer": str(error),
            },
        )
        connection.execute(
            "update alert_deliveries set attempts = attempts + 1, reason = %(answer)s, "
            "refused_by = case when %(permanent)s or planned_at < %(now)s - %(give_up)s "
            "  then refused_by || %(target)s::text else refused_by end "
            "where route = %(route)s and message_id = any(%(ids)s) and state = 'waiting'",
            {
                "answer": str(error),
                "permanent": error.permanent,
                "now": now,
                "give_up": GIVE_UP,
                "target": target,
                "route": name,
                "ids": list(ids),
            },
        )


def forget(connection: psycopg.Connection[DictRow], name: str, known: Collection[str]) -> None:
    """Forgets the targets that a route no longer has."""
    connection.execute(
        "delete from alert_targets where route = %s and target <> all(%s)", [name, list(known)]
    )
