"""The same on TimescaleDB."""

from tests.tbg_dagster.test_rollups import *  # noqa: F403
