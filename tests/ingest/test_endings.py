"""The end of a boot is in the books, whichever witness reports it."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.counts import Tally, parse_report, weigh
from ingest.notebook import SLOT_BYTES, Notebook
from ingest.writer import tables
from tbg.stack.embedded import EmbeddedValkey
from tbg_core.boots import Status
from tbg_core.names import LEDGER_STREAM
from tbg_core.periods import HOUR
from tests.clock import moment
from tests.ingest.harness import OWN, entries, packed, sending, stage
from tests.ingest.test_ledger import balance
from tests.processes import until
from tests.tbg_core.test_boots import killed, run

BOOKS = (
    "select instance, sum(emitted), sum(committed), sum(dead_lettered), sum(dropped), "
    "sum(unexplained) from ledger_hours group by instance"
)


def said(instance: str, last_seq: int, state: str, /, **changes: Any) -> bytes:
    """An ``engine_status`` as a datagram."""
    value = {
        "event": "engine_status",
        "timestamp": moment(),
        "source": "hosted",
        "instance": instance,
        "data": {"last_seq": last_seq, "unsent": None, "state": state},
    }
    return json.dumps({**value, **changes}).encode()


async def books(db: asyncpg.Connection) -> dict[str, tuple[int, ...]]:
    """Emitted, stored, refused, dropped and lost of each boot."""
    return {row["instance"]: tuple(int(n) for n in row[1:]) for row in await db.fetch(BOOKS)}


async def endings(db: asyncpg.Connection) -> dict[str, str]:
    rows = await db.fetch("select instance, ending from engine_endings")
    return {row["instance"]: row["ending"] for row in rows}


async def come(db: asyncpg.Connection, expected: dict[str, tuple[int, ...]]) -> None:
    """Waits until the books hold these boots so, and no other."""

    async def there() -> bool:
        return await books(db) == expected

    try:
        await until(there)
    except AssertionError:
        assert await books(db) == expected  # shows the difference
        raise
    await balance(db)


async def test_an_engine_that_died_without_a_receiver_is_in_the_books_when_there_is_one(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    path = tmp_path / "events.sock"
    crashed = killed(path, "crashed", 300)
    process, ended = run(path, "ended", 200, "end")
    process.communicate()
    async with (
        stage("receiver", tmp_path, redis_url) as receiver,
        stage("writer", tmp_path, redis_url, database_url),
    ):
        await come(db, {crashed: (300, 0, 0, 0, 300), ended: (200, 0, 0, 0, 200)})
        assert await endings(db) == {crashed: "ended", ended: "ended"}
        # And one that dies while the receiver runs and cannot read.
        await until(lambda: not list(tmp_path.glob("*.boot")))
        receiver.signal(signal.SIGSTOP)
        late = killed(path, "late", 5000)
        receiver.signal(signal.SIGCONT)

        async def known() -> bool:
            return (await books(db)).get(late, (0,))[0] == 5000

        await until(known)
        assert (await endings(db))[late] == "ended"
        await until(lambda: not list(tmp_path.glob("*.boot")))
    await balance(db)


async def test_what_an_engine_says_counts_whatever_its_order_and_however_often(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for instance in ("runs/1", "ended/1", "crashed/1", "over/1"):
                for seq in (1, 2, 4):
                    sender.send(packed("share_submitted", instance=instance, seq=seq))
            for seq in (1, 2, 3):
                sender.send(packed("share_submitted", instance="says-nothing/1", seq=seq))
            for datagram in (
                said("runs/1", 6, "running"),
                said("runs/1", 5, "running"),
                said("ended/1", 7, "ended"),
                said("ended/1", 6, "running"),
                said("ended/1", 7, "ended"),
                said("ended/1", 7, "crashed"),
                said("crashed/1", 9, "running"),
                said("crashed/1", 8, "crashed"),
                said("over/1", 3, "ended"),  # more came than it says
                said("silent/1", 10, "ended"),  # nothing of it ever came
                said("idle/1", 0, "ended"),
            ):
                sender.send(datagram)
        await come(
            db,
            {
                "runs/1": (6, 3, 0, 0, 3),
                "ended/1": (7, 3, 0, 0, 4),
                "crashed/1": (9, 3, 0, 0, 6),
                "over/1": (4, 3, 0, 0, 1),
                "silent/1": (10, 0, 0, 0, 10),
                "says-nothing/1": (3, 3, 0, 0, 0),
            },
        )
        assert await endings(db) == {
            "runs/1": "running",
            "ended/1": "ended",
            "crashed/1": "unknown",
            "over/1": "running",
            "silent/1": "ended",
            "says-nothing/1": "running",
            "idle/1": "ended",
        }
        # What is said before the last events came fills up.
        with sending(tmp_path / "events.sock") as sender:
            for seq in (3, 5, 6):
                sender.send(packed("share_submitted", instance="runs/1", seq=seq))

        async def filled() -> bool:
            return (await books(db))["runs/1"] == (6, 6, 0, 0, 0)

        await until(filled)
    await balance(db)


async def test_a_statement_that_does_not_fit_is_a_dead_letter_and_takes_no_number(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for datagram in (
                said("e/1", 5, "running", seq=2),
                said("e/1", 5, "running", instance=None),
                said("e/1", -1, "running"),
                said("e/1", 5, "asleep"),
                said("e/1", 5, "running", data={"last_seq": 5, "unsent": 6, "state": "ended"}),
                said("e/1", 5, "running", data={"state": "ended"}),
            ):
                sender.send(datagram)
            for seq in (1, 2, 3):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
        await come(db, {"e/1": (3, 3, 0, 0, 0)})

        async def kept() -> bool:
            rows = await db.fetch("select reason, seq from dead_letters order by id")
            return [tuple(row) for row in rows] == [
                *[("bad_envelope", None)] * 2,
                *[("bad_data", None)] * 4,
            ]

        await until(kept)


async def test_a_boot_that_nobody_vouches_for_is_over_with_the_next_one_or_after_a_silence(
    db: asyncpg.Connection,
) -> None:
    for instance, state, minutes in (
        ("old/9", None, 2),  # a later boot came
        ("old/10", None, 2),
        ("both/1", "running", 0),  # two at once: it still speaks
        ("both/2", "running", 0),
        ("beats/1", "running", 59),
        ("beat/1", "running", 61),
        ("quiet/1", None, 23 * 60),
        ("gone/1", None, 25 * 60),
        ("late/2", None, 2),  # heard of before the boot that was before it
        ("late/1", None, 2),
        ("back/200", None, 10),  # the engine's clock was set back between the two
        ("back/100", None, 2),
    ):
        await db.execute(
            "insert into engine_instances (instance, state, seq_max, seq_declared, last_seen) "
            "values ($1, $2, 5, 5, now() - $3 * interval '1 minute')",
            instance,
            state,
            minutes,
        )
    assert await endings(db) == {
        "old/9": "unknown",
        "old/10": "running",
        "both/1": "running",
        "both/2": "running",
        "beats/1": "running",
        "beat/1": "unknown",
        "quiet/1": "running",
        "gone/1": "unknown",
        "late/2": "running",
        "late/1": "unknown",
        "back/200": "unknown",
        "back/100": "running",
    }


async def test_what_is_lost_at_the_end_lies_in_the_last_hour_of_the_boot(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    now = moment()
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for seq, hours in ((1, 3), (2, 3), (4, 2)):
                at = now - now % HOUR - hours * HOUR + seq
                sender.send(packed("share_submitted", instance="a/1", seq=seq, timestamp=at))
            sender.send(said("a/1", 6, "ended"))
        await come(db, {"a/1": (6, 3, 0, 0, 3)})
    rows = await db.fetch("select emitted, committed, unexplained from ledger_hours order by hour")
    assert [tuple(row) for row in rows] == [(2, 2, 0), (4, 1, 3)]


async def test_what_a_full_spool_drops_last_of_a_boot_survives_the_receivers_death(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    database_url: str,
    db: asyncpg.Connection,
) -> None:
    now = moment()
    server = valkey_server()
    server.stop()
    settings = {"RECEIVER_METRICS_PORT": OWN, "SPOOL_MAX_BYTES": str(2**20)}
    async with stage("receiver", tmp_path, server.url, **settings) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 4001):
                sender.send(packed("share_submitted", instance="e/1", seq=seq, timestamp=now))

        def counted() -> bool:
            spooled = receiver.metric("tbg_spooled_total")
            return bool(spooled + receiver.metric("tbg_dropped_total") == 4000)

        await until(counted)
        spooled = int(receiver.metric("tbg_spooled_total"))
        assert spooled < 4000
        await receiver.kill()
    server.start()
    async with (
        stage("receiver", tmp_path, server.url),
        stage("writer", tmp_path, server.url, database_url),
    ):
        lost = 4000 - spooled
        await come(db, {"e/1": (4000, spooled, 0, lost, 0)})
        # Reported once: what the file holds is gone.
        await until(lambda: Notebook(tmp_path / "spool" / "unreported").text == b"")


async def test_a_redis_that_loses_its_end_loses_no_boot(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: redis_async.Redis,
    db: asyncpg.Connection,
) -> None:
    async with stage("receiver", tmp_path, redis_url):
        gone = killed(tmp_path / "events.sock", "gone", 3000)
        await until(lambda: not list(tmp_path.glob("*.boot")))  # it was reported
        await redis.flushall()
        await redis.execute_command("CLIENT", "KILL", "SKIPME", "yes")
        with sending(tmp_path / "events.sock") as sender:
            sender.send(packed("new_block_network"))  # or the next statement of any engine

        async def said_again() -> bool:
            reports = [parse_report(one[b"report"]) for one in await entries(redis, LEDGER_STREAM)]
            return any(status.instance == gone for one in reports for status in one.statuses)

        await until(said_again)
        async with stage("writer", tmp_path, redis_url, database_url):

            async def known() -> bool:
                return (await endings(db)).get(gone) == "ended"

            await until(known)
            assert (await books(db))[gone][0] == 3000


# --- The tally and its notebook --------------------------------------------------------


def test_losses_that_were_not_handed_on_outlive_the_process(tmp_path: Path) -> None:
    tally = Tally(Notebook(tmp_path / "unreported"))
    tally.received("e/1", HOUR + 5, 9)
    tally.dropped("e/1", 9, "spool", "full")
    tally.status(Status("f/1", "hosted", 2 * 10**15, 4, None, "ended"))
    tally.keep()
    report = tally.take()
    tally.dropped("e/1", 10, "spool", "full")
    tally.keep()

    second = Tally(Notebook(tmp_path / "unreported"))
    again = parse_report(second.take())
    assert again.dropped == [("e/1", "spool/full", [(9, 11)])]
    assert again.read == [("e/1", HOUR, 9)]
    assert [status.instance for status in again.statuses] == ["f/1"]
    assert again.received == []  # a count that is reported twice would be doubled

    tally.handed_on([report])
    assert parse_report(Tally(Notebook(tmp_path / "unreported")).take()).dropped == [
        ("e/1", "spool/full", [(10, 11)])
    ]
    tally.handed_on([tally.take()])
    assert Notebook(tmp_path / "unreported").text == b""


def test_what_was_said_lately_is_said_again_where_redis_may_have_lost_it() -> None:
    tally = Tally()
    tally.received("e/1", HOUR + 5, 9)
    tally.dropped("e/1", 8, "spool", "full")
    tally.status(Status("f/1", "hosted", 2 * 10**15, 4, None, "ended"))
    report = tally.take()
    tally.repeat()
    assert not tally  # what is not handed on yet is not lost either
    tally.handed_on([report])
    tally.repeat()
    tally.repeat()
    again = parse_report(tally.take())
    assert (again.read, len(again.statuses)) == ([("e/1", HOUR, 9)], 1)
    assert again.dropped == [("e/1", "spool/full", [(8, 9)])]
    assert (again.received, again.duplicates) == ([], [])  # counts would be doubled


def test_a_notebook_that_was_cut_short_or_damaged_holds_the_text_before(tmp_path: Path) -> None:
    path = tmp_path / "unreported"
    notebook = Notebook(path)
    for text in (b"one", b"two", b"three"):
        assert notebook.write(text)
    assert not notebook.write(bytes(SLOT_BYTES))
    assert Notebook(path).text == b"three"
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"three")] ^= 1
    path.write_bytes(raw)
    assert Notebook(path).text == b"two"
    path.write_bytes(raw[:10])  # a disk that was full when it was made
    assert Notebook(path).text == b""
    assert Notebook(path).write(b"four")
    path.unlink()
    path.mkdir()
    in_memory = Notebook(path)
    assert in_memory.write(b"five")
    assert in_memory.text == b"five"


def test_a_disk_that_fails_for_a_while_costs_the_notebook_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "unreported"

    def dropped() -> list[tuple[int, int]]:
        [(_, _, lost)] = parse_report(Tally(Notebook(path)).take()).dropped
        return lost

    def fails(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    first = Tally(Notebook(path))
    for seq in (1, 2):
        first.dropped("e/1", seq, "spool", "full")
        first.keep()
    whole = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[:9], at))
        for seq in (3, 4):  # neither place is spoilt for the other
            first.dropped("e/1", seq, "spool", "full")
            first.keep()
    assert dropped() == [(1, 3)]
    first.keep()
    assert dropped() == [(1, 5)]
    # One that cannot be read at the start ends no receiver, and is read when that is possible.
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fails)
        second = Tally(Notebook(path))
    second.dropped("e/1", 9, "spool", "full")
    second.keep()
    assert dropped() == [(1, 5), (9, 10)]


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (("running", 5), ("running", 6), ("running", 6)),
        (("ended", 5), ("running", 5), ("ended", 5)),
        (("crashed", 5), ("ended", 5), ("ended", 5)),
        (("ended", 5), ("running", 6), ("running", 6)),  # it goes on
        (("running", 6), ("crashed", 5), ("crashed", 6)),
        (("ended", 6), ("crashed", 5), ("ended", 6)),
    ],
)
async def test_of_two_statements_the_heavier_counts_in_memory_as_in_the_database(
    db: asyncpg.Connection,
    first: tuple[str, int],
    second: tuple[str, int],
    counts: tuple[str, int],
) -> None:
    statuses: dict[str, Status] = {}
    for state, seq in (first, second):
        weigh(statuses, Status("e/1", "hosted", moment(), seq, None, state))  # type: ignore[arg-type]  # one of the three
    assert (statuses["e/1"].state, statuses["e/1"].last_seq) == counts
    await db.execute("insert into engine_instances (instance) values ('e/1')")
    number = await db.fetchval("select id from engine_instances")
    for state, seq in (first, second):
        await db.execute(tables._UPDATE_ENDINGS, [number], [seq], [None], [state])
    row = await db.fetchrow("select state, seq_declared from engine_instances")
    assert row is not None
    assert tuple(row) == counts
