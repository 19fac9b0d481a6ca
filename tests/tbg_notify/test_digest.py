"""The digest of a day, the week's message, and what Dagster shows of deliveries."""

import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from tbg_core.outbox import post
from tbg_core.wording import percent, si
from tbg_dagster.alerts.assets import alert_deliveries
from tbg_dagster.resources import Database
from tbg_notify.delivery import deliver
from tbg_notify.digest import digest
from tbg_notify.plan import plan
from tbg_notify.routes import Route
from tbg_notify.text import Text
from tests.tbg_dagster.conftest import Connection, History

DAY = date(2026, 11, 26)
ALL = Route(to="json://127.0.0.1:1")


def day(
    connection: Connection,
    history: History,
    worker: str,
    *,
    rejects: dict[str, int] | None = None,
    hours: float = 24,
    best: float | None = 5e9,
    naps: int = 0,
) -> None:
    """A worker's day of 1000 shares at 1 TH/s as worker_stats_daily has it."""
    user_id, worker_id = history.worker(worker)
    rejected = sum((rejects or {}).values())
    connection.execute(
        "insert into worker_stats_daily (day, user_id, worker_id, accepted, rejected, "
        "reject_ratio, rejects_by_reason, work, hashrate, hashrate_low, hashrate_high, "
        "uptime_seconds, best_share_diff) "
        "values (%s, %s, %s, 1000, %s, %s, %s, 1e9, 1e12, 0.97e12, 1.04e12, %s, %s)",
        [
            DAY, user_id, worker_id, rejected, rejected / (1000 + rejected),
            Jsonb(rejects or {}), hours * 3600, best,
        ],
    )  # fmt: skip
    if naps:
        connection.execute("insert into worker_flaps values (%s, %s, now())", [worker_id, naps])
    connection.execute(
        "insert into block_odds values ('worker', %s, %s, 1e12, 1e14, 1, 0, 0, 0, now())",
        [worker_id, user_id],
    )


def facts(text: Text | None) -> dict[str, str]:
    assert text is not None
    return {row[0]: row[1] for row in text.table}


def test_a_digest_adds_workers_up_and_their_errors_as_squares(
    connection: Connection, history: History
) -> None:
    day(connection, history, "a.1", rejects={"stale": 3, "low diff": 10})
    day(connection, history, "a.2", rejects={"stale": 2}, best=2.0**53)
    day(connection, history, "b.1", best=None)
    text = digest(connection, ALL, DAY)
    assert text is not None
    assert text.title == "26 November: 3TH/s, 3,000 shares"
    assert text.lines == ("No worker needs a look.",)
    told = facts(text)
    # ±0.03 and 0.04 T, times the root of three.
    assert told["hash rate"] == "3TH/s (2.95T to 3.07T, 95 %)"
    assert told["workers"] == "3"
    assert told["shares"] == "3,000 accepted"
    assert told["rejects"] == "15 (0.5 %): low diff 10, stale 5"
    assert told["best share"] == "9.007P, by a.2"
    # The median best of 3e9 of work is 3e9 / ln 2.
    assert told["luck promised"] == (
        f"{si(3e9 / math.log(2))} (half of such days do better); "
        f"chance of 9.01P or better: {percent(3e9 / 2.0**53)}"
    )
    chance = -math.expm1(-3e12 * 86_400 / (1e14 * 2**32))
    assert told["odds of a block"].startswith(f"{percent(chance)} a day, ")


def test_a_digest_names_the_workers_that_need_a_look_and_why(
    connection: Connection, history: History
) -> None:
    day(connection, history, "a.rejecter", rejects={"stale": 250})
    day(connection, history, "a.sleeper", hours=6, naps=100)
    day(connection, history, "a.fine", rejects={"stale": 60}, hours=12)  # 5.7 %, by chance
    day(connection, history, "a.silent")
    for worker, since, back in (
        ("a.silent", "2026-11-26 21:30Z", None),
        ("a.dead", "2026-11-24 04:05Z", None),  # not there all day
        ("a.back", "2026-11-24 04:05Z", "2026-11-24 05:00Z"),
        ("b.dead", "2026-11-24 04:05Z", None),  # another's
    ):
        connection.execute(
            "insert into worker_liveness (worker_id, silent_since, allowed_gap_seconds, back_since) "
            "values (%s, %s, 60, %s)",
            [history.worker(worker)[1], since, back],
        )
    text = digest(connection, Route(to=ALL.to, users=("a",), zone=ZoneInfo("Europe/Berlin")), DAY)
    assert text is not None
    assert text.lines == (
        "4 workers need a look:",
        "a.rejecter: 20 % of its shares rejected",
        "a.silent: silent since 26 November 22:30 CET",
        "a.sleeper: up for 6.0 of 24 hours, flaps",
        "a.dead: silent since 24 November 05:05 CET",
    )


def test_a_digest_has_the_routes_miners_alone_and_is_none_without_them(
    connection: Connection, history: History
) -> None:
    day(connection, history, "a.1")
    day(connection, history, "b.1")
    mine = Route(to=ALL.to, users=("a",))
    assert facts(digest(connection, mine, DAY))["workers"] == "1"
    assert digest(connection, Route(to=ALL.to, users=("c",)), DAY) is None
    assert digest(connection, ALL, DAY - timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("kind", "title"),
    [("result", "Week 2026-W47: the result"), ("correction", "Week 2026-W47: corrected result")],
)
def test_the_weekly_message_has_the_first_five_with_their_bests(
    connection: Connection, kind: str, title: str
) -> None:
    top = [
        {"rank": n, "user": f"bc1quser{n}", "worker": "rig" if n > 1 else "",
         "best_difficulty": 2.0**53 / n, "hash": None}
        for n in range(1, 11)
    ]  # fmt: skip
    payload = {
        "kind": kind, "revision": 1, "week": "2026-W47", "week_start": "2026-11-16",
        "entrants": 1234, "winner": top[0], "top": top,
    }  # fmt: skip
    post(connection, "mining:weekly_reset", "weekly_reset:2026-11-16:1", payload)
    now, texts = datetime(2026, 11, 23, 0, 5, tzinfo=UTC), []
    plan(connection, {"phone": ALL}, now)
    deliver(connection, "phone", ALL, now, lambda _route, text: texts.append(text))
    (text,) = texts
    assert text.title == title
    assert text.lines == (
        "1,234 entrants",
        "1. bc1quser1: 9.007P",
        "2. bc1quser2.rig: 4.504P",
        "3. bc1quser3.rig: 3.002P",
        "4. bc1quser4.rig: 2.252P",
        "5. bc1quser5.rig: 1.801P",
    )


def test_dagster_shows_the_deliveries_of_the_last_day_and_all_that_wait(
    connection: Connection, database_url: str
) -> None:
    now = datetime.now(UTC)
    old, new = now - timedelta(days=2), now - timedelta(hours=1)
    rows = [
        ("phone", "sent", None, 1, new), ("phone", "sent", None, 1, old),
        ("phone", "dropped", "muted", 0, new), ("mail", "waiting", "503 Unavailable", 4, old),
        ("mail", "waiting", "quiet hours", 0, new), ("mail", "failed", "503", 99, new),
    ]  # fmt: skip
    for number, (route, state, reason, attempts, planned) in enumerate(rows):
        post(connection, "notify:block_found", f"k{number}", {})
        connection.execute(
            "insert into alert_deliveries "
            "(message_id, route, state, reason, attempts, planned_at, due_at) "
            "select id, %s, %s, %s, %s, %s, %s from outbox where key = %s",
            [route, state, reason, attempts, planned, planned, f"k{number}"],
        )
    result = dg.materialize([alert_deliveries], resources={"database": Database(url=database_url)})
    (event,) = result.asset_materializations_for_node("alert_deliveries")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert {name: shown[name] for name in ("sent", "waiting", "dropped", "failed")} == {
        "sent": 1, "waiting": 2, "dropped": 1, "failed": 1,
    }  # fmt: skip
    mail, phone = (record.data for record in _records(event.metadata["routes"]))
    assert mail == {
        "route": "mail", "sent": 0, "waiting": 2, "dropped": 0, "failed": 1,
        "last_answer": "503 Unavailable",
    }  # fmt: skip
    assert phone == {
        "route": "phone", "sent": 1, "waiting": 0, "dropped": 1, "failed": 0, "last_answer": "",
    }  # fmt: skip


def _records(value: object) -> list[dg.TableRecord]:
    assert isinstance(value, dg.TableMetadataValue)
    return list(value.records)


def test_dagster_shows_that_nothing_was_delivered(database_url: str) -> None:
    result = dg.materialize([alert_deliveries], resources={"database": Database(url=database_url)})
    (event,) = result.asset_materializations_for_node("alert_deliveries")
    assert event.metadata["sent"].value == 0
    assert _records(event.metadata["routes"]) == []
