"""The same on TimescaleDB."""

from tests.tbg_dagster.test_archive import *  # noqa: F403
