"""Watches what cannot report itself: Dagster with a dead daemon, a silent node, a full disk.

Dagster's sensor reports failed runs and failing checks (tbg_dagster/alerts). This reads the
heartbeats and the waiting runs in Dagster's own database, and asks the node and the disk, with the
words of ``tbg status``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tbg_core.dagster_health import Findings
from tbg_core.messages import NOTIFY, Incident
from tbg_core.outbox import post

# It is back when it has been well for so long: one beat of a daemon that dies again is no news.
SETTLED: Final = timedelta(minutes=2)
_TITLES: Final = {
    "dagster:daemon": "Dagster's daemon is sick",
    "dagster:runs": "Dagster's runs do not start",
    "machine:node": "The Bitcoin node does not answer",
    "machine:disk": "The disk is nearly full",
}


def watch(
    connection: psycopg.Connection[DictRow],
    dagster: Findings,
    now: datetime,
    machine: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Posts what fell sick, and what is well again, once each; returns how many messages.

    The mark and the message commit together, so of two notifiers one posts them.

    Args:
        dagster: what Dagster's database says.
        machine: what is wrong with the ``node`` and the ``disk``, of those that are watched.
    """
    subjects = {"dagster:daemon": dagster.daemon, "dagster:runs": dagster.waiting}
    subjects |= {f"machine:{thing}": found for thing, found in (machine or {}).items()}
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('tbg notify watch'))")
        return sum(
            _observe(connection, subject, problems, now) for subject, problems in subjects.items()
        )


def _observe(
    connection: psycopg.Connection[DictRow], subject: str, problems: Sequence[str], now: datetime
) -> bool:
    mark = connection.execute(
        "select value ->> 'since' as since, told_at as last_sick from alert_marks "
        "where subject = %s",
        [subject],
    ).fetchone()
    if problems:
        since = mark["since"] if mark else now.isoformat()
        connection.execute(
            "insert into alert_marks (subject, value, told_at) values (%s, %s, %s) "
            "on conflict (subject) do update set told_at = excluded.told_at",
            [subject, Jsonb({"since": since}), now],
        )
        if mark:
            return False
        return _tell(connection, subject, "firing", since, "; ".join(problems))
    if mark is None or now - mark["last_sick"] < SETTLED:
        return False
    connection.execute("delete from alert_marks where subject = %s", [subject])
    return _tell(connection, subject, "recovered", mark["since"], "")


def _tell(
    connection: psycopg.Connection[DictRow],
    subject: str,
    state: Literal["firing", "recovered"],
    since: str,
    detail: str,
) -> bool:
    return post(
        connection,
        f"{NOTIFY}incident",
        f"notify {subject} {since} {state}",
        Incident(
            state=state,
            incident=subject,
            severity="ERROR",
            title=_TITLES[subject],
            detail=detail,
        ),
    )
