"""An import brings every share of the logs into the database, once, whatever happens to it."""

import asyncio
import bz2
import contextlib
import gzip
import json
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from ingest.counts import weigh
from tbg.sharelog.folder import Folder
from tbg.sharelog.importer import Importer
from tbg.sharelog.summary import Summary
from tbg_core.boots import Status
from tests.ingest.harness import Stage, stage
from tests.processes import LIMIT, PYTHON, Process
from tests.tbg.command import HIDDEN
from tests.tbg.sharelog.logs import HOUR, line, lines, start_of, write_logs

Eventually = Callable[..., Any]


class Imports:
    """Runs ``tbg import sharelog`` as a user does, against this test's own servers."""

    def __init__(self, socket: Path, database_url: str, redis_url: str) -> None:
        self.environment: dict[str, str | None] = {
            **HIDDEN,
            "SOCKET_PATH": str(socket),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
        }
        self._folder = socket.parent
        self.processes: list[Process] = []

    def start(self, *arguments: str | Path) -> Process:
        name = self._folder / f"import-{len(self.processes)}"
        process = Process(
            [PYTHON, "-m", "tbg.cli", "import", "sharelog", *arguments, "--json"],
            name.with_suffix(".json"),
            self.environment,
            errors=name.with_suffix(".log"),
        )
        self.processes.append(process)
        return process.start()

    def end(self, process: Process, code: int = 0) -> dict[str, Any]:
        """Waits for its end, and returns the summary."""
        assert process.wait() == code, process.errors
        summary: dict[str, Any] = json.loads(process.output)
        # Every line has become one thing, whatever happened.
        became = ("accepted", "rejected", "before_since", "copies", "skipped", "unsent")
        assert summary["lines"] == sum(summary[name] for name in became)
        assert summary["interrupted"] or not summary["unsent"]
        return summary

    def run(self, *arguments: str | Path) -> dict[str, Any]:
        return self.end(self.start(*arguments))


@pytest.fixture
def socket_folder(server_folder: Path) -> Path:
    """Short, for a socket's path."""
    return server_folder


@pytest.fixture
async def receiver(socket_folder: Path, redis_url: str) -> AsyncIterator[Stage]:
    async with stage("receiver", socket_folder, redis_url) as made:
        yield made


@pytest.fixture
async def writer(socket_folder: Path, redis_url: str, database_url: str) -> AsyncIterator[Stage]:
    async with stage("writer", socket_folder, redis_url, database_url) as made:
        yield made


@pytest.fixture
def imports(
    socket_folder: Path,
    receiver: Stage,
    writer: Stage,
    database_url: str,
    redis_url: str,
) -> Iterator[Imports]:
    made = Imports(socket_folder / "events.sock", database_url, redis_url)
    yield made
    for process in made.processes:
        process.kill()


Share = tuple[int, str, str, bool, str | None]  # micros, user, worker, accepted, why not


def written(*paths: Path) -> Counter[Share]:
    """The shares in files, read in a way of the test's own."""
    found: Counter[Share] = Counter()
    for path in paths:
        for raw in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(raw)
                seconds, nanoseconds = map(int, value["createdate"].split(","))
                user, _, worker = value["workername"].partition(".")
                micros = seconds * 1_000_000 + nanoseconds // 1000
                found[micros, user, worker, value["result"], value.get("error")] += 1
    return found


async def stored(db: asyncpg.Connection) -> Counter[Share]:
    rows = await db.fetch(
        "select (extract(epoch from time) * 1000000)::bigint, btc_address, worker_name, is_valid, "
        "reject_reason from shares join users on users.id = user_id "
        "join workers on workers.id = worker_id"
    )
    return Counter(tuple(row) for row in rows)


async def until(db: asyncpg.Connection, expected: Counter[Share], eventually: Eventually) -> None:
    """Waits until as many shares are stored as expected, and compares them."""

    async def are_there() -> bool:
        return bool(await db.fetchval("select count(*) from shares") >= expected.total())

    await eventually(are_there, seconds=LIMIT)
    assert await stored(db) == expected


async def committed(db: asyncpg.Connection, events: int, eventually: Eventually) -> None:
    """Waits until the ledger has so many events, resent ones included."""

    async def are_there() -> bool:
        row = await db.fetchval(
            "select coalesce(sum(published), 0) from ledger_hours where instance like 'sharelog/%'"
        )
        return bool(row >= events)

    await eventually(are_there, seconds=LIMIT)


async def books(db: asyncpg.Connection) -> dict[str, int]:
    row = await db.fetchrow(
        "select coalesce(sum(emitted), 0)::bigint as emitted, "
        "coalesce(sum(committed), 0)::bigint as committed, "
        "coalesce(sum(dead_lettered), 0)::bigint as dead_lettered, "
        "coalesce(sum(missing), 0)::bigint as missing, "
        "coalesce(sum(unexplained), 0)::bigint as unexplained from ledger_hours"
    )
    assert row is not None
    return dict(row)


def best_events(*paths: Path) -> Counter[tuple[str, str, float, float]]:
    """The bests that the accepted shares of files break, by time."""
    accepted = sorted(
        (
            int(value["createdate"].split(",")[0]) * 10**9 + int(value["createdate"].split(",")[1]),
            value["username"],
            value["sdiff"],
        )
        for path in paths
        for value in map(json.loads, path.read_bytes().splitlines())
        if value["result"]
    )
    found: Counter[tuple[str, str, float, float]] = Counter()
    week: dict[tuple[str, str], float] = {}
    alltime: dict[str, float] = {}
    for nanoseconds, user, achieved in accepted:
        key = user, time.strftime("%G-W%V", time.gmtime(nanoseconds // 10**9))
        if achieved > week.get(key, 0.0):
            found["week", user, achieved, week.get(key, 0.0)] += 1
            week[key] = achieved
        if achieved > alltime.get(user, 0.0):
            found["alltime", user, achieved, alltime.get(user, 0.0)] += 1
            alltime[user] = achieved
    return found


async def stored_bests(db: asyncpg.Connection) -> Counter[tuple[str, str, float, float]]:
    rows = await db.fetch(
        "select payload->>'period', payload->>'user', (payload->>'new_best_diff')::float8, "
        "(payload->>'previous_best_diff')::float8 from mining_events "
        "where event = 'share_best_diff'"
    )
    return Counter(tuple(row) for row in rows)


async def test_a_second_import_stores_nothing_twice(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    start = start_of(24 * 9)  # two ISO weeks, at least
    paths = write_logs(tmp_path / "logs", "twice", start, 8 * 24 * HOUR, 3000, 60)
    first = imports.run(tmp_path / "logs")
    assert first["lines"] == 3000
    assert first["files"] == 60
    await until(db, written(*paths), eventually)
    bests = best_events(*paths)
    assert len(bests) > 100
    await committed(db, first["events"], eventually)
    assert await stored_bests(db) == bests

    async def all_vouched_for() -> bool:
        return set(await db.fetchval("select array_agg(distinct ending) from engine_endings")) == {
            "ended"
        }

    await eventually(all_vouched_for, seconds=LIMIT)
    assert first["bests"] == Counter(period for period, *_ in bests.elements())

    # Elsewhere, under other names, one packed, and one as two copies.
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "logs", moved)
    there = sorted(moved.rglob("*.sharelog"))
    (moved / "a.sharelog.1.gz").write_bytes(gzip.compress(there[7].read_bytes()))
    there[7].unlink()
    shutil.copy(there[9], moved / "copy.sharelog")
    second = imports.run(moved, there[3])
    assert second["events"] == first["events"]
    assert second["copies"] == len(there[9].read_bytes().splitlines())
    await committed(db, 2 * first["events"], eventually)
    assert await stored(db) == written(*there[:7], *there[8:]) + written_packed(moved)
    assert await stored_bests(db) == bests
    kept = await books(db)
    assert kept["emitted"] == kept["committed"] == first["events"]
    assert kept["missing"] == kept["dead_lettered"] == 0


def written_packed(folder: Path) -> Counter[Share]:
    found: Counter[Share] = Counter()
    for path in folder.glob("*.gz"):
        plain = path.with_suffix(".plain")
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        found += written(plain)
    return found


async def test_kills_in_the_middle_lose_and_double_nothing(
    imports: Imports,
    receiver: Stage,
    tmp_path: Path,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    paths = write_logs(tmp_path, "kills", start_of(50), 48 * HOUR, 30_000, 40)
    expected = written(*paths)
    for part in (1, 2, 3):
        process = imports.start(tmp_path)

        async def is_under_way(least: int = part * 4000) -> bool:
            return bool(await db.fetchval("select count(*) from shares") >= least)

        await eventually(is_under_way, seconds=LIMIT)
        if part == 2:
            await receiver.kill()
            await receiver.start()
        process.kill()
    last = imports.run(tmp_path)
    await until(db, expected, eventually)

    async def books_balance() -> bool:
        kept = await books(db)
        return kept["committed"] == last["events"] and not kept["missing"]

    await eventually(books_balance, seconds=LIMIT)
    assert await stored(db) == expected
    assert await stored_bests(db) == best_events(*paths)


def take_all(socket: socket.socket) -> None:
    """Takes datagrams from a socket until a boot is said to be over."""
    while json.loads(socket.recv(65_536))["data"].get("state") != "ended":
        pass


async def test_what_a_receiver_dies_with_after_the_last_share_is_sent_again(
    socket_folder: Path,
    writer: Stage,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    db: asyncpg.Connection,
) -> None:
    path, chance = socket_folder / "events.sock", random.Random("last")
    log = tmp_path / "last.sharelog"
    rejected = (line(start_of(3), chance, result=False, errn=2) for _ in range(40))
    log.write_text("".join(json.dumps(one) + "\n" for one in rejected))
    imports = Imports(path, database_url, redis_url)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dies:
        dies.bind(str(path))
        dies.settimeout(LIMIT)
        process = imports.start(log)
        await asyncio.to_thread(take_all, dies)
    async with stage("receiver", socket_folder, redis_url):
        assert imports.end(process)["rejected"] == 40
        assert (await books(db))["committed"] == 40
    assert await db.fetchval("select array_agg(ending) from engine_endings") == ["ended"]


async def test_a_signal_ends_it_with_a_summary(imports: Imports, tmp_path: Path) -> None:
    # Without a receiver it waits.
    imports.environment["SOCKET_PATH"] = str(tmp_path / "nobody.sock")
    write_logs(tmp_path, "signal", start_of(3), HOUR, 10, 1)
    process = imports.start(tmp_path)
    await process.saying("no receiver at")
    process.send(signal.SIGTERM)
    summary = imports.end(process, code=130)
    assert summary["interrupted"] is True
    assert summary["unsent"] >= 1


async def test_following_goes_through_rotation_truncation_and_new_files(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    """Each way in which a log makes room for the next, and shares on both sides of it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    shares = list(lines("follow", start_of(5), 4 * HOUR, 700))
    turn = iter(shares)
    everything = tmp_path / "everything"
    live = folder / "pool.sharelog"

    def append(path: Path, count: int) -> None:
        for raw in (next(turn) for _ in range(count)):
            with path.open("ab") as log, everything.open("ab") as all_of_them:
                log.write(raw[: len(raw) // 2])
                log.flush()
                log.write(raw[len(raw) // 2 :])
                all_of_them.write(raw)

    append(live, 100)
    process = imports.start(folder, "--follow")
    await until(db, written(everything), eventually)
    append(live, 50)
    await until(db, written(everything), eventually)
    for rotation in (1, 2, 3):  # by renaming
        append(live, 20)
        live.rename(folder / f"pool.sharelog.{rotation}")
        append(live, 20)
        await until(db, written(everything), eventually)
    shutil.copy(live, folder / "pool.sharelog.4")  # by copying and truncating
    live.write_bytes(b"")
    append(live, 30)
    await until(db, written(everything), eventually)
    live.unlink()  # by a new file in its place
    append(live, 30)
    below = folder / "000c3500"  # as ckpool itself does
    below.mkdir()
    for base in range(5):
        append(below / f"{base:016x}.sharelog", 20)
    await until(db, written(everything), eventually)
    # One that is packed is the same one.
    packed = folder / "pool.sharelog.1"
    (folder / "pool.sharelog.1.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    append(live, 10)
    await until(db, written(everything), eventually)
    process.send(signal.SIGINT)
    summary = imports.end(process)
    assert summary["accepted"] + summary["rejected"] == written(everything).total()

    # What was followed is known to an import of what is left.
    imports.run(folder)
    kept = await books(db)
    assert await stored(db) == written(everything)
    assert kept["missing"] == 0


def test_a_log_that_grows_no_more_has_ended_however_long_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(0, 10_000, 11))  # at every look a beat is due
    monkeypatch.setattr("tbg.sharelog.importer.monotonic", lambda: next(moments))
    sent: list[dict[str, Any]] = []
    known: dict[str, Status] = {}

    class Delivery:
        resent = 0

        def send(self, datagram: bytes) -> None:
            sent.append(json.loads(datagram))
            if sent[-1]["event"] == "engine_status":
                said = sent[-1]["data"]
                weigh(
                    known,
                    Status(sent[-1]["instance"], "hosted", 0, said["last_seq"], 0, said["state"]),
                )

    def states() -> set[tuple[int, str]]:
        return {(status.last_seq, status.state) for status in known.values()}

    raw = list(lines("grows", start_of(5), HOUR, 60))
    log, summary = tmp_path / "a.sharelog", Summary()
    log.write_bytes(b"".join(raw[:30]))
    importer = Importer(
        Folder((tmp_path,), summary.damage), 0, cast(Any, Delivery()), lambda: None, summary
    )
    importer.run(follow=True)
    importer.look()
    assert (30, "running") in states()
    importer.look()
    assert {state for _, state in states()} == {"ended"}
    said = len(sent)
    importer.look()
    assert len(sent) == said  # once
    with log.open("ab") as more:
        more.write(b"".join(raw[30:]))
    importer.look()
    assert (60, "running") in states()
    importer.end()
    assert {state for _, state in states()} == {"ended"}
    importer.close()


def test_what_follows_the_place_where_a_log_was_cut_is_no_copy(tmp_path: Path) -> None:
    sent: list[bytes] = []

    class Delivery:
        resent = 0

        def send(self, datagram: bytes) -> None:
            if b"share_submitted" in datagram:
                sent.append(datagram)

    raw = list(lines("cut", start_of(5), HOUR, 15))
    log, summary = tmp_path / "a.sharelog", Summary()
    log.write_bytes(b"".join(raw[:10]))
    importer = Importer(
        Folder((tmp_path,), summary.damage), 0, cast(Any, Delivery()), lambda: None, summary
    )
    importer.run(follow=True)
    log.write_bytes(b"".join(raw[:5]))  # as after a power cut
    importer.look()
    with log.open("ab") as more:
        more.write(b"".join(raw[10:]))
    importer.look()
    importer.close()
    assert len(set(sent)) == 15


async def test_shares_before_since_count_for_bests_alone(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    start = start_of(10)
    path = tmp_path / "pool.sharelog"
    path.write_bytes(b"".join(lines("since", start, 8 * HOUR, 800)))
    since = time.strftime("%Y-%m-%dT%H", time.gmtime(start + 4 * HOUR))
    summary = imports.run(path, "--since", since)
    assert (summary["before_since"], summary["accepted"] + summary["rejected"]) == (400, 400)
    late = tmp_path / "late"
    late.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[400:]))
    await until(db, written(late), eventually)
    await committed(db, summary["events"], eventually)
    kept = await books(db)
    assert kept["missing"] == 0
    assert kept["emitted"] == summary["events"]
    stored_then = await stored_bests(db)
    assert stored_then < best_events(path)

    # The rest of it comes in later, under the numbers that it always had.
    imports.run(path)
    await until(db, written(path), eventually)


async def test_what_is_past_retention_is_not_sent_unless_it_is_asked_for(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    old, new = tmp_path / "old.sharelog", tmp_path / "new.sharelog"
    old.write_bytes(b"".join(lines("old", start_of(24 * 120), HOUR, 40)))
    new.write_bytes(b"".join(lines("new", start_of(24), HOUR, 30)))
    process = imports.start(tmp_path)
    summary = imports.end(process)
    assert (summary["before_since"], summary["accepted"] + summary["rejected"]) == (40, 30)
    await until(db, written(new), eventually)

    process = imports.start(tmp_path, "--since", "2020-01-01")
    everything = imports.end(process)
    assert "dead letters (past_retention)" in process.errors
    assert everything["accepted"] + everything["rejected"] == 70

    async def are_dead_letters() -> bool:
        reasons = await db.fetch("select reason from dead_letters where stage = 'writer'")
        shares = everything["events"] - summary["events"]
        return [row["reason"] for row in reasons] == ["past_retention"] * shares

    await eventually(are_dead_letters, seconds=LIMIT)
    kept = await books(db)
    assert kept["emitted"] == kept["committed"] + kept["dead_lettered"]


async def test_hostile_lines_are_counted_and_the_shares_beside_them_stored(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    chance = random.Random("hostile")
    start = start_of(3)
    clean = list(lines("clean", start, HOUR, 200))
    rubbish = [
        b"",
        b"\x00" * 4096,
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"[" * 30_000,
        b"x" * 3_000_000,
        clean[0][:200],
        json.dumps(line(start, chance, createdate="soon")).encode(),
        json.dumps(line(start, chance, username="", workername="")).encode(),
        json.dumps(line(start, chance, diff=0)).encode(),
    ]
    path = tmp_path / "pool.sharelog"
    mixed = [
        part for number, one in enumerate(clean) for part in (rubbish[number % 11] + b"\n", one)
    ]
    path.write_bytes(b"".join(mixed) + clean[0][:-9])
    summary = imports.run(path)
    assert summary["lines"] == 401
    assert summary["skipped"] == 201
    assert summary["skipped_by_reason"]["cut_short"] == 1
    assert summary["accepted"] + summary["rejected"] == 200
    only = tmp_path / "clean"
    only.write_bytes(b"".join(clean))
    await until(db, written(only), eventually)
    assert await db.fetchval("select count(*) from dead_letters") == 0


async def test_a_share_behind_torn_bytes_is_stored_once_however_often_it_is_imported(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    whole = list(lines("torn", start_of(3), HOUR, 40))
    path, clean = tmp_path / "pool.sharelog", tmp_path / "clean"
    path.write_bytes(b"".join(one[:150] + other for one, other in zip(whole, whole, strict=True)))
    clean.write_bytes(b"".join(whole))
    for _ in range(2):
        summary = imports.run(path)
        assert (summary["recovered"], summary["skipped"], summary["unsent"]) == (40, 0, 0)
    await until(db, written(clean), eventually)
    assert (await books(db))["missing"] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nothing\nof\nours\n", "3 lines, and none of them is a share"),
        (b"\n", "1 line, and none of them is a share"),
        (bz2.compress(b"x"), "bzip2"),
        (b"\xff\xfe{\0", "UTF-16"),
    ],
)
def test_a_file_without_a_share_is_named_and_no_success(
    imports: Imports, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "pool.sharelog"
    path.write_bytes(content)
    process = imports.start(tmp_path)
    assert process.wait() == 1
    assert said in process.output
    path.write_bytes(b"")  # ckpool has just begun it
    assert imports.start(tmp_path).wait() == 0


async def test_a_share_from_the_future_is_a_dead_letter_and_no_hole(
    imports: Imports, tmp_path: Path, db: asyncpg.Connection, eventually: Eventually
) -> None:
    path = tmp_path / "pool.sharelog"
    path.write_bytes(b"".join(lines("future", start_of(-48), 60, 7)))
    summary = imports.run(path)

    async def are_dead_letters() -> bool:
        count = await db.fetchval("select count(*) from dead_letters where reason = 'bad_envelope'")
        return bool(count == summary["events"])

    await eventually(are_dead_letters, seconds=LIMIT)
    assert (await books(db))["missing"] == 0
    # What the import says of its own numbers is refused with none of them.
    assert set(await db.fetchval("select array_agg(ending) from engine_endings")) == {"ended"}


def test_a_folder_without_logs_and_a_stack_that_is_away_are_named(
    imports: Imports, tmp_path: Path
) -> None:
    (tmp_path / "ckpool.log").write_text("not one\n")
    process = imports.start(tmp_path)
    assert process.wait() == 1
    assert 'has "sharelog" in its name' in process.errors

    imports.environment["DATABASE_URL"] = "postgresql://tbg:secret@127.0.0.1:1/tbg"
    process = imports.start(tmp_path)
    assert process.wait() == 1
    assert "does not answer" in process.errors
    assert "secret" not in process.errors


def test_a_wrong_retention_is_named(imports: Imports, tmp_path: Path) -> None:
    path = tmp_path / "some.sharelog"
    path.write_bytes(b"".join(lines("some", start_of(1), HOUR, 1)))
    imports.environment["RETENTION_DAYS"] = "soon"
    process = imports.start(path)
    assert process.wait() == 1
    assert process.errors.startswith("Error: ")
    assert "RETENTION_DAYS" in process.errors
