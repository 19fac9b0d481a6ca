"""The same on TimescaleDB."""

from tests.tbg_dagster.test_weekly_from_hours import *  # noqa: F403  # the same tests again, on TimescaleDB
