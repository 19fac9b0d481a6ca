"""``python -m ingest``: both stages under one process, and how it ends."""

import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio as redis_async

from tbg_core.names import stream_of
from tests.ingest.harness import OWN, READY, packed, sending, stage, stage_environment
from tests.ingest.stops import DAEMONS, stops
from tests.processes import PYTHON, Process, running, until

SHARES = stream_of("share_submitted")
Daemon = Callable[..., Process]


@pytest.fixture
def daemon(tmp_path: Path, redis_url: str, database_url: str) -> Iterator[Daemon]:
    """Starts the daemon, both stages; its socket is ``tmp_path / "events.sock"``."""
    process = Process([PYTHON, "-m", "ingest"], tmp_path / "log")

    def start(**settings: str) -> Process:
        process.environment.update(stage_environment(tmp_path, redis_url, database_url, **settings))
        return process.start()

    try:
        yield start
    finally:
        process.kill()


async def ready(daemon: Process) -> None:
    """Waits until both stages are at work."""
    for words in READY.values():
        await daemon.saying(words)


def send_shares(folder: Path, count: int) -> None:
    with sending(folder / "events.sock") as sender:
        for seq in range(1, count + 1):
            sender.send(packed("share_submitted", instance="e/1", seq=seq))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_commits_what_was_received_and_exits_0(
    tmp_path: Path, daemon: Daemon, db: asyncpg.Connection, number: signal.Signals
) -> None:
    process = daemon()
    await ready(process)
    send_shares(tmp_path, 1000)
    # To the whole group, as Ctrl-C in a terminal does.
    os.killpg(process.pid, number)
    assert await process.ended() == 0, process.output
    assert process.output.count("stopped") == 3  # each stage, and both together
    assert await db.fetchval("select count(*) from shares") == 1000


async def test_a_writer_that_is_not_ready_when_it_is_stopped_commits_what_was_received(
    tmp_path: Path, daemon: Daemon, db: asyncpg.Connection
) -> None:
    process = daemon()
    await until((tmp_path / "events.sock").exists)
    send_shares(tmp_path, 1000)
    process.send(signal.SIGTERM)
    assert await process.ended() == 0, process.output
    assert await db.fetchval("select count(*) from shares") == 1000


def test_a_daemon_that_is_stopped_at_any_moment_ends_with_0_and_leaves_nothing(
    redis_url: str, database_url: str
) -> None:
    seed = secrets.token_hex(4)
    for one in stops(3 * len(DAEMONS), seed, redis_url, database_url):
        assert (one.code, one.left) == (0, 0), (seed, one)
        assert "stopped" in one.output, (seed, one)


@pytest.mark.parametrize("words", DAEMONS)
def test_a_daemon_that_is_asked_to_stop_before_it_is_ready_says_so(
    tmp_path: Path, redis_url: str, database_url: str, words: tuple[str, ...]
) -> None:
    environment = stage_environment(tmp_path, redis_url, database_url)
    # The signal is there before Python is.
    command = ["sh", "-c", 'kill -TERM $$; exec "$0" "$@"', PYTHON, "-m", "ingest", *words]
    with running(command, tmp_path / "log", environment, held=True) as process:
        assert process.wait() == 0
        assert "asked to stop before it was ready" in process.output
        assert "stopped" in process.output
    assert not (tmp_path / "events.sock").exists()


async def test_stages_whose_parent_was_killed_hand_on_what_they_have_and_end(
    tmp_path: Path, daemon: Daemon, redis: redis_async.Redis
) -> None:
    process = daemon()
    await ready(process)
    send_shares(tmp_path, 1000)
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not process.family(), "no stage is left")
    assert process.output.count("stopped") == 2
    assert await redis.xlen(SHARES) == 1000


async def test_stages_whose_parent_was_killed_before_they_were_ready_end(
    tmp_path: Path, daemon: Daemon
) -> None:
    process = daemon()
    await until(lambda: len(process.family()) == 3, "both stages have begun")
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not process.family(), "no stage is left")
    assert process.output.count("stopped") == 2
    assert not (tmp_path / "events.sock").exists()


async def test_when_a_stage_dies_the_other_is_stopped_and_the_exit_code_tells(
    daemon: Daemon,
) -> None:
    process = daemon()
    await ready(process)
    stages = psutil.Process(process.pid).children()
    assert len(stages) == 2
    next(stage for stage in stages if "writer" in stage.cmdline()).kill()
    assert await process.ended() == 128 + signal.SIGKILL
    assert not process.family()
    assert "a stage ended by itself" in process.output


async def test_a_second_signal_ends_everything_at_once(daemon: Daemon) -> None:
    process = daemon()
    await ready(process)
    process.freeze()  # both signals are there when it wakes
    process.send(signal.SIGTERM)
    process.send(signal.SIGINT)
    process.send(signal.SIGCONT)
    assert await process.ended() == 130
    assert "a second signal" in process.output
    assert not process.family()


async def test_a_writer_is_told_though_the_receiver_does_not_end(daemon: Daemon) -> None:
    process = daemon()
    await ready(process)
    stages = psutil.Process(process.pid).children()
    receiver = next(stage for stage in stages if "receiver" in stage.cmdline())
    receiver.suspend()
    process.send(signal.SIGTERM)
    await process.saying("stopped")
    await until(lambda: len(process.family()) == 2, "the writer has ended")
    receiver.resume()
    assert await process.ended() == 0


async def test_a_writer_that_is_stopped_while_it_waits_for_the_database_says_so(
    tmp_path: Path, redis_url: str
) -> None:
    nobody = "postgresql://tbg@127.0.0.1:1/tbg"
    async with stage("writer", tmp_path, redis_url, nobody, ready="cannot commit") as writer:
        assert await writer.stop() == 0
        assert "stopped; what was not committed waits in Redis" in writer.log.read_text()


async def test_a_writer_ends_though_the_database_never_answers(
    tmp_path: Path, redis_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://tbg@127.0.0.1:{silent.getsockname()[1]}/tbg"
        environment = stage_environment(tmp_path, redis_url, url)
        command = [PYTHON, "-m", "ingest", "writer"]
        with running(command, tmp_path / "log", environment, held=True) as writer:
            client, _ = silent.accept()  # it has asked
            assert writer.end() == 0
            assert "stopped while a server did not answer" in writer.output
            client.close()


async def test_a_silent_client_of_the_metrics_delays_neither_others_nor_the_end(
    tmp_path: Path, redis_url: str
) -> None:
    async with stage("receiver", tmp_path, redis_url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port)):
            assert receiver.get("/healthz") == (200, "alive\n")
            assert await receiver.stop() == 0


def test_wrong_settings_end_it_with_every_name(tmp_path: Path) -> None:
    wrong = {"REDIS_URL": "nonsense", "DATABASE_URL": None}
    with running([PYTHON, "-m", "ingest", "writer"], tmp_path / "log", wrong) as daemon:
        assert daemon.wait() == 1
        assert "REDIS_URL: must start with redis://" in daemon.output
        assert "DATABASE_URL is not set" in daemon.output
