"""A lost, doubled or late event is seen by the census, and its hop is named."""

import json
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest
import redis as redis_sync

from tbg.stack.counts import (
    ACCEPTED,
    REJECTED,
    CommitWatch,
    Hops,
    Latency,
    emitted,
    published,
    stored,
)
from tbg.stack.smoke import Result
from tests.processes import wait_until

AGREED = Counter({ACCEPTED: 12, REJECTED: 1, "block_found": 1})


def test_equal_counts_are_no_difference() -> None:
    assert Hops(AGREED, AGREED, AGREED, {"dead letters": 0}).differences() == []


def test_an_event_lost_before_redis_is_told_from_one_lost_after_it() -> None:
    fewer = AGREED - Counter({ACCEPTED: 1})
    before = Hops(AGREED, fewer, fewer).differences()
    after = Hops(AGREED, AGREED, fewer).differences()
    assert len(before) == len(after) == 1
    assert "the pool emitted 12 and Redis holds 11: look between pool and receiver" in before[0]
    assert "Redis holds 12 and the database 11: look at the writer" in after[0]


def test_a_share_whose_verdict_changed_is_a_difference() -> None:
    swapped = AGREED - Counter({ACCEPTED: 1}) + Counter({REJECTED: 1})
    assert len(Hops(AGREED, AGREED, swapped).differences()) == 2


def test_a_dead_letter_is_a_difference() -> None:
    assert Hops(AGREED, AGREED, AGREED, {"dead letters": 2}).differences() == [
        "dead letters: 2, and it should be 0"
    ]


def result(hops: Hops, *, blocks: int = 1, timed: int = 13) -> Result:
    return Result(hops, blocks, Latency(timed, 1, 1, 1), Latency(timed, 1, 1, 1), 1.0)


def test_agreeing_on_too_little_is_a_problem() -> None:
    few = Counter({ACCEPTED: 9, REJECTED: 1, "block_found": 1})
    assert result(Hops(AGREED, AGREED, AGREED)).problems() == []
    assert result(Hops(few, few, few), timed=10).problems() == [
        "share_submitted, accepted: 9 stored, at least 10 expected"
    ]


def test_a_block_without_its_row_and_a_share_unseen_are_problems() -> None:
    found = result(Hops(AGREED, AGREED, AGREED), blocks=0, timed=12).problems()
    assert found == [
        "blocks: 0 rows for 1 block_found events",
        "only 12 shares were seen while they were committed",
    ]


def test_the_pools_log_is_counted_by_its_events_alone(tmp_path: Path) -> None:
    log = tmp_path / "pool.log"
    records = [
        {"event": "share_submitted", "seq": 1, "data": {"valid": True}},
        {"event": "share_submitted", "seq": 2, "data": {"valid": False}},
        {"event": "diff_updated", "seq": 3, "data": {}},
        {"event": "pool ready", "port": 3333},
        {"event": "share_submitted", "note": "no event of the contract: it has no number"},
    ]
    log.write_text("\n".join([*map(json.dumps, records), "Warning: no JSON", "[1, 2]"]))
    counts = {ACCEPTED: 1, REJECTED: 1, "diff_updated": 1}
    assert emitted(log) == (counts, {1, 2, 3})


def test_entries_in_redis_are_counted_and_timed(redis_url: str) -> None:
    with redis_sync.Redis.from_url(redis_url) as client:
        client.xadd(
            "mining:share_submitted",
            {"data": '{"valid": true}', "timestamp": 1_700_000_000_000_500},
            id="1700000000020-0",
        )
        client.xadd("mining:block_found", {"data": "{}", "timestamp": 1})
        counts, latencies = published(client)
    assert counts == {ACCEPTED: 1, "block_found": 1}
    assert latencies == [20.5]  # the end of the entry's millisecond, 21, less 0.5


def test_rows_are_counted_and_timed_when_they_become_visible(database_url: str) -> None:
    with CommitWatch(database_url) as watch, psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into shares (time, seq, instance_id, difficulty, user_id, worker_id, is_valid) "
            "values (now(), 1, 1, 1, 1, 1, true)"
        )
        time.sleep(0.3)  # not committed yet, so nobody can see it
        assert watch.shares == 0
        connection.commit()
        wait_until(lambda: watch.shares, "the row is counted")
    assert len(watch.latencies()) == 1
    assert watch.latencies()[0] >= 300
    with psycopg.connect(database_url) as connection:
        assert stored(connection) == {ACCEPTED: 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Latency(0, 0.0, 0.0, 0.0)),
        ([7.0], Latency(1, 7.0, 7.0, 7.0)),
        ([float(n) for n in range(1, 201)], Latency(200, 100.5, 198.0, 200.0)),
    ],
)
def test_latencies_are_summarised_by_rank(values: list[float], expected: Latency) -> None:
    assert Latency.of(reversed(values)) == expected
