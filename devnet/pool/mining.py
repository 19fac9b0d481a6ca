"""One authorised miner at work: it is handed jobs and sends shares."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from devnet.pool.assigned import AssignedDifficulty
from devnet.pool.identity import Miner
from devnet.pool.pool import Pool
from devnet.pool.protocol import Request, error_line, notification_line, result_line
from devnet.pool.rejection import Rejection
from devnet.pool.share import Share, Solution, judge, parse_submission, prove, solves
from devnet.pool.work import Work

MAX_REJECTED: Final = 500  # shares in a row: such a miner only costs us


@dataclass(eq=False, slots=True)
class Mining:
    """What an authorised connection has done so far, and is held to."""

    _pool: Pool
    miner: Miner
    _nonce1: bytes
    _assigned: AssignedDifficulty
    _send: Callable[[bytes], None]
    _close: Callable[[str], None]
    _started: float = 0.0  # monotonic seconds
    _accepted: int = 0
    _rejected: int = 0
    _rejected_in_a_row: int = 0
    _best: float = 0.0

    def start(self) -> None:
        """Hands out the first work, after the answer to the first authorisation."""
        if self._started:
            return
        self._started = time.monotonic()
        self._pool.sessions[self.miner.client_id] = self
        self._pool.events.connected(self.miner, self._assigned.now)
        self._send_difficulty()
        self.send_work(clean=True)

    def send_work(self, *, clean: bool) -> None:
        """Hands out the current work."""
        self._send(self._pool.works.notify_line(self.miner.payout, clean=clean))

    def lower_if_quiet(self) -> None:
        """Lowers the difficulty of a miner that has sent nothing for long."""
        new = self._assigned.vardiff.quiet(time.monotonic(), self._pool.works.bounds())
        if new is not None:
            self.reassign(new, "no shares")

    def change_difficulty(self, new: float) -> None:
        """Assigns another difficulty and tells the miner; the caller writes the event."""
        self._assigned.change(time.monotonic(), new, self._pool.works.current.serial)
        self._send_difficulty()

    def reassign(self, new: float, reason: str) -> None:
        """Assigns another difficulty, tells the miner and writes the event."""
        old = self._assigned.now
        self.change_difficulty(new)
        self._pool.events.difficulty(self.miner, old, new, reason)

    def end(self, reason: str) -> None:
        """The connection has ended."""
        if self._pool.sessions.pop(self.miner.client_id, None) is not None:
            self._pool.events.disconnected(
                self.miner,
                seconds=time.monotonic() - self._started,
                accepted=self._accepted,
                rejected=self._rejected,
                best=self._best,
                reason=reason,
            )

    def submit(self, request: Request) -> None:
        """Judges a share, answers it, and writes its events: block, best, vardiff, share."""
        share = self._judge(request.params)
        if share.rejection is not None or share.solution is None:
            assert share.rejection is not None  # a share that was not hashed is refused
            self._send(error_line(request.id, share.rejection.code, share.rejection.text))
            self._reject(share)
        else:
            self._send(result_line(request.id, True))
            self._accept(share, share.solution)

    def _judge(self, params: list[Any]) -> Share:
        config, works = self._pool.config, self._pool.works
        timestamp = self._pool.clock()
        submission = parse_submission(params, config.nonce2length)
        work: Work | None = None
        solution: Solution | None = None
        rejection: Rejection | None
        difficulty = self._assigned.now
        if submission is None:
            rejection = Rejection.MALFORMED
        elif not self.miner.identity.answers_to(submission.username, self._pool.network):
            rejection = Rejection.UNAUTHORIZED
        elif (work := works.find(submission.job_id)) is None:
            rejection = Rejection.UNKNOWN_JOB
        else:
            difficulty = self._assigned.required(work.serial)
            outcome = prove(work, self.miner.payout, self._nonce1, submission, config.version_mask)
            if isinstance(outcome, Solution):
                solution = outcome
                rejection = judge(solution, difficulty)
            else:
                rejection = Rejection.STALE if work.stale else outcome
        return Share(
            self.miner,
            timestamp,
            params,
            config.nonce2length,
            difficulty,
            (work or works.current).network_difficulty,
            rejection,
            solution,
        )

    def _reject(self, share: Share) -> None:
        """Counts a rejected share; after very many in a row the connection is closed."""
        self._rejected += 1
        self._pool.rejected += 1
        self._pool.events.share(share)
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= MAX_REJECTED:
            self._close("too many rejected shares")

    def _accept(self, share: Share, solution: Solution) -> None:
        """Counts an accepted share; its events come after the one of its block, if it is one."""
        pool = self._pool
        self._accepted += 1
        self._rejected_in_a_row = 0
        broken = pool.accept(share, solution, self._best)
        self._best = max(self._best, solution.share_diff)
        old = self._assigned.now
        new = self._assigned.vardiff.accepted(
            time.monotonic(), share.difficulty, pool.works.bounds()
        )
        if new is not None:
            self.change_difficulty(new)

        def announce() -> None:
            for item in broken:
                pool.events.best(share, solution, item)
            if new is not None:
                pool.events.difficulty(share.miner, old, new, "vardiff", share.timestamp)
            pool.events.share(share)

        if solves(solution, pool.works.block_difficulty) and pool.blocks.wants(solution):
            pool.blocks.submit(share, solution, announce)
        else:
            announce()

    def _send_difficulty(self) -> None:
        told = self._assigned.now
        # A whole number is written without a point: some firmware reads no further than digits.
        self._send(notification_line("mining.set_difficulty", [int(told) if told >= 1 else told]))
