"""Every table and column of the database says what it holds."""

import psycopg
from psycopg.rows import DictRow

from tbg.docs import render_tables
from tests.processes import ROOT

# What is in the schema of the game: partitions and other tools' own tables are not.
RELATIONS = """
select c.relname as table, c.relkind::text as kind, a.attname as column,
       obj_description(c.oid, 'pg_class') as table_comment,
       col_description(c.oid, a.attnum) as comment
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'public'::regnamespace
  and c.relkind in ('r', 'p', 'v')
  and not c.relispartition
  and c.relname not like '%yoyo%'
  and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
"""


def test_every_table_and_column_has_a_comment(connection: psycopg.Connection[DictRow]) -> None:
    rows = connection.execute(RELATIONS).fetchall()
    assert {"shares", "shares_hourly", "bests"} <= {row["table"] for row in rows}
    missing = {row["table"] for row in rows if not row["table_comment"]}
    missing |= {f"{row['table']}.{row['column']}" for row in rows if not row["comment"]}
    assert not missing


def test_the_page_of_the_schema_has_every_table_and_column(
    connection: psycopg.Connection[DictRow],
) -> None:
    page = render_tables(ROOT / "sql")
    for row in connection.execute(RELATIONS).fetchall():
        section = page.split(f"\n## {row['table']}\n")[1].split("\n## ")[0]
        assert f"| `{row['column']}` |" in section
