"""REDIS_URL finds the server that takes writes, or says why there is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync
from redis.exceptions import ReadOnlyError

from tbg.stack.embedded import EmbeddedValkey, free_port
from tbg.stack.embedded.valkey import binary
from tbg_core.names import ALERTS_STREAM, IDENTITY_KEY, in_cell, leaderboard_key
from tbg_core.outbox import add_once
from tbg_core.primary import connect_redis, connect_redis_async, find_primary
from tests.cells.cluster import Cluster
from tests.ingest.harness import packed, sending, stage
from tests.processes import running, until, wait_until

ValkeyNode = Callable[..., EmbeddedValkey]


def place(url: str) -> str:
    """Host and port of a URL."""
    return url.rpartition("@")[2].partition("/")[0]


def replica_of(primary: EmbeddedValkey, valkey_node: ValkeyNode) -> EmbeddedValkey:
    """A server that follows another one, and is up to date."""
    replica = valkey_node(replicaof=f"127.0.0.1 {primary.port}")
    with contextlib.closing(redis_sync.Redis.from_url(replica.url)) as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
    return replica


def test_one_server_is_its_own_primary(redis_url: str) -> None:
    assert find_primary(redis_url, IDENTITY_KEY) == (redis_url, False)


def test_of_several_servers_the_one_that_is_a_primary_is_taken(valkey_node: ValkeyNode) -> None:
    primary = valkey_node()
    replica = replica_of(primary, valkey_node)
    gone = free_port()
    hosts = f"127.0.0.1:{gone},127.0.0.1:{replica.port},127.0.0.1:{primary.port}"
    found = find_primary(f"redis://:{primary.password}@{hosts}/0", IDENTITY_KEY)
    assert (found.url, found.cluster) == (primary.url, False)
    with pytest.raises(ReadOnlyError, match=f"127.0.0.1:{replica.port} is a replica"):
        find_primary(f"redis://:{primary.password}@127.0.0.1:{gone},127.0.0.1:{replica.port}", "")


def test_a_key_of_a_cell_finds_its_node_of_a_cluster_and_goes_on_after_its_end(
    valkey_cluster: Callable[[], Cluster],
) -> None:
    cluster = valkey_cluster()
    key = in_cell(IDENTITY_KEY, "eu1")
    owner = cluster.owner(key)
    wait_until(lambda: place(find_primary(cluster.url, key).url) == f"127.0.0.1:{owner.port}")
    # What the whole pool shares lies on any node.
    with connect_redis(cluster.url, decode_responses=True) as client:
        first = add_once(client, ALERTS_STREAM, "one", "hosted", 1, {})
        assert add_once(client, ALERTS_STREAM, "one", "hosted", 1, {}) == first
        assert client.xlen(ALERTS_STREAM) == 1

    async def raise_best() -> None:
        everywhere = await connect_redis_async(cluster.url)
        for day in (1, 8, 15):
            await everywhere.zadd(leaderboard_key(date(2026, 6, day)), {"a": 1.0}, gt=True)
        await everywhere.aclose()

    asyncio.run(raise_best())
    owner.kill()

    def moved() -> bool:
        with contextlib.suppress(redis_sync.RedisError, OSError):
            url = find_primary(cluster.url, key, timeout=1).url
            with contextlib.closing(redis_sync.Redis.from_url(url)) as client:
                return bool(client.set(key, "there"))
        return False

    wait_until(moved, "another node takes the writes of the cell")


async def test_a_stage_without_a_cell_refuses_a_cluster_by_name_and_keeps_what_came(
    valkey_cluster: Callable[[], Cluster], server_folder: Path, database_url: str
) -> None:
    cluster = await asyncio.to_thread(valkey_cluster)
    async with (
        stage("writer", server_folder, cluster.url, database_url, ready="set CELL"),
        stage("receiver", server_folder, cluster.url, ready="set CELL") as receiver,
    ):
        with sending(server_folder / "events.sock") as sender:
            sender.send(packed("share_submitted", instance="pool/1", seq=1))
        await receiver.stop()
    async with stage("receiver", server_folder, cluster.url, CELL="eu1"):
        with cluster.client() as client:
            stream = in_cell("mining:share_submitted", "eu1")
            await until(lambda: client.xlen(stream) == 1)


@contextlib.asynccontextmanager
async def sentinel(folder: Path, primary: EmbeddedValkey) -> AsyncIterator[int]:
    """A Sentinel that watches a server under the name ``pool``; yields its port."""
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {folder}\n"
        f"sentinel monitor pool 127.0.0.1 {primary.port} 1\n"
        f"sentinel auth-pass pool {primary.password}\n"
        "sentinel down-after-milliseconds pool 3000\n"
        # A busy machine may look dead for a moment; the next try comes soon.
        "sentinel failover-timeout pool 3000\n"
    )
    words = [binary(), configuration, "--sentinel"]
    with running(words, folder / "sentinel.log") as process:
        await process.saying("+monitor master")
        with contextlib.closing(redis_sync.Redis(port=port)) as client:
            await until(lambda: _slaves(client) == 1, "Sentinel knows the replica")
        yield port


def _has(server: EmbeddedValkey, entries: int) -> bool:
    """False too while the server cuts its connections to become the primary."""
    with (
        contextlib.suppress(redis_sync.ConnectionError),
        contextlib.closing(redis_sync.Redis.from_url(server.url)) as client,
    ):
        return client.xlen("mining:share_submitted") == entries
    return False


def _slaves(client: "redis_sync.Redis") -> int:
    told: Any = client.sentinel_master("pool")
    return int(told["num-slaves"])


async def test_events_go_on_to_the_primary_that_sentinel_names(
    valkey_node: ValkeyNode, server_folder: Path
) -> None:
    primary = await asyncio.to_thread(valkey_node)
    replica = await asyncio.to_thread(replica_of, primary, valkey_node)
    async with sentinel(server_folder, primary) as port:
        url = f"redis+sentinel://:{primary.password}@127.0.0.1:{port}/pool"
        settings = {"REDIS_CONFIRM": "replica", "REDIS_TIMEOUT": "1"}
        async with stage("receiver", server_folder, url, **settings):
            with sending(server_folder / "events.sock") as sender:
                sender.send(packed("share_submitted", instance="pool/1", seq=1))
                for server in (primary, replica):
                    await until(partial(_has, server, 1), "both servers have the first event")
                named = find_primary(f"{url}/0", IDENTITY_KEY).url
                first, other = (primary, replica) if named == primary.url else (replica, primary)
                await asyncio.to_thread(first.kill)
                sender.send(packed("share_submitted", instance="pool/1", seq=2))
                await until(partial(_has, other, 2), "the new primary has the second one")
