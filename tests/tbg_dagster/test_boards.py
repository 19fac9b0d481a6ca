"""Grafana's boards of the database: every panel's query runs, and shows what is there."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tbg_dagster import clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

MONITORING = Path(__file__).resolve().parent.parent.parent / "monitoring/grafana"
BOARDS = {
    name: json.loads((MONITORING / f"dashboards/{name}.json").read_text("utf-8"))
    for name in ("pool", "hall", "miner", "ledger")
}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]


def shown(connection: Connection, text: str, user: str) -> list[dict[str, Any]]:
    """What a query gives for the last two weeks, its macros expanded as Grafana does it."""
    monday = last_monday()
    span = [psycopg.sql.Literal(monday), psycopg.sql.Literal(monday + timedelta(days=14))]
    start, end = (item.as_string(connection) for item in span)
    text = re.sub(
        r"\$__timeFilter\(((?:[^()]|\([^()]*\))*)\)", rf"\1 between {start} and {end}", text
    )
    text = text.replace("${user:sqlstring}", psycopg.sql.Literal(user).as_string(connection))
    assert "$" not in text
    with connection.transaction():
        connection.execute("set transaction read only")
        return connection.execute(psycopg.sql.SQL(text)).fetchall()


@pytest.mark.parametrize("user", ["a", "o'brien\\", ""])
def test_every_query_runs_on_an_empty_database_and_for_any_address(
    connection: Connection, user: str
) -> None:
    for _, panel in PANELS:
        for target in panel["targets"]:
            shown(connection, target["rawSql"], user)


def test_every_panel_shows_something_of_a_pool_that_mined(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    history.shares(["a.1", "a.", "b.1"], monday, monday + timedelta(days=1), 500)
    history.block("a.1", 5, "ab" * 32, monday + timedelta(hours=1), "confirmed")
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('aa', 1, 864000, %s)",
        [monday],
    )
    connection.execute(
        "insert into dead_letters (received_at, stage, reason, detail, raw) "
        "values (%s, 'receiver', 'json', '', '')",
        [monday],
    )
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) "
        "values ('pool/1', 10, '{[4,5)}')"
    )
    connection.execute(
        "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
        "select id, %s, 9, 1, 10, 9 from engine_instances",
        [monday],
    )
    user = history.worker("a.1")[0]
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "select %s, week, 5, now() from unnest(%s::date[]) as week",
        [user, [last_monday(0).date(), last_monday(-1).date()]],  # whichever runs at the end
    )
    key = f"{monday:%Y-%m-%d}"
    run("hourly_rollup", f"{key}-00:00", f"{key}-23:00")
    run("daily_rollup", key)
    run("close_ledger", f"{key}-00:00")
    history.share("a.1", clock.now() - timedelta(minutes=1))
    run("odds")
    week = {
        "entrants": 1,
        "proven": True,
        "winner": {"user": "a", "worker": "1", "best_difficulty": 9.5},
    }
    connection.execute(
        "insert into weekly_publications (week_start, revision, result) values (%s, 1, %s)",
        [monday.date(), json.dumps(week)],
    )
    for name, panel in PANELS:
        for target in panel["targets"]:
            rows = shown(connection, target["rawSql"], "a")
            assert rows, f"{name}: {panel['title']}"
            if target["format"] == "time_series":
                assert "time" in rows[0], panel["title"]


def test_luck_is_the_work_that_a_block_takes_over_the_work_since_the_one_before(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    half = timedelta(minutes=30)
    for number in range(12):  # 100 of work each half hour, from 00:15 to 05:45
        history.share("a.1", monday + half / 2 + number * half, difficulty=100.0)
    history.share("a.1", monday + half, difficulty=5000.0, reject="stale")
    key = f"{monday:%Y-%m-%d}"
    run("hourly_rollup", f"{key}-00:00", f"{key}-23:00")
    found = {  # minutes after midnight, and the work since the block before
        40: 100, 50: 100, 52: None, 240: 600, 360: 400,
    }  # fmt: skip
    for height, minutes in enumerate(found):
        history.block("a.1", height, f"{height:064x}", monday + timedelta(minutes=minutes))
    history.block("a.1", 9, "ff" * 32, monday + timedelta(minutes=300), status="rejected")
    connection.execute("update blocks set network_difficulty = 1000")
    [panel] = [panel for _, panel in PANELS if "luck" in panel["title"]]
    rows = shown(connection, panel["targets"][0]["rawSql"], "a")
    assert [row["luck"] for row in reversed(rows)] == [
        work and pytest.approx(1000 / work) for work in found.values()
    ]


def test_every_panel_says_why_it_is_empty() -> None:
    for name in ("pool", "hall", "miner", "ledger", "events"):
        board = json.loads((MONITORING / f"dashboards/{name}.json").read_text("utf-8"))
        for panel in board["panels"]:
            assert panel["fieldConfig"]["defaults"]["noValue"], f"{name}: {panel['title']}"


def test_panels_read_a_provisioned_source_and_do_not_overlap() -> None:
    provisioned = {
        source["uid"]: source["type"]
        for file in (MONITORING / "provisioning/datasources").glob("*.yml")
        for source in yaml.safe_load(file.read_text("utf-8"))["datasources"]
    }
    assert len(BOARDS) == len({board["uid"] for board in BOARDS.values()})
    for board in BOARDS.values():
        cells: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            source = panel["datasource"]
            assert provisioned[source["uid"]] == source["type"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            here = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not here & cells, panel["title"]
            cells |= here


def test_the_database_is_read_by_a_role_that_may_not_write() -> None:
    source = yaml.safe_load(
        (MONITORING / "provisioning/datasources/database.yml").read_text("utf-8")
    )["datasources"][0]
    roles = (MONITORING.parent.parent / "images/timescaledb/roles.sh").read_text("utf-8")
    given = re.findall(rf"^grant (.+) to {source['user']};$", roles, re.MULTILINE)
    assert given == ["pg_read_all_data", "connect on database tbg"]
    assert "PASSWORD" in source["secureJsonData"]["password"]
