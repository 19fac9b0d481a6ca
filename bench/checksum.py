"""Checksums of tables: equal when every row is."""

from typing import Final

import psycopg

# What a backfill computes, in an order that makes equal tables equal texts. The times of
# finalising are part of it: computing again must not touch them.
TABLES: Final = {
    "shares_hourly": "bucket, user_id, worker_id",
    "shares_daily": "bucket, user_id, worker_id",
    "worker_stats_daily": "day, worker_id",
    "weekly_best_diff": "week_start, user_id",
    "weekly_publications": "week_start, revision",
}


def checksum(database_url: str, table: str) -> tuple[int, str]:
    """Number of rows, and the MD5 of all of them."""
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        row = connection.execute(
            psycopg.sql.SQL(
                "select count(*), coalesce(md5(string_agg(md5(t::text), '' order by {})), '-') "
                "from {} t"
            ).format(psycopg.sql.SQL(TABLES[table]), psycopg.sql.Identifier(table))
        ).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])
