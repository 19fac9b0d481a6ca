"""``/v1``: what it says of a pool whose past is known."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tests.tbg_serve.harness import (
    ALICE,
    BLOCK,
    BOB,
    HEIGHT,
    IP,
    NETWORK,
    STRANGER,
    asked,
    best,
    past,
    share,
    user,
    worker,
)

# Numbers of things, which need no unit.
COUNTS = {"rank", "revision", "height", "workers", "workers_online", "entrants", "engines"}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_week_has_its_standing_and_everybodys_place(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    async with asked(database_url, redis_url) as client:
        week = await client.json("/v1/week")
        assert moment(week["ends_at"]) - made.monday == timedelta(days=7)
        assert week["week_start"] == made.monday.date().isoformat()
        assert week["final"] is False
        assert week["next_cursor"] is None
        assert [
            (place["rank"], place["user"], place["worker"], place["best_difficulty"])
            for place in week["items"]
        ] == [(1, ALICE, "garage", 123.45), (2, BOB, "shed", 99)]
        assert await client.json("/v1/weeks/current") == week
        assert await client.json(f"/v1/weeks/{week['week']}") == week
        bob = await client.json(f"/v1/weeks/current/users/{BOB}")
        assert bob == week["items"][1]
        assert (await client.get(f"/v1/weeks/current/users/{STRANGER}")).status == 404
        assert (await client.get(f"/v1/weeks/2019-W01/users/{BOB}")).status == 404
        assert (await client.get("/v1/weeks/2026-W60")).status == 404


async def test_the_leaderboard_and_the_table_give_the_same_place(
    db: asyncpg.Connection, redis: Any, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    key = f"leaderboard:best_diff:{made.monday.date()}"
    async with asked(database_url, redis_url) as client:
        counted = await client.json(f"/v1/weeks/current/users/{BOB}")
        await redis.zadd(key, {ALICE: 123.45, BOB: 99.0})
        assert await client.json(f"/v1/weeks/current/users/{BOB}") == counted


async def test_pages_of_a_standing_join_without_a_gap_where_bests_are_equal(
    db: asyncpg.Connection,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await past(db)
    for number in range(7):
        owner = await user(db, f"{STRANGER}{number}")
        await best(db, owner, made.shed, 99, made.now, made.monday)
    async with asked(database_url, redis_url) as client:
        seen, cursor = [], ""
        while True:
            page = await client.json(f"/v1/week?limit=2{cursor}")
            seen += [(place["rank"], place["user"]) for place in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        everybody = (await client.json("/v1/week?limit=1000"))["items"]
        assert seen == [(place["rank"], place["user"]) for place in everybody]
        assert [rank for rank, _ in seen] == list(range(1, 10))
        assert (await client.get("/v1/week?cursor=nonsense")).status == 422
        # Who pages on while the week ends stays in it.
        first = await client.json("/v1/week?limit=2")
        monkeypatch.setattr("tbg_serve.v1.weeks.now", lambda: made.now + timedelta(days=7))
        for path in ("/v1/week", "/v1/weeks/current", f"/v1/weeks/{first['week']}"):
            rest = await client.json(f"{path}?limit=1000&cursor={first['next_cursor']}")
            assert (rest["week"], rest["items"]) == (first["week"], everybody[2:])
        assert (await client.json("/v1/week"))["items"] == []
        other = await client.get(f"/v1/weeks/2026-W02?cursor={first['next_cursor']}")
        assert (other.status, other.json["reason"]) == (422, "cursor: it is of another week")


async def test_closed_weeks_are_listed_by_their_last_revision(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    for monday, revision, winner in [
        ("2026-11-16", 1, ALICE),
        ("2026-11-16", 2, BOB),
        ("2026-11-09", 1, ALICE),
    ]:
        start = datetime.fromisoformat(monday).date()
        year, number, _ = start.isocalendar()
        result = {
            "week": f"{year}-W{number}",
            "entrants": 2,
            "winner": {"user": winner, "worker": "x", "best_difficulty": 7.5},
        }
        await db.execute(
            "insert into weekly_publications (week_start, revision, result) values ($1, $2, $3)",
            start,
            revision,
            json.dumps(result),
        )
    async with asked(database_url, redis_url) as client:
        page = await client.json("/v1/weeks?limit=1")
        rest = await client.json(f"/v1/weeks?cursor={page['next_cursor']}")
        weeks = page["items"] + rest["items"]
        assert [(week["week"], week["revision"], week["winner"]) for week in weeks] == [
            ("2026-W47", 2, BOB),
            ("2026-W46", 1, ALICE),
        ]
        assert rest["next_cursor"] is None


async def test_a_user_is_the_sum_of_its_workers(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url) as client:
        alice = await client.json(f"/v1/users/{ALICE}")
        assert alice["user"] == ALICE
        assert (alice["workers"], alice["workers_online"]) == (2, 1)
        assert alice["hash_rates"]["last_24h"] == 5e12
        week = alice["week"]
        assert (week["accepted"], week["rejected"], week["work"]) == (2, 1, 200)
        assert alice["bests"]["week"]["difficulty"] == 123.45
        assert alice["bests"]["alltime"]["difficulty"] == 123.45
        expected = NETWORK * HASHES_PER_DIFFICULTY / 5e12
        assert alice["odds"]["expected_seconds"] == pytest.approx(expected)
        assert alice["odds"]["chance_day"] == pytest.approx(86_400 / expected, rel=1e-3)
        assert (await client.get(f"/v1/users/{STRANGER}")).status == 404


async def test_a_worker_has_its_rejects_bests_and_proof(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    share_hash = bytes(31) + b"\x07"
    await db.execute(
        "update shares set share_hash = $1 where share_diff = 123.45 and is_valid", share_hash
    )
    await db.execute(
        "insert into share_proofs (share_hash, user_id, difficulty, found_at, header, coinbase, "
        "branch) values ($1, $2, 123.45, $3, $4, $5, $6)",
        share_hash,
        made.alice,
        made.now,
        bytes(80),
        b"\x01\x02",
        bytes(64),
    )
    async with asked(database_url, redis_url) as client:
        garage = await client.json(f"/v1/users/{ALICE}/workers/garage")
        assert garage["rejects_by_reason"] == {"stale": 1}
        assert (garage["online"], garage["user_agent"]) == (True, "bitaxe/2.9")
        assert garage["week"]["accepted"] == 2
        for period in ("week", "month", "round", "alltime"):
            assert garage["bests"][period]["difficulty"] == 123.45, period
            assert garage["bests"][period]["share_hash"] == share_hash.hex()
        assert garage["bests"]["session"] is None
        assert garage["proof"]["branch"] == ["00" * 32] * 2
        assert garage["proof"] == await client.json(f"/v1/proofs/{share_hash.hex()}")
        attic = await client.json(f"/v1/users/{ALICE}/workers/attic")
        assert (attic["online"], attic["bests"]["week"], attic["proof"]) == (False, None, None)
        assert (await client.get(f"/v1/users/{ALICE}/workers/none")).status == 404


async def test_workers_are_paged_by_name(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    for name in ("", "a/b", "zoo"):
        await worker(db, made.alice, name)
    async with asked(database_url, redis_url) as client:
        seen, cursor = [], ""
        while True:
            page = await client.json(f"/v1/users/{ALICE}/workers?limit=2{cursor}")
            seen += [line["worker"] for line in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == ["", "a/b", "attic", "garage", "zoo"]
        assert (await client.json(f"/v1/users/{ALICE}/workers/"))["worker"] == ""
        assert (await client.json(f"/v1/users/{ALICE}/workers/a/b"))["worker"] == "a/b"


async def test_shares_count_once_whatever_the_batch_side_has_computed(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    async with asked(database_url, redis_url) as client:
        raw = await client.json(f"/v1/users/{ALICE}")
        hours = await client.json(f"/v1/hours?user={ALICE}")
        if await db.fetchval("select to_regproc('rebuild_shares_hourly') is not null"):
            hour = made.now.replace(minute=0, second=0, microsecond=0)
            await db.execute(
                "select rebuild_shares_hourly($1, $2)", hour, hour + timedelta(hours=1)
            )
        rolled = await client.json(f"/v1/users/{ALICE}")
        assert rolled["week"] == raw["week"]
        assert await client.json(f"/v1/hours?user={ALICE}") == hours
        # Another share, after what the hour counted.
        later = made.now + timedelta(microseconds=1)
        await share(db, made.alice, made.garage, later, difficulty=100, achieved=150)
        after = await client.json(f"/v1/users/{ALICE}")
        garage = await client.json(f"/v1/users/{ALICE}/workers/garage")
        for week in (after["week"], garage["week"]):
            assert (week["accepted"], week["rejected"], week["work"]) == (3, 1, 300)


async def test_blocks_have_their_lifecycle_and_pages(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    await db.execute(
        "insert into blocks (block_height, block_hash, user_id, worker_id, reward_sats, "
        "difficulty, network_difficulty, coinbase_sig, status, found_at, chain_height) "
        "values (900001, $1, $2, $3, 1, 2e14, 1e14, '', 'orphaned', now(), 900002)",
        "11" * 32,
        made.bob,
        made.shed,
    )
    async with asked(database_url, redis_url) as client:
        first = await client.json("/v1/blocks?limit=1")
        assert first["items"][0]["height"] == 900_002
        second = await client.json(f"/v1/blocks?limit=1&cursor={first['next_cursor']}")
        (block,) = second["items"]
        assert second["next_cursor"] is None
        assert block == await client.json(f"/v1/blocks/{BLOCK}")
        assert (block["height"], block["status"], block["confirmations"]) == (HEIGHT, "accepted", 7)
        assert (block["reward_sats"], block["fees_sats"]) == (312_750_000, 250_000)
        assert (block["user"], block["worker"]) == (ALICE, "garage")
        only = await client.json("/v1/blocks?status=orphaned")
        assert [one["hash"] for one in only["items"]] == ["11" * 32]
        assert (await client.json(f"/v1/blocks?user={STRANGER}"))["items"] == []
        assert (await client.get(f"/v1/blocks/{'22' * 32}")).status == 404


async def test_odds_and_luck_follow_the_hash_rate_and_the_round(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url) as client:
        odds = await client.json("/v1/odds")
        assert odds["hash_rate"] == 5e12 + 1e9
        assert odds["expected_seconds"] == pytest.approx(
            NETWORK * HASHES_PER_DIFFICULTY / odds["hash_rate"]
        )
        assert odds["round"]["work"] == 260
        assert odds["round"]["luck"] == pytest.approx(NETWORK / 260)


async def test_hours_are_a_series_of_the_pool_a_user_or_a_worker(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    async with asked(database_url, redis_url) as client:
        pool = await client.json("/v1/hours")
        assert sum(hour["work"] for hour in pool) == 260
        assert sum(hour["accepted"] for hour in pool) == 3
        assert sum(hour["rejected"] for hour in pool) == 1
        (alice,) = await client.json(f"/v1/hours?user={ALICE}")
        begin = made.now.replace(minute=0, second=0, microsecond=0)
        assert moment(alice["hour"]) == begin
        assert alice["hash_rate"] == pytest.approx(200 * HASHES_PER_DIFFICULTY / 3600)
        assert (alice["accepted"], alice["rejected"], alice["best_difficulty"]) == (2, 1, 123.45)
        assert await client.json(f"/v1/hours?user={ALICE}&worker=garage") == [alice]
        assert await client.json(f"/v1/hours?user={ALICE}&worker=attic") == []
        until = (begin - timedelta(days=2)).isoformat().replace("+00:00", "Z")
        assert await client.json(f"/v1/hours?user={ALICE}&before={until}") == []
        assert (await client.get("/v1/hours?worker=garage")).status == 422
        assert (await client.get(f"/v1/hours?user={ALICE}&before=0001-01-01")).status == 422


async def test_the_ledger_sums_closed_hours_and_those_that_are_open(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    engine = await db.fetchval(
        "insert into engine_instances (instance) values ('e/1') returning id"
    )
    for back in (0, 1, 2):
        await db.execute(
            "insert into ledger (instance_id, hour, received, committed) values ($1, $2, 10, 9)",
            engine,
            hour - timedelta(hours=back),
        )
    await db.execute(
        "insert into share_ledger (hour, instance_id, emitted, received, published, committed, "
        "dead_lettered, duplicates, dropped, dropped_by_cause, missing, unexplained) "
        "values ($1, $2, 10, 10, 10, 9, 1, 0, 0, '{}', 0, 0)",
        hour - timedelta(hours=2),
        engine,
    )
    async with asked(database_url, redis_url) as client:
        found = await client.json("/v1/ledger")
        assert {**found["closed"], "since": ""} == {
            "since": "",
            "hours": 1,
            "engines": 1,
            "emitted": 10,
            "received": 10,
            "published": 10,
            "committed": 9,
            "dead_lettered": 1,
            "duplicates": 0,
            "dropped": 0,
            "missing": 0,
            "unexplained": 0,
        }
        assert found["open"]["received"] == 20


async def test_rates_of_an_engine_that_is_gone_are_no_rates(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    await db.execute("update users set last_seen = now() - interval '2 hours'")
    async with asked(database_url, redis_url) as client:
        rates = (await client.json(f"/v1/users/{ALICE}"))["hash_rates"]
        assert (rates["last_1m"], rates["last_1h"], rates["last_24h"]) == (0, 0, 5e12)
        assert (await client.json("/api/client/" + ALICE))["workers"][0]["hashRate"] == 0


async def test_every_number_has_its_unit_and_no_route_has_a_miners_address(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        schema = (await client.get("/openapi.json")).json
        for name, model in schema["components"]["schemas"].items():
            for field, about in model.get("properties", {}).items():
                arms = [about, *about.get("anyOf", [])]
                if any(arm.get("type") in ("number", "integer") for arm in arms):
                    assert any("unit" in arm for arm in arms) or field in COUNTS, (name, field)
        paths = [
            path.format(
                address=ALICE, worker="garage", week="current", block_hash=BLOCK, share_hash=BLOCK
            )
            for path in schema["paths"]
            if path != "/v1/events"
        ]
        assert len(paths) > 20
        for path in paths:
            answer = await client.get(path)
            # 422 where a query is needed.
            assert answer.status in (200, 404, 422), (path, answer.text)
            assert IP.encode() not in answer.body, path
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_absurd_numbers_of_old_rows_are_bounded_and_not_an_error(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    await db.execute("update users set hashrate_1m = 'NaN', hashrate_5m = 1e308, hashrate_24h = -1")
    await db.execute("update workers set hashrate_5m = 'Infinity', current_diff = 'NaN'")
    await db.execute("update network_blocks set network_difficulty = 1e308")
    await db.execute("update weekly_best_diff set best_difficulty = 1e308")
    await share(db, made.alice, made.garage, made.now, difficulty=1e308, achieved=1e308)
    await share(db, made.alice, made.garage, made.now, difficulty=1e308, achieved=1e308)
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        for path in (
            "/v1/week",
            "/v1/odds",
            "/v1/hours",
            f"/v1/users/{ALICE}",
            f"/v1/users/{ALICE}/workers",
            f"/v1/users/{ALICE}/workers/garage",
            f"/v1/hours?user={ALICE}",
            "/api/info",
            "/api/pool",
            "/api/network",
            "/api/info/chart",
            f"/api/client/{ALICE}",
            f"/api/client/{ALICE}/garage",
            f"/users/{ALICE}",
            "/widgets/pool",
        ):
            answer = await client.get(path)
            assert answer.status == 200, (path, answer.text)
            msgspec.json.decode(answer.body)  # strict: neither NaN nor Infinity
        for path in ("/metrics", "/pool/pool.status"):
            assert (await client.get(path)).status == 200
