"""One authorised connection at work: it is handed jobs and sends shares."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from devnet.pool.assigned import AssignedDifficulty
from devnet.pool.identity import Identity, IdentityError, Miner, identify
from devnet.pool.pool import Pool
from devnet.pool.protocol import Request, error_line, notification_line, result_line
from devnet.pool.rejection import Rejection
from devnet.pool.share import Share, Solution, judge, parse_submission, prove, solves
from devnet.pool.work import Work

MAX_REJECTED: Final = 500  # shares in a row: such a miner only costs us
MAX_WORKERS: Final = 1024  # on one connection, as a proxy has them


@dataclass(eq=False, slots=True)
class Worker:
    """One of the workers on a connection, and what it has done there."""

    miner: Miner
    started: float = field(default_factory=time.monotonic)
    accepted: int = 0
    rejected: int = 0
    best: float = 0.0


@dataclass(eq=False, slots=True)
class Mining:
    """What an authorised connection has done so far, and is held to.

    ``miner`` authorised first. A proxy authorises more workers of the same address; they share the
    jobs and the difficulty of the connection.
    """

    _pool: Pool
    miner: Miner
    _nonce1: bytes
    _assigned: AssignedDifficulty
    _send: Callable[[bytes], None]
    _close: Callable[[str], None]
    _started: bool = False
    _rejected_in_a_row: int = 0
    _workers: dict[str, Worker] = field(init=False)  # by the worker's name

    def __post_init__(self) -> None:
        self._workers = {self.miner.identity.worker: Worker(self.miner)}

    @property
    def miners(self) -> Iterable[Miner]:
        """Every worker of the connection."""
        return [worker.miner for worker in self._workers.values()]

    def start(self) -> None:
        """Hands out the first work, after the answer to the first authorisation."""
        if self._started:
            return
        self._started = True
        self._pool.sessions[self.miner.client_id] = self
        self._pool.events.connected(self.miner, self._assigned.now)
        self._send_difficulty()
        self.send_work(clean=True)

    def join(self, identity: Identity) -> bool:
        """Authorises a worker; False for another address, or if there are too many workers."""
        if identity.user != self.miner.identity.user:
            return False
        if identity.worker not in self._workers:
            if len(self._workers) >= MAX_WORKERS:
                return False
            worker = Worker(replace(self.miner, identity=identity))
            self._workers[identity.worker] = worker
            self._pool.events.connected(worker.miner, self._assigned.now)
        return True

    def send_work(self, *, clean: bool) -> None:
        """Hands out the current work."""
        self._send(self._pool.works.notify_line(self.miner.payout, clean=clean))

    def lower_if_quiet(self) -> None:
        """Lowers the difficulty of a miner that has sent nothing for long."""
        new = self._assigned.vardiff.quiet(time.monotonic(), self._pool.works.bounds())
        if new is not None:
            self.reassign(new, "no shares")

    def change_difficulty(self, new: float) -> None:
        """Assigns another difficulty and sends it; the caller writes the event."""
        self._assigned.change(time.monotonic(), new, self._pool.works.current.serial)
        self._send_difficulty()

    def reassign(self, new: float, reason: str) -> None:
        """Assigns another difficulty, sends it and writes the events."""
        old = self._assigned.now
        self.change_difficulty(new)
        for miner in self.miners:
            self._pool.events.difficulty(miner, old, new, reason)

    def end(self, reason: str) -> None:
        """The connection has ended."""
        if self._pool.sessions.pop(self.miner.client_id, None) is None:
            return
        now = time.monotonic()
        for worker in self._workers.values():
            self._pool.events.disconnected(
                worker.miner,
                seconds=now - worker.started,
                accepted=worker.accepted,
                rejected=worker.rejected,
                best=worker.best,
                reason=reason,
            )

    def submit(self, request: Request) -> None:
        """Judges a share, answers it, and writes its events: block, best, vardiff, share."""
        share, worker = self._judge(request.params)
        if share.rejection is not None or share.solution is None:
            assert share.rejection is not None  # a share that was not hashed is refused
            self._send(error_line(request.id, share.rejection.code, share.rejection.text))
            self._reject(share, worker)
        else:
            self._send(result_line(request.id, True))
            self._accept(share, share.solution, worker)

    def _judge(self, params: list[Any]) -> tuple[Share, Worker]:
        config, works = self._pool.config, self._pool.works
        timestamp = self._pool.clock()
        submission = parse_submission(params, config.nonce2length)
        worker = self._worker(submission.username) if submission is not None else None
        work: Work | None = None
        solution: Solution | None = None
        rejection: Rejection | None
        difficulty = self._assigned.now
        if submission is None:
            rejection = Rejection.MALFORMED
        elif worker is None:
            rejection = Rejection.UNAUTHORIZED
        elif (work := works.find(submission.job_id)) is None:
            rejection = Rejection.UNKNOWN_JOB
        else:
            difficulty = self._assigned.required(work.serial)
            outcome = prove(
                work,
                self.miner.payout,
                self._nonce1,
                submission,
                config.version_mask,
                timestamp // 1_000_000,
            )
            if isinstance(outcome, Solution):
                solution = outcome
                rejection = judge(solution, difficulty)
            else:
                rejection = Rejection.STALE if work.stale else outcome
        # A share without a worker of ours counts for the first one.
        worker = worker or self._workers[self.miner.identity.worker]
        share = Share(
            worker.miner,
            timestamp,
            params,
            config.nonce2length,
            difficulty,
            (work or works.current).network_difficulty,
            rejection,
            solution,
        )
        return share, worker

    def _worker(self, username: str) -> Worker | None:
        """The authorised worker of a user name, however it is written."""
        if username == self.miner.identity.name:
            return self._workers[self.miner.identity.worker]
        try:
            identity = identify(username, self._pool.network)
        except IdentityError:
            return None
        same_user = identity.user == self.miner.identity.user
        return self._workers.get(identity.worker) if same_user else None

    def _reject(self, share: Share, worker: Worker) -> None:
        """Counts a rejected share; after very many in a row the connection is closed."""
        worker.rejected += 1
        self._pool.rejected += 1
        self._submit_block(share, lambda: self._pool.events.share(share))
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= MAX_REJECTED:
            self._close("too many rejected shares")

    def _accept(self, share: Share, solution: Solution, worker: Worker) -> None:
        """Counts an accepted share; its events come after the one of its block, if it is one."""
        pool = self._pool
        worker.accepted += 1
        self._rejected_in_a_row = 0
        broken = pool.accept(share, solution, worker.best)
        worker.best = max(worker.best, solution.share_diff)
        old = self._assigned.now
        new = self._assigned.vardiff.accepted(
            time.monotonic(), share.difficulty, pool.works.bounds()
        )
        if new is not None:
            self.change_difficulty(new)
        miners = self.miners

        def announce() -> None:
            for item in broken:
                pool.events.best(share, solution, item)
            if new is not None:
                for miner in miners:
                    pool.events.difficulty(miner, old, new, "vardiff", share.timestamp)
            pool.events.share(share)

        self._submit_block(share, announce)

    def _submit_block(self, share: Share, announce: Callable[[], None]) -> None:
        """Calls ``announce``; after the block's own event if the share solves a block.

        A block is worth more than its share: one that is stale, or below a difficulty that was
        assigned before the network's fell, is refused as a share and submitted as a block.
        """
        pool, solution = self._pool, share.solution
        if (
            solution is not None
            and share.rejection is not Rejection.DUPLICATE
            and solves(solution, pool.works.block_difficulty)
            and pool.blocks.wants(solution)
        ):
            pool.blocks.submit(share, solution, announce)
        else:
            announce()

    def _send_difficulty(self) -> None:
        told = self._assigned.now
        # A whole number is written without a point: some firmware reads no further than digits.
        self._send(notification_line("mining.set_difficulty", [int(told) if told >= 1 else told]))
