"""Engines whose clocks are wrong: what their events touch waits for a person."""

from datetime import timedelta
from typing import Final

from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

# A clock that is less wrong than this moves a share into another week for minutes only.
TOLERANCE: Final = timedelta(minutes=10)


def note(connection: Connection) -> int:
    """Notes the hours that wrong clocks have touched; returns how many are new.

    Safe to repeat: what was noted before stays as it was decided.
    """
    return connection.execute(
        query(__package__, "skew.sql"), {"now": clock.now(), "tolerance": TOLERANCE}
    ).rowcount
