"""The share ledger: what is lost and unexplained is told from all that looks like it."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async
from hypothesis import given
from hypothesis import strategies as st

from ingest import counts as ledger
from ingest.counts import Numbers, Tally, parse_report
from tbg.stack.embedded import EmbeddedValkey
from tbg_core.periods import HOUR
from tests.clock import moment
from tests.ingest.harness import OWN, packed, sending, stage
from tests.processes import until

Eventually = Callable[..., Awaitable[Any]]
# Over all hours: what was refused counts for the hour in which it came.
LEDGER = (
    "select instance, sum(emitted), sum(received), sum(published), sum(committed), "
    "sum(dead_lettered), sum(duplicates), sum(dropped), sum(missing), sum(unexplained) "
    "from ledger_hours group by instance order by instance"
)


async def balance(db: asyncpg.Connection) -> None:
    """The rows themselves say what the ledger says."""
    for row in await db.fetch(
        "select l.instance, l.emitted, l.committed, l.dead_lettered, l.missing, a.emitted as used, "
        "a.stored, a.refused, a.dropped + a.missing as lost, a.doubled, numbers_in(a.absent) as absent "
        "from (select instance_id, instance, sum(emitted) as emitted, sum(committed) as committed, "
        "sum(dead_lettered) as dead_lettered, sum(missing) as missing "
        "from ledger_hours group by 1, 2) l join audit_numbers() a using (instance_id)"
    ):
        assert row["emitted"] == row["used"], row
        assert row["committed"] == row["stored"], row
        assert row["dead_lettered"] == row["refused"], row
        assert row["missing"] == row["lost"], row
        assert row["doubled"] == row["absent"] == 0, row


async def test_restarts_resends_and_late_events_are_no_loss_and_a_gap_is(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    async with (
        stage("receiver", tmp_path, redis_url) as receiver,
        stage("writer", tmp_path, redis_url, database_url) as writer,
    ):

        async def send(instance: str, *numbers: int, **changes: Any) -> None:
            with sending(tmp_path / "events.sock") as sender:
                for seq in numbers:
                    sender.send(packed("share_submitted", instance=instance, seq=seq, **changes))

        await send("a/1", 1, 2, 3)
        await send("a/2", 1, 2)  # the engine was restarted
        await send("b/1", 1, 2, 2, 4, 3)  # a resend, and one out of order
        await send("c/1", 1, 5)  # lost
        await send("d/1", 2, difficulty=0)  # refused
        await send("d/1", 1)
        await receiver.stop()
        await receiver.start()
        await writer.stop()
        await writer.start()
        await send("a/1", 4)

        async def all_there() -> bool:
            return bool(
                await db.fetchval(
                    "select sum(received) = 15 and sum(duplicates) = 1 from ledger_hours"
                )
            )

        await eventually(all_there)
    rows = {row["instance"]: tuple(row)[1:] for row in await db.fetch(LEDGER)}
    #           emitted received published committed dead dup dropped missing unexplained
    assert rows["a/1"] == (4, 4, 4, 4, 0, 0, 0, 0, 0)
    assert rows["a/2"] == (2, 2, 2, 2, 0, 0, 0, 0, 0)
    assert rows["b/1"] == (4, 5, 5, 4, 0, 1, 0, 0, 0)
    assert rows["c/1"] == (5, 2, 2, 2, 0, 0, 0, 3, 3)
    assert rows["d/1"] == (2, 2, 2, 1, 1, 0, 0, 0, 0)
    await balance(db)


async def test_a_loss_counts_for_the_hour_that_it_lies_in(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    now = moment()
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for seq, hours in ((1, 3), (2, 3), (5, 2), (6, 1), (7, 1)):
                sent = now - now % HOUR - hours * HOUR + seq
                sender.send(packed("share_submitted", instance="a/1", seq=seq, timestamp=sent))

        async def all_there() -> bool:
            return bool(await db.fetchval("select sum(received) = 5 from ledger_hours"))

        await eventually(all_there)
    rows = await db.fetch("select emitted, committed, unexplained from ledger_hours order by hour")
    assert [tuple(row) for row in rows] == [(2, 2, 0), (3, 1, 2), (2, 2, 0)]
    await balance(db)


async def test_what_a_full_spool_drops_is_missing_and_explained(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    now = moment()  # one hour holds them all
    server = valkey_server()
    server.stop()
    async with stage(
        "receiver",
        tmp_path,
        server.url,
        RECEIVER_METRICS_PORT=OWN,
        SPOOL_MAX_BYTES=str(2**20),
    ) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 3001):
                sender.send(packed("share_submitted", instance="e/1", seq=seq, timestamp=now))
            await eventually(
                lambda: (
                    receiver.metric("tbg_spooled_total") + receiver.metric("tbg_dropped_total")
                    == 3000
                )
            )
            dropped = int(receiver.metric("tbg_dropped_total"))
            assert dropped > 0
            server.start()
            async with stage("writer", tmp_path, server.url, database_url):
                await eventually(lambda: receiver.metric("tbg_spool_bytes") == 0)
                sender.send(packed("share_submitted", instance="e/1", seq=3001, timestamp=now))

                async def all_there() -> bool:
                    return bool(await db.fetchval("select sum(received) = 3001 from ledger_hours"))

                await eventually(all_there)
    rows = await db.fetch(LEDGER)
    assert [tuple(row) for row in rows] == [
        ("e/1", 3001, 3001, 3001 - dropped, 3001 - dropped, 0, 0, dropped, dropped, 0)
    ]
    causes = await db.fetchval("select dropped_by_cause from ledger_hours")
    assert json.loads(causes) == {"spool/full": dropped}
    await balance(db)


async def test_only_what_is_still_missing_counts_as_dropped(db: asyncpg.Connection) -> None:
    # 5, 6 and 7 never came; 5 and 6 were dropped, and so was 20, which was sent again.
    await db.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) "
        "values ('e/1', 30, '{[5,8)}')"
    )
    await db.execute(
        "insert into ledger (instance_id, hour, first_seq, last_seq, committed) "
        "select id, '2026-11-22 07:00+00', 1, 30, 27 from engine_instances"
    )
    for cause, numbers in (("spool/full", "{[5,7),[20,21)}"), ("spool/other", "{[6,7)}")):
        await db.execute(
            "insert into ledger_drops select id, $1, $2::text::int8multirange from engine_instances",
            cause,
            numbers,
        )
    row = await db.fetchrow("select missing, dropped, unexplained from ledger_hours")
    assert row is not None
    assert tuple(row) == (3, 2, 1)
    causes = await db.fetchval("select dropped_by_cause from ledger_hours")
    assert json.loads(causes) == {"spool/full": 2, "spool/other": 1}


async def test_a_report_that_is_none_is_a_dead_letter(
    tmp_path: Path,
    redis_url: str,
    redis: redis_async.Redis,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    await redis.xadd("mining:ledger", {"report": b'[["e/1", 1]]'})
    async with stage("writer", tmp_path, redis_url, database_url):

        async def kept() -> bool:
            return bool(await db.fetchval("select reason = 'bad_report' from dead_letters"))

        await eventually(kept)


def test_a_report_that_was_given_back_counts_again() -> None:
    tally = Tally()
    tally.received("e/1", HOUR + 5)
    for seq in (7, 9, 8, 12, 8):
        tally.dropped("e/1", seq, "spool", "full")
    report = tally.take()
    assert not tally
    tally.give_back(report)
    tally.received("e/1", HOUR + 6)
    tally.dropped("e/1", 10, "spool", "full")
    found = parse_report(tally.take())
    assert found.received == [("e/1", HOUR, 2)]
    assert found.dropped == [("e/1", "spool/full", [(7, 11), (12, 13)])]
    ((instance, hour, lowest, highest),) = found.skews
    assert (instance, hour) == ("e/1", HOUR)
    assert lowest < highest < 0  # two samples, of long ago


def test_what_waits_to_be_reported_does_not_grow_with_what_is_dropped() -> None:
    tally = Tally()
    for seq in range(1, 300_001):
        tally.received("e/1", HOUR)
        tally.dropped("e/1", seq, "spool", "full")
        if seq % 1000 == 0:  # reports cannot be handed on either
            tally.give_back(tally.take())
    report = tally.take()
    found = parse_report(report)
    assert found.received == [("e/1", HOUR, 300_000)]
    assert found.dropped == [("e/1", "spool/full", [(1, 300_001)])]
    assert len(report) < 300


def test_numbers_and_names_without_end_are_remembered_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "MOST_KEPT", 10)
    tally = Tally()
    for number in range(100):
        tally.received(f"e/{number}", HOUR)
        tally.dropped("e/1", 2 * number + 1, "spool", "full")
    report = parse_report(tally.take())
    assert [count for *_, count in report.received] == [1] * 10
    assert report.dropped == [("e/1", "spool/full", [(n, n + 1) for n in range(1, 20, 2)])]
    tally.dropped("e/1", 500, "spool", "full")  # it was reported, and there is room again
    assert parse_report(tally.take()).dropped == [("e/1", "spool/full", [(500, 501)])]


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 8)), max_size=40))
def test_ranges_hold_the_very_numbers_that_were_added(parts: list[tuple[int, int]]) -> None:
    numbers = Numbers()
    expected: set[int] = set()
    for start, count in parts:
        numbers.add(start, start + count)
        expected.update(range(start, start + count))
    united = numbers.united()
    assert [n for start, end in united for n in range(start, end)] == sorted(expected)
    assert len(numbers) == len(united)


async def test_the_ledger_says_how_wrong_an_engines_clock_was(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    now = moment()
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for instance, micros in (("right/1", now), ("slow/1", now - 5 * HOUR)):
                sender.send(packed("share_submitted", instance=instance, seq=1, timestamp=micros))

        async def reported() -> bool:
            return bool(await db.fetchval("select count(skew_max) = 2 from ledger"))

        await until(reported)
    rows = await db.fetch(
        "select instance, skew_max from ledger join engine_instances i on i.id = instance_id"
    )
    skews = {row["instance"]: row["skew_max"] for row in rows}
    # What came takes a while to come; the clock of slow/1 is five hours behind.
    assert -HOUR < skews["right/1"] <= 0
    assert -6 * HOUR < skews["slow/1"] <= -5 * HOUR
