"""The receiver when something takes away what it stands on: itself, a stream, its disk, its socket."""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_async

from devnet.emitter import KEPT, Emitter
from ingest.counts import Tally, parse_report
from ingest.receiver.delivery import REFUSED, Delivery
from ingest.receiver.publisher import Outcome, Publisher
from ingest.receiver.spool import Spool
from ingest.settings import ReceiverSettings
from tbg.stack.embedded import EmbeddedValkey
from tbg_core.entry import Batch
from tbg_core.names import LEDGER_STREAM, stream_of
from tests.faults.proxy import Proxy
from tests.ingest.harness import OWN, entries, golden, packed, sending, stage
from tests.processes import LIMIT, PYTHON, running

Eventually = Callable[..., Awaitable[Any]]
SHARES, BLOCKS = stream_of("share_submitted"), stream_of("block_found")


async def sequence(client: redis_async.Redis, stream: str = SHARES) -> list[int]:
    return [int(fields[b"seq"] or 0) for fields in await entries(client, stream)]


async def test_kills_while_it_catches_up_lose_nothing_that_an_engine_resends(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    emitted = 20_000
    data = golden("share_submitted")["data"]
    proxy = await Proxy(int(redis_url.rpartition(":")[2].partition("/")[0])).start()
    proxy.delay = 0.01  # a slow Redis: there is always something in memory and in flight
    async with Emitter(tmp_path / "events.sock", "storm") as engine:
        for _ in range(emitted):
            engine.emit("share_submitted", data)
        async with stage(
            "receiver", tmp_path, proxy.url(redis_url), MEMORY_EVENTS="100000"
        ) as receiver:
            for published in (500, 3000, 8000, 12_000):

                async def caught_up(published: int = published) -> bool:
                    return bool(await redis.xlen(SHARES) >= published)

                await eventually(caught_up)
                await receiver.kill()
                await receiver.start()
            proxy.delay = 0.0

            async def all_there() -> bool:
                return len(set(await sequence(redis))) == emitted

            await eventually(all_there)
        assert engine.resent > 0
    assert await sequence(redis) == list(range(1, emitted + 1))
    await proxy.close()


async def test_while_redis_does_not_answer_no_more_is_taken_than_can_be_given_back(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], eventually: Eventually
) -> None:
    server = valkey_server()
    data = golden("share_submitted")["data"]
    client = redis_async.Redis.from_url(server.url)
    async with (
        stage(
            "receiver", tmp_path, server.url, RECEIVER_METRICS_PORT=OWN, REDIS_TIMEOUT="600"
        ) as receiver,
        Emitter(tmp_path / "events.sock", "patient") as engine,
    ):
        engine.emit("share_submitted", data)
        await eventually(lambda: receiver.metric("tbg_published_total") == 1)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(9000):
            engine.emit("share_submitted", data)
        await asyncio.sleep(1)
        assert engine.sent <= KEPT
        await receiver.kill()
        server.process.send_signal(signal.SIGCONT)
        await receiver.start()

        async def all_there() -> bool:
            return bool(await client.xlen(SHARES) >= 9001)

        await eventually(all_there)
        assert await sequence(client) == list(range(1, 9002))
    await client.aclose()


async def test_a_stream_that_refuses_holds_up_no_other_and_gets_its_entries_later(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    await redis.set(BLOCKS, "x")
    async with stage("receiver", tmp_path, redis_url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 201):
                kind = "block_found" if seq % 4 == 0 else "share_submitted"
                sender.send(packed(kind, instance="e/1", seq=seq))
            sender.send(packed("block_found"))

            async def shares_there() -> bool:
                return bool(await redis.xlen(SHARES) == 150)

            await eventually(shares_there)
            await eventually(lambda: "WRONGTYPE" in receiver.get("/readyz")[1])
            assert receiver.metric("tbg_published_total") == 150
            assert receiver.metric("tbg_dropped_total") == 0
            assert "a stream refuses its entries" in receiver.log.read_text()
        await receiver.kill()
        await receiver.start()
        await redis.delete(BLOCKS)

        async def blocks_there() -> bool:
            return bool(await redis.xlen(BLOCKS) == 51)

        await eventually(blocks_there)
        assert await sequence(redis, BLOCKS) == [*range(4, 201, 4), 0]
        await eventually(lambda: "WRONGTYPE" not in receiver.get("/readyz")[1])
        assert not list((tmp_path / "spool" / REFUSED).glob("*.spool"))
    assert await redis.xlen(SHARES) == 150


async def test_damage_in_the_spool_costs_a_record_and_its_numbers_reach_the_ledger(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], eventually: Eventually
) -> None:
    server = valkey_server()
    server.stop()
    async with stage("receiver", tmp_path, server.url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            # At least a record for each hundred: a receiver that lags makes one of all it finds,
            # and keeps the first in memory.
            for last in range(100, 2001, 100):
                for seq in range(last - 99, last + 1):
                    sender.send(packed("share_submitted", instance="e/1", seq=seq))
                await eventually(lambda last=last: receiver.metric("tbg_spooled_total") == last)
        file = next((tmp_path / "spool").glob("*.spool"))
        with file.open("r+b") as opened:
            opened.seek(file.stat().st_size // 2)
            byte = opened.read(1)
            opened.seek(-1, os.SEEK_CUR)
            opened.write(bytes([byte[0] ^ 1]))
        server.start()
        client = redis_async.Redis.from_url(server.url)

        async def drained() -> bool:
            dropped = receiver.metric("tbg_dropped_total")
            return bool(dropped + await client.xlen(SHARES) == 2000)

        await eventually(drained)
        lost = set(range(1, 2001)) - set(await sequence(client))
        assert 0 < len(lost) <= 100
        assert receiver.metric("tbg_dropped_total") == len(lost)
        await eventually(lambda: receiver.metric("tbg_spool_bytes") == 0)

        async def reported() -> bool:
            found: set[int] = set()
            for entry in await entries(client, LEDGER_STREAM):
                for instance, cause, spans in parse_report(entry[b"report"]).dropped:
                    assert (instance, cause) == ("e/1", "spool/damaged")
                    found.update(*(range(*span) for span in spans))
            return found == lost

        await eventually(reported)
        await client.aclose()


async def test_a_spool_folder_that_is_removed_ends_nothing(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], eventually: Eventually
) -> None:
    server = valkey_server()
    server.stop()
    async with stage("receiver", tmp_path, server.url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            for first in (1, 501):
                for seq in range(first, first + 500):
                    sender.send(packed("share_submitted", instance="e/1", seq=seq))
                await eventually(
                    lambda first=first: receiver.metric("tbg_spooled_total") == first + 499
                )
                shutil.rmtree(tmp_path / "spool")
            server.start()
            client = redis_async.Redis.from_url(server.url)

            async def all_there() -> bool:
                return bool(await client.xlen(SHARES) == 1000)

            await eventually(all_there)
            assert await sequence(client) == list(range(1, 1001))
            await client.aclose()


async def test_a_disk_that_takes_nothing_from_the_start_leaves_the_way_to_redis(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    # No file may be made or grow: as on a disk that is read-only or full. Its log is a pipe.
    code = (
        "import os, errno\n"
        "def no(*a, **k): raise OSError(errno.EROFS, os.strerror(errno.EROFS))\n"
        "real = os.mkdir\n"
        "os.mkdir = lambda p, *a, **k: no() if 'spool' in str(p) else real(p, *a, **k)\n"
        "from ingest.cli import ingest\n"
        "ingest(['receiver'])\n"
    )
    environment = {
        "SOCKET_PATH": str(tmp_path / "events.sock"),
        "SPOOL_DIR": str(tmp_path / "spool"),
        "REDIS_URL": redis_url,
        "RECEIVER_METRICS_PORT": "0",
    }
    with running([PYTHON, "-c", code], tmp_path / "log", environment) as receiver:
        await receiver.saying("listening")
        assert "no spool until the disk is better" in receiver.output
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 101):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))

            async def all_there() -> bool:
                return bool(await redis.xlen(SHARES) == 100)

            await eventually(all_there)
    assert not (tmp_path / "spool").exists()


async def test_a_log_that_takes_nothing_ends_nothing(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    # /dev/full is a full disk for everybody who writes to it.
    shell = f'exec "{PYTHON}" -m ingest receiver 2>/dev/full'
    environment = {
        "SOCKET_PATH": str(tmp_path / "events.sock"),
        "SPOOL_DIR": str(tmp_path / "spool"),
        "REDIS_URL": redis_url,
        "RECEIVER_METRICS_PORT": "0",
        "LOG_LEVEL": "DEBUG",
    }
    with running(["/bin/sh", "-c", shell], tmp_path / "log", environment) as receiver:
        await eventually((tmp_path / "events.sock").exists)
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 101):
                sender.send(packed("share_submitted", instance="e/1", seq=seq))
            sender.send(b"nonsense")

            async def all_there() -> bool:
                return bool(await redis.xlen(SHARES) == 100)

            await eventually(all_there)
        assert receiver.returncode is None


async def test_the_sockets_file_is_made_again_when_it_is_removed(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis, eventually: Eventually
) -> None:
    path = tmp_path / "events.sock"
    async with stage("receiver", tmp_path, redis_url, RECEIVER_METRICS_PORT=OWN) as receiver:
        with sending(path) as old:
            path.unlink()
            old.send(packed("share_submitted", instance="e/1", seq=1))
            # It is there before its permissions are: until then nobody may write.
            await eventually(lambda: path.exists() and stat.S_IMODE(path.stat().st_mode) == 0o660)
            with sending(path) as new:
                new.send(packed("share_submitted", instance="e/1", seq=2))
                old.send(packed("share_submitted", instance="e/1", seq=3))

                async def all_there() -> bool:
                    return bool(await redis.xlen(SHARES) == 3)

                await eventually(all_there)
        assert "bound again" in receiver.log.read_text()
        path.unlink()
        path.mkdir()
        await eventually(lambda: receiver.get("/readyz")[0] == 503)
        assert "is no socket" in receiver.get("/readyz")[1]
        path.rmdir()
        await eventually(lambda: receiver.get("/readyz")[0] == 200)
        assert await receiver.stop() == 0


async def test_two_receivers_in_one_folder_have_a_spool_each(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    eventually: Eventually,
) -> None:
    server = valkey_server()
    server.stop()
    async with contextlib.AsyncExitStack() as stack:
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            environment = {
                "SOCKET_PATH": str(folder / "events.sock"),
                "REDIS_URL": server.url,
                "RECEIVER_METRICS_PORT": "0",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            }
            one = stack.enter_context(
                running(
                    [PYTHON, "-m", "ingest", "receiver"],
                    folder / "log",
                    environment,
                    cwd=tmp_path,
                )
            )
            await one.saying("listening")
            with sending(folder / "events.sock") as sender:
                for seq in range(1, 301):
                    sender.send(packed("share_submitted", instance=f"{name}/1", seq=seq))
        assert len(list((tmp_path / "spool").iterdir())) == 2
        server.start()
        client = redis_async.Redis.from_url(server.url)

        async def all_there() -> bool:
            return bool(await client.xlen(SHARES) == 600)

        await eventually(all_there)
        await client.aclose()


async def test_a_second_receiver_on_a_spool_is_refused_and_says_what_to_do(
    tmp_path: Path, redis_url: str
) -> None:
    async with stage("receiver", tmp_path, redis_url) as first:
        environment = {**first.environment, "SOCKET_PATH": str(tmp_path / "other.sock")}
        command = [PYTHON, "-m", "ingest", "receiver"]
        with running(command, tmp_path / "second.log", environment) as second:
            assert await second.ended() == 1
            assert "give each receiver its own folder with SPOOL_DIR" in second.output
        assert not (tmp_path / "other.sock").exists()


@pytest.mark.parametrize(
    ("one", "other"),
    [("/run/a/b.sock", "/run/a-b.sock"), ("/run/a.sock", "/run/b.sock"), ("a%2D", "a-")],
)
def test_the_default_spool_is_named_after_the_socket(one: str, other: str) -> None:
    def spool(path: str) -> Path:
        return ReceiverSettings.load(socket_path=path, redis_url="redis://x").spool

    assert spool("/run/ckpool/events.sock") == Path("spool/run-ckpool-events.sock")
    assert spool(one) != spool(other)
    assert spool(one).parent == Path("spool")
    own = ReceiverSettings.load(spool_dir="/var/x", redis_url="redis://x").spool
    assert own == Path("/var/x")


async def test_a_stop_ends_the_draining_also_where_a_cancellation_is_forgotten(
    tmp_path: Path, redis_url: str, redis: redis_async.Redis
) -> None:
    began = asyncio.Event()

    class Forgetful(Publisher):
        """As a client that is done in the moment of the cancellation, before Python 3.12."""

        async def publish(self, batch: Batch) -> Outcome:
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(LIMIT)
            return await super().publish(batch)

    spool = Spool(tmp_path / "spool", 2**20)
    for name in "12":
        values = [b"share_submitted", b"1", b"hosted", b"", b"", b"{}"]
        spool.append(Batch("mark", name, {SHARES: values}, 1))
    delivery = Delivery(Forgetful(redis_url, 5.0), spool, Tally())
    draining = asyncio.create_task(delivery.drain())
    await began.wait()
    delivery.end()
    draining.cancel()
    done, _ = await asyncio.wait({draining}, timeout=LIMIT / 2)
    assert done
    assert await redis.xlen(SHARES) == 1
    assert not spool.empty
    await delivery.close()
