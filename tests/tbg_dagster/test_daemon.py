"""The real webserver and the real daemon, as tbg up and the compose file start them."""

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from bench.dagster_instance import dagster
from tbg.stack.embedded import free_port
from tests.tbg_dagster.conftest import Connection, History, last_monday


@pytest.mark.timeout(420)
def test_a_backfill_launched_through_graphql_is_run_by_the_daemon(
    connection: Connection,
    history: History,
    database_url: str,
    empty_database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    start = last_monday()
    history.shares(["a.1", "a.2", "b.1"], start, start + timedelta(days=1), 5000)
    hours = [f"{start + timedelta(hours=number):%Y-%m-%d-%H:%M}" for number in range(24)]
    environment = {
        "DAGSTER_PG_URL": empty_database_url,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "BITCOIN_RPC_URL": "http://127.0.0.1:1",
    }
    with dagster(tmp_path / "dagster", free_port(), environment) as running:
        running.stop_automation()
        with running.daemon():
            backfill = running.launch_backfill(["shares_hourly"], hours)
            running.wait_for_backfill(backfill, 300)
            # One range per run: the policy makes a week of hours one of them.
            with psycopg.connect(empty_database_url) as storage:
                runs = storage.execute("select count(*) from runs where status = 'SUCCESS'")
                assert runs.fetchone() == (1,)
    counted = connection.execute(
        "select count(*) as rows, sum(shares)::integer as shares from shares_hourly"
    ).fetchone()
    assert counted == {"rows": 72, "shares": 5000}
