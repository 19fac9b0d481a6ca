"""Solved blocks on their way to the node."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from devnet.bitcoin.hashing import to_display
from devnet.pool.events import PoolEvents
from devnet.pool.share import Share, Solution
from devnet.pool.verdict import Verdict

SubmitBlock = Callable[[bytes], Awaitable[Verdict]]
"""Gives a block to the node."""

log = structlog.get_logger("pool")


class Blocks:
    """Gives blocks to the node and reports them, unless the node refuses them."""

    def __init__(self, submit: SubmitBlock, events: PoolEvents) -> None:
        self._submit = submit
        self._events = events
        self._tasks: set[asyncio.Task[None]] = set()
        self._solved: bytes | None = None  # the parent of the last block that the node took
        self.reported = 0

    def wants(self, solution: Solution) -> bool:
        """Whether the node has taken no block of ours on the same parent."""
        return solution.work.template.prev_hash != self._solved

    def submit(self, share: Share, solution: Solution, then: Callable[[], None]) -> None:
        """Submits the block of a share in a task of its own, reports it, and calls ``then``."""
        # Built now: while the node takes the block, the work may be retired.
        block = solution.work.block(solution.payout, solution.extranonce, solution.header)
        task = asyncio.create_task(self._deliver(share, solution, block))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: then())

    async def finish(self, within: float) -> None:
        """Waits at most ``within`` seconds for the blocks that the node has not answered for."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)

    async def _deliver(self, share: Share, solution: Solution, block: bytes) -> None:
        verdict = await self._submit(block)
        if verdict is Verdict.REFUSED:
            return
        if verdict is Verdict.TAKEN:
            self._solved = solution.work.template.prev_hash
        self.reported += 1
        log.info(
            "block found",
            height=solution.work.template.height,
            hash=to_display(solution.hash),
            share_diff=solution.share_diff,
            verdict=verdict.name,
            **share.miner.who,
        )
        self._events.block(share, solution)
