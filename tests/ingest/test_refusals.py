"""A row is refused only when the same server takes another one; everything else is waited for."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ingest.counts import Report
from ingest.writer.probe import good_entries
from ingest.writer.refusal import Pace, is_refusal
from ingest.writer.rows import Row, parse
from tbg_core.entry import Entry
from tbg_core.names import STREAMS
from tests.clock import DAY, moment
from tests.ingest.harness import Stage, packed, sending, stage
from tests.processes import until

Db = asyncpg.Connection

# Raised by a trigger, so that the error is about one row, whatever its class is.
TRIGGER = """
create function refuse() returns trigger language plpgsql as $$
begin
    if {when} then raise exception 'not this one' using errcode = '{state}'; end if;
    return new;
end $$;
create trigger refuse before insert on shares for each row execute function refuse();
"""
BAD = "new.job_id = 'bad'"


@pytest.fixture
async def stages(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[Stage]:
    """A receiver and a writer; the writer is what it gives."""
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url) as writer,
    ):
        yield writer


def send(folder: Path, *jobs: str) -> None:
    """Shares of one engine boot, numbered from 1."""
    with sending(folder / "events.sock") as sender:
        for seq, job in enumerate(jobs, 1):
            sender.send(packed("share_submitted", instance="e/1", seq=seq, job_id=job))


async def settled(db: Db, count: int) -> None:
    """Waits until so many numbers are stored or refused."""

    async def done() -> bool:
        return bool(
            await db.fetchval(
                "select coalesce(max(seq_max), 0) = $1 "
                "from engine_instances where instance = 'e/1'",
                count,
            )
        )

    await until(done)


async def numbers(db: Db) -> list[int]:
    return [row["seq"] for row in await db.fetch("select seq from shares order by 1")]


@pytest.mark.parametrize("state", ["21000", "22012", "23514", "44000", "54000", "P0001"])
async def test_a_row_that_the_database_refuses_for_its_data_stands_alone(
    tmp_path: Path, stages: Stage, db: Db, state: str
) -> None:
    await db.execute(TRIGGER.format(state=state, when=BAD))
    send(tmp_path, "good", "good", "good", "bad", "good", "good", "good")
    await settled(db, 7)
    assert await numbers(db) == [1, 2, 3, 5, 6, 7]
    letter = await db.fetchrow("select seq, stage, reason, detail, raw from dead_letters")
    assert letter is not None
    assert (letter["seq"], letter["stage"], letter["reason"]) == (4, "writer", "database")
    assert "not this one" in letter["detail"]
    assert json.loads(json.loads(letter["raw"])["data"])["job_id"] == "bad"
    assert await db.fetchval("select count(*) from users where btc_address like 'tbg%'") == 0
    assert await db.fetchval("select count(*) from engine_instances") == 1


async def test_a_row_that_comes_alone_is_refused_when_the_server_takes_another_one(
    tmp_path: Path, stages: Stage, db: Db
) -> None:
    await db.execute(TRIGGER.format(state="23514", when=BAD))
    send(tmp_path, "bad")
    await settled(db, 1)
    assert await db.fetchval("select count(*) from dead_letters") == 1


@pytest.mark.parametrize(
    "state",
    ["02000", "08006", "0A000", "25006", "38001", "40001", "42501", "42P01", "53100", "55000", "57014",
     "58030", "TBG01", "XX000", "XX001"],
)  # fmt: skip
async def test_every_other_error_is_waited_for_even_where_one_row_alone_meets_it(
    tmp_path: Path, stages: Stage, db: Db, state: str
) -> None:
    await db.execute(TRIGGER.format(state=state, when=BAD))
    send(tmp_path, "good", "bad", "good")
    await stages.process.saying("cannot commit")
    assert await db.fetchval("select count(*) from dead_letters") == 0
    await db.execute("drop trigger refuse on shares")
    await settled(db, 3)
    assert await numbers(db) == [1, 2, 3]
    assert await db.fetchval("select count(*) from dead_letters") == 0


@pytest.mark.parametrize("state", ["22000", "23505", "54000", "P0001", "XX000"])
async def test_a_server_that_refuses_every_row_refuses_none(
    tmp_path: Path, stages: Stage, db: Db, state: str
) -> None:
    await db.execute(TRIGGER.format(state=state, when="true"))
    send(tmp_path, *["good"] * 9)
    await stages.process.saying("cannot commit")
    await db.execute("drop trigger refuse on shares")
    await settled(db, 9)
    assert await numbers(db) == list(range(1, 10))
    assert await db.fetchval("select count(*) from dead_letters") == 0


async def test_a_server_that_refuses_every_change_of_a_row_refuses_no_event(
    tmp_path: Path, stages: Stage, db: Db
) -> None:
    share = packed("share_submitted", instance="e/1", seq=1, share_diff=1e6, hash="ab" * 32)
    best = packed("share_submitted", instance="e/1", seq=3, share_diff=1e9, difficulty=7.0)
    block = packed("block_found", instance="e/1", seq=2, hash="ab" * 32)
    with sending(tmp_path / "events.sock") as sender:
        sender.send(share)
        await settled(db, 1)
        await db.execute(TRIGGER.format(state="23514", when="true"))
        await db.execute("drop trigger refuse on shares")
        for table, count, datagram in (("shares", 2, block), ("weekly_best_diff", 3, best)):
            await db.execute(
                f"create trigger refuse before update on {table} "
                "for each row execute function refuse()"
            )
            sender.send(datagram)
            await stages.process.saying(f"stream=mining:{json.loads(datagram)['event']}")
            await db.execute(f"drop trigger refuse on {table}")
            await settled(db, count)
    assert await db.fetchval("select count(*) from dead_letters") == 0
    assert await db.fetchval("select is_block from shares order by seq limit 1")


@pytest.mark.plain_postgresql
async def test_a_partition_that_is_dropped_under_the_writer_is_made_again(
    tmp_path: Path, stages: Stage, db: Db
) -> None:
    send(tmp_path, "good")
    await settled(db, 1)
    day = await db.fetchval("select tableoid::regclass::text from shares")
    await db.execute(f"drop table {day}")  # under a writer that knows it
    with sending(tmp_path / "events.sock") as sender:
        sender.send(packed("share_submitted", instance="e/1", seq=2))
        await settled(db, 2)
    assert await numbers(db) == [2]
    assert await db.fetchval("select count(*) from dead_letters") == 0


async def test_a_miner_whose_rows_were_deleted_under_the_writer_is_found_again(
    tmp_path: Path, stages: Stage, db: Db
) -> None:
    send(tmp_path, "good")
    await settled(db, 1)
    await db.execute("delete from weekly_best_diff; delete from workers; delete from users")
    with sending(tmp_path / "events.sock") as sender:
        sender.send(packed("share_submitted", instance="e/1", seq=2, share_diff=1e9))
        await settled(db, 2)
    assert await db.fetchval("select count(*) from dead_letters") == 0
    assert await db.fetchval("select count(*) from weekly_best_diff") == 1


@pytest.mark.parametrize("stream", STREAMS)
def test_the_good_entry_of_every_stream_is_one(stream: str) -> None:
    entry = good_entries(Entry(stream, b"1-1", []), moment())[-1]
    item = parse(entry)
    assert (entry.stream, entry.id) == (stream, b"1-1")
    if stream == "mining:ledger":
        assert isinstance(item, Report)
    elif stream == "mining:dead_letter":
        assert not isinstance(item, Report)
        assert (item.instance, item.seq) == ("tbg probe/1", 2)
    else:
        assert isinstance(item, Row)


async def test_a_writer_whose_clock_is_a_hundred_days_ahead_refuses_nothing(
    tmp_path: Path, redis_url: str, database_url: str, db: Db
) -> None:
    wrong = tmp_path / "clock"
    wrong.write_text(str(100 * 86_400))
    faulty = {
        "PYTHONPATH": str(Path(__file__).parent.parent / "faults" / "wrong_clock"),
        "TBG_TEST_CLOCK": str(wrong),
    }
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url, **faulty),
    ):
        send(tmp_path, "good", "good")
        await settled(db, 2)
        assert await numbers(db) == [1, 2]
        assert await db.fetchval("select is_online from workers")
        assert await db.fetchval("select count(*) from late_share_hours") == 0


async def test_events_past_retention_are_refused_with_a_line_in_the_log(
    tmp_path: Path, stages: Stage, db: Db
) -> None:
    with sending(tmp_path / "events.sock") as sender:
        for seq in (1, 2):
            old = moment() - 91 * DAY
            sender.send(packed("share_submitted", instance="e/1", seq=seq, timestamp=old))
    await settled(db, 2)
    assert await db.fetchval("select count(*) from dead_letters") == 2
    assert "past_retention" in stages.process.output


async def test_a_batch_that_takes_longer_than_the_server_allows_is_halved(
    tmp_path: Path, stages: Stage, db: Db, database_url: str
) -> None:
    await db.execute(
        """
        create function slow() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.01); return new; end $$;
        create trigger slow before insert on shares for each row execute function slow();
        """
    )
    name = await db.fetchval("select current_database()")
    await stages.stop()
    send(tmp_path, *["good"] * 200)  # two seconds in one batch
    await db.execute(f"alter database \"{name}\" set statement_timeout = '500ms'")
    stages.process.start()
    await settled(db, 200)
    assert await numbers(db) == list(range(1, 201))
    assert await db.fetchval("select count(*) from dead_letters") == 0


def test_a_batch_that_is_somewhat_too_large_is_one_transaction_unless_one_failed() -> None:
    pace = Pace(4000)
    assert [pace.take(entries) for entries in (1, 4212, 8000, 8001)] == [1, 4212, 8000, 4000]
    pace.failed(4212)
    assert [pace.take(entries) for entries in (4212, 2107, 1)] == [2106, 2106, 2106]


def test_the_pace_halves_what_failed_and_comes_back_slowly() -> None:
    pace = Pace(4000)
    for expected in (2000, 1000, 500):
        pace.failed(pace.most)
        assert pace.most == expected
    for _ in range(63):
        pace.committed(500)
    assert pace.most == 500  # 1,000 has failed
    pace.committed(500)
    assert pace.most == 1000
    pace.committed(999)
    assert pace.most == 1000
    pace.committed(1000)
    assert pace.most == 2000
    pace.committed(2000)
    pace.committed(4000)
    assert pace.most == 4000
    for _ in range(20):
        pace.failed(pace.most)
    assert pace.most == 1


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.PostgresWarning("01000"),
        asyncpg.ConnectionDoesNotExistError("08003"),
        asyncpg.ReadOnlySQLTransactionError("25006"),
        asyncpg.InvalidPasswordError("28P01"),
        asyncpg.DeadlockDetectedError("40P01"),
        asyncpg.UndefinedTableError("42P01"),
        asyncpg.InsufficientPrivilegeError("42501"),
        asyncpg.DiskFullError("53100"),
        asyncpg.LockNotAvailableError("55P03"),
        asyncpg.AdminShutdownError("57P01"),
        asyncpg.IndexCorruptedError("XX002"),
        asyncpg.InterfaceError("connection is closed"),
        OSError("reset"),
    ],
)
def test_an_error_about_the_server_is_no_refusal(error: Exception) -> None:
    assert not is_refusal(error)


def test_what_cannot_be_sent_is_a_refusal() -> None:
    assert is_refusal(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"))
    assert is_refusal(OverflowError("value out of int64 range"))
