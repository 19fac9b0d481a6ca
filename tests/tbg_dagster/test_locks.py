"""What the batch side writes while a writer holds rows; it takes a second connection."""

from datetime import timedelta

import psycopg

from tbg_dagster import clock
from tbg_dagster.workers.liveness import mark_silent
from tests.tbg_dagster.conftest import Connection, History
from tests.tbg_dagster.test_workers import FALLBACK, PACE, is_online, online, row_of


def test_rows_that_the_writer_is_writing_are_left_to_it_and_looked_at_next_time(
    connection: Connection, database_url: str, history: History
) -> None:
    now = clock.now()
    silent, back = history.worker("a.silent")[1], history.worker("a.back")[1]
    other, unnamed = history.worker("a.other")[1], history.worker("a.")[1]
    for name in ("a.back", "a."):
        history.share(name, now - timedelta(seconds=10), 2000.0)
    for worker in (silent, back, other, unnamed):
        online(connection, worker, now - timedelta(minutes=50), PACE)
    connection.execute("update workers set is_online = false where id = %s", [back])
    connection.execute("set lock_timeout = '1s'")  # waiting for the writer would be an error
    with psycopg.connect(database_url) as writer:
        writer.execute(
            "select from workers where id = any(%s) for no key update", [[silent, back, unnamed]]
        )
        done = mark_silent(connection, now, FALLBACK, timedelta(0))
        assert done.marked_offline == ["a.other"]
        assert not is_online(connection, back)
        assert row_of(connection, "workers", unnamed)["hashrate_1h"] == PACE
    done = mark_silent(connection, now, FALLBACK, timedelta(0))
    assert done.marked_offline == ["a.silent"]
    assert is_online(connection, back)
    assert row_of(connection, "workers", unnamed)["hashrate_1h"] < PACE
