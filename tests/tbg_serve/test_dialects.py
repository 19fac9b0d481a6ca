"""The dialects: golden answers beside their sources, and the readers of the integrations.

Sources: benjamin-wilson/public-pool, src/app.controller.ts and
src/controllers/client/client.controller.ts; ckpool's pool.status and users/<address> as
mrv777/ckstats reads them; getumbrel/umbrel's four-stats widget; p2poolv2/p2poolv2's exposition.
"""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.tasks import end
from tbg_serve.ckpool import Dialect, suffixed
from tbg_serve.database import Database
from tbg_serve.files import Files, replace
from tbg_serve.pool import Pool
from tbg_serve.unavailable import Unavailable
from tests.processes import until
from tests.tbg_serve import readers
from tests.tbg_serve.harness import (
    ALICE,
    BOB,
    HEIGHT,
    NETWORK,
    STRANGER,
    Past,
    asked,
    past,
    served,
    share,
    user,
    worker,
)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bucket(moment: datetime) -> datetime:
    return moment.replace(minute=moment.minute // 10 * 10, second=0, microsecond=0)


async def last_seen(db: asyncpg.Connection, made: Past) -> str:
    seen = await db.fetchval("select last_share from workers where id = $1", made.garage)
    return iso(max(seen, made.now))


async def test_public_pools_answers_are_these(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    await db.execute(
        "insert into mining_events (time, event, payload) values ($1, 'miner_connected', $2)",
        made.now,
        json.dumps({"user": ALICE, "worker": "garage", "ip": "203.0.113.9"}),
    )
    garage, rate = f"{made.garage:08x}", 60 * HASHES_PER_DIFFICULTY / 600
    block = {"height": HEIGHT, "minerAddress": ALICE, "worker": "garage", "sessionId": garage}
    points = [{"label": iso(bucket(made.old)), "data": rate}]
    async with asked(database_url, redis_url) as client:
        assert await client.json("/api/pool") == {
            "totalHashRate": 1.48e12 + 1e9,
            "blockHeight": HEIGHT,
            "totalMiners": 2,
            "blocksFound": [block],
            "fee": 0,
        }
        assert await client.json("/api/network") == {
            "blocks": HEIGHT,
            "currentblockweight": 0,
            "currentblocktx": 0,
            "difficulty": NETWORK,
            "networkhashps": NETWORK * HASHES_PER_DIFFICULTY / 600,
            "pooledtx": 0,
            "chain": "main",
            "warnings": "",
        }
        info = await client.json("/api/info")
        readers.instant(info.pop("uptime"))
        agents = sorted(info.pop("userAgents"), key=lambda agent: str(agent["userAgent"]))
        assert agents == [
            {
                "userAgent": "bitaxe/2.9",
                "count": "1",
                "bestDifficulty": 123.45,
                "totalHashRate": "1480000000000",
            },
            {
                "userAgent": "nerdminer",
                "count": "1",
                "bestDifficulty": 99,
                "totalHashRate": "1000000000",
            },
        ]
        assert info == {
            "blockData": [block],
            "highScores": [
                {
                    "updatedAt": iso(made.now),
                    "bestDifficulty": "123.45",
                    "bestDifficultyUserAgent": "bitaxe/2.9",
                },
                {
                    "updatedAt": iso(made.now),
                    "bestDifficulty": "99",
                    "bestDifficultyUserAgent": "nerdminer",
                },
            ],
        }
        assert await client.json("/api/info/chart") == points
        assert await client.json(f"/api/client/{ALICE}") == {
            "bestDifficulty": "123.45",
            "workersCount": 1,
            "workers": [
                {
                    "sessionId": garage,
                    "name": "garage",
                    "bestDifficulty": "123.45",
                    "hashRate": 1.48e12,
                    "startTime": iso(made.now),
                    "lastSeen": await last_seen(db, made),
                }
            ],
        }
        assert await client.json(f"/api/client/{BOB}/chart") == points
        assert await client.json(f"/api/client/{BOB}/shed") == {
            "name": "shed",
            "bestDifficulty": 61 if made.old >= made.monday else 0,
            "chartData": points,
        }
        assert await client.json(f"/api/client/{ALICE}/garage/{garage}") == {
            "sessionId": garage,
            "name": "garage",
            "bestDifficulty": 123,
            "chartData": [],
            "startTime": iso(made.now),
        }
        nobody = {"bestDifficulty": 0, "workersCount": 0, "workers": []}
        assert await client.json(f"/api/client/{STRANGER}") == nobody
        assert await client.json(f"/api/client/{STRANGER}/chart") == []
        wrong = f"/api/client/{ALICE}/garage/{made.shed:08x}"
        assert (await client.get(wrong)).status == 404


async def test_a_worker_without_a_name_has_the_name_that_each_source_gives_it(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    nameless = await worker(db, made.bob, "", 7e9)
    await share(db, made.bob, nameless, made.old, difficulty=60, achieved=61)
    session = f"{nameless:08x}"
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        # public-pool: AuthorizationMessage.ts. The pages of public-pool-ui are by name.
        sessions = (await client.json(f"/api/client/{BOB}"))["workers"]
        assert {one["name"]: one["sessionId"] for one in sessions} == {
            "shed": f"{made.shed:08x}",
            "worker": session,
        }
        for path in ("worker", ""):
            group = await client.json(f"/api/client/{BOB}/{path}")
            assert (group["name"], len(group["chartData"])) == ("worker", 1)
        for path in (f"worker/{session}", f"/{session}"):
            assert (await client.json(f"/api/client/{BOB}/{path}"))["sessionId"] == session
        # ckpool: the name of a worker without one is its user's.
        lines = (await client.get(f"/users/{BOB}")).json["worker"]
        assert [line["workername"] for line in lines] == [BOB, f"{BOB}.shed"]
        # p2poolv2: get_worker_expositions.
        unnamed = f'worker_hashrate{{btcaddress="{BOB}",workername="unnamed"}} 7e+09'
        assert unnamed in (await client.get("/metrics")).text
        assert (await client.json(f"/v1/users/{BOB}/workers/"))["worker"] == ""
    # One that has taken that name is another worker, with a page and a series of its own.
    real = await worker(db, made.bob, "worker", 8e9)
    await worker(db, made.bob, "unnamed", 9e9)
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        sessions = (await client.json(f"/api/client/{BOB}"))["workers"]
        assert sorted(one["name"] for one in sessions) == ["shed", "unnamed", "worker", "worker"]
        assert (await client.json(f"/api/client/{BOB}/worker"))["chartData"] == []
        for number, rows in ((real, 0), (nameless, 1)):
            found = await client.json(f"/api/client/{BOB}/worker/{number:08x}")
            assert (found["sessionId"], len(found["chartData"])) == (f"{number:08x}", rows)
        text = (await client.get("/metrics")).text
        assert f'worker_hashrate{{btcaddress="{BOB}",workername=""}} 7e+09' in text
        assert f'worker_hashrate{{btcaddress="{BOB}",workername="unnamed"}} 9e+09' in text


async def test_an_address_in_capitals_is_the_same_address(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    """Of Bech32, which may be written so (BIP 173); of no other kind."""
    made = await past(db)
    loud = BOB.replace("bob", "loud").upper()
    await worker(db, await user(db, loud), "rig")
    legacy = "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"
    await worker(db, await user(db, legacy), "rig")
    both = await user(db, BOB.upper())
    async with asked(database_url, redis_url) as client:
        for address, known in ((ALICE.upper(), ALICE), (loud.lower(), loud), (legacy, legacy)):
            assert (await client.json(f"/v1/users/{address}"))["user"] == known
            assert len((await client.get(f"/users/{address}")).json["worker"]) > 0
            assert (await client.json(f"/api/client/{address}"))["workersCount"] == 1
        assert (await client.json(f"/v1/blocks?user={ALICE.upper()}"))["items"][0]["user"] == ALICE
        for unknown in (legacy.upper(), legacy.lower(), ALICE.capitalize()):
            assert (await client.get(f"/users/{unknown}")).status == 404
        # Who is known in both is found as written.
        assert (await client.json(f"/api/client/{BOB}"))["workersCount"] == 1
        await worker(db, both, "one")
        await worker(db, both, "two")
        assert (await client.json(f"/api/client/{BOB.upper()}"))["workersCount"] == 2
        assert made.bob != both


async def test_the_readers_of_public_pools_dialect_take_our_answers(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url) as client:
        info = await client.json(f"/api/client/{ALICE}")
        assert readers.dashboard(info) == {
            "garage": {"sessions": 1, "rate": 1.48e12, "best": 123.45}
        }
        readers.splash(await client.json("/api/info"))
        readers.chart(await client.json("/api/info/chart"))
        readers.chart(await client.json(f"/api/client/{ALICE}/chart"))
        assert readers.nerdminer(info) == (1, 1.48e12, 123.45)
        sensors = readers.home_assistant(
            await client.json("/api/pool"), await client.json("/api/network"), info
        )
        assert sensors["pool_block_height"] == HEIGHT
        assert sensors["blocks_found_count"] == 1
        assert sensors["workers"]["garage"][:2] == (1480, 123.45)
        # Before the first best of all time is booked, the workers' one is given, as there.
        await db.execute("delete from weekly_best_diff")
        info = await client.json(f"/api/client/{ALICE}")
        assert (info["bestDifficulty"], readers.nerdminer(info)[2]) == ("123.45", 123.45)


async def test_an_empty_pool_has_an_answer_in_every_dialect(
    database_url: str, redis_url: str
) -> None:
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        readers.splash(await client.json("/api/info"))
        assert await client.json("/api/info/chart") == []
        pool, network = await client.json("/api/pool"), await client.json("/api/network")
        readers.home_assistant(pool, network, await client.json(f"/api/client/{ALICE}"))
        readers.ckstats_pool((await client.get("/pool/pool.status")).text)
        assert (await client.get("/metrics")).status == 200
        for path in ("/v1/week", "/v1/odds", "/v1/hours", "/v1/ledger", "/v1/blocks"):
            assert (await client.get(path)).status == 200
        assert (await client.json("/widgets/pool"))["type"] == "four-stats"


async def test_the_chart_of_many_shares_goes_on_with_the_hours(
    db: asyncpg.Connection,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await past(db)
    if not await db.fetchval("select to_regproc('rebuild_shares_hourly') is not null"):
        pytest.skip("its rollups are computed from the shares themselves")
    begin = made.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    for minute in range(0, 60, 10):
        at = begin + timedelta(minutes=minute)
        await share(db, made.bob, made.shed, at, difficulty=30)
    await db.execute("select rebuild_shares_hourly($1, $2)", begin, begin + timedelta(hours=1))
    async with asked(database_url, redis_url) as client:
        whole = await client.json(f"/api/client/{BOB}/chart")
        monkeypatch.setattr("tbg_serve.publicpool.MOST_SHARES", 4)
        assert await client.json(f"/api/client/{BOB}/chart") == whole
        assert len(whole) == 7


def test_hash_rates_have_three_digits_and_ckpools_suffix() -> None:
    assert [suffixed(rate) for rate in (0, 1, 999.9, 1000, 1234, 1.48e12, 999_900, 123.4e15)] == [
        *("0", "1", "999", "1K", "1.23K", "1.48T", "1M", "123P"),
    ]
    assert suffixed(2.5e18) == "2.5E"
    assert suffixed(1e30) == "1000000000000E"
    for exponent in range(0, 200):
        rate = 1.2345 * 10 ** (exponent / 10)
        assert readers.hashrate(suffixed(rate)) == pytest.approx(rate, rel=0.006, abs=1)


async def test_ckpools_answers_are_these_and_ckstats_takes_them(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    made = await past(db)
    async with asked(database_url, redis_url) as client:
        status = await client.get("/pool/pool.status")
        assert status.headers["content-type"].startswith("text/plain")
        lines = [json.loads(line) for line in status.text.splitlines()]
        assert [list(line) for line in lines] == [
            ["runtime", "lastupdate", "Users", "Workers", "Idle", "Disconnected"],
            [f"hashrate{span}" for span in ("1m", "5m", "15m", "1hr", "6hr", "1d", "7d")],
            ["diff", "accepted", "rejected", "bestshare", "SPS1m", "SPS5m", "SPS15m", "SPS1h"],
        ]
        assert lines[1]["hashrate5m"] == "5T"
        pool = readers.ckstats_pool(status.text)
        assert (pool["Users"], pool["Workers"], pool["Disconnected"]) == (2, 2, 1)
        bob_week = 60 if made.old >= made.monday else 0
        assert (pool["accepted"], pool["bestshare"]) == (200 + bob_week, 123)
        answer = await client.get(f"/users/{ALICE}")
        found = answer.json
        assert list(found) == [
            *("hashrate1m", "hashrate5m", "hashrate1hr", "hashrate1d", "hashrate7d"),
            *("lastshare", "workers", "shares", "bestshare", "bestever", "authorised", "worker"),
        ]
        assert [one["workername"] for one in found["worker"]] == [
            f"{ALICE}.attic",
            f"{ALICE}.garage",
        ]
        assert found["worker"][1]["hashrate5m"] == "1.48T"
        alice = readers.ckstats_user(answer.text)
        assert alice["worker"]["garage"]["shares"] == alice["shares"] == 200
        assert (alice["workers"], alice["bestshare"], alice["bestever"]) == (1, 123.45, 123)
        for path in (STRANGER, "..%2f..%2fetc%2fpasswd", "%2e%2e", ".", "a%00b"):
            assert (await client.get(f"/users/{path}")).status in (404, 422), path


async def test_ckpools_files_are_what_the_routes_say(
    db: asyncpg.Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    await past(db)
    for name in ("../escaped", "a/b", "x" * 200, ".", "bc1q\n"):
        await user(db, name)
    folder = tmp_path / "files"
    with served(database_url, redis_url, tmp_path, "--files", str(folder)) as server:
        await until(lambda: (folder / "users" / BOB).exists(), "the files")
        assert sorted(path.name for path in (folder / "users").iterdir()) == [ALICE, BOB]
        assert not (tmp_path / "escaped").exists()
        assert (folder / "users" / ALICE).read_text() == server.get(f"/users/{ALICE}").text
        readers.ckstats_pool((folder / "pool" / "pool.status").read_text())


async def test_a_file_that_cannot_be_written_keeps_the_old_one(
    db: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    await past(db)
    database = Database(database_url, 2, 60)
    await database.open()
    try:
        files = Files(tmp_path, Dialect(database, Pool(database, 0, 60)), database)
        assert await files.write() == 2
        before = (tmp_path / "users" / BOB).read_text()
        (tmp_path / "users" / BOB).unlink()
        (tmp_path / "users" / BOB).mkdir()
        with pytest.raises(OSError, match=BOB):
            await files.write()
        assert not [path for path in (tmp_path / "users").iterdir() if path.name[0] == "."]
        (tmp_path / "users" / BOB).rmdir()
        replace(tmp_path / "users" / BOB, before)
        assert await files.write() == 2
    finally:
        await database.close()


async def test_files_are_written_again_after_an_error_that_nobody_foresaw(
    db: asyncpg.Connection,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await past(db)
    database = Database(database_url, 2, 60)
    await database.open()
    status = Dialect.pool_status
    calls: list[Dialect] = []

    async def broken_once(dialect: Dialect) -> str:
        calls.append(dialect)
        return str(1 // 0) if len(calls) == 1 else await status(dialect)

    monkeypatch.setattr(Dialect, "pool_status", broken_once)
    monkeypatch.setattr("tbg_serve.files.EVERY", 0.01)
    files = Files(tmp_path, Dialect(database, Pool(database, 0, 60)), database)
    running = asyncio.create_task(files.run())
    try:
        await until(lambda: (tmp_path / "users" / BOB).exists() or running.done(), "the files")
        assert not running.done()
    finally:
        await end(running)
        await database.close()


async def test_files_of_who_is_gone_are_removed_and_one_that_fails_holds_up_no_other(
    db: asyncpg.Connection,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await past(db)
    carol = await user(db, "bc1qcarol")
    database = Database(database_url, 2, 60)
    await database.open()
    folder, foreign = tmp_path / "files", tmp_path / "ckpool"
    users = folder / "users"

    def files(of: Path) -> Files:  # each as after a restart
        return Files(of, Dialect(database, Pool(database, 0, 60)), database)

    def names(of: Path) -> set[str]:
        return {path.name for path in (of / "users").iterdir()}

    try:
        assert await files(folder).write() == 3
        (users / f".{BOB}.7").write_text("half of it")  # a writer was killed
        os.utime(users / f".{BOB}.7", (0, 0))
        (users / ".lock").write_text("")  # another program's, however old
        os.utime(users / ".lock", (0, 0))
        (users / "notes.txt").write_text("")
        await db.execute(
            "update users set last_seen = now() - interval '8 days' where id = $1", carol
        )
        of = Dialect.of

        async def slow_for_alice(dialect: Dialect, row: asyncpg.Record) -> str:
            if row["id"] == made.alice:
                raise Unavailable("the database is slow")
            return await of(dialect, row)

        (users / BOB).write_text("old")
        monkeypatch.setattr(Dialect, "of", slow_for_alice)
        with pytest.raises(Unavailable):
            await files(folder).write()
        monkeypatch.undo()
        # Alice's stays as it was, Bob's is new.
        assert names(folder) == {ALICE, BOB, ".lock", "notes.txt"}
        assert json.loads((users / BOB).read_text())["workers"] == 1
        assert json.loads((users / ALICE).read_text())["workers"] == 1
        # A folder with files of others loses none.
        (foreign / "users").mkdir(parents=True)
        (foreign / "users" / "bc1qelsewhere").write_text("{}")
        assert await files(foreign).write() == 2
        assert names(foreign) == {ALICE, BOB, "bc1qelsewhere"}
    finally:
        await database.close()


async def test_umbrels_widget_has_four_texts(
    db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await past(db)
    async with asked(database_url, redis_url) as client:
        widget = await client.json("/widgets/pool")
        assert set(widget) == {"type", "refresh", "link", "items"}
        assert [(item["text"], item["subtext"]) for item in widget["items"]] == [
            *(("5", "TH/s"), ("2", "online"), ("123", "difficulty"), ("1", "found")),
        ]


async def test_workers_have_metrics_only_where_that_was_asked_for(
    db: asyncpg.Connection,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await past(db)
    names = ['a"b', "back\\slash", "line\nbreak", '"} 1\nworker_online{x="', "<b>ü</b>"]
    for name in names:
        await worker(db, made.bob, name)

    def samples(text: str) -> dict[tuple[str, Any, Any], float]:
        return {
            (sample.name, sample.labels.get("btcaddress"), sample.labels.get("workername")): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async with asked(database_url, redis_url) as client:
        quiet = samples((await client.get("/metrics")).text)
        assert quiet["pool_workers", None, None] == 2 + len(names)
        assert quiet["best_share_ever", None, None] == 123.45
        assert not [name for name, *_ in quiet if name.startswith("worker_")]
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        found = samples((await client.get("/metrics")).text)
        work = found["worker_shares_valid_total", ALICE, "garage"]
        assert work == 200 * HASHES_PER_DIFFICULTY
        assert found["worker_best_share", ALICE, "garage"] == 123.45
        assert found["worker_online", ALICE, "attic"] == 0
        assert {name for _, owner, name in found if owner == BOB} == {None, "shed", *names}
        # What p2poolv2's boards ask for: prometheus/grafana/dashboards, users.json and node.json.
        assert found["user_shares_valid_total", ALICE, None] == work
        assert found["worker_best_share_ever", ALICE, "garage"] == 123.45
        pool = {name: value for (name, owner, _), value in found.items() if owner is None}
        assert pool["bitcoin_blocks_found_total"] == 1
        assert pool["network_difficulty"] == NETWORK
        assert pool["best_share"] == 123.45
        assert pool["accepted_difficulty_total"] * HASHES_PER_DIFFICULTY == pytest.approx(
            pool["shares_accepted_total"]
        )
        assert pool["work_since_last_block"] >= 200
        assert pool["last_update_seconds"] >= pool["start_time_seconds"]
        assert pool["workers_left_out"] == 0
    # Of very many, those that mine come first, and the others are counted.
    monkeypatch.setattr("tbg_serve.exposition.MOST_WORKERS", 2 + len(names))
    async with asked(database_url, redis_url, serve_miner_metrics=True) as client:
        found = samples((await client.get("/metrics")).text)
        assert ("worker_online", ALICE, "attic") not in found
        assert ("worker_online", BOB, "shed") in found
        assert found["workers_left_out", None, None] == 1
