"""Databases that the migrations before this schema made.

The schema was rewritten by domain before the first release. What the migrations before it
made is the same in every definition (tests/tbg/test_predecessor.py), so such a database is only
marked in yoyo's table. Their own rows stay there: the version before works on it as well.
"""

from collections.abc import Iterable
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

from tbg_core.flavour import Flavour
from tbg_core.wording import counted

# The last commit with the migrations before.
LAST_COMMIT: Final = "5481d1931a17"
_SHARED: Final = """
    0001_core 0002_shares 0003_views 0004_batch 0005_share_ledger 0007_judgement 0008_balance
    0009_proofs 0010_alerts 0011_archive 0012_standings 0014_endings 0015_positions 0016a_progress
    0016d_identity 0016e_bests 0017_weeks 0017a_bests 0018_alert_targets 0018a_check_faults
    0018b_worker_allowances 0021a_replayed_letters 0021b_bounded 0024_raw_days 0024a_audit
    0025_cells 0030_receipts 0033_serving 0034_serving_indexes 0034a_serving_sessions
    0040_comments 0040a_comments
"""
_OWN: Final[dict[Flavour, str]] = {
    "postgresql": "0013_rollup 0016b_partitions 0021c_rollup",
    "timescaledb": "0006_columnstore 0016c_retention",
}
# What of this schema they made.
LAST_MADE: Final = "0011_serving"


class PredecessorError(Exception):
    """The database is older than this version can continue, or another program's."""


def names_before(flavour: Flavour) -> list[str]:
    """The migrations before this schema, in their order."""
    return sorted([*_SHARED.split(), *_OWN[flavour].split()])


def mark_predecessor(
    connection: psycopg.Connection[Any], flavour: Flavour, migrations: Iterable[Any]
) -> bool:
    """Marks a database of the version before as one of this schema; changes nothing else.

    Safe to repeat.

    Args:
        connection: autocommit, with the lock of ``tbg migrate``.
        flavour: the database's.
        migrations: this version's, as yoyo reads them.

    Returns:
        Whether it was such a database, not marked yet.

    Raises:
        PredecessorError: when the database is older than that, or nobody of ours made it. It
            says what to do.
    """
    with connection.cursor(row_factory=tuple_row) as cursor:
        if cursor.execute("select to_regclass('_yoyo_migration')").fetchone() == (None,):
            return False
        rows = cursor.execute("select migration_id from _yoyo_migration").fetchall()
    there = {name for (name,) in rows}
    schema = [one for one in migrations if one.id <= LAST_MADE]
    if not there or there & {one.id for one in schema}:
        return False
    before = names_before(flavour)
    missing = [name for name in before if name not in there]
    if len(missing) == len(before):
        raise PredecessorError(
            f"the database's migrations ({', '.join(sorted(there)[:3])}) are not of this program: "
            "DATABASE_URL names a database of another program, or of a newer version. "
            "Name a database of its own, or use that version"
        )
    if missing:
        last = max(there & set(before))
        raise PredecessorError(
            f"the database stands at {last}, and {counted(len(missing), 'migration')} from before "
            f"this schema are missing, from {missing[0]} on. Nothing was changed. "
            f"Check out commit {LAST_COMMIT}, run its tbg migrate on this database, and then "
            "this one"
        )
    with connection.transaction():
        for one in schema:
            connection.execute(
                "insert into _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
                "values (%s, %s, now() at time zone 'UTC')",
                [one.hash, one.id],
            )
    return True
