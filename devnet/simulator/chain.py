"""The blockchain that the fleet mines on: its tip, and the work handed out on top of it."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Final

import numpy as np

from devnet.bitcoin.subsidy import block_subsidy
from devnet.simulator.fleet import Fleet
from devnet.simulator.proof import forge_hashes
from devnet.simulator.scenario import SECOND, Scenario

GENESIS: Final = 1_231_006_505  # the genesis block, seconds since the epoch
WORK_EVERY: Final = 30  # seconds, ckpool's update_interval
SIGNATURE: Final = "/TheBitcoinGame/"


class Chain:
    """Tip, network difficulty, and the blocks that others find.

    The height is what Bitcoin would have at the start, a block every ten minutes from the
    genesis block on, so that a later run continues above an earlier one.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        self._seed = f"{scenario.seed}/{scenario.start}/chain"
        self._random = Random(self._seed)  # noqa: S311 - a simulation wants it repeatable
        self._mean = scenario.network_every
        self._next = self._random.expovariate(1 / self._mean)
        work = fleet.work_per_second * scenario.availability
        self.network_difficulty = float(f"{work * scenario.block_every:.12g}")
        self.height = max(0, (scenario.start // SECOND - GENESIS) // 600)
        self.prev_hash = self.forge_hash(-1)
        self.hash = self.forge_hash(0)

    def forge_hash(self, number: int) -> str:
        """A hash that meets the network difficulty, another one for every number."""
        digest = sha256(f"{self._seed}/{number}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        best = np.array([self.network_difficulty / (1.0 - rng.random())])
        return forge_hashes(best, rng).tobytes().hex()

    def foreign_blocks(self, end: float) -> list[float]:
        """When others find blocks before ``end``, in seconds; each is returned once."""
        times = []
        while self._next < end:
            times.append(self._next)
            self._next += self._random.expovariate(1 / self._mean)
        return times

    def extend(self, block_hash: str) -> None:
        """A block is the new tip."""
        self.height += 1
        self.prev_hash, self.hash = self.hash, block_hash

    def draw_reward(self) -> tuple[int, int]:
        """The coinbase value of the next block and the fees in it, in satoshis."""
        fees = int(self._random.lognormvariate(15.5, 0.6))  # about 0.05 BTC
        return block_subsidy(self.height + 1) + fees, fees
