"""The same on TimescaleDB."""

from tests.tbg_dagster.test_receipts import *  # noqa: F403  # the same tests again, on TimescaleDB
