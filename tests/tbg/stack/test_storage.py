"""Dagster's own tables are brought up to date when another version of Dagster comes."""

import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster_postgres import DagsterPostgresStorage

from tbg.stack.dagster import storage_url
from tbg.stack.storage import MIGRATED, migrate
from tests.processes import ROOT

# A revision of Dagster 1.8, when runs did not know their backfill.
OLDER = "284a732df317"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "tbg_dagster/instance/dagster.yaml", tmp_path)
    return tmp_path


def run(home: Path, url: str) -> str | None:
    address = storage_url(url)
    return migrate(home, address, {"DAGSTER_HOME": str(home), "DAGSTER_PG_URL": address})


def ask(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as database:
        return [row[0] for row in database.execute(query)]


def revision(url: str) -> str:
    [(found)] = ask(url, "select version_num from alembic_version")
    return str(found)


def make_older(url: str) -> None:
    """Makes of the tables what an older Dagster has."""
    with psycopg.connect(url) as database:
        database.execute("alter table runs drop column backfill_id")
        database.execute("update alembic_version set version_num = %s", [OLDER])


def columns_of_runs(url: str) -> list[Any]:
    return ask(url, "select column_name from information_schema.columns where table_name = 'runs'")


def test_tables_of_an_older_dagster_are_brought_up_to_date(
    home: Path, empty_database_url: str
) -> None:
    # There is nothing to do before Dagster has made its tables.
    assert run(home, empty_database_url) is None
    made = DagsterPostgresStorage(storage_url(empty_database_url), should_autocreate_tables=True)
    assert made.run_storage.get_runs() == []
    newest = revision(empty_database_url)
    make_older(empty_database_url)
    said = run(home, empty_database_url)
    assert said == f"Dagster's tables were brought up to date: {newest}"
    assert revision(empty_database_url) == newest
    assert "backfill_id" in columns_of_runs(empty_database_url)

    # Not again, because that takes seconds.
    mark = home / MIGRATED
    written = mark.stat().st_ino
    assert run(home, empty_database_url) is None
    assert mark.stat().st_ino == written
    # But when another version comes, and when a backup of older tables was restored.
    done, _, _ = mark.read_text().partition(" ")
    mark.write_text(f"1.0.0 {newest}\n")
    assert run(home, empty_database_url) is None
    assert mark.read_text() == f"{done} {newest}\n"
    make_older(empty_database_url)
    assert run(home, empty_database_url) == said
    assert "backfill_id" in columns_of_runs(empty_database_url)


def test_a_migration_that_fails_is_told_and_is_tried_again_at_the_next_start(
    home: Path, empty_database_url: str
) -> None:
    DagsterPostgresStorage(storage_url(empty_database_url), should_autocreate_tables=True)
    with psycopg.connect(empty_database_url) as database:
        database.execute("update alembic_version set version_num = 'of the future'")
    for _ in range(2):
        said = run(home, empty_database_url)
        assert said is not None
        assert said.startswith("Dagster's tables were not brought up to date")
        assert "of the future" in said
    assert not (home / MIGRATED).exists()


def test_a_database_that_is_away_stops_nothing_here(home: Path) -> None:
    said = run(home, "postgresql://nobody@127.0.0.1:1/dagster")
    assert said is not None
    assert said.startswith("Dagster's tables could not be looked at")
