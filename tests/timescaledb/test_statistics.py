"""The same on TimescaleDB."""

from tests.tbg_dagster.test_statistics import *  # noqa: F403
