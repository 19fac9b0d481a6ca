"""Which workers went silent, judged by their own pace."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import DictRow

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.messages import NOTIFY, NamedWorker, WorkersAlert, WorkersNews
from tbg_core.names import ALERTS_STREAM
from tbg_core.outbox import post
from tbg_core.periods import ONLINE_WITHIN
from tbg_core.wording import counted, printable
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

# A worker that is there stays silent this long once in a million times: share times
# are a Poisson process, so the chance of a gap of t means is exp(-t).
MEANS_ALLOWED: Final = -math.log(1e-6)
LEAST_GAP: Final = timedelta(minutes=1)
MOST_GAP: Final = timedelta(days=1)
# Gaps between shares from which a worker's pace is taken; with fewer, the engine's averages.
ENOUGH_GAPS: Final = 20
# A worker that disconnected longer ago than this, unnoticed until now, is not reported.
FORGOTTEN: Final = timedelta(days=7)
# An alert names this many workers and counts the rest.
NAMED: Final = 20
# Naps in 24 hours from which a worker flaps.
FLAPPING_NAPS: Final = 6


@dataclass(frozen=True)
class Allowance:
    """How long a worker may be silent. ``expected`` is None where its pace is unknown."""

    expected: timedelta | None
    allowed: timedelta


@dataclass(frozen=True)
class Liveness:
    """What one look at the workers came to."""

    looked_at: int
    marked_offline: list[str]
    disconnected: int
    not_judged: list[str]
    alerted: int
    recovered: int


def allowance(difficulty: float | None, hashrate: float | None, fallback: timedelta) -> Allowance:
    """How long a worker of this share difficulty and hashrate (H/s) may be silent.

    A share takes difficulty * 2^32 hashes on average. Never under a minute, never
    over a day; ``fallback`` if the pace is unknown.
    """
    if not difficulty or not hashrate:
        return Allowance(None, max(fallback, LEAST_GAP))
    expected = difficulty * HASHES_PER_DIFFICULTY / hashrate
    if not 0 <= expected < math.inf:  # not a number, or a negative one
        return Allowance(None, max(fallback, LEAST_GAP))
    if expected > MOST_GAP.total_seconds():
        return Allowance(MOST_GAP, MOST_GAP)
    allowed = timedelta(seconds=expected * MEANS_ALLOWED)
    return Allowance(timedelta(seconds=expected), min(max(allowed, LEAST_GAP), MOST_GAP))


def mark_silent(
    connection: Connection, now: datetime, fallback: timedelta, debounce: timedelta
) -> Liveness:
    """Marks silent workers offline, and reports those that stay offline, and their return.

    An alert is written when a worker has been silent for ``debounce`` beyond its
    allowance, or has been gone for ``debounce`` after its last disconnect, once;
    and when it has been back for ``debounce``, once. One that comes back sooner is never
    reported. The messages are in the outbox.
    """
    marked: list[str] = []
    not_judged: list[str] = []
    known = {
        "now": now,
        "hashes": HASHES_PER_DIFFICULTY,
        "enough": ENOUGH_GAPS,
        "forgotten": FORGOTTEN,
        "fresh": timedelta(microseconds=ONLINE_WITHIN),
    }
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('tbg liveness'))")
        connection.execute(query(__package__, "unnamed.sql"), known)
        connection.execute(query(__package__, "returns.sql"), known)
        connection.execute(query(__package__, "connected.sql"), known)
        candidates = connection.execute(query(__package__, "ghosts.sql"), known).fetchall()
        silent: list[tuple[DictRow, Allowance]] = []
        allowed: list[tuple[int, float, float | None]] = []
        for row in candidates:
            try:
                limit = allowance(row["current_diff"], row["hashrate"], fallback)
                if now - row["last_seen"] > limit.allowed:
                    silent.append((row, limit))
                else:
                    seconds = limit.allowed.total_seconds()
                    allowed.append((row["worker_id"], seconds, row["current_diff"]))
            except (ArithmeticError, ValueError) as error:
                not_judged.append(f"{_name(row)}: {error}")
        for row, limit in silent:
            try:
                # Unforeseen numbers of one must not hide the others' silence.
                with connection.transaction():
                    if _mark(connection, row, limit, now):
                        marked.append(_name(row))
            except psycopg.DataError as error:
                not_judged.append(f"{_name(row)}: {error}")
        if allowed:
            workers, seconds_of, difficulties = zip(*allowed, strict=True)
            connection.execute(
                query(__package__, "allowances.sql"),
                {
                    "now": now,
                    "workers": list(workers),
                    "seconds": list(seconds_of),
                    "difficulties": list(difficulties),
                },
            )
        left = connection.execute(query(__package__, "left.sql"), known).rowcount
        connection.execute(query(__package__, "back.sql"), {"now": now})
        alerted = _tell(connection, "silent.sql", "firing", "offline", now, debounce)
        recovered = _tell(connection, "returned.sql", "recovered", "back", now, debounce)
        _tell_flapping(connection, now)
    return Liveness(len(candidates), marked, left, not_judged, alerted, recovered)


def _name(row: Mapping[str, Any]) -> str:
    """A worker as Dagster's log has it."""
    return printable(f"{row['user']}.{row['worker']}")


def _mark(connection: Connection, row: Mapping[str, Any], limit: Allowance, now: datetime) -> bool:
    """Marks a worker offline that has been silent for too long."""
    # Only if nothing came since it was read, and nothing is being written: the writer may be
    # marking it online. The row gets its true last share, so that a later one shows the return.
    done = connection.execute(
        "update workers set is_online = false, last_share = %(last_share)s "
        "where id = (select id from workers where id = %(worker_id)s for no key update skip locked) "
        "and is_online and last_share is not distinct from %(noted_share)s",
        row,
    )
    if done.rowcount == 0:
        return False
    connection.execute(
        query(__package__, "mark.sql"),
        {
            "worker": row["worker_id"],
            "since": row["last_seen"],
            "now": now,
            "expected": None if limit.expected is None else limit.expected.total_seconds(),
            "allowed": limit.allowed.total_seconds(),
        },
    )
    return True


def _tell(
    connection: Connection,
    name: str,
    state: Literal["firing", "recovered"],
    word: str,
    now: datetime,
    debounce: timedelta,
) -> int:
    rows = connection.execute(
        query(__package__, name), {"now": now, "debounce": debounce}
    ).fetchall()
    if rows:
        workers = [_named(row) for row in rows[:NAMED]]
        post(
            connection,
            ALERTS_STREAM,
            f"workers {word} {now.isoformat()}",
            WorkersAlert(
                state=state,
                incident="workers_offline",
                severity="WARN",
                title=f"{counted(len(rows), 'worker')} {word}",
                workers=workers,
                workers_total=len(rows),
            ),
        )
        # The notifier asks each route about each worker: it gets them all. Those that flap
        # get messages of their own, and later.
        flapping = {
            row["worker_id"] for row in connection.execute("select worker_id from worker_flaps")
        }
        for flaps in (False, True):
            named = [_named(row) for row in rows if (row["worker_id"] in flapping) is flaps]
            if named:
                post(
                    connection,
                    f"{NOTIFY}worker_{word}",
                    f"notify workers {word} {now.isoformat()}{' flapping' if flaps else ''}",
                    WorkersNews(workers=named, flapping=flaps, at=now.isoformat()),
                )
    return len(rows)


def _tell_flapping(connection: Connection, now: datetime) -> None:
    rows = connection.execute(
        query(__package__, "flapping.sql"), {"now": now, "least": FLAPPING_NAPS}
    ).fetchall()
    if rows:
        post(
            connection,
            f"{NOTIFY}worker_flapping",
            f"notify workers flapping {now.isoformat()}",
            WorkersNews(workers=[NamedWorker(**row) for row in rows], at=now.isoformat()),
        )


def _named(row: dict[str, Any]) -> NamedWorker:
    return NamedWorker(
        user=row["user"], worker=row["worker"], silent_since=row["silent_since"].isoformat()
    )
