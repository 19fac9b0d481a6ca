"""Watches Dagster: with its daemon dead it cannot report that itself.

Its sensor reports failed runs and failing checks (tbg_dagster/alerts). This reads the
heartbeats and the waiting runs in Dagster's own database, with the words of ``tbg status``.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tbg.health import Findings
from tbg_dagster.outbox import NOTIFY, post

# It is back when it has been well for so long: one beat of a daemon that dies again is no news.
SETTLED: Final = timedelta(minutes=2)
_TITLES: Final = {"daemon": "Dagster's daemon is sick", "runs": "Dagster's runs do not start"}


def watch(connection: psycopg.Connection[DictRow], found: Findings, now: datetime) -> int:
    """Posts what fell sick, and what is well again, once each; returns how many messages.

    The mark and the message commit together, so two notifiers tell it once.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('tbg notify watch'))")
        return sum(
            _observe(connection, thing, problems, now)
            for thing, problems in (("daemon", found.daemon), ("runs", found.waiting))
        )


def _observe(
    connection: psycopg.Connection[DictRow], thing: str, problems: Sequence[str], now: datetime
) -> bool:
    subject = f"dagster:{thing}"
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
    connection: psycopg.Connection[DictRow], subject: str, state: str, since: str, detail: str
) -> bool:
    return post(
        connection,
        f"{NOTIFY}incident",
        f"notify {subject} {since} {state}",
        {
            "state": state,
            "incident": subject,
            "severity": "ERROR",
            "title": _TITLES[subject.partition(":")[2]],
            "detail": detail,
        },
    )
