"""The audit of the numbers knows what was dropped from what was lost, by the chunks that are there."""

from typing import Any

from tests.timescaledb.server import Connection

DAYS = ("2026-11-18", "2026-11-20", "2026-11-22")
AUDIT = "select emitted, stored, absent::text from audit_numbers()"


def audited(connection: Connection) -> list[Any]:
    return [tuple(row.values()) for row in connection.execute(AUDIT).fetchall()]


def test_a_day_that_lost_its_rows_is_seen_and_one_that_was_dropped_is_no_loss(
    connection: Connection,
) -> None:
    connection.execute("insert into engine_instances (instance, seq_max) values ('pool/1', 300)")
    for number, day in enumerate(DAYS):
        numbers = [100 * number + 1, 100 * number + 100]
        connection.execute(
            "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed) "
            "select id, %s::timestamptz, 100, %s, %s, 100 from engine_instances",
            [f"{day} 07:00+00", *numbers],
        )
        connection.execute(
            "insert into shares (time, difficulty, seq, user_id, worker_id, instance_id, is_valid) "
            "select %s::timestamptz, 1, n, 1, 1, id, true "
            "from engine_instances, generate_series(%s::bigint, %s) as n",
            [f"{day} 07:30+00", *numbers],
        )
    assert audited(connection) == [(300, 300, "{}")]
    connection.execute(
        "select drop_chunks('shares', older_than => '2026-11-21 00:00+00'::timestamptz, "
        "newer_than => '2026-11-20 00:00+00'::timestamptz)"
    )
    assert audited(connection) == [(200, 200, "{}")]
    connection.execute("delete from shares where seq <= 100")
    assert audited(connection) == [(200, 100, "{[1,101)}")]
