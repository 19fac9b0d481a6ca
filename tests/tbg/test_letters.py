"""``tbg dead-letters`` shows what was refused, and brings it back once."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, cast

import asyncpg
import pytest
import redis.asyncio as redis_async

from tests.clock import DAY, HOUR, moment
from tests.ingest.harness import Stage, entries, packed, sending, stage
from tests.processes import until
from tests.tbg.command import tbg

Db = asyncpg.Connection
Letters = Callable[..., Awaitable[CompletedProcess[str]]]
BOOKS = """
select coalesce(sum(emitted), 0)::int as emitted, coalesce(sum(committed), 0)::int as committed,
    coalesce(sum(dead_lettered), 0)::int as refused, coalesce(sum(duplicates), 0)::int as copies,
    coalesce(sum(unexplained), 0)::int as unexplained
from ledger_hours
"""


@pytest.fixture
def letters(tmp_path: Path, database_url: str, redis_url: str) -> Letters:
    """Runs ``tbg dead-letters`` with these words."""

    async def run(*words: str) -> CompletedProcess[str]:
        # Processes, for some run at once: one that shared ours would change its environment.
        return await asyncio.to_thread(
            tbg,
            *["dead-letters", words[0], "--state", str(tmp_path), *words[1:]],
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
        )

    return run


@pytest.fixture
async def writer(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[Stage]:
    """A receiver and a writer; the writer is what it gives."""
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url) as made,
    ):
        yield made


async def counted(db: Db, events: int) -> None:
    async def done() -> bool:
        return bool(
            await db.fetchval(
                "select coalesce(sum(events + duplicates), 0) = $1 from engine_instances", events
            )
        )

    await until(done)


async def books(db: Db) -> dict[str, int]:
    row = await db.fetchrow(BOOKS)
    assert row is not None
    return dict(row)


async def test_what_the_database_refused_comes_back_once_and_the_books_balance(
    tmp_path: Path, writer: Stage, db: Db, redis: redis_async.Redis, letters: Letters
) -> None:
    await db.execute("alter table shares add constraint low check (share_diff < 1e9)")
    with sending(tmp_path / "events.sock") as sender:
        sent = [
            packed("share_submitted", instance="e/1", seq=seq, share_diff=1e10 if seq == 3 else 7e8)
            for seq in range(1, 6)
        ]
        for datagram in sent:
            sender.send(datagram)
        await counted(db, 5)
        listed = json.loads((await letters("list", "--json")).stdout)
        assert [(one["reason"], one["instance"], one["seq"]) for one in listed] == [
            ("database", "e/1", 3)
        ]
        # Refused again while the reason is there; then brought back, twice.
        again = await letters("replay", "--reason", "database")
        assert again.returncode == 3, again.stderr
        assert "refused again, database: CheckViolationError" in again.stdout
        await db.execute("alter table shares drop constraint low")
        dry = await letters("replay", "--id", str(listed[0]["id"]), "--dry-run", "--json")
        assert [one["result"] for one in json.loads(dry.stdout)] == ["replayed"]
        assert await db.fetchval("select count(*) from shares") == 4
        assert await books(db) == {
            "emitted": 5, "committed": 4, "refused": 1, "copies": 0, "unexplained": 0,
        }  # fmt: skip
        for _ in range(2):
            done = await letters("replay", "--reason", "database")
            assert done.returncode == 0, done.stderr
        assert "no such dead letter" in done.stdout
        assert await db.fetchval("select count(*) from shares") == 5
        assert await books(db) == {
            "emitted": 5, "committed": 5, "refused": 0, "copies": 0, "unexplained": 0,
        }  # fmt: skip
        # Its best counts, in the table and on the leaderboard; a copy is a copy still.
        assert await db.fetchval("select best_difficulty from weekly_best_diff") == 1e10
        board = (await redis.keys("leaderboard:*"))[0]
        assert (await redis.zrange(board, 0, 0, withscores=True))[0][1] == 1e10
        for fields in await entries(redis, "mining:share_submitted"):
            await redis.xadd("mining:share_submitted", cast(Any, fields))
        await counted(db, 10)
    assert await db.fetchval("select count(*) from shares") == 5
    assert await db.fetchval("select count(*) from dead_letters") == 1
    audit = await db.fetch("select stored, refused, doubled, absent::text from audit_numbers()")
    assert [tuple(row) for row in audit] == [(5, 0, 0, "{}")]


async def test_two_people_who_replay_at_once_make_one_row(
    tmp_path: Path, writer: Stage, db: Db, letters: Letters
) -> None:
    raw = packed("share_submitted", instance="e/1", seq=1)
    await db.execute(
        "insert into dead_letters (stage, reason, detail, raw) values "
        "('receiver', 'bad_data', '', $1)",
        raw,
    )
    done = await asyncio.gather(*(letters("replay", "--all") for _ in range(3)))
    assert [one.returncode for one in done] == [0, 0, 0]
    assert await db.fetchval("select count(*) from shares") == 1
    # Its number was nowhere in the books, and is now.
    assert (await books(db))["committed"] == 1
    assert await db.fetchval("select seq_max from engine_instances") == 1


async def test_what_a_receiver_refused_comes_back_when_the_contract_takes_it(
    tmp_path: Path, redis_url: str, database_url: str, db: Db, redis: redis_async.Redis,
    letters: Letters,
) -> None:  # fmt: skip
    fields: dict[Any, Any] = {
        "stage": "receiver",
        "reason": "bad_envelope",
        "detail": "ahead",
        "instance": "e/1",
    }
    good = packed("share_submitted", instance="e/1", seq=1, timestamp=moment() - 2 * HOUR)
    bad = packed("share_submitted", instance="e/1", seq=2, difficulty=0)
    for seq, raw in ((1, good), (2, bad)):
        await redis.xadd("mining:dead_letter", {**fields, "seq": seq, "raw": raw})
    async with stage("writer", tmp_path, redis_url, database_url):
        await counted(db, 2)
        done = await letters("replay", "--stage", "receiver", "--json")
        assert done.returncode == 3
        assert [(one["result"], one["reason"]) for one in json.loads(done.stdout)] == [
            ("replayed", ""),
            ("refused", "bad_data"),
        ]
        assert await books(db) == {
            "emitted": 2, "committed": 1, "refused": 1, "copies": 0, "unexplained": 0,
        }  # fmt: skip
        assert await db.fetchval("select sum(shares) from late_share_hours") == 1


async def test_events_whose_number_is_another_ones_come_back_without_it(
    tmp_path: Path, writer: Stage, db: Db, letters: Letters
) -> None:
    began = moment() - 60_000_000
    with sending(tmp_path / "events.sock") as sender:
        for turn in range(2):
            for seq in range(1, 11):
                at = began + 1000 * turn + seq
                sender.send(packed("share_submitted", instance="e/1", seq=seq, timestamp=at))
            await counted(db, 10 * (turn + 1))
    before = await books(db)
    for _ in range(2):
        assert (await letters("replay", "--reason", "number_reused")).returncode == 0
    assert await db.fetchval("select count(*) from shares") == 20
    assert await db.fetchval("select count(*) from shares where seq is null") == 10
    assert await books(db) == before
    audit = await db.fetch("select stored, refused, doubled from audit_numbers()")
    assert [tuple(row) for row in audit] == [(10, 0, 0)]


async def test_a_letter_whose_event_came_after_all_adds_no_row(
    tmp_path: Path, writer: Stage, db: Db, letters: Letters
) -> None:
    raw = packed("hashrate_update", instance="e/1", seq=1)
    with sending(tmp_path / "events.sock") as sender:
        sender.send(raw)
        await counted(db, 1)
    await db.execute(
        "insert into dead_letters (stage, reason, detail, raw, instance, seq) "
        "values ('receiver', 'bad_data', '', $1, 'e/1', 1)",
        raw,
    )
    done = await letters("replay", "--instance", "e/1", "--json")
    assert [one["result"] for one in json.loads(done.stdout)] == ["stored already"]
    assert await db.fetchval("select count(*) from mining_events") == 1


async def test_what_is_past_retention_and_what_is_no_event_stay_refused(
    db: Db, letters: Letters
) -> None:
    old = packed("share_submitted", timestamp=moment() - 91 * DAY)
    raws = [old, b"\xff", b"", b"{}", b'{"event":"x"}']
    for stage_ in ("receiver", "writer"):
        for raw in raws:
            await db.execute(
                "insert into dead_letters (stage, reason, detail, raw) values ($1, 'x', '', $2)",
                stage_,
                raw,
            )
    done = await letters("replay", "--all", "--json")
    assert done.returncode == 3
    assert {one["result"] for one in json.loads(done.stdout)} == {"refused"}
    assert await db.fetchval("select count(*) from dead_letters where replayed_at is null") == 10
    assert await db.fetchval("select count(*) from users") == 0


async def test_letters_are_chosen_by_stage_reason_instance_time_and_id(
    db: Db, letters: Letters
) -> None:
    for number in range(1, 5):
        await db.execute(
            "insert into dead_letters (stage, reason, detail, raw, instance, seq, received_at) "
            "values ($1, $2, '[red]$\\q$', '\\x00', $3, $4::bigint, "
            "'2026-11-22 00:00+00'::timestamptz + $4::int * interval '1 hour')",
            "writer" if number % 2 else "receiver",
            f"reason{number}",
            f"e/{number}",
            number,
        )

    async def chosen(*words: str) -> list[int]:
        rows = json.loads((await letters("list", "--json", *words)).stdout)
        return [row["seq"] for row in rows]

    assert await chosen() == [4, 3, 2, 1]
    assert await chosen("--last", "1") == [4]
    assert await chosen("--stage", "writer") == [3, 1]
    assert await chosen("--reason", "reason2") == [2]
    assert await chosen("--instance", "e/3") == [3]
    assert await chosen("--since", "2026-11-22T02:00", "--until", "2026-11-22T04:00") == [3, 2]
    first = await db.fetchval("select min(id) from dead_letters")
    assert await chosen("--id", str(first), "--id", str(first + 1)) == [2, 1]
    shown = await letters("list")
    assert "[red]$" in shown.stdout
    assert (await letters("replay")).returncode == 2  # it does not choose for a person
    assert (await letters("list", "--since", "soon")).returncode == 2
