"""Whatever the database says of a row is the row's fault; of itself, it is not."""

import json
from pathlib import Path

import asyncpg
import pytest

from ingest.store import is_refusal
from tests.ingest.harness import packed, sending, stage
from tests.processes import until

# Raised by a trigger, so that the error is about one row, whatever its class is.
TRIGGER = """
create function refuse() returns trigger language plpgsql as $$
begin
    if new.job_id = 'bad' then raise exception 'not this one' using errcode = '{state}'; end if;
    return new;
end $$;
create trigger refuse before insert on shares for each row execute function refuse();
"""


@pytest.mark.parametrize("state", ["P0001", "22012", "XX000", "38001", "0A000", "TBG01", "54000"])
async def test_a_row_that_the_database_refuses_stands_alone_whatever_the_class_of_the_error(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection, state: str
) -> None:
    await db.execute(TRIGGER.format(state=state))
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 8):
                job = "bad" if seq == 4 else "good"
                sender.send(packed("share_submitted", instance="e/1", seq=seq, job_id=job))

        async def done() -> bool:
            return bool(await db.fetchval("select seq_max = 7 from engine_instances"))

        await until(done)
    assert [row["seq"] for row in await db.fetch("select seq from shares order by 1")] == [
        1, 2, 3, 5, 6, 7,
    ]  # fmt: skip
    letter = await db.fetchrow("select seq, stage, reason, detail, raw from dead_letters")
    assert letter is not None
    assert (letter["seq"], letter["stage"], letter["reason"]) == (4, "writer", "database")
    assert "not this one" in letter["detail"]
    assert json.loads(json.loads(letter["raw"])["data"])["job_id"] == "bad"


@pytest.mark.parametrize(
    "error",
    [
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
