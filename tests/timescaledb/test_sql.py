"""Every statement of the batch side, every check and every view runs on TimescaleDB."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import psycopg
import pytest
import redis
from psycopg import sql

import tbg_dagster
from tbg_core.names import week_start
from tbg_dagster.definitions import defs
from tbg_dagster.rollup import rollup_of
from tbg_dagster.weekly.week import bounds, finalise
from tests.tbg_dagster.conftest import History
from tests.timescaledb.server import Connection

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW: Final = datetime.now(UTC)
THIS_HOUR: Final = NOW.replace(minute=0, second=0, microsecond=0)
TODAY: Final = THIS_HOUR.replace(hour=0)
LAST_WEEK: Final = week_start(NOW) - timedelta(days=7)

# What the statements are given, by the name of the parameter.
VALUES: Final[dict[str, Any]] = {
    "allowed": 60.0,
    "computed": [THIS_HOUR],
    "days": 7,
    "debounce": timedelta(minutes=5),
    "end": THIS_HOUR,
    "enough": 20,
    "expected": 4.0,
    "first": LAST_WEEK,
    "forgotten": 7 * DAY,
    "fresh": timedelta(minutes=10),
    "hashes": 2.0**32,
    "horizon": LAST_WEEK,
    "hour": THIS_HOUR - HOUR,
    "hours": [THIS_HOUR - HOUR, THIS_HOUR],
    "least": 3,
    "most": 10,
    "needed": 100,
    "now": NOW,
    "origin": "another-database",
    "rejected_final": DAY,
    "since": NOW,
    "start": TODAY - 14 * DAY,
    "tip": 900_000,
    "tolerance": timedelta(minutes=10),
    "uncounted": [LAST_WEEK],
    "users": [1],
    "week": LAST_WEEK,
    "worker": 1,
    "difficulties": [1.0],
    "seconds": [60.0],
    "workers": [1],
    "again": [THIS_HOUR],
    "high": 10,
    "instance": "pool/1",
    "instance_id": 1,
    "low": 1,
    "with_rows": [TODAY.date()],
}


@pytest.fixture
def played(connection: Connection, history: History, client: redis.Redis) -> None:
    """Last week's first day and the hours before this one, rolled up, and the week closed."""
    monday, _ = bounds(LAST_WEEK)
    history.shares(["a.1", "a.2", "b.1"], monday, monday + DAY, 600)
    history.shares(["a.1", "b.1"], THIS_HOUR - 5 * HOUR, THIS_HOUR, 300)
    history.block("a.1", 100, "00" * 32)
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, monday, THIS_HOUR)
    rollup.refresh_days(connection, monday, TODAY)
    finalise(connection, LAST_WEEK)
    history.bests(client)


@pytest.mark.usefixtures("played")
def test_every_statement_runs(connection: Connection) -> None:
    refused: dict[str, str] = {}
    folder = Path(tbg_dagster.__file__).parent
    files = [path for path in folder.rglob("*.sql") if not path.stem.endswith("_postgresql")]
    assert len(files) > 20
    for path in files:
        # The one name that is filled in: of either rollup.
        text = path.read_text(encoding="utf-8").replace("{rollup}", "shares_hourly")
        names = re.findall(r"%\((\w+)\)s", text)
        unknown = set(names) - set(VALUES)
        assert not unknown, f"{path.name}: give its parameters {unknown} a value in VALUES"
        values = VALUES if names else [LAST_WEEK] * len(re.findall(r"(?<!%)%s", text))
        try:
            with connection.transaction(force_rollback=True):
                # What the archive reads first, in the same transaction.
                staging = path.with_name("staging.sql")
                if staging.exists() and staging != path:
                    connection.execute(staging.read_bytes())
                connection.execute(text.encode(), values or None)
        except psycopg.Error as error:
            refused[f"{path.relative_to(folder)}"] = str(error)
    assert refused == {}


def checked(resources: dict[str, Any], instance: dg.DagsterInstance) -> dict[str, bool]:
    """Whether each check of the code location passes."""
    definitions = dg.Definitions(
        assets=defs.assets,
        asset_checks=defs.asset_checks,
        jobs=[dg.define_asset_job("every_check", dg.AssetSelection.all_asset_checks())],
        executor=defs.executor,
        resources=resources,
    )
    result = definitions.resolve_job_def("every_check").execute_in_process(
        instance=instance, raise_on_error=False
    )
    found = {item.check_name: item.passed for item in result.get_asset_check_evaluations()}
    assert set(found) == {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    return found


def falsify(connection: Connection, view: str) -> None:
    """Adds a share to every row of a rollup that was materialised."""
    table = connection.execute(
        "select materialization_hypertable_schema as schema, "
        "materialization_hypertable_name as name "
        "from timescaledb_information.continuous_aggregates where view_name = %s",
        [view],
    ).fetchone()
    assert table is not None
    connection.execute(
        sql.SQL("update {} set shares = shares + 1, accepted = accepted + 1").format(
            sql.Identifier(table["schema"], table["name"])
        )
    )


@pytest.mark.usefixtures("played")
def test_every_check_passes_on_what_is_right_and_finds_rollups_that_are_not(
    connection: Connection,
    resources: dict[str, Any],
    instance: dg.DagsterInstance,
) -> None:
    good = checked(resources, instance)
    # Dagster itself has computed nothing here.
    assert {name for name, passed in good.items() if not passed} == {"partitions_are_there"}

    falsify(connection, "shares_hourly")
    bad = checked(resources, instance)
    assert {name for name, passed in bad.items() if not passed} == {
        "partitions_are_there",
        "hours_equal_raw_shares",
        "days_equal_hours",
        "weeks_equal_hours",
    }


def test_every_view_answers(connection: Connection, history: History) -> None:
    time = datetime(2026, 11, 2, 12, tzinfo=UTC)
    history.share("alice.rig", time, share_hash=b"\x00\xff", nonce=b"\x01", seq=1)
    views = connection.execute(
        "select c.oid::regclass::text as name from pg_class c "
        "where relnamespace = 'public'::regnamespace and relkind = 'v' and not exists "
        "(select from pg_depend d where d.objid = c.oid and d.deptype = 'e')"
    ).fetchall()
    found = {
        view["name"]: connection.execute(
            sql.SQL("select * from {}").format(sql.Identifier(view["name"]))
        ).fetchall()
        for view in views
    }
    assert found.keys() >= {
        "shares_hex",
        "ledger_hours",
        "user_bests",
        "shares_hourly",
        "shares_daily",
    }
    (share,) = found["shares_hex"]
    assert (share["btc_address"], share["worker_name"]) == ("alice", "rig")
    assert (share["share_hash"], share["nonce"], share["nonce2"]) == ("00ff", "01", None)
    assert [row["bucket"] for row in found["shares_hourly"]] == [time]
    assert [row["bucket"].date() for row in found["shares_daily"]] == [date(2026, 11, 2)]
    assert [row["btc_address"] for row in found["user_bests"]] == ["alice"]
