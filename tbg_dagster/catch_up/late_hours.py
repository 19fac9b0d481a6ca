"""Hours with late shares that a rollup has not taken in yet."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

from tbg_core.periods import midnight
from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import without_raw
from tbg_dagster.weekly.week import dropped_days


@dataclass(frozen=True)
class LateHours:
    """What is to be computed again, and can be.

    Attributes:
        hourly: hours.
        daily: hours whose day is to be computed again.
        weekly: hours whose week is to be computed again.
        shares: late shares of the hours of each, settled or not.
    """

    hourly: list[datetime]
    daily: list[datetime]
    weekly: list[datetime]
    shares: dict[str, int]

    @classmethod
    def read(cls, connection: Connection, horizon: datetime) -> Self:
        """Reads them, in order. What lacks its raw shares is left out: nothing mends it.

        Args:
            connection: to the database.
            horizon: from when on raw shares are kept.
        """
        rows = connection.execute(
            query(__package__, "late_hours.sql"), {"horizon": horizon}
        ).fetchall()
        hours = [row["hour"] for row in rows if row["hourly"]]
        gone = without_raw(connection, hours) if hours else set()
        weeks = {_monday(row["hour"]) for row in rows if row["weekly"]}
        whole = {week for week in weeks if not dropped_days(connection, week)}
        return cls(
            hourly=[hour for hour in hours if hour not in gone],
            daily=[row["hour"] for row in rows if row["daily"]],
            weekly=[row["hour"] for row in rows if row["weekly"] and _monday(row["hour"]) in whole],
            shares={
                grain: sum(row["shares"] for row in rows if row[grain])
                for grain in ("hourly", "daily", "weekly")
            },
        )


def _monday(hour: datetime) -> date:
    return (midnight(hour.date()) - hour.weekday() * DAY).date()
