"""The miner: processes that search, a connection that brings work, and a count of both."""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Coroutine
from dataclasses import KW_ONLY, dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import structlog

from devnet.bitcoin.difficulty import difficulty_from_target, target_from_difficulty
from devnet.bitcoin.hashing import hash_to_int
from devnet.miner.job import Assignment, Job, JobError, ranges
from devnet.miner.process import Found, mine
from devnet.miner.search import search
from devnet.miner.stratum import (
    PoolGone,
    PoolRefused,
    StratumClient,
    Subscription,
    connect,
)

_FIRST_PAUSE: Final = 0.5  # seconds before connecting again; doubles
_LONGEST_PAUSE: Final = 15.0
_UNAUTHORIZED: Final = 24

log = structlog.get_logger("miner")


class MinerError(Exception):
    """Mining cannot go on, and trying again would not help."""


@dataclass(slots=True)
class Tally:
    """The work so far."""

    hashes: int = 0
    accepted: int = 0
    rejected: int = 0
    best: float = 0.0


@dataclass(eq=False)
class Miner:
    """Mines for ``user`` until it has what it was asked for.

    Args:
        host: of the pool.
        port: of the pool.
        user: address, or address.worker.
        password: most pools ignore it.
        processes: how many search.
        max_hashrate: hashes per second of all of them together at most; 0 for no limit.
        suggestion: share difficulty to ask the pool for; 0 to ask for none.
        roll_versions: ask the pool for version rolling.
        shares: stop after so many accepted shares; 0 for never.
        bad_share: send one share that the pool has to reject, and fail if it does not.
    """

    host: str
    port: int
    user: str
    _: KW_ONLY
    password: str = "x"  # noqa: S105 - what miners send to pools that ignore it
    processes: int = 1
    max_hashrate: float = 0.0
    suggestion: float = 0.0
    roll_versions: bool = True
    shares: int = 0
    bad_share: bool = False

    def __post_init__(self) -> None:
        self._bad_share_due = self.bad_share
        self._bad_share_pending = False
        self._done = asyncio.Event()
        self._pipes: list[Connection] = []
        self._subscription: Subscription | None = None
        self._client: StratumClient | None = None
        self._job: Job | None = None
        self._jobs: set[str] = set()  # those whose shares are worth sending
        self._difficulty = 1.0
        self._submissions: set[asyncio.Task[None]] = set()
        self._failure: MinerError | None = None
        self.tally = Tally()

    def stop(self) -> None:
        """Ends :meth:`run`."""
        self._done.set()

    async def run(self, summary_interval: float = 5.0) -> Tally:
        """Mines until it has what it was asked for, or :meth:`stop`.

        Raises:
            MinerError: the pool refuses the user, or took a share that it had to reject.
        """
        # Not fork: the children would inherit the connection to the pool.
        context = multiprocessing.get_context("spawn")
        children = []
        loop = asyncio.get_running_loop()
        each = self.max_hashrate / self.processes
        for number in range(self.processes):
            ours, theirs = context.Pipe()
            child = context.Process(
                target=mine, args=(theirs, each), name=f"miner-{number}", daemon=True
            )
            child.start()
            theirs.close()
            self._pipes.append(ours)
            children.append(child)
            loop.add_reader(ours.fileno(), self._hear, ours)
        background = [
            asyncio.create_task(self._stay_connected()),
            asyncio.create_task(self._summarize(summary_interval)),
        ]
        stopped = asyncio.create_task(self._done.wait())
        try:
            await asyncio.wait({stopped, *background}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in [stopped, *background, *self._submissions]:
                task.cancel()
            # Before the pipes close: a task that loses the pool pauses the processes through them.
            results = await asyncio.gather(*background, return_exceptions=True)
            for pipe in self._pipes:
                loop.remove_reader(pipe.fileno())
                pipe.close()
        for result in results:
            if isinstance(result, Exception):
                raise result
        if self._failure is not None:
            raise self._failure
        for child in children:
            # The end of the pipe ends it, once it looks.
            await asyncio.to_thread(child.join, 5)
        return self.tally

    async def _stay_connected(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                async with connect(self.host, self.port) as client:
                    await self._converse(client)
            except PoolGone as error:
                log.warning("no pool; connecting again", error=str(error))
            if time.monotonic() - began > 60:
                pause = _FIRST_PAUSE
            # Spread, so that many miners do not reconnect in the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects, no secret
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _converse(self, client: StratumClient) -> None:
        """Shakes hands, then works until the connection ends, which is a PoolGone."""
        listening = asyncio.create_task(self._listen(client))
        greeting = asyncio.create_task(
            client.handshake(self.user, self.password, roll_versions=self.roll_versions)
        )
        try:
            await asyncio.wait({listening, greeting}, return_when=asyncio.FIRST_COMPLETED)
            if greeting.done():
                self._subscription = await greeting
                self._client = client
                if self.suggestion:
                    client.suggest_difficulty(self.suggestion)
                log.info(
                    "authorised",
                    user=self.user,
                    version_mask=f"{self._subscription.version_mask:08x}",
                )
                self._assign()
            await listening
        except PoolRefused as error:
            if error.code == _UNAUTHORIZED:
                raise MinerError(f"the pool refuses {self.user}: {error.text}") from None
            raise PoolGone(f"the pool refuses the handshake: {error}") from None
        finally:
            for task in (listening, greeting):
                task.cancel()
            await asyncio.gather(listening, greeting, return_exceptions=True)
            self._client = self._job = self._subscription = None
            self._assign()

    async def _listen(self, client: StratumClient) -> None:
        async for message in client.notifications():
            if message.method == "mining.notify":
                try:
                    self._job = Job.parse(message.params)
                except JobError as error:
                    raise PoolGone(str(error)) from None
                self._jobs = (
                    {self._job.job_id} if self._job.clean else self._jobs | {self._job.job_id}
                )
                self._assign()
            elif message.method == "mining.set_difficulty":
                # Taken at once rather than from the next job on: the pool allows for both.
                self._difficulty = _difficulty(message.params)
                self._assign()

    def _assign(self) -> None:
        """Gives every process its assignment; a pause if there is no job."""
        for number, pipe in enumerate(self._pipes):
            try:
                pipe.send(self._assignment(number))
            except OSError:
                self._fail(f"process {number} has died")

    def _assignment(self, number: int) -> Assignment | None:
        if self._job is None or self._subscription is None:
            return None
        return Assignment(
            self._job,
            self._subscription.nonce1,
            self._subscription.nonce2_length,
            target_from_difficulty(self._difficulty),
            self._subscription.version_mask,
            number,
            self.processes,
        )

    def _hear(self, pipe: Connection) -> None:
        """Reads what a process sent; the event loop calls it."""
        try:
            while pipe.poll():
                message = pipe.recv()
                if isinstance(message, int):
                    self.tally.hashes += message
                elif isinstance(message, Found) and message.job_id in self._jobs:
                    self._start(self._submit(message))
        except (EOFError, OSError):
            self._fail("a searching process has died")
        if self._bad_share_due and self._client is not None and self._job is not None:
            self._bad_share_due = False
            self._bad_share_pending = True
            self._start(self._submit_bad_share())

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or MinerError(reason)
        self._done.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._submissions.add(task)
        task.add_done_callback(self._submissions.discard)

    async def _submit(self, found: Found) -> None:
        share_diff = difficulty_from_target(hash_to_int(found.hash))
        try:
            await self._send(found)
        except PoolRefused as error:
            self.tally.rejected += 1
            log.warning("share rejected", reason=error.text, share_diff=share_diff)
        except PoolGone as error:
            log.warning("share lost", error=str(error))
        else:
            self.tally.accepted += 1
            self.tally.best = max(self.tally.best, share_diff)
            log.debug("share accepted", share_diff=share_diff)
        self._finish_if_done()

    async def _submit_bad_share(self) -> None:
        """Sends a share whose hash misses the target, which the pool has to reject."""
        assignment = self._assignment(0)
        if assignment is None:
            return
        part = next(ranges(assignment))
        nonce = next(
            n for n in range(1 << 32) if not [*search(part.header, n, n + 1, assignment.target)]
        )
        job = assignment.job
        found = Found(job.job_id, part.nonce2, job.ntime, nonce, part.version_bits, b"")
        try:
            await self._send(found)
        except PoolRefused as error:
            self.tally.rejected += 1
            log.info("bad share rejected, as it must be", reason=error.text)
        except PoolGone:
            self._bad_share_due = True  # try again on the next connection
        else:
            self._fail("the pool accepted a share that misses its target")
        self._bad_share_pending = False
        self._finish_if_done()

    async def _send(self, found: Found) -> None:
        if self._client is None:
            raise PoolGone("not connected")
        params = [
            self.user,
            found.job_id,
            found.nonce2.hex(),
            f"{found.ntime:08x}",
            f"{found.nonce:08x}",
        ]
        if found.version_bits is not None:
            params.append(f"{found.version_bits:08x}")
        await self._client.call("mining.submit", *params)

    def _finish_if_done(self) -> None:
        waiting = self._bad_share_due or self._bad_share_pending
        if self.shares and self.tally.accepted >= self.shares and not waiting:
            self._done.set()

    async def _summarize(self, interval: float) -> None:
        before, since = 0, time.monotonic()
        while True:
            await asyncio.sleep(interval)
            now, hashes = time.monotonic(), self.tally.hashes
            log.info(
                "mining" if self._client else "waiting for the pool",
                khs=round((hashes - before) / (now - since) / 1000, 1),
                accepted=self.tally.accepted,
                rejected=self.tally.rejected,
                best=self.tally.best,
                difficulty=self._difficulty,
            )
            before, since = hashes, now


def _difficulty(params: list[Any]) -> float:
    """The difficulty of mining.set_difficulty.

    Raises:
        PoolGone: when it is not a number above 0.
    """
    value = params[0] if params else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        raise PoolGone(f"the pool set the difficulty {value!r}")
    return float(value)
