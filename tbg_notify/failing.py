"""Targets for alerts that take no messages now, for ``tbg status``."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow


@dataclass(frozen=True)
class FailingChannel:
    """A target of a route for alerts that does not take messages.

    Attributes:
        target: its URL without secrets.
        since: of the first refusal, ISO 8601.
        permanent: it refuses for good; otherwise it is asked again.
        waiting: messages of the route that wait.
    """

    route: str
    target: str
    since: str
    permanent: bool
    answer: str
    waiting: int


def failing(database: psycopg.Connection[TupleRow]) -> list[FailingChannel]:
    """The targets that refuse, or do not answer, longest first."""
    rows = database.execute(
        "select t.route, t.label, to_char(t.failing_from at time zone 'UTC', "
        "  'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), t.permanent, coalesce(t.answer, ''), "
        "  (select count(*) from alert_deliveries d "
        "   where d.route = t.route and d.state = 'waiting') "
        "from alert_targets t order by t.failing_from, t.route, t.label"
    ).fetchall()
    return [FailingChannel(*row) for row in rows]
