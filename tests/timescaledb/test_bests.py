"""The bests of one user on TimescaleDB, whose rollups are views."""

from datetime import UTC, datetime, timedelta

from tbg.bests import _QUERY
from tbg_dagster.rollup import rollup_of
from tests.tbg_dagster.conftest import History
from tests.timescaledb.server import Connection

HOUR = timedelta(hours=1)


def test_the_bests_of_one_user_cost_what_that_user_has(
    connection: Connection, history: History
) -> None:
    """Real-time views are no tables: where the rollups of all end is found in all rows."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = (now - 30 * HOUR).replace(hour=0)
    asked = {"period": "alltime", "scope": "user", "user": "ours", "most": 10}
    cost = []
    for others in (20, 200):
        names = ["ours.0", "ours.1", *(f"{others} {number}.w" for number in range(others))]
        history.shares(names, start, now + HOUR / 3, len(names) * 12)
        rollup = rollup_of(connection)
        rollup.refresh_hours(connection, start, now)
        rollup.refresh_days(connection, start, now.replace(hour=0))
        connection.execute("analyze")
        [row] = connection.execute(
            "explain (analyze, buffers, format json) " + _QUERY, asked
        ).fetchall()
        plan = row["QUERY PLAN"][0]["Plan"]
        cost.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    everybody = connection.execute(
        "select * from bests where period = 'alltime' and scope = 'user' and btc_address = 'ours'"
    ).fetchall()
    assert connection.execute(_QUERY, asked).fetchall() == everybody
    few, many = cost
    assert many < 3 * few, cost  # ten times as many others
