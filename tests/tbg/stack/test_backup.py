"""tbg backup and tbg restore: what is restored is what was there, or nothing is."""

import gzip
import io
import itertools
import json
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from tbg.stack.backup_file import HEAD, SUMS, BackupError, Writer, unpack
from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from tbg.stack.restore import restore
from tbg.stack.state import State
from tbg.stack.supervisor import stop_leftovers
from tests.processes import ROOT, wait_until
from tests.tbg.command import Up, tbg

DATA_SIDE = ["--no-node", "--no-dagster", "--no-serve", "--free-ports", "--every", "0.5"]
SHARE = json.loads((ROOT / "tests/events/share_submitted.json").read_text())
LEDGER = "select * from ledger_hours order by instance, hour"
NUMBERS = "select seq from shares order by seq"


def reached(state: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(tbg("env", "--state", str(state), "--json").stdout)
    return found


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def contents(state: State) -> tuple[list[Any], list[Any], list[Any]]:
    """Numbers, ledger and entries of a stack that has stopped."""
    secrets = state.secrets()
    postgres = EmbeddedPostgres(state.path / "postgres", free_port(), secrets.postgres)
    valkey = EmbeddedValkey(state.path / "valkey", free_port(), secrets.redis)
    try:
        postgres.start()
        url = postgres.url_of("tbg", "tbg", secrets.database)
        valkey.start()
        with redis.Redis.from_url(valkey.url) as client:
            entries = client.xrange("mining:share_submitted")
        return rows(url, NUMBERS), rows(url, LEDGER), entries
    finally:
        valkey.stop()
        postgres.stop()


class Engine:
    """Numbers shares and sends them, until it is told to end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ends = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for seq in itertools.count(1):
                event = SHARE | {
                    "timestamp": time.time_ns() // 1000,
                    "instance": "test/1",
                    "seq": seq,
                }
                sender.sendto(json.dumps(event).encode(), self._path)
                self.sent = seq
                if self._ends.wait(0.002):
                    return

    def end(self) -> int:
        self._ends.set()
        self._thread.join()
        return self.sent


@pytest.fixture(scope="module")
def folder(_servers_folder: Path) -> Iterator[Path]:
    found = _servers_folder / "backup"
    found.mkdir(mode=0o755)
    yield found
    for state in found.iterdir():
        if state.is_dir():
            stop_leftovers(State(state))
            shutil.rmtree(State(state).runtime, ignore_errors=True)


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Callable[[str], Up]]:
    started: list[Up] = []

    def start(name: str) -> Up:
        started.append(Up(folder / name, folder / f"{name}.log", DATA_SIDE))
        return started[-1].start().wait_until_up()

    yield start
    for one in started:
        one.kill()


@pytest.mark.timeout(900)
def test_a_backup_of_a_stack_that_runs_and_of_one_that_has_stopped_is_the_stack(
    folder: Path, up: Callable[[str], Up]
) -> None:
    first = up("first")
    state = folder / "first"
    urls = reached(state)
    engine = Engine(urls["SOCKET_PATH"])
    try:
        wait_until(lambda: rows(urls["DATABASE_URL"], NUMBERS), "a first share")
        before = len(rows(urls["DATABASE_URL"], NUMBERS))
        running = folder / "running.tar.gz"
        done = tbg("backup", str(running), "--state", str(state))
        assert done.returncode == 0, done.stderr
    finally:
        sent = engine.end()
    wait_until(lambda: len(rows(urls["DATABASE_URL"], NUMBERS)) == sent, "every share")

    refused = tbg("restore", str(running), "--state", str(state))
    assert refused.returncode == 1
    assert "a stack is running" in refused.stderr
    again = tbg("backup", str(running), "--state", str(state))
    assert again.returncode == 1
    assert "is there already" in again.stderr

    assert first.end() == 0, first.output
    held_by_first = contents(State(state))
    stopped = folder / "stopped.tar.gz"
    done = tbg("backup", str(stopped), "--state", str(state))
    assert done.returncode == 0, done.stderr

    # What had stopped is the same, row by row and entry by entry.
    second = State(folder / "second")
    restore(stopped, second)
    assert contents(second) == held_by_first
    assert [seq for (seq,) in held_by_first[0]] == list(range(1, sent + 1))

    # What ran has every number up to a moment of the backup, once; those after it are not known.
    assert tbg("restore", str(running), "--state", str(folder / "third")).returncode == 0
    third = up("third")
    url = reached(folder / "third")["DATABASE_URL"]
    with redis.Redis.from_url(reached(folder / "third")["REDIS_URL"]) as client:
        held = client.xlen("mining:share_submitted")
    wait_until(lambda: len(rows(url, NUMBERS)) >= held, "what the streams held")
    numbers = [seq for (seq,) in rows(url, NUMBERS)]
    assert before <= len(numbers) <= sent
    assert numbers == list(range(1, len(numbers) + 1))
    audit = tbg("ledger", "--audit", "--state", str(folder / "third"))
    assert audit.returncode == 0, audit.stdout
    assert third.end() == 0, third.output


def packed(path: Path, *names: str) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, {"postgresql": 16, "made": "2026-11-30T12:00:00+00:00"})
        writer.folder("postgres")
        for name in ("secrets.json", *names):
            writer.file(name, io.BytesIO(b"12345"), 5)
        writer.finish()
    return path


def refused(path: Path, folder: Path, why: str) -> None:
    target = folder / "target"
    with pytest.raises(BackupError, match=why):
        restore(path, State(target))
    assert not target.exists()
    assert not list(folder.glob(".target*"))


@pytest.mark.parametrize(
    "name",
    ["../outside", "/outside", "postgres/../../outside", "logs/x", "x", "secrets.json/x", "."],
)
def test_a_member_that_would_lie_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    refused(packed(tmp_path / "file", name), tmp_path, "which no backup of tbg has: refused")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_a_member_that_is_no_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "file", "w:gz") as tar:
        with tarfile.open(packed(tmp_path / "good")) as good:
            head = good.next()
            assert head is not None
            tar.addfile(head, good.extractfile(head))
        link = tarfile.TarInfo("postgres")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    refused(tmp_path / "file", tmp_path, "'postgres', which no backup of tbg has: refused")


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    refused(packed(tmp_path / "file", "secrets.json"), tmp_path, "twice")


def test_what_was_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    tar = gzip.decompress(packed(tmp_path / "whole").read_bytes())
    [at] = [place for place in range(0, len(tar), 512) if tar[place:].startswith(SUMS.encode())]
    for size in [*range(0, at, 256), at]:
        (tmp_path / "cut").write_bytes(gzip.compress(tar[:size]))
        with pytest.raises(BackupError, match=r"cut short|damaged|no backup"):
            unpack(tmp_path / "cut", None)
    refused(tmp_path / "cut", tmp_path, "cut short: it has no SHA256SUMS")


@pytest.mark.parametrize("part", [b"12345", b"2026-11-30T12"])
def test_a_byte_that_has_changed_is_found_and_its_file_named(part: bytes, tmp_path: Path) -> None:
    tar = gzip.decompress(packed(tmp_path / "good").read_bytes())
    (tmp_path / "file").write_bytes(gzip.compress(tar.replace(part, b"1" + part[:-1], 1)))
    name = "secrets.json" if part == b"12345" else HEAD
    refused(tmp_path / "file", tmp_path, f"damaged: '{name}' is not what was put into it")


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    refused(tmp_path / "file", tmp_path, f"{tmp_path / 'file'} is damaged or no backup of tbg")
    with tarfile.open(tmp_path / "file", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("secrets.json"))
    refused(tmp_path / "file", tmp_path, "is no backup of tbg: it does not begin with")
    with tarfile.open(tmp_path / "file", "w:gz") as tar:
        entry = tarfile.TarInfo(HEAD)
        entry.size = 12
        tar.addfile(entry, io.BytesIO(b'{"format":2}'))
    refused(tmp_path / "file", tmp_path, "format 2, and this version reads 1")
    refused(packed(tmp_path / "file"), tmp_path, "has no database")


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "mine").write_text("kept")
    with pytest.raises(BackupError, match="is not empty"):
        restore(packed(tmp_path / "file"), State(tmp_path / "state"))
    assert (tmp_path / "state" / "mine").read_text() == "kept"


def test_there_is_nothing_to_back_up_before_a_first_start(tmp_path: Path) -> None:
    done = tbg("backup", str(tmp_path / "file"), "--state", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "no stack was ever started" in done.stderr
    assert not (tmp_path / "file").exists()
