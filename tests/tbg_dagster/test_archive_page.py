"""The queries of docs/archive.md answer what they say."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tbg_core.periods import midnight
from tbg_dagster.archive.day import archive
from tbg_dagster.archive.store import Store
from tests.tbg_dagster.conftest import Connection, History, last_monday

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "archive.md").read_text("utf-8")
PREPARE, WINNERS, SPEEDS, DISPUTE = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
# The share that the page asks for: the hash of nothing.
HASH = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


@pytest.fixture
def monday() -> date:
    return last_monday(2).date()


@pytest.fixture
def ask(
    connection: Connection,
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    monday: date,
) -> Any:
    """Archives two weeks' days, one of them in two revisions, and answers queries."""
    store = Store.open(str(tmp_path / "archive"))
    first, second = midnight(monday), midnight(monday) + timedelta(days=7)
    history.share("a.rig", first, share_diff=5000.0, share_hash=b"\1" * 32)
    history.share("a.rig", first + timedelta(hours=1), reject="stale", share_diff=9e9)
    archive(connection, store, first.date())
    history.share('b.it\'s "mine"', first, share_diff=7000.0, share_hash=b"\2" * 32)
    assert archive(connection, store, first.date()).outcome == "new revision"
    history.share("a.rig", second, share_diff=6000.0, share_hash=HASH, difficulty=86400.0)
    archive(connection, store, second.date())
    # What a killed run leaves is not read.
    (tmp_path / "archive" / "shares" / f"{monday}.3.parquet").write_bytes(b"half")
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as database:
        database.execute(PREPARE)
        yield lambda query: database.execute(query).fetchall()


def test_the_winners_of_the_weeks(ask: Any, monday: date) -> None:
    assert ask(WINNERS) == [
        (monday, "b", 7000.0, "02" * 32),
        (monday + timedelta(days=7), "a", 6000.0, HASH.hex()),
    ]


def test_the_speeds_of_workers(ask: Any, monday: date) -> None:
    thousand = 1000 * 2**32 / 86400 / 1e12
    rows = ask(SPEEDS)
    assert sorted(rows[:2]) == [
        (monday, "a", "rig", 1, pytest.approx(thousand)),
        (monday, "b", 'it\'s "mine"', 0, pytest.approx(thousand)),
    ]
    assert rows[2:] == [(monday + timedelta(days=7), "a", "rig", 0, pytest.approx(2**32 / 1e12))]


def test_a_share_is_found_by_its_hash(ask: Any, monday: date) -> None:
    found = (midnight(monday) + timedelta(days=7)).replace(tzinfo=None)
    assert ask(DISPUTE) == [(found, "a", "rig", True, None, 6000.0)]
