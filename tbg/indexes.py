"""Indexes of partitioned tables on plain PostgreSQL, built beside the writers."""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql


def build_partition_indexes(
    connection: psycopg.Connection[Any], say: Callable[[str], None]
) -> None:
    """Builds what an index of a partitioned table lacks, a partition at a time, concurrently.

    PostgreSQL builds none of a partitioned table as a whole beside its writers. So a migration
    makes it ``on only`` the table, which is done at once; new partitions get it, and those that
    were there get it here. Safe to repeat, and after a build that was cut off.

    Args:
        connection: autocommit.
        say: receives what happens, a line at a time.
    """
    lacking = connection.execute(
        """
        select i.indexrelid::regclass::text, part.inhrelid::regclass::text,
            substring(pg_get_indexdef(i.indexrelid) from ' USING .*$'),
            substr(md5(i.indexrelid::regclass::text), 1, 8)
        from pg_index i
        join pg_class own on own.oid = i.indexrelid and own.relkind = 'I'
        join pg_inherits part on part.inhparent = i.indrelid and not part.inhdetachpending
        where not i.indisvalid and not exists (
            select from pg_inherits child
            join pg_index built on built.indexrelid = child.inhrelid
            where child.inhparent = i.indexrelid and built.indrelid = part.inhrelid
        )
        order by 1, 2
        """
    ).fetchall()
    for index, partition, definition, mark in lacking:
        say(f"building {index} of {partition}")
        parts = {
            "index": sql.SQL(index),  # as PostgreSQL has quoted them
            "partition": sql.SQL(partition),
            "built": sql.Identifier(f"{partition.strip(chr(34))}_{mark}"),
            "definition": sql.SQL(definition),
        }
        for statement in (
            "drop index concurrently if exists {built}",
            "create index concurrently {built} on {partition}{definition}",
            "alter index {index} attach partition {built}",
        ):
            connection.execute(sql.SQL(statement).format(**parts))
