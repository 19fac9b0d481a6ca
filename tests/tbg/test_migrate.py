"""tbg migrate brings any database to the same schema, once."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tbg.migrate import (
    Migrated,
    MigrateError,
    detect_flavour,
    migrate,
    sql_folder,
)
from tbg_core.flavour import Flavour
from tests.processes import LIMIT


def all_migrations(flavour: Flavour) -> int:
    """How many a database of the flavour gets."""
    return len([*sql_folder().glob("*.sql"), *(sql_folder() / flavour).glob("*.sql")])


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public'"
        ).fetchall()
    return {row[0] for row in rows}


def test_every_table_of_the_contract_is_made(empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert tables(empty_database_url) >= {
        "users",
        "workers",
        "shares",
        "shares_hex",
        "shares_hourly",
        "shares_daily",
        "blocks",
        "weekly_best_diff",
        "mining_events",
        "engine_instances",
        "network_blocks",
        "dead_letters",
        "stream_offsets",
    }


def test_a_second_run_does_nothing(empty_database_url: str) -> None:
    first = migrate(empty_database_url)
    second = migrate(empty_database_url)
    assert first.applied
    assert first.already == 0
    assert second == Migrated(first.server_version, first.flavour, [], len(first.applied), 0)


def test_two_starts_at_once_apply_everything_once(
    empty_database_url: str, flavour: Flavour
) -> None:
    results: list[Migrated] = []

    def run() -> None:
        results.append(migrate(empty_database_url))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(result.applied) for result in results) == [0, 0, all_migrations(flavour)]


def test_a_lock_that_a_killed_migrate_left_is_broken(empty_database_url: str) -> None:
    first = migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("insert into yoyo_lock values (1, now(), 1)")
    assert migrate(empty_database_url).already == len(first.applied)


def test_a_migrate_that_waits_too_long_says_so(empty_database_url: str) -> None:
    from tbg.migrate import LOCK_KEY

    with psycopg.connect(empty_database_url) as holder:
        holder.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
        with pytest.raises(MigrateError, match="another migrate has held the lock"):
            migrate(empty_database_url, wait_seconds=0.2)


@pytest.mark.plain_postgresql
def test_a_share_of_any_day_near_today_finds_its_partition(empty_database_url: str) -> None:
    before = datetime.now(UTC)
    done = migrate(empty_database_url)
    assert done.partitions == 2 * 10
    with psycopg.connect(empty_database_url) as connection:
        # Midnight may have come since: it is then two days back and seven ahead of the new
        # day, and these are in both.
        for days in (-1, 0, 7):
            connection.execute(
                "insert into shares (time, difficulty, user_id, worker_id, is_valid) "
                "values (%s, 1, 1, 1, true)",
                [before + timedelta(days=days)],
            )


@pytest.mark.plain_postgresql
def test_the_flavour_of_a_migrated_database_cannot_change(database_url: str) -> None:
    with pytest.raises(MigrateError, match="was migrated as postgresql"):
        migrate(database_url, "timescaledb")


@pytest.mark.plain_postgresql
def test_timescaledb_is_refused_where_the_server_lacks_it(empty_database_url: str) -> None:
    with pytest.raises(MigrateError, match="does not offer the extension"):
        migrate(empty_database_url, "timescaledb")


@pytest.mark.timescaledb
def test_plain_tables_can_be_had_on_timescaledb(empty_database_url: str) -> None:
    assert migrate(empty_database_url, "postgresql").flavour == "postgresql"
    assert migrate(empty_database_url).flavour == "postgresql"


def test_the_flavour_is_told_from_the_tables(database_url: str, flavour: Flavour) -> None:
    with psycopg.connect(database_url) as connection:
        assert detect_flavour(connection) == flavour


def test_a_statement_that_fails_names_its_migration(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("create table users (mine boolean)")
    with pytest.raises(
        MigrateError, match=r'0001_miners failed: relation "users" already exists\n.*another'
    ):
        migrate(empty_database_url)


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(MigrateError, match="cannot be reached") as caught:
        migrate("postgresql://miner:hunter2@127.0.0.1:1/nothing")
    assert "hunter2" not in caught.value.message


def test_the_command_says_what_it_found_and_did(empty_database_url: str, flavour: Flavour) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tbg.cli", "migrate"],
        env={"DATABASE_URL": empty_database_url},
        capture_output=True,
        text=True,
        cwd=sql_folder().parent,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert f"flavour {flavour}" in done.stderr
    assert "applied 0001_miners" in done.stderr
    assert f"{all_migrations(flavour)} applied, 0 already there" in done.stdout
