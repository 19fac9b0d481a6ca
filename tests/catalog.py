"""What a schema consists of: two schemas are equal where their catalogs are."""

import hashlib
import re
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

# The relations of the current schema, without what an extension brought, yoyo's tables, and
# partitions and chunks, which follow their parent.
_OURS: Final = """
with ours as (
    select c.oid, c.relname as name, c.relkind, c.reloptions, c.relacl
    from pg_class c
    where c.relnamespace = current_schema()::regnamespace
      and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
      and c.relname !~ '^_?yoyo'
      and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
)
"""
# Names, and a line of their definitions.
_RELATIONS: Final = (
    """
    select name, concat_ws(' ', relkind, reloptions, coalesce(relacl::text, 'no rights'),
        pg_get_partkeydef(oid), obj_description(oid, 'pg_class')) from ours""",
    """
    select name, concat_ws(' ', attname, format_type(atttypid, atttypmod),
        case when attnotnull then 'not null' end, nullif(attidentity, ''),
        nullif(attgenerated, ''), attstorage, pg_get_expr(adbin, adrelid), attacl::text,
        col_description(attrelid, attnum))
    from ours
    join pg_attribute on attrelid = ours.oid and attnum > 0 and not attisdropped
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    order by attnum""",
    "select name, pg_get_viewdef(oid) from ours where relkind in ('v', 'm')",
    """
    select name, concat_ws(' ', conname, pg_get_constraintdef(c.oid))
    from ours join pg_constraint c on conrelid = ours.oid and contype <> 'n' order by conname""",
    """
    select name, concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid)
    from ours join pg_index on indrelid = ours.oid order by indexrelid::regclass::text""",
    """
    select name, pg_get_triggerdef(t.oid)
    from ours join pg_trigger t on tgrelid = ours.oid and not tgisinternal order by tgname""",
)
_OTHERS: Final = (
    """
    select p.oid::regprocedure::text, concat_ws(' ', pg_get_functiondef(p.oid),
        coalesce(proacl::text, 'no rights'), obj_description(p.oid, 'pg_proc'))
    from pg_proc p
    where pronamespace = current_schema()::regnamespace
      and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')""",
    """
    select sequencename, concat_ws(' ', data_type, start_value, min_value, max_value,
        increment_by, cycle, cache_size)
    from pg_sequences where schemaname = current_schema() and sequencename !~ '^_?yoyo'""",
)
_TIMESCALEDB: Final = (
    """
    select h.hypertable_name, concat_ws(' ', num_dimensions, compression_enabled, column_name,
        column_type, time_interval)
    from timescaledb_information.hypertables h
    join timescaledb_information.dimensions using (hypertable_schema, hypertable_name)""",
    """
    select view_name, concat_ws(' ', materialized_only, compression_enabled, view_definition)
    from timescaledb_information.continuous_aggregates""",
    """
    select hypertable::text, concat_ws(' ', segmentby, orderby)
    from timescaledb_information.hypertable_columnstore_settings""",
    """
    select coalesce(view_name, j.hypertable_name), concat_ws(' ', proc_name, schedule_interval,
        scheduled, fixed_schedule, j.config - 'mat_hypertable_id' - 'hypertable_id')
    from timescaledb_information.jobs j
    left join timescaledb_information.continuous_aggregates
        on materialization_hypertable_name = j.hypertable_name
    where j.hypertable_name is not null
    order by proc_name""",
)
# TimescaleDB numbers hypertables in the order in which they were made.
_NUMBERED: Final = re.compile(
    r"(?<=_hypertable_)\d+|(?<=cagg_watermark\()\d+|(?<=invalidation_trigger\(')\d+"
)


def digests(connection: psycopg.Connection[Any]) -> list[str]:
    """The catalog as lines: the name of each thing, and a digest of its definition."""
    return [
        f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        for name, text in catalog(connection).items()
    ]


def catalog(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The definition of each relation, function and sequence, comments and rights included.

    Columns are in their order. How a definition is written depends on the server's version.
    """
    found: dict[str, list[str]] = {}
    with connection.cursor(row_factory=tuple_row) as cursor:
        queries = [*(_OURS + query for query in _RELATIONS), *_OTHERS]
        if cursor.execute("select from pg_extension where extname = 'timescaledb'").rowcount:
            queries += _TIMESCALEDB
        for query in queries:
            for name, line in cursor.execute(query).fetchall():
                found.setdefault(_NUMBERED.sub("N", name), []).append(_NUMBERED.sub("N", line))
        (owner,) = cursor.execute("select current_user").fetchone() or ("",)
    return {
        name: "\n".join(lines).replace(f"{owner}=", "owner=").replace(f"/{owner}", "/owner")
        for name, lines in sorted(found.items())
    }
