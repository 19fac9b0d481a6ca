"""The works that shares may come for: the current one, and older ones for a while."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cachetools import LRUCache

from devnet.bitcoin.address import Network
from devnet.pool.config import PoolConfig
from devnet.pool.protocol import notification_line
from devnet.pool.vardiff import Bounds
from devnet.pool.work import PAYOUTS_KEPT, Payout, Template, Work, hardest

REGTEST_BLOCK_DIFFICULTY: Final = 0.005
"""About 21 million hashes: what makes a block on regtest unless the configuration says more."""

WORK_KEPT: Final = 600.0  # seconds that a job is known for after another replaced it
TIP_KEPT: Final = 120.0  # seconds that work on the tip before can still make a block


class Works:
    """Turns templates into works, and remembers which are known and which is current."""

    def __init__(
        self,
        config: PoolConfig,
        network: Network,
        template: Template,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.block_difficulty = config.block_difficulty
        if network is Network.REGTEST and self.block_difficulty is None:
            self.block_difficulty = REGTEST_BLOCK_DIFFICULTY
        self._config = config
        self._clock = clock
        # The boot time in front keeps jobs of an earlier run from being taken for ours.
        self._boot = int(time.time())
        self._known: dict[str, Work] = {}  # oldest first
        self._tip_left = 0.0  # when the tip moved last, by the clock
        self._lines: LRUCache[tuple[Payout, bool], bytes] = LRUCache(PAYOUTS_KEPT)
        self.current = self._add(1, template)

    def find(self, job_id: str) -> Work | None:
        """The work of a job, unless it is unknown or was replaced too long ago.

        The current work never expires: a node that gives no new template takes no job away.
        """
        return self._known.get(job_id)

    def renew(self, template: Template) -> bool:
        """Makes a new current work; says whether the tip moved, which makes older work stale."""
        now = self._clock()
        moved = template.prev_hash != self.current.template.prev_hash
        for work in self._known.values():
            if moved and work.stale:
                work.strip()  # two tips behind
            work.stale = work.stale or moved
        if moved:
            self._tip_left = now
        self.current.replaced = now
        # Ages count against the newest work, so that a frozen node makes nothing old.
        for job_id, work in list(self._known.items()):
            if work.replaced is not None and now - work.replaced > WORK_KEPT:
                del self._known[job_id]
        self.current = self._add(self.current.serial + 1, template)
        return moved

    def strip(self) -> None:
        """Drops the transactions of work that is too far behind the tip to make a block."""
        if self._clock() - self._tip_left > TIP_KEPT:
            for work in self._known.values():
                if work.stale:
                    work.strip()

    def notify_line(self, payout: Payout, *, clean: bool) -> bytes:
        """The mining.notify of the current work, made once for all connections of one payout."""
        line = self._lines.get((payout, clean))
        if line is None:
            params = self.current.notify_params(payout, clean=clean)
            line = self._lines[payout, clean] = notification_line("mining.notify", params)
        return line

    def bounds(self) -> Bounds:
        """Difficulties that a miner may be held to: never harder than a block."""
        ceiling = hardest(self.current, self.block_difficulty)
        maximum = min(self._config.maxdiff, ceiling) if self._config.maxdiff else ceiling
        return Bounds(self._config.mindiff, maximum)

    def _add(self, serial: int, template: Template) -> Work:
        work = Work(
            serial,
            f"{self._boot:08x}{serial & 0xFFFFFFFF:08x}",
            # No version bits where miners roll: see ``share.prove``.
            replace(template, version=template.version & ~self._config.version_mask),
            self._config.nonce1length,
            self._config.nonce2length,
        )
        self._known[work.job_id] = work
        self._lines.clear()
        return work
