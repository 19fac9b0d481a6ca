"""Solved blocks on their way to the node."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from devnet.bitcoin.hashing import to_display
from devnet.pool.events import PoolEvents, block_data
from devnet.pool.node_answer import NodeAnswer
from devnet.pool.share import Share, Solution
from devnet.pool.unsubmitted import Solved, Unsubmitted

SubmitBlock = Callable[[bytes], Awaitable[NodeAnswer]]
"""Gives a block to a node, and returns only once one has answered for it."""

ANSWER_WITHIN: Final = 0.5
"""Seconds to wait for the node's answer before the block is reported without one."""

log = structlog.get_logger("pool")


class Blocks:
    """Gives blocks to the node and reports them, unless the node refuses them at once.

    A block that no node answers for within :data:`ANSWER_WITHIN` is reported all the same, stays on
    disk and is submitted until one does, however long that takes; its confirmations decide.
    """

    def __init__(self, submit: SubmitBlock, events: PoolEvents, unsubmitted: Unsubmitted) -> None:
        self._submit = submit
        self._events = events
        self._unsubmitted = unsubmitted
        self._tasks: set[asyncio.Task[None]] = set()
        self._solved: bytes | None = None  # the parent of the last block that the node took
        self._submitted: set[bytes] = set()  # their hashes
        self.waiting: dict[str, Solved] = {}
        """The blocks that no node has answered for, by hash."""
        self.reported = 0

    def resume(self) -> None:
        """Reports and submits the blocks of an earlier run that no node answered for.

        Their event may have been lost with that run. A second one changes nothing: its hash is
        what identifies a block.
        """
        for solved in self._unsubmitted.waiting():
            log.warning("block of an earlier run is submitted", hash=solved.hash)
            self._events.block(solved.event, solved.timestamp)
            self._run(self._resume(solved))

    def wants(self, solution: Solution) -> bool:
        """Whether this block is to be submitted: once, and while its transactions are here.

        A second block on the tip that the node has taken one for is not. One on the tip before is:
        the network may still build on it.
        """
        if solution.hash in self._submitted or not solution.work.complete:
            return False
        return solution.work.stale or solution.work.template.prev_hash != self._solved

    def submit(self, share: Share, solution: Solution, then: Callable[[], None]) -> None:
        """Submits the block of a share in a task of its own, reports it, and calls ``then``."""
        self._submitted.add(solution.hash)
        # Built now: while the node takes the block, the work may lose its transactions.
        block = solution.work.block(solution.payout, solution.extranonce, solution.header)
        solved = Solved(
            to_display(solution.hash), block.hex(), block_data(share, solution), share.timestamp
        )
        self._run(self._deliver(solved, solution, then))

    async def finish(self, within: float) -> None:
        """Waits at most ``within`` seconds for the blocks that no node has answered for."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        for task in list(self._tasks):
            task.cancel()
        if self.waiting:
            log.warning("blocks wait on disk for the next start", hashes=sorted(self.waiting))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resume(self, solved: Solved) -> None:
        await self._hand_in(solved)

    async def _deliver(self, solved: Solved, solution: Solution, then: Callable[[], None]) -> None:
        # In a thread, beside the submission: neither waits for the other.
        keeping = asyncio.create_task(asyncio.to_thread(self._unsubmitted.keep, solved))
        handing_in = asyncio.create_task(self._hand_in(solved, keeping))
        try:
            await asyncio.wait({handing_in}, timeout=ANSWER_WITHIN)
            verdict = handing_in.result() if handing_in.done() else None
            if verdict is not NodeAnswer.REFUSED:
                self._report(solved, verdict)
            then()
            if await handing_in is NodeAnswer.TAKEN:
                self._solved = solution.work.template.prev_hash
        finally:
            handing_in.cancel()

    def _report(self, solved: Solved, verdict: NodeAnswer | None) -> None:
        self.reported += 1
        said = {
            key: solved.event[key] for key in ("height", "hash", "difficulty", "user", "worker")
        }
        if verdict is None:
            log.critical("block found, but no node has answered for it yet", **said)
        else:
            log.info("block found", verdict=verdict.name, **said)
        self._events.block(solved.event, solved.timestamp)

    async def _hand_in(self, solved: Solved, keeping: Awaitable[None] | None = None) -> NodeAnswer:
        """Submits a block until a node answers; then, once it was written, its file goes."""
        self.waiting[solved.hash] = solved
        verdict = await self._submit(bytes.fromhex(solved.block))
        del self.waiting[solved.hash]
        if keeping is not None:
            await keeping
        refused = verdict is NodeAnswer.REFUSED
        await asyncio.to_thread(self._unsubmitted.answered, solved, refused=refused)
        return verdict
