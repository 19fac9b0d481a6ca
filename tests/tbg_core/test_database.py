"""A server that cannot be used is refused by name, and a pooler in session mode serves."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tbg.migrate import MigrateError, migrate
from tbg.stack.embedded import EmbeddedPostgres, free_port
from tbg_core import database as database_module
from tbg_core.database import UnusableError, connect, connect_async, examine
from tbg_core.database_url import DatabaseError
from tests.ingest.harness import packed, sending, stage
from tests.tbg.command import tbg
from tests.tbg_core.pgbouncer import PROGRAM, pgbouncer

needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="PgBouncer is not installed (Debian: apt install pgbouncer)"
)
Eventually = Callable[..., Awaitable[Any]]


def test_a_server_says_its_version(empty_database_url: str) -> None:
    server = examine(empty_database_url)
    assert int(server.version.split(".")[0]) >= 15
    assert not server.pooled


async def test_the_session_has_its_settings_whatever_the_server_and_the_url_say(
    empty_database_url: str,
) -> None:
    name = urlsplit(empty_database_url).path.lstrip("/")
    with connect(empty_database_url) as database:
        database.execute(
            f'alter database "{name}" set default_transaction_isolation = serializable'
        )
    # A share that comes while its hour is read is seen only so (tbg_dagster/rollup/raw.py).
    asked = "select current_setting('transaction_isolation')"
    writer = await connect_async(empty_database_url, application="mine")
    assert await writer.fetchval(asked) == "read committed"
    await writer.close()
    with connect(
        f"{empty_database_url}?options=-c%20TimeZone%3DAsia%2FTokyo",
        settings={"work_mem": "17MB"},
        application="mine",
    ) as database:
        row = database.execute(
            "select current_setting('TimeZone'), current_setting('work_mem'),"
            " current_setting('application_name'), current_setting('transaction_isolation')"
        ).fetchone()
    assert row == ("UTC", "17MB", "mine", "read committed")


@needs_pgbouncer
@pytest.mark.parametrize("size", [1, 10])
def test_a_pooler_in_session_mode_is_as_good_as_the_server(
    postgres_url: str, server_folder: Path, size: int
) -> None:
    with pgbouncer(postgres_url, server_folder, "session", size) as url:
        assert examine(url).pooled


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("size", [1, 10])
def test_a_pooler_that_shares_sessions_is_refused(
    postgres_url: str, server_folder: Path, mode: str, size: int
) -> None:
    with (
        pgbouncer(postgres_url, server_folder, mode, size) as url,
        pytest.raises(UnusableError, match="pool_mode = session") as caught,
    ):
        examine(url)
    assert str(urlsplit(postgres_url).password) not in str(caught.value)


@needs_pgbouncer
async def test_the_schema_and_the_rows_come_through_a_pooler_in_session_mode(
    empty_database_url: str,
    redis_url: str,
    tmp_path: Path,
    server_folder: Path,
    eventually: Eventually,
) -> None:
    with pgbouncer(empty_database_url, server_folder, "session") as plain:
        # As Neon, and a careful operator, write it.
        url = f"{plain}?channel_binding=prefer&connect_timeout=9&keepalives_idle=30"
        migrated = await asyncio.to_thread(migrate, url)
        assert migrated.applied
        async with (
            stage("receiver", tmp_path, redis_url),
            stage("writer", tmp_path, redis_url, url) as writer,
        ):
            with sending(tmp_path / "events.sock") as sender:
                for seq in range(1, 51):
                    sender.send(packed("share_submitted", instance="pooled/1", seq=seq))
            connection = await asyncpg.connect(empty_database_url)
            try:

                async def all_stored() -> bool:
                    return bool(await connection.fetchval("select count(*) = 50 from shares"))

                await eventually(all_stored)
            finally:
                await connection.close()
            assert await writer.stop() == 0


@needs_pgbouncer
async def test_a_writer_behind_a_pooler_that_shares_sessions_waits_and_says_why(
    database_url: str, redis_url: str, tmp_path: Path, server_folder: Path
) -> None:
    with pgbouncer(database_url, server_folder, "transaction") as url:
        async with stage(
            "writer",
            tmp_path,
            redis_url,
            url,
            ready="pool_mode = session",
            WRITER_METRICS_PORT="own",
        ) as writer:
            status, text = writer.get("/readyz")
            assert status == 503
            assert "pool_mode = session" in text
            assert "committing" not in writer.process.output
            assert "Traceback" not in writer.process.output
            assert await writer.stop() == 0


def test_a_server_that_takes_no_writes_is_refused(empty_database_url: str) -> None:
    name = urlsplit(empty_database_url).path.lstrip("/")
    with connect(empty_database_url) as database:
        database.execute(f'alter database "{name}" set default_transaction_read_only = on')
    with pytest.raises(UnusableError, match=r"is read-only \(default_transaction_read_only = on"):
        examine(empty_database_url)
    with pytest.raises(MigrateError, match="is read-only"):
        migrate(empty_database_url)


def test_a_database_that_lacks_letters_is_refused(postgres_url: str) -> None:
    name = f"tbg_test_{secrets.token_hex(6)}"
    with connect(postgres_url) as server:
        server.execute(f"create database {name} template template0 encoding 'LATIN1' locale 'C'")
        try:
            with pytest.raises(MigrateError, match=r"has the encoding LATIN1, .*createdb"):
                migrate(urlsplit(postgres_url)._replace(path=f"/{name}").geturl())
        finally:
            server.execute(f"drop database {name} with (force)")


async def test_a_replica_is_refused_and_the_primary_beside_it_is_found(
    postgres_server: Callable[..., EmbeddedPostgres],
) -> None:
    server, replica = postgres_server(), postgres_server()
    replica.stop()
    (replica.data / "standby.signal").touch()
    # It waits for a primary that is not there, and answers questions meanwhile.
    replica.start()
    with pytest.raises(UnusableError, match="read-only, a replica: name the primary"):
        await asyncio.to_thread(examine, replica.url)
    alone = f"{replica.url}?target_session_attrs=read-write"
    with pytest.raises(DatabaseError, match="takes no writes: name its primary"):
        await asyncio.to_thread(examine, alone)
    first, second = urlsplit(replica.url), urlsplit(server.url)
    with connect(server.url) as database:
        database.execute(f"alter role {second.username} password '{first.password}'")
    hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    both = f"postgresql://{first.username}:{first.password}@{hosts}/postgres"
    server_found = await asyncio.to_thread(examine, f"{both}?target_session_attrs=read-write")
    assert not server_found.pooled


def test_commands_refuse_a_url_that_cannot_work_without_a_traceback(tmp_path: Path) -> None:
    url = "mysql://x"
    said = "DATABASE_URL must start with postgresql://, not with mysql://"
    for command in (
        ("migrate",),
        ("status",),
        ("bests",),
        ("ledger",),
        ("ingest", "writer"),
        ("notify",),
        ("doctor",),
        ("up", "--no-dagster"),
    ):
        done = tbg(
            *command,
            DATABASE_URL=url,
            REDIS_URL="redis://127.0.0.1:1",
            TBG_STATE=str(tmp_path / "state"),
            COLUMNS="400",
        )
        assert done.returncode == 1, (command, done)
        shown = " ".join((done.stdout + done.stderr).split())
        assert said in shown.replace("DATABASE_URL: ", "DATABASE_URL "), command
        assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_named_without_a_traceback(tmp_path: Path) -> None:
    url = f"postgresql://u:geheim@127.0.0.1:{free_port()}/tbg"
    done = tbg("migrate", DATABASE_URL=url)
    assert done.returncode == 1
    assert "the database at postgresql://u:***@127.0.0.1" in done.stderr
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_too_old_is_refused(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No older server is at hand: the bound is moved instead.
    monkeypatch.setattr(database_module, "OLDEST_VERSION", 99)
    with pytest.raises(UnusableError, match="and 99 or newer is needed: upgrade the server"):
        examine(empty_database_url)


def test_commands_refuse_a_redis_url_that_cannot_work_without_a_traceback(tmp_path: Path) -> None:
    said = "REDIS_URL must start with redis://, rediss:// or unix://"
    for command in (("status",), ("ingest", "receiver"), ("up", "--no-dagster")):
        done = tbg(
            *command,
            DATABASE_URL="postgresql://127.0.0.1:1/tbg",
            REDIS_URL="http://x",
            TBG_STATE=str(tmp_path / "state"),
        )
        assert done.returncode == 1, (command, done)
        assert said in done.stderr.replace("REDIS_URL: ", "REDIS_URL "), command
        assert "Traceback" not in done.stderr
