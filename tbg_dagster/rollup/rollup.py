"""The rollups on both flavours of the database: recomputing an hour or a day.

Plain PostgreSQL rebuilds tables; TimescaleDB refreshes continuous aggregates,
which has traps of its own:

* A refresh moves the watermark, and below the watermark only what was
  materialised is shown. So a refresh must never begin above the watermark: what
  lay between would disappear from the view.
* A refresh of hours whose raw shares were dropped deletes their rollup. So it
  must never begin before the oldest raw share.

The same holds for the tables: only hours whose day still has raw shares are rebuilt.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Literal, Protocol

import dagster as dg
import psycopg
from psycopg import sql

from ingest.flavour import Flavour, flavour_of
from tbg_dagster.partitions import DAY, midnight
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

Span = tuple[datetime, datetime]
"""Start, and end, which is not included."""


class Rollup(Protocol):
    """How a flavour of the database computes hours and days."""

    name: Flavour

    def raw_days(self, connection: Connection) -> list[date]:
        """The days (UTC) that have a place for raw shares, in order."""
        ...

    def refresh_hours(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        """Recomputes the hours; returns the range, or None if there was nothing to do."""
        ...

    def refresh_days(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        """Recomputes the days from the hours; as ``refresh_hours``."""
        ...


def rollup_of(connection: Connection) -> Rollup:
    """The rollup of the database's flavour."""
    return TimescaleRollup() if flavour_of(connection) == "timescaledb" else PlainRollup()


class PlainRollup:
    """Tables that functions of the schema rebuild, a day at a time."""

    name: Flavour = "postgresql"

    def raw_days(self, connection: Connection) -> list[date]:
        rows = connection.execute(query(__package__, "raw_days_postgresql.sql")).fetchall()
        return [row["day"] for row in rows]

    def refresh_hours(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        done: list[Span] = []
        for day in self.raw_days(connection):
            begin = midnight(day)
            span = max(start, begin), min(end, begin + DAY)
            if span[0] < span[1]:
                # A transaction per day: short locks, and what is done is kept.
                with _named("shares_hourly", span):
                    connection.execute("select rebuild_shares_hourly(%s, %s)", span)
                done.append(span)
        return (done[0][0], done[-1][1]) if done else None

    def refresh_days(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        # The hours are never dropped, so any day can be computed from them.
        with _named("shares_daily", (start, end)):
            connection.execute("select rebuild_shares_daily(%s, %s)", [start, end])
        return start, end


class TimescaleRollup:
    """Continuous aggregates, refreshed outside a transaction."""

    name: Flavour = "timescaledb"

    def raw_days(self, connection: Connection) -> list[date]:
        rows = connection.execute(query(__package__, "raw_days_timescaledb.sql")).fetchall()
        return [row["day"] for row in rows]

    def refresh_hours(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        return self._refresh(connection, "shares_hourly", "watermark_hours.sql", start, end)

    def refresh_days(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        return self._refresh(connection, "shares_daily", "watermark_days.sql", start, end)

    def _refresh(
        self,
        connection: Connection,
        view: Literal["shares_hourly", "shares_daily"],
        state: str,
        start: datetime,
        end: datetime,
    ) -> Span | None:
        row = connection.execute(query(__package__, state)).fetchone()
        if row is None or row["oldest"] is None:
            return None
        oldest: datetime = row["oldest"]
        watermark: datetime = row["watermark"] or oldest
        # From the watermark where that lies before: see the top of this module.
        span = max(min(start, watermark), oldest), end
        if span[0] >= span[1]:
            return None
        with _named(view, span):
            connection.execute(
                sql.SQL("call refresh_continuous_aggregate({}, {}, {})").format(
                    sql.Literal(view), sql.Literal(span[0]), sql.Literal(span[1])
                )
            )
        return span


@contextmanager
def _named(table: str, span: Span) -> Iterator[None]:
    """Says what could not be computed: a run holds many partitions."""
    try:
        yield
    except psycopg.Error as error:
        raise dg.Failure(
            f"{table}: {span[0]:%F %H:%M} to {span[1]:%F %H:%M} UTC was not computed; what the "
            f"run holds before it is kept, and computing it again is safe: {error}"
        ) from error


def raw_spans(connection: Connection, start: datetime, end: datetime) -> Iterator[Span]:
    """The days of ``start`` to ``end`` whose raw shares have not been dropped."""
    for day in rollup_of(connection).raw_days(connection):
        begin = midnight(day)
        if start <= begin and begin + DAY <= end:
            yield begin, begin + DAY


def oldest_raw(connection: Connection) -> datetime | None:
    """The start of the earliest partition for raw shares; None without partitions."""
    days = rollup_of(connection).raw_days(connection)
    return midnight(days[0]) if days else None
