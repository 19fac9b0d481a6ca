"""An archive in a bucket, over S3's protocol: the same days, whatever fails at whichever request."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from tbg_core.periods import midnight
from tbg_dagster import clock as clock_of_batch
from tbg_dagster.archive.day import archive, restore, verify
from tbg_dagster.archive.manifest import Manifest
from tbg_dagster.archive.owner import adopt
from tbg_dagster.archive.retention import drop_archived
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY
from tbg_dagster.rollup import rollup_of
from tests.processes import PYTHON, running
from tests.tbg_dagster.bucket import SECRET, Bucket, Request, serving
from tests.tbg_dagster.conftest import Connection, History
from tests.tbg_dagster.test_archive import another_database, contents, drop, event, fill, tbg

# Sent in parts of 10 MiB.
MANY_PARTS = 25 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, serving() as made:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # credentials are asked for nowhere else
        yield made


@pytest.fixture
def bucket(server: Bucket) -> Iterator[Bucket]:
    server.forget()
    yield server
    server.forget()


@pytest.fixture
def url(bucket: Bucket, request: pytest.FixtureRequest) -> str:
    """A folder of the test's own."""
    return bucket.url(re.sub(r"\W+", "-", request.node.name))


@pytest.fixture
def store(url: str) -> Store:
    return Store.open(url)


@pytest.fixture
def old() -> date:
    return (clock_of_batch.today() - 30 * DAY).date()


def objects(store: Store) -> list[str]:
    """What lies in the archive, by the names that the bucket lists."""
    return sorted(
        f"{folder}/{name}"
        for folder in ("events", "manifests", "shares")
        for name in store.names(folder)
    )


def of(day: date, revision: int) -> list[str]:
    return [
        f"events/{day}.{revision}.parquet",
        f"manifests/{day}.json",
        f"shares/{day}.{revision}.parquet",
    ]


@pytest.mark.plain_postgresql
def test_a_day_goes_to_a_bucket_is_dropped_and_comes_back(
    connection: Connection, history: History, bucket: Bucket, store: Store, url: str, old: date,
    database_url: str, empty_database_url: str,
) -> None:  # fmt: skip
    environment = {"DATABASE_URL": database_url, "ARCHIVE_URL": url}
    fill(connection, history, old)
    assert tbg("archive", "write", f"{old}", **environment).stdout == f"{old}: archived\n"
    history.share("late.1", midnight(old) + timedelta(hours=3))
    assert archive(connection, store, old).outcome == "new revision"
    assert archive(connection, store, old).outcome == "unchanged"
    assert objects(store) == of(old, 2)
    before = contents(connection, old)
    listed = tbg("archive", "list", "--json", **environment)
    [row] = json.loads(listed.stdout)
    assert (row["day"], row["revision"], row["shares"]) == (f"{old}", 2, len(before[0]))
    shown = tbg("archive", "verify", **environment)
    assert shown.stdout == f"{old} equals the database\n"
    assert SECRET not in shown.stdout + shown.stderr + listed.stdout

    rollup_of(connection).refresh_hours(connection, midnight(old), midnight(old) + DAY)
    gone, held = drop_archived(connection, rollup_of(connection), store, [old])
    assert (gone, held) == ([old], {})
    shown = tbg("archive", "verify", f"{old}", **environment)
    assert shown.stdout == f"{old} is whole; the database has dropped it\n"
    done = tbg("archive", "restore", f"{old}", "--json", **environment)
    assert json.loads(done.stdout)[0]["shares"] == len(before[0])
    assert contents(connection, old) == before

    with another_database(empty_database_url) as other:
        with pytest.raises(ArchiveError, match="tbg archive adopt"):
            archive(other, store, old - DAY)
        assert len(adopt(other, store)) == 1
        assert restore(other, store, old).shares == len(before[0])
        verify(other, store, old)
    # A bucket copies no object over 5 GiB: none but a manifest is ever made of another one.
    copied = {request.key.split("/")[1] for request in bucket.seen if request.copies}
    assert copied == {"manifests"}


def test_a_file_of_many_parts_is_what_was_written(bucket: Bucket, store: Store) -> None:
    data = os.urandom(MANY_PARTS)
    written = store.write("shares/of-many-parts", lambda sink: sink.write(data))
    assert written.bytes == MANY_PARTS
    assert {1, 2, 3} <= {request.part for request in bucket.seen}
    with store.read("shares/of-many-parts") as file:
        assert file.read() == data


def many_parts(connection: Connection, day: date) -> None:
    """Events that compress to more than one part."""
    for _ in range(2):
        event(connection, midnight(day), "diff_updated", noise=os.urandom(6 << 20).hex())


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("revision", [0, 1])
def test_a_fault_between_two_parts_leaves_what_was_there_and_nothing_else_is_read(
    connection: Connection, history: History, bucket: Bucket, store: Store, url: str, old: date,
    database_url: str, revision: int,
) -> None:  # fmt: skip
    environment = {"DATABASE_URL": database_url, "ARCHIVE_URL": url}
    history.share("a.1", midnight(old))
    if revision:
        archive(connection, store, old)
    many_parts(connection, old)
    bucket.fails = lambda request: request.part == 2
    with pytest.raises(ArchiveError, match="refused by the test"):
        archive(connection, store, old)
    assert max(request.part for request in bucket.seen) >= 2
    found = store.manifest(old)
    assert (found.revision if found else 0) == revision
    assert store.days() == [old] * revision
    if found is None:
        assert "holds no day" in tbg("archive", "list", **environment).stderr
        with pytest.raises(ArchiveError, match="is not in the archive"):
            restore(connection, store, old)
    else:
        store.check(found)
    rollup_of(connection).refresh_hours(connection, midnight(old), midnight(old) + DAY)
    # A day that is not whole in the archive is not dropped.
    gone, held = drop_archived(connection, rollup_of(connection), store, [old])
    assert (gone, list(held)) == ([], [old])

    bucket.forget()
    before = contents(connection, old)
    archive(connection, store, old)
    verify(connection, store, old)
    assert objects(store) == of(old, revision + 1)
    drop(connection, old)
    restore(connection, store, old)
    assert contents(connection, old) == before


KILLED = """
import sys
from datetime import date
import psycopg
from psycopg.rows import dict_row
from tbg_dagster.archive.day import archive
from tbg_dagster.archive.store import Store
with psycopg.connect(sys.argv[1], autocommit=True, row_factory=dict_row,
                     options="-c timezone=UTC") as db:
    archive(db, Store.open(sys.argv[2]), date.fromisoformat(sys.argv[3]))
"""


@pytest.mark.plain_postgresql
def test_a_run_that_is_killed_between_two_parts_is_made_up_by_the_next(
    connection: Connection, history: History, bucket: Bucket, store: Store, url: str, old: date,
    database_url: str, tmp_path: Path,
) -> None:  # fmt: skip
    history.share("a.1", midnight(old))
    many_parts(connection, old)
    reached, over = threading.Event(), threading.Event()

    def hold(request: Request) -> bool:
        if request.part == 2:
            reached.set()
            over.wait()
        return False

    bucket.fails = hold
    command = [PYTHON, "-c", KILLED, database_url, url, str(old)]
    try:
        with running(command, tmp_path / "killed.log") as killed:
            assert reached.wait(240)
            killed.send(signal.SIGKILL)
            killed.wait()
    finally:
        over.set()
    bucket.forget()
    assert store.days() == []
    assert archive(connection, store, old).outcome == "archived"
    verify(connection, store, old)
    assert objects(store) == of(old, 1)


@pytest.mark.plain_postgresql
def test_whichever_request_is_refused_the_day_is_one_whole_revision(
    connection: Connection, history: History, bucket: Bucket, store: Store, old: date
) -> None:
    history.shares(["a.1", "b.1"], midnight(old), midnight(old) + DAY, 20)
    archive(connection, store, old)
    seen = set[str]()
    for step in range(1, 200, 3):
        before = store.manifest(old)
        assert before is not None
        history.share("late.1", midnight(old) + timedelta(minutes=step))
        bucket.forget()
        # One that the bucket refuses, as it does when a key has expired: not repeated.
        bucket.fails = lambda _, step=step: len(bucket.seen) == step  # type: ignore[misc]
        try:
            archive(connection, store, old)
            whole = True
        except ArchiveError:
            whole = False
        refused = len(bucket.seen) >= step
        bucket.forget()
        after: Manifest | None = store.manifest(old)
        assert after is not None
        store.check(after)
        assert after.revision in (before.revision, before.revision + 1)
        seen.add("old" if after.revision == before.revision else "new")
        archive(connection, store, old)
        verify(connection, store, old)
        newest = store.manifest(old)
        assert newest is not None
        assert objects(store) == of(old, newest.revision)
        if whole and not refused:
            break
    else:
        raise AssertionError("the run never came to its end")
    assert seen == {"old", "new"}
    assert step > 10


@pytest.mark.plain_postgresql
def test_a_bucket_that_is_not_there_is_named(bucket: Bucket, database_url: str) -> None:
    environment = {"DATABASE_URL": database_url, "ARCHIVE_URL": bucket.url(bucket="another")}
    for words in (["list"], ["verify"], ["restore", "2026-08-03"]):
        said = tbg("archive", *words, **environment)
        assert said.exit_code == 1
        assert "there is no archive at s3://another/main" in said.stderr
        assert SECRET not in said.stderr + said.stdout
