"""``tbg ledger`` shows what is lost, and its exit code tells whether it is explained."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from tbg.cli import main

Ledger = Callable[..., Result]
HOUR = "2026-11-22T07"


@pytest.fixture
def ledger(tmp_path: Path, database_url: str, redis_url: str) -> Ledger:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(
            main,
            ["ledger", "--state", str(tmp_path), *arguments],
            env={"DATABASE_URL": database_url, "REDIS_URL": redis_url, "COLUMNS": "80"},
        )

    return run


def fill(database_url: str, missing: str, dropped: int) -> None:
    """One instance that sent 100 events in an hour, 97 of which are stored."""
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "insert into engine_instances (instance, seq_max, seq_missing) "
            "values ('pool/1', 100, %s::int8multirange)",
            [missing],
        )
        database.execute(
            "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
            "select id, '2026-11-22 07:00+00', 97 + %s, 1, 100, 97 from engine_instances",
            [dropped],
        )
        if dropped:
            database.execute(
                "insert into ledger_drops select id, 'spool/full', seq_missing "
                "from engine_instances"
            )


def test_an_unexplained_loss_is_shown_and_makes_the_exit_code_3(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{[5,8)}", 0)
    result = ledger()
    assert result.exit_code == 3
    assert "3 events are missing without explanation" in result.output
    assert "pool/1" in result.output
    assert ["11-22", "07:00", "100", "97", "97", "0", "0", "0", "3"] in [
        line.split() for line in result.output.splitlines()
    ]


def test_a_loss_that_was_counted_where_it_happened_is_explained(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{[5,8)}", 3)
    result = ledger()
    assert result.exit_code == 0, result.output
    assert "3 dropped, spool/full" in result.output
    assert "no unexplained loss" in result.output


def test_an_hour_and_an_instance_can_be_picked(ledger: Ledger, database_url: str) -> None:
    fill(database_url, "{[5,8)}", 3)
    (row,) = json.loads(ledger("--json", "--hour", HOUR, "--instance", "pool/1").output)
    assert (row["emitted"], row["received"], row["committed"], row["unexplained"]) == (
        100,
        100,
        97,
        0,
    )
    assert json.loads(ledger("--json", "--hour", "2026-11-22T08").output) == []
    assert "no such hour" in ledger("--instance", "other").output
    assert ledger("--hour", "noon").exit_code == 2
