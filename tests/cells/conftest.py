from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tbg.stack.embedded import EmbeddedValkey, free_port, new_password
from tests.cells.cluster import NODES, Cluster
from tests.conftest import started


def _node(folder: Path, password: str, settings: dict[str, str], port: int) -> EmbeddedValkey:
    return EmbeddedValkey(folder, port, password, settings)


@pytest.fixture
def valkey_node(server_folder: Path) -> Iterator[Callable[..., EmbeddedValkey]]:
    """Starts servers with one password, so that they may be replicas of each other."""
    servers: list[EmbeddedValkey] = []
    password = new_password()

    def start(**settings: str) -> EmbeddedValkey:
        settings = {"masterauth": password, "repl-diskless-sync-delay": "0", **settings}
        folder = server_folder / f"node-{len(servers)}"
        servers.append(started(partial(_node, folder, password, settings)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def valkey_cluster(valkey_node: Callable[..., EmbeddedValkey]) -> Callable[[], Cluster]:
    """Starts a cluster of the test's own, any of whose servers it may kill."""

    def start() -> Cluster:
        return Cluster(
            [
                valkey_node(
                    **{
                        "cluster-enabled": "yes",
                        "cluster-port": str(free_port()),
                        "cluster-node-timeout": "5000",
                        "cluster-replica-validity-factor": "0",
                    }
                )
                for _ in range(NODES)
            ]
        )

    return start
