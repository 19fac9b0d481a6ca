"""What a look at the bests costs does not grow with the miners that it is not about."""

from datetime import UTC, datetime, timedelta

import pytest

from tbg_notify import collect
from tests.tbg_dagster.conftest import Connection, History


def others(connection: Connection, first: int, last: int) -> None:
    """Miners with a connection, and with a best of their session each quarter of an hour."""
    span = {"first": first, "last": last}
    connection.execute(
        "insert into users (btc_address) select 'u' || n from generate_series(%(first)s::int, "
        "%(last)s) n",
        span,
    )
    connection.execute(
        "insert into workers (user_id, worker_name, first_seen) "
        "select id, 'w', now() from users where btc_address like 'u%%' on conflict do nothing"
    )
    connection.execute(
        "insert into mining_events (time, event, payload) "
        "select now() - k * interval '15 minutes', 'share_best_diff', jsonb_build_object('user', "
        "'u' || n, 'worker', 'w', 'new_best_diff', 5, 'period', 'session') "
        "from generate_series(%(first)s::int, %(last)s) n, generate_series(0, 20) k",
        span,
    )
    connection.execute("analyze")


@pytest.mark.plain_postgresql
def test_the_record_of_one_worker_costs_what_that_worker_did(
    connection: Connection, history: History
) -> None:
    now = datetime.now(UTC)
    history.days(now - timedelta(days=1), now)
    _, worker = history.worker("mine.w")
    cost = []
    for first, last in ((1, 100), (101, 1600)):
        others(connection, first, last)
        [row] = connection.execute(
            "explain (analyze, buffers, format json) " + collect._RECORD,
            {"worker": worker, "best": 5.0},
        ).fetchall()
        plan = row["QUERY PLAN"][0]["Plan"]
        cost.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    few, many = cost
    assert many < few + 100, cost  # of sixteen times as many miners
