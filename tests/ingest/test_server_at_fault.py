"""A server that refuses rows for its own reasons, or leaves them out, takes no event from us."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from ingest.counts import Report
from ingest.writer.codecs import prepare
from ingest.writer.offsets import Offsets
from ingest.writer.refusal import Pace
from ingest.writer.store import Store
from tbg_core.boots import Status
from tbg_core.database import AWAY, explain
from tbg_core.database_url import DatabaseError
from tbg_core.entry import FIELDS, Entry
from tbg_core.names import LEDGER_STREAM, stream_of
from tests.clock import HOUR, moment
from tests.forged import genuine
from tests.ingest.harness import golden

Db = asyncpg.Connection
Open = Callable[[], AbstractAsyncContextManager[Store]]
BATCH = 3000

REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception 'not now' using errcode = '23514'; end $$;
create function leave_out() returns trigger language plpgsql as $$
begin return null; end $$;
"""


@pytest.fixture
def opened(database_url: str) -> Open:
    """Opens a store as a session does: from the offsets that the database holds."""

    @asynccontextmanager
    async def open_store() -> AsyncIterator[Store]:
        connection = await asyncpg.connect(database_url)
        try:
            await prepare(connection)
            offsets = Offsets(connection, "writer")
            await offsets.load()
            offsets.redis = "a Redis"
            store = Store(connection, offsets, timedelta(days=90), plain=True, pace=Pace(BATCH))
            await store.open()
            yield store
        finally:
            connection.terminate()

    return open_store


def entry(seq: int, value: dict[str, Any]) -> Entry:
    stream = stream_of(value["event"])
    values = [
        value["event"],
        str(value["timestamp"]),
        "hosted",
        "e/1",
        str(seq),
        json.dumps(value["data"]),
    ]
    words = [
        word
        for name, text in zip(FIELDS[stream], values, strict=True)
        for word in (name, text.encode())
    ]
    return Entry(stream, f"{moment() // 1000}-{seq}".encode(), words)


def share(seq: int, **changes: Any) -> Entry:
    return entry(seq, golden("share_submitted", **changes))


def block(seq: int) -> Entry:
    return entry(seq, golden("block_found"))


def proven(seq: int) -> Entry:
    return entry(seq, {**genuine(), "timestamp": moment()})


def report(seq: int) -> Entry:
    line = ("e/1", moment() - moment() % HOUR, seq)
    made = Report(
        [line], [("e/1", "spool/full", [(100 * seq, 100 * seq + 9)])], [line], [(*line, seq)],
        f"receiver/{seq}", [line], [Status("e/1", "hosted", moment(), 200 * seq, 0, "running")],
    )  # fmt: skip
    return Entry(LEDGER_STREAM, f"{seq}-1".encode(), [b"report", msgspec.json.encode(made)])


async def waits(opened: Open, one: Entry) -> str:
    """Commits an entry at a server that is at fault; what the writer waits for."""
    async with opened() as store:
        try:
            await store.commit([one])
        except (*AWAY, DatabaseError) as error:
            return explain(error, "postgresql://server/tbg")
    raise AssertionError("committed")


async def count(db: Db, table: str) -> int:
    return len(await db.fetch(f"table {table}"))


async def test_a_fault_of_one_table_alone_refuses_no_event(db: Db, opened: Open) -> None:
    await db.execute(REFUSE)
    faults = [
        # At COMMIT: a proof that is taken back would never come so far.
        (
            share,
            "shares",
            "constraint trigger refuse after insert",
            "deferrable initially deferred",
        ),
        (proven, "share_proofs", "trigger refuse before insert", ""),
        (report, "ledger_drops", "trigger refuse before insert", ""),
        (report, "report_processes", "trigger refuse before insert", ""),
        (report, "engine_instances", "trigger refuse before update", ""),
    ]
    for seq, (make, table, trigger, more) in enumerate(faults, 1):
        one = make(seq)
        await db.execute(
            f"create {trigger} on {table} {more} for each row execute function refuse()"
        )
        assert "not now" in await waits(opened, one), table
        await db.execute(f"drop trigger refuse on {table}")
        async with opened() as store:
            await store.commit([one])
    assert await count(db, "dead_letters") == 0
    assert await count(db, "shares") == await count(db, "share_proofs") == 1
    assert await count(db, "ledger_drops") == 1
    assert await db.fetchval("select max(reports) from report_processes") == 5


async def test_what_a_server_leaves_out_without_a_word_is_missed(db: Db, opened: Open) -> None:
    await db.execute(REFUSE)
    tables = ["engine_instances", "users", "workers", "shares", "mining_events", "blocks"]
    for table in tables:
        await db.execute(
            f"create trigger leave_out before insert on {table} "
            "for each row execute function leave_out()"
        )
        one = share(1) if table == "shares" else block(1)
        assert "does not keep" in await waits(opened, one), table
        await db.execute(f"drop trigger leave_out on {table}")
        assert await count(db, "shares") + await count(db, "mining_events") == 0
    # Of one event alone, it is that event that is refused.
    await db.execute(
        "create trigger leave_out before insert on shares for each row "
        "when (new.job_id = 'bad') execute function leave_out()"
    )
    async with opened() as store:
        await store.commit([share(1), share(2, job_id="bad"), share(3)])
    assert [row["seq"] for row in await db.fetch("select seq from shares order by 1")] == [1, 3]
    letter = await db.fetchrow("select seq, reason, detail from dead_letters")
    assert letter is not None
    assert (letter["seq"], letter["reason"]) == (2, "database")
    assert "COPY 0 of 1" in letter["detail"]
    # The letter itself has to be kept.
    await db.execute(
        "create trigger leave_out before insert on dead_letters "
        "for each row execute function leave_out()"
    )
    assert "every dead letter" in await waits(opened, share(4, job_id="bad"))


async def test_a_constraint_that_admits_no_other_names_refuses_its_event_and_no_other(
    db: Db, opened: Open
) -> None:
    await db.execute(REFUSE)
    await db.execute("alter table users add check (btc_address ~ '^bcrt1[a-z0-9]+$')")
    await db.execute("alter table workers add check (worker_name !~ ' ')")
    async with opened() as store:
        await store.commit([share(1), share(2, user="nobody"), share(3, worker="my rig")])
    await db.execute(
        "create trigger refuse before insert on users for each row execute function refuse()"
    )
    assert "not now" in await waits(opened, share(4, user="nobody"))
    letters = await db.fetch("select seq from dead_letters order by 1")
    assert [row["seq"] for row in letters] == [2, 3]
    assert await count(db, "shares") == 1
    assert await count(db, "users") == 1


async def test_a_limit_that_ends_the_connection_makes_batches_smaller(db: Db, opened: Open) -> None:
    name = await db.fetchval("select current_database()")
    await db.execute(f"alter database \"{name}\" set idle_in_transaction_session_timeout = '1ms'")
    async with opened() as store:
        # Between two statements of so large a batch lies more than a millisecond.
        with pytest.raises(AWAY):
            await store.commit([share(seq) for seq in range(1, BATCH + 1)])
        assert store._pace.most == BATCH // 2
