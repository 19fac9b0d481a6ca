"""`tbg serve` reads a cluster: what happens in its cells, and what the whole pool shares."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import redis.asyncio as redis_async

from tbg_core.names import BLOCK_STATUS_STREAM, in_cell, stream_of
from tests.cells.cluster import Cluster
from tests.tbg_serve.harness import BOB, served
from tests.tbg_serve.test_events import add, listening


async def test_events_of_a_cluster_come_and_none_is_left_out_for_who_comes_back(
    valkey_cluster: Callable[[], Cluster], server_folder: Path, database_url: str
) -> None:
    cluster = await asyncio.to_thread(valkey_cluster)
    keys = [
        in_cell(stream_of("block_found"), "eu1"),
        in_cell(stream_of("share_best_diff"), "us1"),
        BLOCK_STATUS_STREAM,
    ]
    client = redis_async.RedisCluster.from_url(cluster.servers[0].url)
    with served(database_url, cluster.url, server_folder, SERVE_CELLS="eu1,us1") as server:
        async with listening(server) as one:
            for turn, key in enumerate(keys):
                await add(client, key, user=BOB, turn=turn)
            assert {(await one.next())[1]["turn"] for _ in keys} == {0, 1, 2}
            seen = one.last_id
        for turn, key in enumerate(keys):
            await add(client, key, user=BOB, turn=3 + turn)
        async with listening(server, last_id=seen) as back:
            turns: set[int] = set()
            while not turns >= {3, 4, 5}:  # the last seconds come again
                turns.add((await back.next())[1]["turn"])
    await client.aclose()
