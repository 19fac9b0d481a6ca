"""The ledger's hours are closed, and a loss that nobody counted is found and seen."""

import base64
import io
import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tbg_dagster import verdict
from tbg_dagster.ledger import checks, tables
from tbg_dagster.ledger.pictures import over_time
from tbg_dagster.partitions import HOURLY, key_of
from tbg_dagster.picture import GREEN, RED
from tbg_dagster.realtime import checks as upstream
from tbg_dagster.resources import Database, Thresholds
from tests.tbg_dagster.conftest import Connection, History, Run, metadata_of

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
KEY = key_of(HOURLY, HOUR)


def booked(
    connection: Connection,
    instance: str,
    missing: str,
    dropped: int,
    committed: int,
    hour: datetime = HOUR,
) -> None:
    """An engine that sent 100 events in an hour, or in the one that closed last."""
    connection.execute(
        "insert into engine_instances (instance, seq_max, seq_missing) "
        "values (%s, 100, %s::int8multirange)",
        [instance, missing],
    )
    connection.execute(
        "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
        "select id, %s, %s, 1, 100, %s from engine_instances where instance = %s",
        [hour, committed + dropped, committed, instance],
    )
    if dropped:
        connection.execute(
            "insert into ledger_drops select id, 'spool/full', seq_missing "
            "from engine_instances where instance = %s",
            [instance],
        )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "SETTLE_SECONDS", 0.0)


def judged(check: dg.AssetChecksDefinition, *resources: object) -> dg.AssetCheckResult:
    result = check(*resources)
    assert isinstance(result, dg.AssetCheckResult)
    return result


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(url=database_url)


def test_an_hour_is_closed_and_closing_it_again_brings_what_came_late(
    connection: Connection, run: Run
) -> None:
    booked(connection, "pool/1", "{[4,6)}", 0, 98)
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["dagster/partition_row_count"] == 1
    closed = "select emitted, received, committed, missing, unexplained from share_ledger"
    assert tuple(connection.execute(closed).fetchone().values()) == (100, 98, 98, 2, 2)  # type: ignore[union-attr]  # there is a row
    connection.execute("update engine_instances set seq_missing = '{}'")
    connection.execute("update ledger set committed = 100, received = 100")
    run("close_ledger", KEY)
    run("close_ledger", KEY)
    assert tuple(connection.execute(closed).fetchone().values()) == (100, 100, 100, 0, 0)  # type: ignore[union-attr]  # as above
    assert connection.execute("select count(*) as n from share_ledger").fetchone() == {"n": 1}


def test_what_came_after_its_hour_was_closed_is_brought_by_the_next_hour(
    connection: Connection, run: Run
) -> None:
    booked(connection, "pool/1", "{[4,6)}", 0, 98, HOUR - timedelta(hours=1))
    run("close_ledger", key_of(HOURLY, HOUR - timedelta(hours=1)))
    # A spool that drained: the gap is filled, and of pool/2 nothing was heard before.
    connection.execute("update engine_instances set seq_missing = '{}'")
    connection.execute("update ledger set committed = 100, received = 100")
    booked(connection, "pool/2", "{}", 0, 100, HOUR - timedelta(hours=1))
    booked(connection, "pool/3", "{}", 0, 100, HOUR + timedelta(hours=1))
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["last_72_hours"] == "no unexplained loss"
    closed = connection.execute(
        "select hour, committed, unexplained from share_ledger order by instance_id"
    ).fetchall()
    before = {"hour": HOUR - timedelta(hours=1), "committed": 100, "unexplained": 0}
    assert closed == [before, before]  # and of the hour that runs, nothing


def test_an_hour_without_events_is_closed_as_empty(run: Run) -> None:
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["dagster/partition_row_count"] == 0
    assert found["ledger"].startswith("No engine sent a numbered event from ")


def test_a_loss_that_nobody_counted_fails_the_check(
    connection: Connection, database: Database
) -> None:
    check = checks.no_unexplained_loss
    booked(connection, "explained/1", "{[4,6)}", 2, 98)
    assert judged(check, database, Thresholds()).passed
    booked(connection, "lost/1", "{[4,7)}", 0, 97)
    result = judged(check, database, Thresholds())
    assert not result.passed
    assert "3 events lost without explanation; lost/1 at" in str(result.description)


def test_books_that_do_not_balance_fail_the_check(
    connection: Connection, database: Database
) -> None:
    booked(connection, "good/1", "{[4,6)}", 0, 98)
    result = judged(checks.books_balance, database)
    assert (result.passed, result.description) == (True, "the books of every engine boot balance")
    booked(connection, "bad/1", "{}", 0, 98)  # two events that nobody misses
    result = judged(checks.books_balance, database)
    assert not result.passed
    assert str(result.description).startswith(
        "the books of 1 engine boot do not balance; bad/1: emitted 100, accounted for 98. Report"
    )


def test_a_number_that_is_in_no_table_or_in_two_rows_fails_the_check_whatever_the_books_say(
    connection: Connection, database: Database, history: History
) -> None:
    booked(connection, "hurt/1", "{[4,6)}", 0, 98)
    (row,) = connection.execute("select id from engine_instances").fetchall()
    for seq in range(1, 101):
        if seq not in (4, 5, 50):
            when = HOUR + timedelta(seconds=seq)
            history.share("a.1", when, 1500.0, instance_id=row["id"], seq=seq)
    thresholds = Thresholds(recent_hours=2)
    result = judged(checks.numbers_are_stored, database, thresholds)
    assert not result.passed
    assert str(result.description).startswith(
        "1 event in no table, 0 rows too many; hurt/1: 1 of 100 nowhere, 0 twice. See which"
    )
    history.share("a.1", HOUR, 1500.0, instance_id=row["id"], seq=50)
    assert judged(checks.numbers_are_stored, database, thresholds).passed
    history.share("a.1", HOUR, 1500.0, instance_id=row["id"], seq=50)
    result = judged(checks.numbers_are_stored, database, thresholds)
    assert "0 events in no table, 1 row too many" in str(result.description)
    # What lies before the window is the audit's.
    booked(connection, "old/1", "{}", 0, 98, HOUR - timedelta(hours=9))
    connection.execute("delete from shares where seq = 50")
    assert "old/1" not in str(judged(checks.numbers_are_stored, database, thresholds).description)


def test_a_boot_whose_end_nobody_vouches_for_fails_the_check_and_is_seen(
    connection: Connection, database: Database, run: Run
) -> None:
    check = checks.ends_are_known
    booked(connection, "pool/1", "{}", 0, 100)
    booked(connection, "pool/2", "{}", 0, 100)
    booked(connection, "vouched/1", "{}", 0, 100)
    old = "update engine_instances set last_seen = now() - interval '2 minutes'"
    connection.execute(f"{old}, state = 'ended', seq_declared = 100 where instance = 'vouched/1'")
    assert judged(check, database, Thresholds()).passed
    connection.execute(f"{old} where instance = 'pool/1'")
    result = judged(check, database, Thresholds())
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(result.description).startswith(
        "the end of 1 engine boot is unknown; pool/1: number 100 is the last that is known, "
    )
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["last_72_hours"] == "the end of 1 engine boot is unknown"
    text = str(found["ledger"])
    assert re.search(r"\*\*End unknown\*\*\n\n.*\n.*\n\| [^|]+ \| `pool/1` \| 100 \|", text)
    # The first boot of the engine went on: nothing is unknown any more.
    connection.execute(f"{old}, state = 'ended', seq_declared = 100 where instance = 'pool/1'")
    assert judged(check, database, Thresholds()).passed


def test_the_checks_and_the_table_name_the_cell_of_an_engine_boot(
    connection: Connection, database: Database, run: Run
) -> None:
    booked(connection, "lost/1", "{[4,7)}", 0, 97)
    booked(connection, "bad/1", "{}", 0, 98)
    connection.execute(
        "update engine_instances set cell = 'eu1', last_seen = now() - interval '26 hours'"
    )
    for check, said in (
        (checks.no_unexplained_loss, "eu1: lost/1 at"),
        (checks.books_balance, "eu1: bad/1: emitted 100"),
        (checks.numbers_are_stored, "eu1: bad/1: 100 of 100 nowhere"),
        (checks.ends_are_known, "eu1: lost/1: number 100"),
    ):
        thresholds = () if check is checks.books_balance else (Thresholds(recent_hours=2),)
        assert said in str(judged(check, database, *thresholds).description)
    found = str(metadata_of(run("close_ledger", KEY), "share_ledger")["ledger"])
    assert found.count("`eu1: lost/1`") == 3  # its loss, its end, its line of the hour


def test_what_a_boot_lost_at_its_end_fails_the_checks_however_long_ago_it_ended(
    connection: Connection, database: Database, run: Run
) -> None:
    booked(connection, "pool/1", "{}", 0, 100, HOUR - timedelta(days=30))
    connection.execute(
        "update engine_instances set last_seen = now() - interval '30 days', state = 'ended', "
        "seq_declared = 104, unsent = 4, declared_at = now()"
    )
    for check in (checks.no_unexplained_loss, upstream.no_sequence_gaps):
        result = judged(check, database, Thresholds())
        assert not result.passed
        assert "4" in str(result.description)
    assert judged(checks.books_balance, database).passed
    run("close_ledger", KEY)
    closed = connection.execute("select emitted, missing, unexplained from share_ledger").fetchall()
    assert [tuple(row.values()) for row in closed] == [(104, 4, 4)]
    # A simulated engine may lose what it likes.
    connection.execute("update engine_instances set source = 'simulated'")
    for check in (checks.no_unexplained_loss, upstream.no_sequence_gaps):
        result = judged(check, database, Thresholds())
        assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert str(result.description).startswith("simulated: 4 events")
    # It is reported for some days, too.
    connection.execute("update engine_instances set declared_at = now() - interval '8 days'")
    assert judged(checks.no_unexplained_loss, database, Thresholds()).passed


# --- The picture and the tables --------------------------------------------------------


def drawn(hours: int, engines: int = 1, lost: dict[int, int] | None = None) -> "np.ndarray":
    """The picture of so many hours of 10,000,000 events, as pixels; ``lost`` by hours ago."""
    rows = [
        {
            "hour": HOUR - timedelta(hours=age),
            "instances": engines,
            "emitted": 10_000_000,
            "committed": 10_000_000 - (lost or {}).get(age, 0),
            "dead_lettered": 0,
            "dropped": 0,
            "unexplained": (lost or {}).get(age, 0),
        }
        for age in reversed(range(hours))
    ]
    end = HOUR + timedelta(hours=1)
    return pixels(str(over_time(rows, end - timedelta(hours=72), end).value))


def pixels(markdown: str) -> "np.ndarray":
    """The picture in a Markdown text, height x width x RGB."""
    found = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found is not None
    return np.asarray(imread(io.BytesIO(base64.b64decode(found[1])))[:, :, :3])


def marks(picture: "np.ndarray", colour: str) -> list[int]:
    """Columns in which the colour fills squares of six pixels: bars, and no letters."""
    near = np.abs(picture - to_rgb(colour)).max(axis=2) < 40 / 255
    squares = np.lib.stride_tricks.sliding_window_view(near, (6, 6)).all(axis=(2, 3))
    return sorted(int(column) for column in set(np.nonzero(squares)[1]))


@pytest.mark.parametrize("hours", [1, 6, 72])
def test_one_lost_event_among_ten_million_is_seen_where_it_lies(hours: int) -> None:
    assert marks(drawn(hours), RED) == []
    seen = marks(drawn(hours, lost={0: 1}), RED)
    assert seen
    if hours > 1:
        earlier = marks(drawn(hours, lost={hours - 1: 1}), RED)
        assert max(earlier) < min(seen)


def test_every_loss_of_72_hours_has_a_mark_of_its_own() -> None:
    seen = marks(drawn(72, lost={age: 1 + age for age in range(0, 72, 2)}), RED)
    runs = 1 + sum(after - before > 1 for before, after in itertools.pairwise(seen))
    assert runs == 36


def test_a_single_hour_is_a_bar_and_no_wall() -> None:
    picture = drawn(1)
    assert 0 < len(marks(picture, GREEN)) < picture.shape[1] / 8


def line(instance: str, **changes: Any) -> dict[str, Any]:
    counts = dict.fromkeys(tables.COUNTS, 0)
    return {"hour": HOUR, "instance": instance, "dropped_by_cause": {}, **counts, **changes}


def test_the_entry_shows_the_picture_the_losses_with_their_causes_and_each_engine(
    connection: Connection, run: Run
) -> None:
    booked(connection, "quiet/1", "{}", 0, 100)
    booked(connection, "full/1", "{[4,6)}", 2, 98)
    booked(connection, "lost/1", "{[4,7)}", 0, 97)
    found = metadata_of(run("close_ledger", KEY), "share_ledger")
    assert found["last_72_hours"] == "3 events lost without explanation, in 1 hour"
    text = str(found["ledger"])
    assert marks(pixels(text), RED)
    rows = [row for row in text.splitlines() if row.startswith("|") and "---" not in row]
    at = f"{HOUR:%d %b %H:%M}"
    assert rows == [
        "| hour (UTC) | instance | lost | dropped | why |",
        f"| {at} | `lost/1` | **3** | 0 |  |",
        f"| {at} | `full/1` | 0 | 2 | `spool/full` 2 |",
        "| instance | lost | dropped | emitted | received | stored | refused | resent |",
        "| `lost/1` | **3** | 0 | 100 | 97 | 97 | 0 | 0 |",
        "| `full/1` | 0 | 2 | 100 | 100 | 98 | 0 | 0 |",
        "| `quiet/1` | 0 | 0 | 100 | 100 | 100 | 0 | 0 |",
        "| all 3 engine boots | **3** | 2 | 300 | 297 | 295 | 0 | 0 |",
    ]


def test_a_table_is_cut_where_it_is_long_and_its_sum_is_not() -> None:
    many = [line(f"pool/{number}", emitted=10, unexplained=1) for number in range(50)]
    rows = tables.engines(many).splitlines()
    assert len(rows) == 2 + tables.MOST_LINES + 1
    assert rows[-1].startswith("| all 50 engine boots | **50** | 0 | 500 |")
    assert tables.losses(many).splitlines()[-1] == "| … | 30 lines more |  |  |  |"


def test_a_name_that_an_engine_chose_stays_in_its_cell() -> None:
    hostile = "a|b`\n![x](http://127.0.0.1/x.png)\\|<b>"
    (row,) = tables.engines([line(hostile)]).splitlines()[2:]
    assert row.startswith("| `a?b??![x](http://127.0.0.1/x.png)??<b>` | 0 |")
