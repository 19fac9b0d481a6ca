"""A cluster of real servers: three primaries, each with a replica."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import redis

from tbg.stack.embedded import EmbeddedValkey
from tests.processes import wait_until

PRIMARIES: Final = 3
NODES: Final = 2 * PRIMARIES
_SLOTS: Final = 16_384


class Cluster:
    """Servers that were started in cluster mode and know nothing of each other yet."""

    def __init__(self, servers: Sequence[EmbeddedValkey]) -> None:
        self.servers = list(servers)
        self.password = servers[0].password
        self._join()

    @property
    def url(self) -> str:
        """As REDIS_URL: any of them may be gone."""
        places = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis://:{self.password}@{places}/0"

    def client(self) -> Any:
        """A client of the whole cluster."""
        return redis.RedisCluster.from_url(self._alive().url)

    def _alive(self) -> EmbeddedValkey:
        return next(server for server in self.servers if server.process is not None)

    def owner(self, key: str) -> EmbeddedValkey:
        """The server that takes the writes of a key."""
        with self.client() as client:
            port = client.get_node_from_key(key).port
        return next(server for server in self.servers if server.port == port)

    def _join(self) -> None:
        primaries, replicas = self.servers[:PRIMARIES], self.servers[PRIMARIES:]
        clients = {server.port: redis.Redis.from_url(server.url) for server in self.servers}
        try:
            for place, server in enumerate(primaries):
                first, end = (_SLOTS * at // PRIMARIES for at in (place, place + 1))
                clients[server.port].execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                clients[server.port].execute_command("CLUSTER SET-CONFIG-EPOCH", place + 1)
            for server in self.servers[1:]:
                clients[self.servers[0].port].execute_command(
                    "CLUSTER MEET", "127.0.0.1", server.port, int(server.settings["cluster-port"])
                )
            for client in clients.values():
                wait_until(partial(_knows, client, NODES), "all nodes know each other")
            for primary, replica in zip(primaries, replicas, strict=True):
                name = clients[primary.port].execute_command("CLUSTER MYID")
                clients[replica.port].execute_command("CLUSTER REPLICATE", name)
            for primary in primaries:
                wait_until(partial(_is_safe, clients[primary.port]), "it has its replica")
        finally:
            for client in clients.values():
                client.close()


def _knows(client: "redis.Redis", nodes: int) -> bool:
    info: Any = client.execute_command("CLUSTER INFO")
    return int(info["cluster_known_nodes"]) == nodes and bool(info["cluster_state"] == "ok")


def _is_safe(client: "redis.Redis") -> bool:
    info: Any = client.info("replication")
    return bool(info["connected_slaves"] == 1 and info["slave0"]["state"] == "online")
