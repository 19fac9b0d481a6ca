"""tbg status and the line of tbg up say what is stored, what waits and what was lost."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis as redis_sync
from click.testing import CliRunner, Result

from tbg.cli import main
from tbg.migrate import migrate
from tbg.snapshot import take
from tbg.stack.flow import Flow
from tbg_core.events import EVENTS
from tbg_core.wording import si


def add_share(url: str, age: timedelta, seq: int, *, valid: bool = True, diff: float = 5) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into shares (time, seq, instance_id, difficulty, share_diff, user_id, "
            "worker_id, is_valid, reject_reason) values (%s, %s, 1, 1, %s, 1, 1, %s, %s)",
            [datetime.now(UTC) - age, seq, diff, valid, None if valid else "Stale"],
        )


def status(database_url: str, redis_url: str, tmp_path: Path, *arguments: str) -> Result:
    return CliRunner(env={"DATABASE_URL": database_url, "REDIS_URL": redis_url}).invoke(
        main, ["status", "--state", str(tmp_path), *arguments]
    )


def test_shares_are_counted_by_minute_hour_and_verdict(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    add_share(database_url, timedelta(0), 1)
    add_share(database_url, timedelta(0), 2, valid=False)
    add_share(database_url, timedelta(minutes=10), 3)
    add_share(database_url, timedelta(hours=2), 4)
    found = json.loads(status(database_url, redis_url, tmp_path, "--json").output)
    assert (found["accepted_minute"], found["rejected_minute"]) == (1, 1)
    assert (found["accepted_hour"], found["rejected_hour"]) == (2, 1)
    assert found["events"]["share_submitted"]["minute"] == 2
    assert found["events"]["share_submitted"]["hour"] == 3
    assert set(found["events"]) == set(EVENTS)
    assert found["programs"] == {}


def test_lag_is_what_lies_past_the_committed_offset(database_url: str, redis_url: str) -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    with (
        redis_sync.Redis.from_url(redis_url) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        for age in (30_000, 20_000, 10_000):
            fields = {"timestamp": (now_ms - age) * 1000, "data": "{}"}
            client.xadd("mining:block_found", fields, id=f"{now_ms - age}-0")
        database.execute(
            "insert into stream_offsets (consumer, stream, last_id) values "
            "('writer', 'mining:block_found', %s), "
            "('former', 'mining:block_found', %s)",  # the slowest of several decides
            [f"{now_ms - 10_000}-0", f"{now_ms - 30_000}-0"],
        )
        found = take(database, client).events["block_found"]
    assert found.in_stream == 3
    assert found.lag.entries == 2
    # Of the oldest that waits, not of the one before it.
    assert 20 <= found.lag.seconds <= 20 + datetime.now(UTC).timestamp() - now_ms / 1000
    assert found.last is not None
    assert abs(found.last.timestamp() * 1000 - (now_ms - 10_000)) < 1


def test_dead_letters_gaps_and_duplicates_are_told(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into dead_letters (stage, reason, detail, raw) values "
            "('receiver', 'not_json', 'no', '{'), ('receiver', 'not_json', 'no', '[')"
        )
        connection.execute(
            "insert into engine_instances (instance, seq_max, seq_missing, duplicates) values "
            "('pool/[bold]1', 20, '{[3,5),[7,8)}', 4)"
        )
    found = json.loads(status(database_url, redis_url, tmp_path, "--json").output)
    assert found["dead_letters"] == found["dead_letters_hour"] == 2
    assert found["dead_letter_reasons"] == {"receiver/not_json": 2}
    assert (found["missing"], found["duplicates"]) == (3, 4)
    shown = status(database_url, redis_url, tmp_path).output
    assert "dead letters: 2, of the last hour 2 (receiver/not_json 2)" in shown
    assert "missing by sequence: 3; on the way: 0; duplicates: 4" in shown
    # The name is an engine's text, and no markup for the terminal.
    assert "pool/[bold]1: 3 missing" in shown


def test_what_a_stream_still_holds_is_on_the_way_and_only_the_rest_is_missing(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with (
        redis_sync.Redis.from_url(redis_url) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        # The flow of blocks was read ahead: shares 1 to 6 wait, less 4, which is lost.
        for seq in (1, 2, 3, 5, 6):
            client.xadd(
                "mining:share_submitted",
                {"instance": "pool/1", "seq": seq, "data": "{}", "timestamp": 1},
                id=f"{seq}-0",
            )
        # Committed already, of another boot, sent twice, without a number: none counts.
        client.xadd("mining:diff_updated", {"instance": "pool/1", "seq": 8}, id="1-0")
        client.xadd("mining:diff_updated", {"instance": "pool/2", "seq": 4}, id="2-0")
        client.xadd("mining:diff_updated", {"instance": "pool/1", "seq": 5}, id="3-0")
        client.xadd("mining:dead_letter", {"instance": "pool/1", "raw": "{"}, id="1-0")
        # A refused event is one that came.
        client.xadd("mining:dead_letter", {"instance": "pool/1", "seq": 9}, id="2-0")
        database.execute(
            "insert into stream_offsets (consumer, stream, last_id) values "
            "('writer', 'mining:diff_updated', '1-0')"
        )
        database.execute(
            "insert into engine_instances (instance, seq_max, seq_missing) values "
            "('pool/1', 10, '{[1,7),[8,10)}'), ('pool/3', 10, '{[2,4)}')"
        )
    found = json.loads(status(database_url, redis_url, tmp_path, "--json").output)
    assert found["on_the_way"] == 6  # 1, 2, 3, 5, 6 and 9
    assert found["missing"] == 4  # 4 and 8 of pool/1, 2 and 3 of pool/3
    assert found["instances_with_gaps"] == {"pool/1": 2, "pool/3": 2}
    shown = status(database_url, redis_url, tmp_path).output
    assert "missing by sequence: 4; on the way: 6;" in shown


def test_a_backlog_of_many_pages_is_on_the_way(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tbg.snapshot.PAGE", 100)
    with (
        redis_sync.Redis.from_url(redis_url) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        pipeline = client.pipeline(transaction=False)
        for seq in range(1, 1001):
            pipeline.xadd("mining:share_submitted", {"instance": "pool/1", "seq": seq})
        pipeline.execute()
        database.execute(
            "insert into engine_instances (instance, seq_max, seq_missing) values "
            "('pool/1', 1001, '{[1,1001)}')"
        )
    found = json.loads(status(database_url, redis_url, tmp_path, "--json").output)
    assert (found["missing"], found["on_the_way"]) == (0, 1000)
    assert found["instances_with_gaps"] == {}


def test_servers_that_are_away_are_named_without_their_passwords(
    database_url: str, tmp_path: Path
) -> None:
    away = status(database_url, "redis://:geheim@127.0.0.1:1/0", tmp_path)
    assert away.exit_code == 1
    assert "Redis at redis://:***@127.0.0.1:1/0 does not answer" in away.output
    gone = status("postgresql://tbg:geheim@127.0.0.1:1/tbg", "redis://127.0.0.1:1", tmp_path)
    assert "the database at postgresql://tbg:***@127.0.0.1:1/tbg does not answer" in gone.output
    assert "geheim" not in away.output + gone.output


def test_a_database_without_a_schema_is_told_what_to_do(
    empty_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    found = status(empty_database_url, redis_url, tmp_path)
    assert found.exit_code == 1
    assert "run tbg migrate" in found.output
    migrate(empty_database_url)
    assert status(empty_database_url, redis_url, tmp_path).exit_code == 0


def test_the_line_counts_shares_that_were_committed_late_too(
    database_url: str, redis_url: str
) -> None:
    with Flow(database_url, redis_url) as flow:
        assert " 0 accepted · 0 rejected · best 0 " in flow.line()
        add_share(database_url, timedelta(0), 1, diff=5000)
        assert " 1 accepted · 0 rejected · best 5k " in flow.line()
        # Between its time and its commit, other lines were printed.
        add_share(database_url, timedelta(milliseconds=1), 2, diff=10)
        add_share(database_url, timedelta(0), 3, valid=False)
        assert " 2 accepted · 1 rejected · best 5k " in flow.line()


def test_what_has_settled_is_counted_once(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tbg.stack.flow.SETTLE", timedelta(0))
    with Flow(database_url, redis_url) as flow:
        for seq in range(1, 4):
            add_share(database_url, timedelta(0), seq)
            assert f" {seq} accepted " in flow.line()
        assert " 3 accepted " in flow.line()
        assert flow.line().startswith("0.0 shares/s")


def test_the_height_is_that_of_the_engines_that_are_no_simulation(
    database_url: str, redis_url: str
) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as database,
        Flow(database_url, redis_url) as flow,
    ):
        tip = (
            "insert into network_blocks (hash, height, network_difficulty, seen_at, source) "
            "values (%s, %s, 1, now(), %s)"
        )
        database.execute(tip, ["ab", 941_701, "simulated"])
        assert "· height 941701 ·" in flow.line()
        database.execute(tip, ["cd", 3, "hosted"])
        assert "· height 3 ·" in flow.line()


def test_a_block_and_a_new_best_are_said_once(database_url: str, redis_url: str) -> None:
    def best(difficulty: float) -> None:
        database.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, "
            "best_share_time, best_share_hash, best_worker_id) values "
            "(1, date_trunc('week', now() at time zone 'UTC')::date, %s, now(), %s, 1) "
            "on conflict (user_id, week_start) do update "
            "set best_difficulty = excluded.best_difficulty",
            [difficulty, bytes.fromhex("00" * 16 + "ab" * 16)],
        )

    with (
        psycopg.connect(database_url, autocommit=True) as database,
        Flow(database_url, redis_url) as flow,
    ):
        database.execute("insert into users (btc_address) values ('bc1qme')")
        database.execute("insert into workers (user_id, worker_name) values (1, 'rig')")
        best(5)
        flow.line()
        assert flow.news() == []  # what there was
        assert flow.news() == []
        best(4.29e9)
        database.execute(
            "insert into blocks (block_height, block_hash, user_id, worker_id, reward_sats, "
            "difficulty, network_difficulty, coinbase_sig, found_at) "
            "values (7, %s, 1, 1, 1, 1, 1, '', now())",
            ["cd" * 32],
        )
        assert flow.news() == [
            "BLOCK 7 by bc1qme.rig: tbg verify cdcdcdcdcdcd",
            "new best of the week, 4.29G by bc1qme.rig: tbg verify abababababab",
        ]
        assert flow.news() == []


def test_the_last_event_is_the_newest_and_not_the_one_that_came_last(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    with (
        redis_sync.Redis.from_url(redis_url) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        # An import came after the share that is mined now.
        old = int((now - timedelta(hours=26)).timestamp() * 1e6)
        client.xadd("mining:share_submitted", {"timestamp": old, "data": "{}"})
        client.xadd("mining:block_found", {"timestamp": old, "data": "{}"})
        database.execute(
            "insert into mining_events (time, seq, instance_id, event, source, payload) "
            "values (%s, 1, 1, 'block_found', 'hosted', '{}')",
            [now],
        )
    add_share(database_url, timedelta(0), 1)
    found = json.loads(status(database_url, redis_url, tmp_path, "--json").output)["events"]
    for kind in ("share_submitted", "block_found"):
        assert abs(datetime.fromisoformat(found[kind]["last"]) - now) < timedelta(minutes=10), kind


def test_the_line_names_the_server_that_is_away(database_url: str) -> None:
    with Flow(database_url, "redis://127.0.0.1:1") as flow:
        assert "Redis does not answer" in flow.line()
    with Flow("postgresql://127.0.0.1:1/x", "redis://127.0.0.1:1") as flow:
        assert "the database does not answer" in flow.line()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.00123, "0.00123"), (512.0, "512"), (4821.4, "4.82k"), (4.29e9, "4.29G")],
)
def test_difficulties_are_shown_as_miners_do(value: float, shown: str) -> None:
    assert si(value) == shown
