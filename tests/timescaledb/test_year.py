"""The same on TimescaleDB."""

from tests.tbg_dagster.test_year import *  # noqa: F403  # the same test again, on TimescaleDB
