"""A history that has everything in it, decoded once for all tests that read it."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from devnet.simulator.fleet import Fleet, build_fleet
from devnet.simulator.journal import Batch
from devnet.simulator.scenario import Scenario
from devnet.simulator.traffic import simulate
from tbg_core.decode import Decoded, decode
from tbg_core.periods import SECOND, week_begins

PATIENCE = 120.0
"""Seconds; spent only if a test fails."""
MONDAY = week_begins(1_763_769_600 * SECOND)


@pytest.fixture(scope="session")
def busy() -> Scenario:
    """Two days on both sides of a Monday, with much of everything that happens."""
    return Scenario(
        seed=7,
        miners=200,
        start=MONDAY - 86_400 * SECOND,
        span=2 * 86_400.0,
        shares_per_minute=0.2,
        hashrate_every=3600.0,
        block_every=7200.0,
        rejects=0.05,
        session=6 * 3600.0,
        offline=600.0,
        vardiff=4 * 3600.0,
        nap_every=12 * 3600.0,
        leave_every=6 * 3600.0,
        restart_every=4 * 3600.0,
        step_every=3 * 3600.0,
    )


@pytest.fixture(scope="session")
def fleet(busy: Scenario) -> Fleet:
    return build_fleet(busy)


@pytest.fixture(scope="session")
def batches(busy: Scenario, fleet: Fleet) -> list[Batch]:
    return list(simulate(busy, fleet))


@pytest.fixture(scope="session")
def lines(batches: list[Batch]) -> list[bytes]:
    return list(chain.from_iterable(batch.datagrams() for batch in batches))


@pytest.fixture(scope="session")
def moments(batches: list[Batch]) -> list[int]:
    """When each event happened by the right clock."""
    return list(chain.from_iterable(batch.due.tolist() for batch in batches))


@pytest.fixture(scope="session")
def events(lines: list[bytes]) -> list[Decoded]:
    return [decode(line) for line in lines]


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Short enough for a Unix socket, which pytest's own folders may not be."""
    with TemporaryDirectory(prefix="tbg") as folder:
        yield Path(folder) / "events.sock"
