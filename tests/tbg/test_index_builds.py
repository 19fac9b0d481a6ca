"""A migration builds an index beside a writer that goes on, never in front of it."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tbg import migrate as module
from tbg.migrate import MigrateError, migrate, sql_folder
from tbg.predecessor import LAST_MADE
from tests.processes import wait_until

COMMENT = re.compile(r"--.*")
BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)  # of a function: runs when it is called
MADE = re.compile(r"create\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?(\w+)", re.I)
INDEX = re.compile(
    r"create\s+(?:unique\s+)?index\s+(?P<concurrently>concurrently\s+)?"
    r"(?:if\s+not\s+exists\s+)?(?P<name>\w+)\s+on\s+(?P<only>only\s+)?(?P<table>\w+)(?P<rest>.*)",
    re.I | re.DOTALL,
)
LEFT = re.compile(r"drop\s+index\s+(?:concurrently\s+)?if\s+exists\s+(\w+)$", re.I)
CONSTRAINT = re.compile(
    r"alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(?P<table>\w+)\s.*"
    r"(?:primary\s+key|\bunique\b|\bexclude\b)(?P<rest>.*)",
    re.I | re.DOTALL,
)
# Of these, plain PostgreSQL builds none concurrently; tbg migrate builds it a partition at a time.
PARTITIONED = {"shares", "mining_events"}


def faults(text: str, flavour: str = "") -> list[str]:
    """What a migration does that holds up writers for as long as an index is built.

    An index of a table that was there before is built in a migration of its own, which is not
    a transaction: concurrently, having removed what a build that was cut off has left. One of
    shares or events is made ``on only`` the table on plain PostgreSQL, and on TimescaleDB it is
    built a chunk at a time (``transaction_per_chunk``).
    """
    bare = BODY.sub("", COMMENT.sub("", text))
    made = {name.lower() for name in MADE.findall(bare)}
    statements = [one.strip() for one in bare.split(";") if one.strip()]
    alone = re.search(r"^--\s*transactional\s*:\s*false\s*$", text, re.MULTILINE) is not None
    found = []
    for statement in statements:
        index = INDEX.match(statement)
        built = index or CONSTRAINT.match(statement)
        if built is None or built["table"].lower() in made:
            continue
        if index is None:
            if not re.search(r"using\s+index", statement, re.I):
                found.append(f"a constraint of {built['table']} is made using an index")
            continue
        if index["table"].lower() in PARTITIONED:
            if flavour == "postgresql" and index["only"]:
                continue
            if flavour != "timescaledb" or "transaction_per_chunk" not in index["rest"]:
                found.append(f"{index['name']} is built a chunk or a partition at a time")
        elif not index["concurrently"]:
            found.append(f"{index['name']} is built concurrently")
        if not alone or not all(LEFT.match(one) or INDEX.match(one) for one in statements):
            found.append(f"{index['name']} has a migration of its own, transactional: false")
        if not any((left := LEFT.match(one)) and left[1] == index["name"] for one in statements):
            found.append(f"what is left of {index['name']} is dropped first")
    return found


# What comes after the schema that a new database begins with: nobody writes to that one yet.
NEW = [path for path in sorted(sql_folder().rglob("*.sql")) if path.stem > LAST_MADE]


def test_new_migrations_build_no_index_in_front_of_a_writer() -> None:
    found = {
        path.name: wrong
        for path in NEW
        if (wrong := faults(path.read_text("utf-8"), path.parent.name))
    }
    assert found == {}


APART = """-- depends: {last}
-- transactional: false
drop index concurrently if exists workers_since;
create index concurrently workers_since on workers (first_seen);
"""


@pytest.mark.parametrize(
    ("text", "flavour", "count"),
    [
        ("create table t (a int); create index t_a on t (a);", "", 0),
        ("create function f() returns void as $$ create index t_a on t (a); $$;", "", 0),
        ("create index workers_since on workers (first_seen);", "", 3),
        ("create UNIQUE index workers_since on workers (first_seen);", "", 3),
        (APART, "", 0),
        (APART + "alter table workers add column a int;", "", 1),
        (APART.replace("-- transactional: false\n", ""), "", 1),
        ("alter table workers add constraint w unique (name);", "", 1),
        ("alter table workers add unique using index workers_since;", "", 0),
        (APART.replace("on workers", "on shares"), "postgresql", 1),
        ("create index i on only shares (hash);", "postgresql", 0),
        ("create index i on only shares (hash);", "", 3),
        (APART.replace("on workers", "on shares"), "timescaledb", 1),
        (
            "-- transactional: false\ndrop index if exists i;\n"
            "create index i on shares (hash) with (timescaledb.transaction_per_chunk);",
            "timescaledb",
            0,
        ),
    ],
)
def test_the_rule_sees_what_holds_up_a_writer(text: str, flavour: str, count: int) -> None:
    assert len(faults(text, flavour)) == count, faults(text, flavour)


BUILDS = """select 1 from pg_stat_activity where datname = current_database()
    and query like '%create%index concurrently%' and wait_event_type = 'Lock'"""
VALID = "select indisvalid from pg_index where indexrelid = to_regclass('workers_since')"
WORKER = (
    "insert into workers (user_id, worker_name) select id, %s from users where btc_address = 'a'"
)


@pytest.mark.plain_postgresql
def test_an_index_is_built_beside_writers_and_again_after_a_build_that_was_cut_off(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(sql_folder(), tmp_path / "sql")
    last = max(path.stem for path in folder.glob("*.sql"))
    text = APART.format(last=last).replace("create index", "create unique index")
    (folder / "9000_workers_since.sql").write_text(text.replace("first_seen", "user_id"))
    monkeypatch.setattr(module, "sql_folder", lambda: folder)
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        psycopg.connect(database_url) as open_writer,
        ThreadPoolExecutor() as threads,
    ):
        connection.execute("insert into users (btc_address) values ('a')")
        open_writer.execute(WORKER, ["of the open writer"])
        build = threads.submit(migrate, database_url)
        wait_until(lambda: connection.execute(BUILDS).fetchone(), "the build waits", 90)
        connection.execute("set lock_timeout = '10s'")
        connection.execute(WORKER, ["of another"])
        open_writer.commit()
        # Two workers of one user: not unique.
        with pytest.raises(MigrateError, match="9000_workers_since failed"):
            build.result()
        assert connection.execute(VALID).fetchall() == [(False,)]
        connection.execute("delete from workers where worker_name = 'of another'")
        assert migrate(database_url).applied == ["9000_workers_since"]
        assert connection.execute(VALID).fetchall() == [(True,)]
        assert migrate(database_url).applied == []


@pytest.mark.plain_postgresql
def test_an_index_of_the_partitions_is_built_one_by_one_beside_a_writer(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(sql_folder(), tmp_path / "sql")
    last = max(path.stem for path in folder.glob("*.sql"))
    (folder / "postgresql" / "9000_shares_job.sql").write_text(
        f"-- depends: {last}\ncreate index shares_job on only shares (job_id) where is_valid;\n"
    )
    monkeypatch.setattr(module, "sql_folder", lambda: folder)
    share = (
        "insert into shares (time, difficulty, user_id, worker_id, is_valid, job_id) "
        "values (now(), 1, 1, 1, true, 'of today')"
    )
    valid = "select indisvalid from pg_index where indexrelid = 'shares_job'::regclass"
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        psycopg.connect(database_url) as open_writer,
        ThreadPoolExecutor() as threads,
    ):
        with monkeypatch.context() as cut_off:
            cut_off.setattr(module, "build_partition_indexes", lambda *_: None)
            assert migrate(database_url).applied == ["9000_shares_job"]
        open_writer.execute(share)
        build = threads.submit(migrate, database_url)
        wait_until(lambda: connection.execute(BUILDS).fetchone(), "the build waits")
        assert connection.execute(valid).fetchall() == [(False,)]
        connection.execute("set lock_timeout = '10s'")
        connection.execute(share)
        open_writer.commit()
        assert build.result().applied == []
        assert connection.execute(valid).fetchall() == [(True,)]
        # Nothing is left to do, and a new partition has it from its beginning.
        said: list[str] = []
        migrate(database_url, say=said.append)
        assert not [line for line in said if line.startswith("building")]
        connection.execute("select ensure_partitions('2031-01-01', '2031-01-01')")
        assert connection.execute(valid).fetchall() == [(True,)]
        [built] = connection.execute(
            "select count(*) from pg_indexes where tablename = 'shares_p20310101' "
            "and indexdef like '%(job_id) WHERE is_valid'"
        ).fetchall()
        assert built == (1,)
