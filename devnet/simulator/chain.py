"""The blockchain that the fleet mines on."""

from hashlib import sha256
from random import Random
from typing import Final

import numpy as np

from devnet.bitcoin.subsidy import block_subsidy
from devnet.simulator.fleet import Fleet
from devnet.simulator.journal import KINDS, Journal
from devnet.simulator.proof import forge_hashes
from devnet.simulator.scenario import Scenario
from tbg_core.periods import SECOND

GENESIS: Final = 1_231_006_505  # the genesis block, seconds since the epoch
_BLOCK_FOUND: Final = KINDS.index("block_found")
_NEW_BLOCK: Final = KINDS.index("new_block_network")
SIGNATURE: Final = "/TheBitcoinGame/"


class Chain:
    """Tip, network difficulty, and the blocks that others find.

    The height is what Bitcoin would have at the start, a block every ten minutes from the
    genesis block on, so that a later run continues above an earlier one.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet, journal: Journal) -> None:
        self._fleet = fleet
        self._journal = journal
        self._seed = f"{scenario.seed}/{scenario.start}/chain"
        self._random = Random(self._seed)  # noqa: S311 - a simulation wants it repeatable
        self._mean = scenario.network_every
        self._next = self._random.expovariate(1 / self._mean)
        work = fleet.work_per_second * scenario.availability
        self.network_difficulty = float(f"{work * scenario.block_every:.12g}")
        self._height = max(0, (scenario.start // SECOND - GENESIS) // 600)
        self._prev_hash = self._forge_hash(0)
        self._hash = self._forge_hash(1)

    def foreign_blocks(self, end: float) -> list[float]:
        """When others find blocks before ``end``, in seconds; each is returned once."""
        times = []
        while self._next < end:
            times.append(self._next)
            self._next += self._random.expovariate(1 / self._mean)
        return times

    def announce(self) -> None:
        """Writes the tip."""
        self._journal.write(
            _NEW_BLOCK,
            f'"height":{self._height},"hash":"{self._hash}",'
            f'"network_difficulty":{self.network_difficulty!r},"prev_hash":"{self._prev_hash}"',
        )

    def extend(self, block_hash: str | None = None) -> None:
        """A block is the new tip; without a hash it is another miner's."""
        self._height += 1
        self._prev_hash, self._hash = self._hash, block_hash or self._forge_hash(self._height)

    def solve(self, machine: int, share_diff: float, share_hash: str, nonce: str) -> None:
        """Writes that a machine found the next block; ``extend`` makes it the tip."""
        height = self._height + 1
        fees = int(self._random.lognormvariate(15.5, 0.6))  # satoshis, about 0.05 BTC
        self._journal.write(
            _BLOCK_FOUND,
            f'{self._fleet.identity[machine]},"height":{height},"hash":"{share_hash}",'
            f'"prev_hash":"{self._hash}","difficulty":{share_diff!r},'
            f'"network_difficulty":{self.network_difficulty!r},'
            f'"reward_sats":{block_subsidy(height) + fees},"fees_sats":{fees},'
            f'"nonce":"{nonce}","coinbase_sig":"{SIGNATURE}"',
        )

    def _forge_hash(self, number: int) -> str:
        """A hash that meets the network difficulty, another one for every number."""
        digest = sha256(f"{self._seed}/{number}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        best = np.array([self.network_difficulty / (1.0 - rng.random())])
        return forge_hashes(best, rng).tobytes().hex()
