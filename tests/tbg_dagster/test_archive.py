"""A day goes to the archive, is dropped, comes back once, and gives the same results."""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from bench.checksum import TABLES, checksum
from tbg.cli import main
from tbg.migrate import migrate
from tbg_core.periods import midnight
from tbg_dagster import clock as clock_of_batch
from tbg_dagster.archive import day as archive_day
from tbg_dagster.archive.checks import archive_equals_database, days_are_archived
from tbg_dagster.archive.day import archive, restore, verify
from tbg_dagster.archive.due import outdated
from tbg_dagster.archive.manifest import fold
from tbg_dagster.archive.owner import adopt
from tbg_dagster.archive.retention import drop_archived
from tbg_dagster.archive.sensors import archive_sensor
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.resources import Archive, Thresholds
from tbg_dagster.rollup import rollup_of
from tests.processes import LIMIT, PYTHON, ROOT, running
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of

# Names chosen to hurt a file, a query or a terminal.
HOSTILE = [
    "",
    "../../etc/passwd",
    "a\tb\nc\\N\\.",
    "'; drop table shares; --",
    "\u202eevil\u200b",
    "𝔅𝔦𝔱𝔞𝔵𝔢 \U0001f525",
    '"quoted",{json}',
    "x" * 200,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store.open(str(folder))


@pytest.fixture
def old() -> date:
    """A day 30 days ago: all of its week is older than 20 days."""
    return (clock_of_batch.today() - 30 * DAY).date()


def event(connection: Connection, at: datetime, name: str, **payload: Any) -> None:
    connection.execute(
        "insert into mining_events (time, event, payload, seq) values (%s, %s, %s, 7)",
        [at, name, Jsonb(payload)],
    )


def fill(connection: Connection, history: History, day: date, count: int = 400) -> None:
    """A day with every kind of row that the tables take."""
    start = midnight(day)
    history.shares(["a.1", "a.2", "b.1"], start, start + DAY, count)
    for number, name in enumerate(HOSTILE):
        history.share(
            f"hostile.{name}",
            start + timedelta(hours=number, microseconds=number),
            share_diff=0.1 + number / 3,
            share_hash=bytes([number]) * 32,
            seq=number,
            nonce=b"\x00\xff",
            nonce2=b"",
            job_id=name,
            ip_address=["10.0.0.1", "10.1.0.0/16", "2001:db8::1"][number % 3],
            is_block=number == 3,
        )
    history.share("a.1", start, share_diff=None, reject="no hash", difficulty=1e-9)
    event(connection, start, "diff_updated", user="a", worker=HOSTILE[2], old_diff=0.1)
    event(connection, start + timedelta(hours=23), "miner_connected", user="a", big=10**30)


def contents(connection: Connection, day: date) -> list[Any]:
    span = [midnight(day), midnight(day) + DAY]
    return [
        connection.execute(
            f"select t::text as row from {table} t where time >= %s and time < %s order by 1",  # noqa: S608  # one of two names below
            span,
        ).fetchall()
        for table in ("shares", "mining_events")
    ]


def drop(connection: Connection, day: date) -> None:
    for table in ("shares", "mining_events"):
        connection.execute(
            f"delete from {table} where time >= %s and time < %s",  # noqa: S608  # one of two names above
            [midnight(day), midnight(day) + DAY],
        )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- Writing ---------------------------------------------------------------------------


def test_a_day_comes_back_as_it_was_whatever_a_miner_calls_its_worker(
    connection: Connection, history: History, store: Store, old: date
) -> None:
    fill(connection, history, old)
    before = contents(connection, old)
    done = archive(connection, store, old)
    assert done.outcome == "archived"
    assert done.manifest is not None
    assert done.manifest.shares.rows == len(before[0]) == 400 + len(HOSTILE) + 1
    drop(connection, old)
    restored = restore(connection, store, old)
    assert (restored.shares, restored.events) == (len(before[0]), 2)
    assert contents(connection, old) == before
    # Once more brings back nothing: each row is there once.
    again = restore(connection, store, old)
    assert (again.shares, again.events) == (0, 0)
    assert contents(connection, old) == before
    # And it is the same day for the archive, too.
    assert archive(connection, store, old).outcome == "unchanged"


def test_a_file_is_typed_sorted_by_worker_and_time_and_hashes_are_bytes(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    fill(connection, history, old)
    archive(connection, store, old)
    file = pq.ParquetFile(folder / "shares" / f"{old}.1.parquet")
    assert str(file.schema_arrow.field("share_hash").type) == "binary"
    assert str(file.schema_arrow.field("time").type) == "timestamp[us, tz=UTC]"
    assert {file.metadata.row_group(0).column(n).compression for n in range(19)} == {"ZSTD"}
    rows = file.read(["worker_id", "time"]).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["worker_id"], row["time"]))
    manifest = store.manifest(old)
    assert manifest is not None
    assert manifest.best == max(
        share["share_diff"]
        for share in file.read(["share_diff", "is_valid"]).to_pylist()
        if share["is_valid"]
    )


def test_the_same_rows_make_the_same_file_whatever_order_they_were_stored_in(
    connection: Connection, history: History, tmp_path: Path, old: date
) -> None:
    fill(connection, history, old)
    first, second = Store.open(str(tmp_path / "1")), Store.open(str(tmp_path / "2"))
    archive(connection, first, old)
    connection.execute("create temp table kept as select * from shares order by share_hash")
    connection.execute("delete from shares")
    connection.execute("insert into shares select * from kept")
    archive(connection, second, old)
    one, two = first.manifest(old), second.manifest(old)
    assert one is not None
    assert two is not None
    assert one.shares == two.shares
    assert one.hours == two.hours


def test_two_equal_rows_are_two(
    connection: Connection, history: History, store: Store, old: date
) -> None:
    for _ in range(2):
        history.share("a.1", midnight(old))
    archive(connection, store, old)
    connection.execute("delete from shares where ctid = (select min(ctid) from shares)")
    assert restore(connection, store, old).shares == 1
    drop(connection, old)
    assert restore(connection, store, old).shares == 2


def test_a_row_whose_names_are_gone_is_kept_by_its_numbers(
    connection: Connection, history: History, store: Store, old: date
) -> None:
    history.share("a.1", midnight(old))
    connection.execute("update shares set user_id = 777, worker_id = 888, instance_id = 999")
    before = contents(connection, old)
    archive(connection, store, old)
    drop(connection, old)
    restore(connection, store, old)
    assert contents(connection, old) == before


def test_a_day_that_has_not_closed_and_a_day_without_rows_are_not_archived(
    connection: Connection, store: Store, old: date
) -> None:
    assert archive(connection, store, old).outcome == "empty"
    with pytest.raises(ArchiveError, match="has not closed"):
        archive(connection, store, clock_of_batch.today().date())
    assert store.days() == []


def test_a_late_share_makes_a_new_revision_and_the_old_files_go(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    fill(connection, history, old)
    archive(connection, store, old)
    history.share("late.1", midnight(old) + timedelta(hours=5), share_diff=1e9)
    done = archive(connection, store, old)
    assert done.outcome == "new revision"
    assert done.manifest is not None
    assert (done.manifest.revision, done.manifest.best) == (2, 1e9)
    assert files(folder) == [
        f"events/{old}.2.parquet",
        f"manifests/{old}.json",
        f"shares/{old}.2.parquet",
    ]
    verify(connection, store, old)


def test_a_late_share_of_a_dropped_day_is_added_to_what_the_archive_holds(
    connection: Connection, history: History, store: Store, old: date
) -> None:
    fill(connection, history, old)
    archive(connection, store, old)
    everything = contents(connection, old)
    drop(connection, old)
    assert archive(connection, store, old).outcome == "dropped before"
    history.share("late.1", midnight(old) + timedelta(hours=5))
    late = contents(connection, old)
    done = archive(connection, store, old)
    assert done.manifest is not None
    assert done.manifest.shares.rows == len(everything[0]) + 1
    restore(connection, store, old)
    assert contents(connection, old) == [sorted_rows(everything[0] + late[0]), everything[1]]


def sorted_rows(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: row["row"])


def test_a_block_that_was_known_late_reaches_the_archive(
    connection: Connection, history: History, store: Store, old: date
) -> None:
    history.share("a.1", midnight(old))
    archive(connection, store, old)
    connection.execute("update shares set is_block = true")
    done = archive(connection, store, old)
    assert done.outcome == "new revision"
    assert done.manifest is not None
    assert done.manifest.shares.rows == 1
    assert done.manifest.hours[0].blocks == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(1e-9, 1e15), st.integers(1, 50), st.booleans()),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_sums_of_a_day_do_not_depend_on_the_order_of_its_rows(
    groups: list[tuple[int, float, int, bool]], random: Any
) -> None:
    start = datetime(2026, 11, 1)
    rows = [
        {
            "hour": start + timedelta(hours=hour),
            "difficulty": difficulty,
            "shares": shares,
            "accepted": shares if valid else 0,
            "blocks": 0,
            "best": difficulty * 2 if valid else None,
        }
        for hour, difficulty, shares, valid in groups
    ]
    straight = fold(rows, [])
    random.shuffle(rows)
    assert fold(rows, []) == straight
    # Groups may be split anywhere.
    ones = [
        {**row, "shares": 1, "accepted": 0, "best": None}
        for row in rows
        for _ in range(int(str(row["shares"])))
    ]
    assert [(hour.hour, hour.shares, hour.difficulty) for hour in fold(ones, [])] == [
        (hour.hour, hour.shares, hour.difficulty) for hour in straight
    ]


# --- What goes wrong -------------------------------------------------------------------


def test_a_file_that_was_changed_is_named_and_brings_nothing_back(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    fill(connection, history, old)
    archive(connection, store, old)
    path = folder / "shares" / f"{old}.1.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    drop(connection, old)
    with pytest.raises(ArchiveError, match=f"shares/{old}.1.parquet .* is not the file"):
        restore(connection, store, old)
    assert contents(connection, old) == [[], []]


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}', "[]"])
def test_a_manifest_that_is_damaged_is_named(
    connection: Connection, history: History, store: Store, folder: Path, old: date, text: str
) -> None:
    history.share("a.1", midnight(old))
    archive(connection, store, old)
    (folder / "manifests" / f"{old}.json").write_text(text)
    with pytest.raises(ArchiveError, match=f"manifests/{old}.json .* is damaged"):
        restore(connection, store, old)


def test_an_archive_without_a_day_says_so(
    connection: Connection, store: Store, folder: Path, old: date
) -> None:
    with pytest.raises(ArchiveError, match=f"{old} is not in the archive {folder}"):
        restore(connection, store, old)


@pytest.mark.parametrize(
    "url",
    [
        "gopher://x/y",
        "relative/folder",
        "https://bucket/path",
        "s3://AKIA:s3cret@/path",
        "s3://k:s3cret@b/p?nonsense=1",
    ],
)
def test_a_url_that_names_no_archive_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        Store.open(url)
    assert "ARCHIVE_URL" in str(caught.value)
    assert "s3cret" not in str(caught.value)


# For each number on its input, runs `archive` in a process that dies by SIGKILL at that
# step in the file system; prints the exit status.
KILLED = """
import os, signal, sys
from datetime import date
import psycopg
from psycopg.rows import dict_row
from tbg_dagster.archive import store as module
from tbg_dagster.archive.day import archive
url, folder, day = sys.argv[1:]
left = 0
def dying(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
Files = type("Files", (module.fs.LocalFileSystem,), {
    name: dying(getattr(module.fs.LocalFileSystem, name))
    for name in ("create_dir", "open_output_stream", "open_input_file", "move", "delete_file",
                 "get_file_info")
})
module.os.fsync = dying(module.os.fsync)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        left = int(line)
        store = module.Store(Files(), folder, folder)
        with psycopg.connect(url, autocommit=True, row_factory=dict_row,
                             options="-c timezone=UTC") as db:
            archive(db, store, date.fromisoformat(day))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.plain_postgresql
def test_a_kill_at_any_step_leaves_the_old_revision_or_the_new_one_whole(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    database_url: str, tmp_path: Path,
) -> None:  # fmt: skip
    history.shares(["a.1", "b.1"], midnight(old), midnight(old) + DAY, 50)
    archive(connection, store, old)
    revision, seen, killed = 1, set[str](), 0
    # Python 3.12 warns of a fork beside pyarrow's threads, between the lines that are read here.
    command = [PYTHON, "-W", "ignore:This process", "-c", KILLED, database_url, folder, str(old)]
    with running(command, tmp_path / "driver.log", listens=True) as driver:
        for step in range(1, 200):
            history.share("late.1", midnight(old) + timedelta(minutes=step))
            driver.tell(str(step))
            driver.wait_for(re.compile(rf"^(.*\n){{{step}}}"))
            status = int(driver.output.splitlines()[-1])
            # What a reader finds is one of the two, and its files are whole.
            manifest = store.manifest(old)
            assert manifest is not None
            store.check(manifest)
            assert manifest.revision in (revision, revision + 1)
            assert manifest.shares.rows == sum(hour.shares for hour in manifest.hours)
            seen.add("old" if manifest.revision == revision else "new")
            if status == 0:
                break
            assert status == -signal.SIGKILL
            killed += 1
            # The next run needs no help, and leaves nothing of the killed one behind.
            archive(connection, store, old)
            verify(connection, store, old)
            after = store.manifest(old)
            assert after is not None
            revision = after.revision
            assert files(folder) == [
                f"events/{old}.{revision}.parquet",
                f"manifests/{old}.json",
                f"shares/{old}.{revision}.parquet",
            ]
        else:
            raise AssertionError("the run never came to its end")
    assert seen == {"old", "new"}
    assert killed > 20


@pytest.mark.plain_postgresql
def test_a_restore_that_is_killed_has_brought_back_nothing(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    database_url: str,
) -> None:  # fmt: skip
    fill(connection, history, old)
    before = contents(connection, old)
    archive(connection, store, old)
    drop(connection, old)
    code = (
        "import os, signal, sys\n"
        "from datetime import date\n"
        "import psycopg\n"
        "from psycopg.rows import dict_row\n"
        "from tbg_dagster.archive import day\n"
        "from tbg_dagster.archive.store import Store\n"
        "real = day.query\n"
        "def query(package, name):\n"
        "    if name == sys.argv[4]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(package, name)\n"
        "day.query = query\n"
        "with psycopg.connect(sys.argv[1], autocommit=True, row_factory=dict_row) as db:\n"
        "    day.restore(db, Store.open(sys.argv[2]), date.fromisoformat(sys.argv[3]))\n"
    )
    for moment in ("staging.sql", "workers.sql", "missing_events.sql", "put_back.sql"):
        done = subprocess.run(
            [PYTHON, "-c", code, database_url, str(folder), str(old), moment],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert contents(connection, old) == [[], []]
    restore(connection, store, old)
    assert contents(connection, old) == before


# --- Whose it is -----------------------------------------------------------------------


@contextlib.contextmanager
def another_database(url: str) -> Iterator[Connection]:
    """A second database, whose numbers belong to other people."""
    migrate(url)
    with psycopg.connect(
        url, autocommit=True, row_factory=dict_row, options="-c timezone=UTC"
    ) as other:
        yield other


def boot(connection: Connection, name: str) -> int:
    [row] = connection.execute(
        "insert into engine_instances (instance) values (%s) returning id", [name]
    )
    return int(row["id"])


def archived(store: Store, folder: Path, day: date) -> list[tuple[Any, ...]]:
    manifest = store.manifest(day)
    assert manifest is not None
    rows = pq.read_table(folder / manifest.shares.file).to_pylist()
    return sorted((row["user"], row["worker"], row["instance"], row["share_diff"]) for row in rows)


def named(connection: Connection) -> list[tuple[Any, ...]]:
    rows = connection.execute(
        "select btc_address, worker_name, instance, share_diff from shares_hex order by 1, 2, 4"
    ).fetchall()
    return [tuple(row.values()) for row in rows]


def forget_the_database(folder: Path) -> None:
    """Makes an archive one that was written before manifests named their database."""
    for path in (folder / "manifests").iterdir():
        text = json.loads(path.read_text())
        del text["database"]
        path.write_text(json.dumps(text | {"format": 1}))


def two_miners(connection: Connection, history: History, day: date) -> None:
    engine = boot(connection, "eu/1")
    start = midnight(day)
    history.share("alice.garage", start, 9000.0, instance_id=engine, seq=1, share_hash=b"1" * 32)
    history.share("carol.attic", start, 7000.0, instance_id=engine, seq=2, share_hash=b"2" * 32)
    event(connection, start, "diff_updated", user="alice", worker="garage")
    connection.execute("update mining_events set instance_id = %s", [engine])


TWO_MINERS = [("alice", "garage", "eu/1", 9000.0), ("carol", "attic", "eu/1", 7000.0)]
OTHERS = [("bob", "roof", "us/1", 10.0)]


def others(connection: Connection, day: date) -> History:
    history = History(connection)
    engine = boot(connection, "us/1")
    history.worker("dave.cellar")
    history.share("bob.roof", midnight(day), 10.0, instance_id=engine, seq=1, share_hash=b"3" * 32)
    return history


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("named_by", ["manifests", "nothing"])
def test_another_database_changes_nothing_in_the_archive_and_is_told_what_to_do(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    empty_database_url: str, named_by: str,
) -> None:  # fmt: skip
    two_miners(connection, history, old)
    archive(connection, store, old)
    if named_by == "nothing":
        forget_the_database(folder)
    before = files(folder)
    with another_database(empty_database_url) as other:
        others(other, old)
        for _ in range(2):
            with pytest.raises(ArchiveError, match="tbg archive adopt"):
                archive(other, store, old)
        gone, held = drop_archived(other, rollup_of(other), store, [old])
        assert gone == []
        assert "tbg archive adopt" in held[old]
        assert named(other) == OTHERS
    assert files(folder) == before
    assert archived(store, folder, old) == TWO_MINERS
    # The one that wrote it goes on, rolled up as it is.
    rollup_of(connection).refresh_hours(connection, midnight(old), midnight(old) + DAY)
    history.share("alice.garage", midnight(old), 1.0, share_hash=b"4" * 32)
    assert archive(connection, store, old).outcome == "new revision"


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("named_by", ["manifests", "nothing"])
def test_an_adopted_archive_keeps_every_row_under_its_name(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    empty_database_url: str, named_by: str,
) -> None:  # fmt: skip
    two_miners(connection, history, old)
    archive(connection, store, old)
    if named_by == "nothing":
        forget_the_database(folder)
    with another_database(empty_database_url) as other:
        others(other, old)
        adopt(other, store)
        assert archive(other, store, old).outcome == "new revision"
        assert archived(store, folder, old) == sorted(TWO_MINERS + OTHERS)
        drop(other, old)
        assert restore(other, store, old).shares == 3
        assert named(other) == sorted(TWO_MINERS + OTHERS)
        assert restore(other, store, old).shares == 0
        rows = other.execute(
            "select instance from mining_events join engine_instances i on i.id = instance_id"
        ).fetchall()
        assert rows == [{"instance": "eu/1"}]
    # The former one, which was not lost after all, is refused from then on.
    history.share("alice.garage", midnight(old), 1.0)
    with pytest.raises(ArchiveError, match="belongs to the database"):
        archive(connection, store, old)


@pytest.mark.plain_postgresql
def test_a_copy_from_a_dump_is_another_database_until_it_takes_over(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    empty_database_url: str,
) -> None:  # fmt: skip
    two_miners(connection, history, old)
    archive(connection, store, old)
    [identity] = connection.execute(
        "select id, place, database_id() as known from database_identity"
    ).fetchall()
    with another_database(empty_database_url) as copy:
        copy.execute("update database_identity set id = %(id)s, place = %(place)s", identity)
        others(copy, old)
        with pytest.raises(ArchiveError, match="tbg archive adopt"):
            archive(copy, store, old)
        assert archived(store, folder, old) == TWO_MINERS
        history.share("alice.garage", midnight(old), 1.0, share_hash=b"4" * 32)
        assert archive(connection, store, old).outcome == "new revision"
        # The first one ended, and the copy continues it.
        assert adopt(copy, store) == [identity["known"]]
        assert archive(copy, store, old).outcome == "new revision"
    manifest = store.manifest(old)
    assert manifest is not None
    assert manifest.shares.rows == 4
    with pytest.raises(ArchiveError, match="belongs to the database"):
        archive(connection, store, old)


@pytest.mark.plain_postgresql
def test_of_two_databases_that_share_an_archive_one_is_refused_on_every_day(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    empty_database_url: str,
) -> None:  # fmt: skip
    history.share("alice.garage", midnight(old))
    history.share("alice.garage", midnight(old + DAY))
    archive(connection, store, old)
    with another_database(empty_database_url) as other:
        History(other).share("bob.roof", midnight(old + DAY))
        with pytest.raises(ArchiveError, match="belongs to the database"):
            archive(other, store, old + DAY)
    assert archive(connection, store, old + DAY).outcome == "archived"


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("moment", ["clean", "write", "commit"])
def test_of_two_databases_that_write_a_day_at_once_one_has_it_whole_and_the_other_is_told(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, moment: str,
) -> None:  # fmt: skip
    history.share("alice.garage", midnight(old))
    real = getattr(Store, moment)
    with another_database(empty_database_url) as other:
        others(other, old)

        def meanwhile(self: Store, *arguments: Any) -> Any:
            monkeypatch.undo()
            assert archive(other, store, old).outcome == "archived"
            return real(self, *arguments)

        monkeypatch.setattr(Store, moment, meanwhile)
        with pytest.raises(ArchiveError, match="another database writes the archive"):
            archive(connection, store, old)
        verify(other, store, old)
        assert archived(store, folder, old) == OTHERS
        assert len(files(folder)) == 3


def test_a_user_who_was_renamed_has_each_share_once(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    two_miners(connection, history, old)
    archive(connection, store, old)
    connection.execute("update users set btc_address = 'alicia' where btc_address = 'alice'")
    history.share("alice.garage", midnight(old), 5.0, share_hash=b"5" * 32)
    connection.execute("update shares set instance_id = 1, seq = coalesce(seq, 3)")
    assert archive(connection, store, old).outcome == "new revision"
    alicia = [("alicia", "garage", "eu/1", best) for best in (5.0, 9000.0)]
    assert archived(store, folder, old) == [*alicia, TWO_MINERS[1]]
    connection.execute("update workers set worker_name = 'shed' where worker_name = 'garage'")
    assert restore(connection, store, old).shares == 0


@pytest.mark.plain_postgresql
def test_a_manifest_that_is_damaged_holds_up_no_other_day(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    for day in range(4):
        history.share("a.1", midnight(old + day * DAY))
    for day in (1, 2):
        archive(connection, store, old + day * DAY)
        history.share("a.1", midnight(old + day * DAY), 5.0)
        history.late(midnight(old + day * DAY), 1)
    (folder / "manifests" / f"{old + 2 * DAY}.json").write_bytes(b"\xff")
    assert outdated(connection, store) == [old + DAY]
    assert archive(connection, store, old).outcome == "archived"
    gone, held = drop_archived(
        connection, rollup_of(connection), store, [old + day * DAY for day in range(4)]
    )
    assert held.keys() == {old + DAY, old + 2 * DAY}  # late, and damaged
    assert "is damaged" in held[old + 2 * DAY]
    assert gone == [old, old + 3 * DAY]


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("named_by", ["manifests", "nothing"])
def test_a_restore_elsewhere_gives_each_row_to_its_owner_and_none_to_a_stranger(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    empty_database_url: str, named_by: str,
) -> None:  # fmt: skip
    two_miners(connection, history, old)
    # Rows without a name: their numbers are other people's in the other database.
    history.share("gone.away", midnight(old), 5.0, instance_id=1, seq=3, share_hash=b"5" * 32)
    connection.execute("update shares set user_id = 2, worker_id = 2 where share_diff = 5")
    connection.execute("delete from workers where id = 2")
    connection.execute("update shares set worker_id = 1 where share_diff = 7000")
    connection.execute("delete from users where id = 2")
    archive(connection, store, old)
    if named_by == "nothing":
        forget_the_database(folder)
    with another_database(empty_database_url) as other:
        others(other, old)
        assert restore(other, store, old).shares == 3
        found = {share: (user, worker) for user, worker, _, share in named(other)}
        assert found.pop(9000.0) == ("alice", "garage")
        assert found.pop(10.0) == ("bob", "roof")
        assert set(found) == {5.0, 7000.0}
        for user, worker in found.values():
            assert re.fullmatch(r"user 2 of (database [0-9a-f-]{36}|an unknown database)", user)
            assert re.match(r"worker \d of ", worker)
        assert restore(other, store, old).shares == 0


@pytest.mark.plain_postgresql
def test_a_database_that_was_set_back_gives_numbers_to_others_and_no_row_changes_hands(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    two_miners(connection, history, old)
    archive(connection, store, old)
    # As a dump from before the two came, in which other miners have got their numbers.
    connection.execute("truncate shares, mining_events, workers, users, engine_instances cascade")
    connection.execute("alter sequence users_id_seq restart")
    connection.execute("alter sequence workers_id_seq restart")
    connection.execute("alter sequence engine_instances_id_seq restart")
    others(connection, old)
    assert archive(connection, store, old).outcome == "new revision"
    assert archived(store, folder, old) == sorted(TWO_MINERS + OTHERS)
    assert connection.execute("select count(*) from users").fetchall() == [{"count": 2}]


def test_an_archive_of_an_earlier_version_is_verified_restored_and_continued(
    connection: Connection, history: History, store: Store, folder: Path, old: date
) -> None:
    fill(connection, history, old)
    before = contents(connection, old)
    archive(connection, store, old)
    forget_the_database(folder)
    verify(connection, store, old)
    drop(connection, old)
    restore(connection, store, old)
    assert contents(connection, old) == before
    history.share("late.1", midnight(old))
    assert archive(connection, store, old).outcome == "new revision"
    verify(connection, store, old)


def test_the_old_revision_stands_until_every_row_of_the_new_one_was_found(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    two_miners(connection, history, old)
    archive(connection, store, old)
    before = files(folder)
    history.share("alice.garage", midnight(old), 1.0)
    real = query

    def swapped(package: str, name: str) -> Any:
        text = real(package, name)
        if name == "read_shares.sql":
            # The same sums, under wrong names.
            text = text.replace("s.time, s.btc_address,", "s.time, 'mallory',")
        return text

    monkeypatch.setattr(archive_day, "query", swapped)
    with pytest.raises(ArchiveError, match="the new revision lacks 2 shares of the one before"):
        archive(connection, store, old)
    monkeypatch.undo()
    assert archived(store, folder, old) == TWO_MINERS
    archive(connection, store, old)
    assert len(files(folder)) == len(before)


# --- Retention -------------------------------------------------------------------------


def with_archive(resources: dict[str, Any], folder: Path) -> None:
    resources["archive"] = Archive(url=str(folder))
    resources["thresholds"] = Thresholds(retention_days=20)


def test_a_day_past_retention_is_archived_then_dropped_and_its_rollup_stays(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path, old: date,
) -> None:  # fmt: skip
    with_archive(resources, folder)
    fill(connection, history, old)
    before = contents(connection, old)
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert metadata["partitions_dropped"] >= 1
    assert metadata["held_back"] == "nothing"
    assert contents(connection, old) == [[], []]
    row = connection.execute(
        "select sum(shares)::integer as shares from shares_daily where bucket = %s",
        [midnight(old)],
    ).fetchone()
    assert row == {"shares": len(before[0])}
    restore(connection, store, old)
    assert contents(connection, old) == before


def test_an_archive_that_fails_holds_the_day_back_and_is_named(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path, old: date,
) -> None:  # fmt: skip
    with_archive(resources, folder)
    fill(connection, history, old)
    before = contents(connection, old)
    archive(connection, store, old)
    path = folder / "shares" / f"{old}.1.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert f"{old}: shares/{old}.1.parquet" in metadata["held_back"]
    assert contents(connection, old) == before
    # A folder that cannot be made, as root can write anywhere.
    file = folder.parent / "file"
    file.write_text("")
    resources["archive"] = Archive(url=str(file / "below"))
    result = run("housekeeping", raise_on_error=False)
    if result.success:
        assert "ARCHIVE_URL" in metadata_of(result, "raw_partitions")["held_back"]
    assert contents(connection, old) == before


def test_a_late_share_of_a_dropped_day_is_archived_and_counted_and_dropped_again(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path, old: date,
) -> None:  # fmt: skip
    with_archive(resources, folder)
    fill(connection, history, old)
    count = len(contents(connection, old)[0])
    run("housekeeping")
    history.days(midnight(old), midnight(old))
    history.share("late.1", midnight(old))
    run("housekeeping")
    assert contents(connection, old) == [[], []]
    manifest = store.manifest(old)
    assert manifest is not None
    assert manifest.shares.rows == count + 1
    row = connection.execute(
        "select sum(shares)::integer as shares from shares_daily where bucket = %s",
        [midnight(old)],
    ).fetchone()
    assert row == {"shares": count + 1}


def test_a_restored_day_stays_until_its_time_and_housekeeping_says_so(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path, old: date,
) -> None:  # fmt: skip
    with_archive(resources, folder)
    fill(connection, history, old)
    before = contents(connection, old)
    run("housekeeping")
    restore(connection, store, old, timedelta(days=3))
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert f"{old}: restored, and kept until" in metadata["held_back"]
    assert contents(connection, old) == before
    connection.execute("update restored_days set keep_until = now()")
    run("housekeeping")
    assert contents(connection, old) == [[], []]
    assert connection.execute("select * from restored_days").fetchall() == []


@pytest.mark.plain_postgresql
def test_a_share_that_comes_while_a_day_is_dropped_is_not_lost(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path, old: date, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with_archive(resources, folder)
    fill(connection, history, old)
    count = len(contents(connection, old)[0])
    real = archive_day.archive

    def late(*args: Any) -> Any:
        done = real(*args)
        if args[2] == old:
            history.share("late.1", midnight(old))
        return done

    monkeypatch.setattr("tbg_dagster.archive.retention.archive", late)
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert f"{old}: archive and database differ: 00h shares" in metadata["held_back"]
    assert len(contents(connection, old)[0]) == count + 1


# --- Dagster ---------------------------------------------------------------------------


def test_a_run_archives_its_day_and_its_check_compares_it(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path,
) -> None:  # fmt: skip
    resources["archive"] = Archive(url=str(folder))
    yesterday = (clock_of_batch.today() - DAY).date()
    fill(connection, history, yesterday)
    result = run("archive_days", f"{yesterday}")
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert checks["archive_equals_database"].passed
    assert checks["archive_equals_database"].metadata["days_compared"].value == 1
    connection.execute("update shares set share_diff = 1e12 where job_id = ''")
    found = archive_equals_database(resources["database"], resources["archive"], Thresholds())
    assert isinstance(found, dg.AssetCheckResult)
    assert not found.passed
    assert "best" in str(found.description)


def test_a_day_that_is_not_archived_and_one_kept_past_retention_fail_the_check(
    connection: Connection, history: History, resources: dict[str, Any], store: Store,
    folder: Path, old: date,
) -> None:  # fmt: skip
    with_archive(resources, folder)

    def look() -> dg.AssetCheckResult:
        found = days_are_archived(
            resources["database"], resources["archive"], resources["thresholds"]
        )
        assert isinstance(found, dg.AssetCheckResult)
        return found

    assert look().passed
    recent = clock_of_batch.today() - 4 * DAY
    history.share("a.1", recent)
    found = look()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"from {recent:%F} on" in str(found.description)
    archive(connection, store, recent.date())
    assert look().passed
    history.share("a.1", midnight(old))
    archive(connection, store, old)
    found = look()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    restore(connection, store, old, timedelta(days=1))
    assert look().passed


def test_a_backfill_archives_every_day_and_says_what_each_takes(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path,
) -> None:  # fmt: skip
    resources["archive"] = Archive(url=str(folder))
    first = clock_of_batch.today() - 4 * DAY
    for number in (0, 2):  # nobody mined on the day between
        history.shares(["a.1"], first + number * DAY, first + (number + 1) * DAY, 100)
    result = run("archive_days", f"{first:%F}", f"{first + 2 * DAY:%F}")
    assert store.days() == [first.date(), (first + 2 * DAY).date()]
    found = {
        event.partition: {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_materializations_for_node("shares_archive")
    }
    outcomes = {key: metadata["outcome"] for key, metadata in found.items()}
    assert outcomes == {
        f"{first:%F}": "archived",
        f"{first + DAY:%F}": "empty",
        f"{first + 2 * DAY:%F}": "archived",
    }
    assert found[f"{first:%F}"]["shares"] == 100


def test_without_an_archive_a_run_does_nothing_and_claims_nothing(
    connection: Connection, history: History, run: Run
) -> None:
    yesterday = (clock_of_batch.today() - DAY).date()
    history.share("a.1", midnight(yesterday))
    result = run("archive_days", f"{yesterday}")
    assert result.success
    assert result.asset_materializations_for_node("shares_archive") == []


def test_the_sensor_asks_for_missed_days_and_for_days_with_late_shares(
    connection: Connection, history: History, resources: dict[str, Any], store: Store,
    folder: Path, instance: dg.DagsterInstance,
) -> None:  # fmt: skip
    def tick() -> list[str | None]:
        context = dg.build_sensor_context(
            instance=instance,
            resources={
                "database": resources["database"],
                "archive": Archive(url=str(folder)),
            },
        )
        found = archive_sensor(context)
        if isinstance(found, dg.SkipReason):
            return []
        assert isinstance(found, dg.SensorResult)
        return [request.partition_key for request in found.run_requests or []]

    first, second = clock_of_batch.today() - 9 * DAY, clock_of_batch.today() - 5 * DAY
    assert tick() == []
    history.share("a.1", first)
    history.share("a.1", second)
    assert tick() == [f"{first:%F}", f"{second:%F}"]
    archive(connection, store, first.date())
    archive(connection, store, second.date())
    assert tick() == []
    history.late(first, 1)  # noted, and in the archive already
    assert tick() == []
    history.share("a.1", first)
    assert tick() == [f"{first:%F}"]
    archive(connection, store, first.date())
    assert tick() == []


@pytest.mark.plain_postgresql
def test_a_week_that_was_dropped_and_restored_gives_the_same_rollups_and_result(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], store: Store,
    folder: Path, database_url: str,
) -> None:  # fmt: skip
    with_archive(resources, folder)
    monday = last_monday(5)
    history.shares(["a.1", "a.2", "b.1"], monday, monday + 7 * DAY, 3000)
    week = f"{monday:%F}"
    sunday = f"{monday + 6 * DAY:%F}"

    def compute() -> dict[str, Any]:
        run("hourly_rollup", f"{week}-00:00", f"{sunday}-23:00")
        run("daily_rollup", week, sunday)
        run("weekly_reset", week)
        return {table: checksum(database_url, table) for table in TABLES}

    before = compute()
    assert all(rows for rows, _ in before.values())
    run("housekeeping")
    row = connection.execute("select count(*) as shares from shares").fetchone()
    assert row == {"shares": 0}
    for number in range(7):
        restore(connection, store, (monday + number * DAY).date(), timedelta(days=3))
    # From nothing: what is compared was computed from the restored rows alone.
    connection.execute("truncate shares_hourly, shares_daily, worker_stats_daily")
    assert compute() == before


# --- The command -----------------------------------------------------------------------


def tbg(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.mark.plain_postgresql
def test_the_command_lists_verifies_and_restores(
    connection: Connection, history: History, store: Store, folder: Path, old: date,
    database_url: str,
) -> None:  # fmt: skip
    environment = {"DATABASE_URL": database_url, "ARCHIVE_URL": str(folder)}
    fill(connection, history, old)
    before = contents(connection, old)
    assert tbg("archive", "write", f"{old}", **environment).stdout == f"{old}: archived\n"
    (listed,) = json.loads(tbg("archive", "list", "--json", **environment).stdout)
    assert (listed["day"], listed["shares"]) == (f"{old}", len(before[0]))
    assert tbg("archive", "verify", **environment).exit_code == 0
    connection.execute("delete from shares where job_id = ''")
    wrong = tbg("archive", "verify", f"{old}", **environment)
    assert wrong.exit_code == 3
    assert "archive and database differ: 00h shares" in wrong.stdout
    done = tbg("archive", "restore", f"{old}", "--json", **environment)
    assert json.loads(done.stdout)[0]["shares"] == 1
    assert contents(connection, old) == before
    kept = connection.execute("select day, revision from restored_days").fetchall()
    assert kept == [{"day": old, "revision": 1}]
    bad = tbg("archive", "restore", "yesterday", **environment)
    assert bad.exit_code == 2
    assert "2026-11-20" in bad.stderr
    absent = tbg("archive", "restore", "2020-01-01", **environment)
    assert absent.exit_code == 1
    assert "has no day from 2020-01-01" in absent.stderr


@pytest.mark.plain_postgresql
def test_a_day_comes_back_into_another_database_under_the_same_names(
    connection: Connection, history: History, store: Store, old: date, empty_database_url: str
) -> None:
    fill(connection, history, old)
    connection.execute("insert into engine_instances (instance) values ('other/1'), ('e/1')")
    connection.execute("update shares set instance_id = 2 where job_id is not null")
    archive(connection, store, old)
    migrate(empty_database_url)
    named = (
        "select time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid, "
        "share_hash, ip_address from shares_hex order by time, share_hash"
    )
    with psycopg.connect(
        empty_database_url, autocommit=True, row_factory=psycopg.rows.dict_row,
        options="-c timezone=UTC",
    ) as other:  # fmt: skip
        other.execute("insert into users (btc_address) values ('another user')")
        restore(other, store, old)
        assert other.execute(named).fetchall() == connection.execute(named).fetchall()
        # The two databases' archives of the day are the same but for the numbers.
        verify(other, store, old)
