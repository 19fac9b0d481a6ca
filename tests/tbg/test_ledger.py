"""``tbg ledger`` shows what is lost, and its exit code tells whether it is explained."""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result
from psycopg import sql

from tbg.cli import main
from tbg.migrate import detect_flavour
from tbg.servers import Urls

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


def test_a_command_that_reads_the_database_alone_needs_no_redis(
    tmp_path: Path, database_url: str
) -> None:
    environment = {"DATABASE_URL": database_url, "REDIS_URL": None}
    for words in (["ledger"], ["verify", "--week", "2026-W47"]):
        done = CliRunner().invoke(main, [*words, "--state", str(tmp_path)], env=environment)
        assert "no stack was ever started" not in done.output
    assert "nobody has a best in the week" in done.output


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


def test_an_end_that_nobody_vouches_for_is_said_and_is_never_no_loss(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{[5,8)}", 3)
    store(database_url, [n for n in range(1, 101) if n not in (5, 6, 7)])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("update engine_instances set last_seen = '2026-11-22 08:30+00'")
    for words in ([], ["--audit"]):
        result = ledger(*words)
        assert result.exit_code == 0
        said = " ".join(result.output.split())
        assert (
            "pool/1: end unknown: number 100 is the last that is known, last heard of at "
            "2026-11-22 08:30 UTC"
        ) in said
        assert "no unexplained loss" not in said
        (row,) = json.loads(ledger("--json", *words).stdout)
        assert (row["ending"], row["last_seq"]) == ("unknown", 100)
        assert row["heard_at"].startswith("2026-11-22T08:30")
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "update engine_instances set state = 'ended', seq_declared = 102, unsent = 2"
        )
    for words in ([], ["--audit"]):
        said = " ".join(ledger(*words).output.split())
        assert "pool/1: ended with number 102; 2 events never reached the socket" in said
        assert "unknown" not in said
    assert ledger().exit_code == 3
    (row,) = json.loads(ledger("--json", "--audit").stdout)
    assert (row["emitted"], row["stored"], row["dropped"], row["missing"]) == (102, 97, 3, 2)
    assert row["unaccounted"] == 0


def test_a_boot_of_which_nothing_was_stored_is_in_the_audit_of_an_empty_database(
    ledger: Ledger, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "insert into engine_instances (instance, seq_declared, state) "
            "values ('pool/1', 3000, 'ended')"
        )
        database.execute(
            "insert into ledger (instance_id, hour) "
            "select id, '2026-11-22 07:00+00' from engine_instances"
        )
    (row,) = json.loads(ledger("--json", "--audit").stdout)
    assert (row["emitted"], row["stored"], row["missing"]) == (3000, 0, 3000)


# --- The audit --------------------------------------------------------------------------


def store(database_url: str, seqs: Iterable[int], events: Iterable[int] = ()) -> None:
    """Rows of pool/1 with these numbers: shares, and other events."""
    with psycopg.connect(database_url, autocommit=True) as database:
        if detect_flavour(database) == "postgresql":
            database.execute("select ensure_partitions('2026-11-22', '2026-11-22')")
        database.execute(
            "insert into shares (time, difficulty, seq, user_id, worker_id, instance_id, is_valid) "
            "select '2026-11-22 07:30+00', 1, n, 1, 1, (select id from engine_instances), true "
            "from unnest(%s::bigint[]) as n",
            [list(seqs)],
        )
        database.execute(
            "insert into mining_events (time, seq, instance_id, event, payload) "
            "select '2026-11-22 07:31+00', n, (select id from engine_instances), 'diff_updated', "
            "'{}' from unnest(%s::bigint[]) as n",
            [list(events)],
        )


def test_the_audit_finds_a_number_that_the_books_take_for_stored(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{[10,12)}", dropped=0)  # it knows that 10 and 11 are missing
    store(database_url, [n for n in range(1, 91) if n not in (10, 11, 40)], events=[*range(91, 99)])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "insert into dead_letters (stage, reason, detail, raw, instance, seq) "
            "values ('writer', 'x', 'x', '', 'pool/1', 99)"
        )
    result = ledger("--audit", "--json")
    (row,) = json.loads(result.stdout)
    assert result.exit_code == 3
    assert row["absent"] == [[40, 40], [100, 100]]
    assert (row["emitted"], row["stored"], row["refused"], row["missing"]) == (100, 95, 1, 2)
    assert (row["unaccounted"], row["doubled"]) == (2, 0)
    assert "pool/1: nowhere: 40; 100" in ledger("--audit").output
    store(database_url, [40, 100])
    result = ledger("--audit")
    assert result.exit_code == 0
    assert "every number is stored once, refused, or known to be missing" in result.output


def test_the_audit_finds_a_number_that_is_stored_twice(ledger: Ledger, database_url: str) -> None:
    fill(database_url, "{}", dropped=0)
    store(database_url, [*range(1, 101), 50], events=[51])
    result = ledger("--audit", "--json")
    (row,) = json.loads(result.stdout)
    assert (result.exit_code, row["doubled"], row["unaccounted"]) == (3, 2, 0)


DAYS = ("2026-11-18", "2026-11-20", "2026-11-22")


def fill_days(database: psycopg.Connection[Any]) -> None:
    """One engine boot over three days, of 100 events each."""
    if detect_flavour(database) == "postgresql":
        database.execute("select ensure_partitions('2026-11-18', '2026-11-22')")
    database.execute("insert into engine_instances (instance, seq_max) values ('pool/1', 300)")
    for number, day in enumerate(DAYS):
        first, last = 100 * number + 1, 100 * number + 100
        database.execute(
            "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
            "select id, %s::timestamptz, 100, %s, %s, 100 from engine_instances",
            [f"{day} 07:00+00", first, last],
        )
        database.execute(
            "insert into shares (time, difficulty, seq, user_id, worker_id, instance_id, is_valid) "
            "select %s::timestamptz, 1, n, 1, 1, id, true "
            "from engine_instances, generate_series(%s::bigint, %s) as n",
            [f"{day} 07:30+00", first, last],
        )


def drop_day(database: psycopg.Connection[Any], day: str) -> None:
    """What retention does."""
    if detect_flavour(database) == "postgresql":
        for table in ("shares", "mining_events"):
            name = f"{table}_p{day.replace('-', '')}"
            database.execute(sql.SQL("drop table {}").format(sql.Identifier(name)))
        return
    database.execute(
        "select drop_chunks('shares', older_than => %s::timestamptz + interval '1 day', "
        "newer_than => %s::timestamptz)",
        [f"{day} 00:00+00", f"{day} 00:00+00"],
    )


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_day_that_lost_all_of_its_rows_does_not_hide_from_the_audit(
    ledger: Ledger, database_url: str, lost: int
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        fill_days(database)
        assert ledger("--audit").exit_code == 0
        database.execute(
            "delete from shares where seq > %s and seq <= %s", [100 * lost, 100 * lost + 100]
        )
    result = ledger("--audit", "--json")
    (row,) = json.loads(result.stdout)
    assert (result.exit_code, row["emitted"], row["stored"]) == (3, 300, 200)
    assert row["absent"] == [[100 * lost + 1, 100 * lost + 100]]


@pytest.mark.parametrize("dropped", [DAYS[:1], DAYS[1:2], DAYS[:2], DAYS])
def test_days_that_were_dropped_are_no_loss_wherever_they_lie(
    ledger: Ledger, database_url: str, dropped: tuple[str, ...]
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        fill_days(database)
        # One beside them was restored, or is held back.
        for day in dropped:
            drop_day(database, day)
    result = ledger("--audit", "--json")
    kept = 100 * (len(DAYS) - len(dropped))
    counted = [(row["stored"], row["unaccounted"]) for row in json.loads(result.stdout)]
    assert (result.exit_code, counted) == (0, [(kept, 0)] if kept else [])


def test_the_name_of_an_engine_is_neither_markup_nor_a_command_to_the_terminal(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{}", dropped=0)
    store(database_url, range(1, 101))
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("update engine_instances set instance = E'[/x]\\x1b[2J/1'")
    for words in ([], ["--audit"]):
        result = ledger(*words)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "[/x]�[2J/1" in result.output
        assert "\x1b" not in result.output


def test_a_refused_event_whose_letter_has_expired_is_accounted_for(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{}", dropped=0)
    store(database_url, [*range(1, 100)])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("update ledger set committed = 99, dead_lettered = 1")
    assert ledger("--audit").exit_code == 0


def test_repair_opens_the_holes_and_sends_the_writer_back(
    ledger: Ledger, database_url: str
) -> None:
    fill(database_url, "{[10,12)}", dropped=0)
    store(database_url, [n for n in range(1, 101) if n not in (10, 11, 40, 41, 60)])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "insert into stream_offsets values ('writer', 'mining:share_submitted', '5-1', 7), "
            "('writer', 'mining:ledger', '5-1', 7)"
        )
        assert ledger("--repair").exit_code == 2
        result = ledger("--audit", "--repair")
        assert "3 numbers are holes until they come" in " ".join(result.output.split())
        missing = database.execute("select seq_missing::text from engine_instances").fetchone()
        offsets = database.execute("select stream, last_id from stream_offsets").fetchall()
    assert missing == ("{[10,12),[40,42),[60,61)}",)
    # Reports are not read again: their counts would be added twice.
    assert dict(offsets) == {"mining:share_submitted": "0-0", "mining:ledger": "5-1"}


def test_repair_finds_missing_numbers_in_the_streams_and_rewinds_to_the_first_of_them(
    ledger: Ledger, database_url: str, redis_url: str
) -> None:
    """As after a Redis whose clock was behind: their ids lie below the offset."""
    fill(database_url, "{[10,14)}", dropped=0)
    store(database_url, [n for n in range(1, 101) if not 10 <= n < 14])
    shares, letters = "mining:share_submitted", "mining:dead_letter"
    with (
        psycopg.connect(database_url, autocommit=True) as database,
        contextlib.closing(redis.Redis.from_url(redis_url)) as client,
    ):
        for entry_id, seq in ((1, 8), (2, 9), (3, 10), (4, 60), (5, 12), (6, 61), (9, 13)):
            client.xadd(shares, {"instance": "pool/1", "seq": seq}, id=f"{entry_id}-0")
        client.xadd(letters, {"instance": "pool/1", "seq": 11, "raw": "{"}, id="1-0")
        database.execute(
            "insert into stream_offsets (consumer, stream, last_id) values "
            "('writer', %s, '6-0'), ('writer', %s, '1-0'), "
            "('writer', 'mining:ledger', '5-1'), ('writer', 'mining:diff_updated', '5-1')",
            [shares, letters],
        )
        result = ledger("--audit", "--repair")
        offsets: dict[str, str] = dict(
            database.execute("select stream, last_id from stream_offsets").fetchall()
        )
        marks = client.get("mining:missing:pool/1")
    text = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "3 missing numbers are in the streams: the writer reads them" in text
    assert "1 number is in no stream: an engine may send them again" in text  # 13 is on its way
    assert offsets == {
        shares: "2-0",
        letters: "0-0",
        "mining:ledger": "5-1",
        "mining:diff_updated": "5-1",
    }
    assert marks == b"[[10,14]]"


def test_repair_says_so_where_it_cannot_search_the_streams(
    ledger: Ledger, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database_url, "{[10,14)}", dropped=0)
    store(database_url, [n for n in range(1, 100) if not 10 <= n < 14])
    monkeypatch.setattr("tbg.ledger.find_urls", lambda _: Urls("", "redis://127.0.0.1:1"))
    result = ledger("--audit", "--repair")
    text = " ".join(result.output.split())
    assert "the streams were not searched" in text
    assert "1 numbers are holes until they come" in text
