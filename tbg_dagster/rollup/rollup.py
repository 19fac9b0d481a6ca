"""The rollups on both flavours of the database: recomputing an hour or a day.

Plain PostgreSQL rebuilds tables; TimescaleDB refreshes continuous aggregates. Rollups are
kept for ever and raw shares are not, so on both an hour is computed only if that loses
nothing: it has no rollup yet, or its first and its last share are still there. Days are looked
at one by one, and no hour is taken for there because one on each side of it is: a day comes
back from the archive, a day is held back, and a late share makes an empty place for a day
that was dropped.

A refresh on TimescaleDB moves the watermark, and below the watermark only what was
materialised is shown. So a refresh never begins above it: what lay between would disappear
from the view. What lies above has no rollup that could be lost.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Literal, Protocol

import dagster as dg
import psycopg
from psycopg import sql

from tbg_core.flavour import Flavour, flavour_of
from tbg_core.periods import midnight
from tbg_dagster.partitions import DAY, HOUR
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup.raw import computable, incomplete, is_whole, read_up_to
from tbg_dagster.rollup.span import Span, bounds, joined

View = Literal["shares_hourly", "shares_daily"]


class Rollup(Protocol):
    """How a flavour of the database computes hours and days."""

    name: Flavour

    def raw_days(self, connection: Connection) -> list[date]:
        """The days (UTC) that have a place for raw shares, in order."""
        ...

    def refresh_hours(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        """Recomputes the hours that can be.

        Returns:
            The first start and the last end of what was computed, or None if there was
            nothing to do. Hours between them may have been left alone: see `incomplete`.
        """
        ...

    def refresh_days(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        """Recomputes the days from the hours, which are never dropped."""
        ...

    def has_day(self, connection: Connection, day: date) -> bool:
        """Whether a day has been computed."""
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
        read_up_to(connection, start, end)
        done: list[Span] = []
        for day in self.raw_days(connection):
            begin = midnight(day)
            # A transaction per day: short locks, and what is done is kept.
            for span in computable(connection, max(start, begin), min(end, begin + DAY)):
                with _named("shares_hourly", span):
                    connection.execute("select rebuild_shares_hourly(%s, %s)", span)
                done.append(span)
        return bounds(done)

    def refresh_days(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        # The hours are never dropped, so any day can be computed from them.
        with _named("shares_daily", (start, end)):
            connection.execute("select rebuild_shares_daily(%s, %s)", [start, end])
        return start, end

    def has_day(self, connection: Connection, day: date) -> bool:
        [row] = connection.execute(
            "select exists (select from shares_daily where bucket = %s) as computed",
            [midnight(day)],
        )
        return bool(row["computed"])


class TimescaleRollup:
    """Continuous aggregates, refreshed outside a transaction."""

    name: Flavour = "timescaledb"

    def raw_days(self, connection: Connection) -> list[date]:
        rows = connection.execute(query(__package__, "raw_days_timescaledb.sql")).fetchall()
        return [row["day"] for row in rows]

    def refresh_hours(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        read_up_to(connection, start, end)
        days = self.raw_days(connection)
        if not days or start >= end:
            return None
        watermark = _watermark(connection, "shares_hourly") or midnight(days[0])
        done = [
            span
            for day in days
            for span in computable(
                connection,
                max(start, midnight(day)),
                min(end, midnight(day) + DAY, watermark),
            )
        ]
        if end > watermark:
            done.append((watermark, end))
        for span in joined(done):
            _refresh(connection, "shares_hourly", span)
        return bounds(done)

    def refresh_days(self, connection: Connection, start: datetime, end: datetime) -> Span | None:
        watermark = _watermark(connection, "shares_daily")
        if watermark is None:
            row = connection.execute(query(__package__, "oldest_hours.sql")).fetchone()
            if row is None or row["oldest"] is None:
                return None
            watermark = row["oldest"]
        span = min(start, watermark), end
        if span[0] >= span[1]:
            return None
        _refresh(connection, "shares_daily", span)
        return span

    def has_day(self, connection: Connection, day: date) -> bool:
        watermark = _watermark(connection, "shares_daily")
        return watermark is not None and midnight(day) < watermark


def _watermark(connection: Connection, view: View) -> datetime | None:
    """Up to where a view shows materialised rows alone; None before its first refresh."""
    grain = "hours" if view == "shares_hourly" else "days"
    row = connection.execute(query(__package__, f"watermark_{grain}.sql")).fetchone()
    assert row is not None
    found: datetime | None = row["watermark"]
    return found


def _refresh(connection: Connection, view: View, span: Span) -> None:
    refresh = sql.SQL("call refresh_continuous_aggregate({}, {}, {})").format(
        sql.Literal(view), sql.Literal(span[0]), sql.Literal(span[1])
    )
    with _named(view, span):
        if view == "shares_hourly":
            connection.execute(query(__package__, "bound_shares.sql"), span)
        connection.execute(refresh)


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


def recompute(connection: Connection, start: datetime, end: datetime) -> Span | None:
    """Recomputes the hours of a span, and those of its days that had been computed from them."""
    rollup = rollup_of(connection)
    done = rollup.refresh_hours(connection, start, end)
    if done is not None:
        day = done[0].date()
        while midnight(day) < done[1]:
            if rollup.has_day(connection, day):
                rollup.refresh_days(connection, midnight(day), midnight(day) + DAY)
            day += DAY
    return done


def without_raw(connection: Connection, hours: Collection[datetime]) -> set[datetime]:
    """Those of the hours whose raw shares are gone: nothing computes them again."""
    kept = set(rollup_of(connection).raw_days(connection))
    gone = {hour for hour in hours if hour.date() not in kept}
    left = sorted(set(hours) - gone)
    for start, end in joined((hour, hour + HOUR) for hour in left):
        gone.update(incomplete(connection, start, end))
    return gone


def raw_spans(connection: Connection, start: datetime, end: datetime) -> Iterator[Span]:
    """The days of ``start`` to ``end`` of which every raw share is there."""
    for day in rollup_of(connection).raw_days(connection):
        begin = midnight(day)
        if start <= begin and begin + DAY <= end and is_whole(connection, day):
            yield begin, begin + DAY
