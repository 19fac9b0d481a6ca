"""tbg forget removes the offsets of a writer's name that is not used any more."""

from pathlib import Path

import psycopg
from click.testing import CliRunner, Result

from tbg.cli import main


def forget(database_url: str, tmp_path: Path, name: str) -> Result:
    return CliRunner(env={"DATABASE_URL": database_url}).invoke(
        main, ["forget", "--state", str(tmp_path), name]
    )


def test_a_name_that_no_writer_uses_is_forgotten_and_no_other(
    database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        for name in ("writer", "writer2"):
            database.execute(
                "insert into stream_offsets (consumer, stream, last_id) "
                "values (%s, 'mining:ledger', '5-1'), (%s, 'mining:block_found', '5-1')",
                [name, name],
            )
        assert "forgot the offsets of writer2" in forget(database_url, tmp_path, "writer2").output
        rows = database.execute("select consumer, count(*) from stream_offsets group by 1")
        assert rows.fetchall() == [("writer", 2)]
    again = forget(database_url, tmp_path, "writer2")
    assert again.exit_code == 1
    assert "no offsets are kept under 'writer2'; known: writer" in again.output


def test_the_name_of_a_writer_that_runs_is_kept(database_url: str, tmp_path: Path) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as database,
        psycopg.connect(database_url, application_name="tbg writer writer"),
    ):
        database.execute(
            "insert into stream_offsets (consumer, stream, last_id) "
            "values ('writer', 'mining:ledger', '5-1')"
        )
        refused = forget(database_url, tmp_path, "writer")
        assert refused.exit_code == 1
        assert "a writer runs under the name writer: stop it first" in refused.output
        assert database.execute("select count(*) from stream_offsets").fetchone() == (1,)
