"""The same on TimescaleDB."""

from tests.tbg_dagster.test_ledger import *  # noqa: F403  # the same tests again, on TimescaleDB
