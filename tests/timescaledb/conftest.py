"""Every test here has a migrated TimescaleDB, one connection, and Dagster in process.

The tests of the batch side run here once more (``from tests.tbg_dagster... import *``):
they find these fixtures instead of those beside them.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tbg_core.flavour import Flavour
from tbg_dagster.resources import Database
from tests.tbg_dagster.conftest import client, clock, history, instance, resources, run
from tests.timescaledb.server import Connection, apply, connecting, empty, serving

__all__ = ["client", "clock", "history", "instance", "resources", "run"]


@pytest.fixture(scope="session")
def _server() -> Iterator[str]:
    with serving() as url, connecting(url) as connection:
        connection.execute("create extension timescaledb")
        connection.close()
        yield url


@pytest.fixture
def flavour() -> Flavour:
    """What these tests run on."""
    return "timescaledb"


@pytest.fixture
def connection(_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """The connection to a migrated, empty database; Dagster's resource hands out the same."""
    with connecting(_server) as opened:
        empty(opened)
        apply(opened, "timescaledb")

        turn = threading.RLock()  # threads share it, and a transaction is one thread's

        @contextlib.contextmanager
        def same(_self: Database) -> Iterator[Connection]:
            with turn:
                yield opened

        monkeypatch.setattr(Database, "connect", same)
        yield opened


@pytest.fixture
def database_url(_server: str, connection: Any) -> str:
    """Names the database, which ``connection`` occupies."""
    return _server
