"""The pool: what all connections share. No I/O but its callables'."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from devnet.bitcoin.address import Network
from devnet.pool.bests import Bests, Broken
from devnet.pool.blocks import Blocks, SubmitBlock
from devnet.pool.config import PoolConfig
from devnet.pool.events import PoolEvents
from devnet.pool.hashrate import Hashrates
from devnet.pool.identity import Miner
from devnet.pool.nonces import Nonces
from devnet.pool.share import Share, Solution
from devnet.pool.unsubmitted import NOWHERE, Unsubmitted
from devnet.pool.work import Template
from devnet.pool.works import Works

Clock = Callable[[], int]
"""Microseconds since the Unix epoch."""


def wall_clock() -> int:
    """The time of the machine, in microseconds since the Unix epoch."""
    return time.time_ns() // 1000


class Member(Protocol):
    """An authorised connection, as the pool sees it."""

    @property
    def miners(self) -> Iterable[Miner]:
        """Every worker of the connection."""
        ...

    def send_work(self, *, clean: bool) -> None:
        """Hands out the current work."""

    def lower_if_quiet(self) -> None:
        """Lowers the difficulty if nothing came for long."""

    def change_difficulty(self, new: float) -> None:
        """Assigns another difficulty."""


class Pool:
    """All state of a running pool; belongs to one event loop."""

    def __init__(
        self,
        config: PoolConfig,
        network: Network,
        events: PoolEvents,
        bests: Bests,
        submit_block: SubmitBlock,
        template: Template,
        clock: Clock = wall_clock,
        unsubmitted: Unsubmitted = NOWHERE,
    ) -> None:
        self.config = config
        self.network = network
        self.events = events
        self.bests = bests
        self.clock = clock
        self.blocks = Blocks(submit_block, events, unsubmitted)
        self.hashrates = Hashrates()
        self.nonces = Nonces(config.nonce1length)
        self.works = Works(config, network, template)
        self.sessions: dict[int, Member] = {}
        """The authorised connections, by client id."""
        self.accepted = 0
        self.rejected = 0
        self.refused_strangers = 0

    def renew_work(self, template: Template) -> bool:
        """Hands a new template out to all miners; says whether the tip moved.

        If it did, older jobs are stale, and miners get the order to drop them (clean jobs).
        """
        moved = self.works.renew(template)
        for session in list(self.sessions.values()):
            session.send_work(clean=moved)
        return moved

    def accept(self, share: Share, solution: Solution, session_best: float) -> list[Broken]:
        """Counts an accepted share; returns the bests that it breaks, narrowest first."""
        self.accepted += 1
        who = share.miner.identity
        self.hashrates.add(time.monotonic(), who.user, who.worker, share.difficulty)
        return self.bests.accept(share.timestamp, who.user, session_best, solution.share_diff)

    def tidy(self) -> None:
        """Lowers the difficulty of miners that have sent nothing for long, and frees old work."""
        self.works.strip()
        for session in list(self.sessions.values()):
            session.lower_if_quiet()

    def report_hashrates(self) -> None:
        """Writes a hashrate_update for every worker and every user."""
        online = {
            (miner.identity.user, miner.identity.worker)
            for session in self.sessions.values()
            for miner in session.miners
        }
        for user, worker, rates in self.hashrates.report(time.monotonic(), online):
            self.events.hashrate(user, worker, rates)
