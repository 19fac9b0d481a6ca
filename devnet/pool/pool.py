"""The pool itself: works, connections, and what becomes of a share. No I/O but its callables'."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import structlog

from devnet.bitcoin.address import Network
from devnet.bitcoin.hashing import hash_to_int, to_display
from devnet.pool.bests import Bests
from devnet.pool.config import PoolConfig
from devnet.pool.events import Miner, PoolEvents
from devnet.pool.hashrate import Hashrates
from devnet.pool.protocol import Request, error_line, notification_line, result_line
from devnet.pool.rejection import Rejection
from devnet.pool.session import Session
from devnet.pool.share import Proof, judge, parse_submission, prove
from devnet.pool.values import hex_digits, hex_or_none, printable_or_none
from devnet.pool.vardiff import Bounds
from devnet.pool.verdict import Verdict
from devnet.pool.work import Payout, Template, Work, hardest, solves

REGTEST_BLOCK_DIFFICULTY: Final = 0.005
"""About 21 million hashes: what makes a block on regtest unless the configuration says more."""

MAX_JOB_ID: Final = 128  # characters, as in the event contract
_WORK_KEPT: Final = 600.0  # seconds that a job is known for, as in ckpool

SubmitBlock = Callable[[bytes], Awaitable[Verdict]]
"""Gives a block to the node."""

log = structlog.get_logger("pool")


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
    ) -> None:
        self.config = config
        self.network = network
        self.events = events
        self.bests = bests
        self.hashrates = Hashrates()
        self.sessions: dict[int, Session] = {}
        """The authorised connections, by client id."""
        self.accepted = 0
        self.rejected = 0
        self.refused_strangers = 0
        self.blocks = 0
        self.block_difficulty = config.block_difficulty
        if network is Network.REGTEST and self.block_difficulty is None:
            self.block_difficulty = REGTEST_BLOCK_DIFFICULTY
        self._submit_block = submit_block
        self._solving: set[asyncio.Task[None]] = set()
        self._solved: bytes | None = None  # the parent of the last block that the node took
        self._boot = int(time.time())
        self._works: dict[str, Work] = {}
        self._lines: dict[tuple[Payout, bool], bytes] = {}
        self.nonces: set[bytes] = set()
        """The extranonce1 of every open connection."""
        self._last_nonce = int.from_bytes(os.urandom(config.nonce1length), "big")
        self.work = self._add_work(template)

    # --- connections

    def next_nonce1(self) -> bytes:
        """An extranonce1 that no open connection has."""
        size = self.config.nonce1length
        while True:  # ends: the configuration has more of them than connections
            self._last_nonce = (self._last_nonce + 1) % 256**size
            nonce = self._last_nonce.to_bytes(size, "big")
            if nonce not in self.nonces:
                self.nonces.add(nonce)
                return nonce

    def joined(self, session: Session, miner: Miner) -> None:
        """A connection authorised."""
        self.sessions[session.client_id] = session
        self.events.connected(miner, session.vardiff.difficulty)

    def left(self, session: Session, reason: str) -> None:
        """A connection ended, authorised or not."""
        self.nonces.discard(session.nonce1)
        if self.sessions.pop(session.client_id, None) is None or session.miner is None:
            return
        self.events.disconnected(
            session.miner,
            seconds=time.monotonic() - session.authorized_at,
            accepted=session.accepted,
            rejected=session.rejected,
            best=session.best,
            reason=reason,
        )

    def bounds(self) -> Bounds:
        """Difficulties that a miner may be held to: never harder than a block."""
        ceiling = hardest(self.work, self.block_difficulty)
        maximum = min(self.config.maxdiff, ceiling) if self.config.maxdiff else ceiling
        return Bounds(self.config.mindiff, maximum)

    # --- work

    def renew_work(self, template: Template) -> bool:
        """Hands a new template out to everybody; says whether the tip moved.

        When it did, older jobs are stale, and miners are told to drop them (clean jobs).
        """
        moved = template.prev_hash != self.work.template.prev_hash
        if moved:
            for work in self._works.values():
                if not work.stale:
                    work.retire()
        self.work = self._add_work(template)
        for session in list(self.sessions.values()):
            session.send_work(self.work, clean=moved)
        return moved

    def notify_line(self, work: Work, payout: Payout, *, clean: bool) -> bytes:
        """The mining.notify of a work, made once for all connections of one payout."""
        if work is not self.work:
            return notification_line("mining.notify", work.notify_params(payout, clean=clean))
        line = self._lines.get((payout, clean))
        if line is None:
            line = notification_line("mining.notify", work.notify_params(payout, clean=clean))
            self._lines[payout, clean] = line
        return line

    def _add_work(self, template: Template) -> Work:
        now = time.monotonic()
        # Clear where miners roll: see ``prove``.
        template = replace(template, version=template.version & ~self.config.version_mask)
        serial = self.work.serial + 1 if self._works else 1
        # The boot time in front keeps jobs of an earlier run from being taken for ours.
        job_id = f"{self._boot:08x}{serial & 0xFFFFFFFF:08x}"
        work = Work(
            serial, job_id, template, self.config.nonce1length, self.config.nonce2length, now
        )
        self._works = {
            key: item for key, item in self._works.items() if now - item.created < _WORK_KEPT
        }
        self._works[job_id] = work
        self._lines.clear()
        return work

    # --- shares

    def submit(self, session: Session, miner: Miner, payout: Payout, request: Request) -> None:
        """Judges a share, answers it, and writes its events: block, best, vardiff, share."""
        timestamp = time.time_ns() // 1000
        submission = parse_submission(request.params, self.config.nonce2length)
        work: Work | None = None
        proof: Proof | None = None
        rejection: Rejection | None
        difficulty = session.vardiff.difficulty
        if submission is None:
            rejection = Rejection.MALFORMED
        elif not miner.identity.answers_to(submission.username, self.network):
            rejection = Rejection.UNAUTHORIZED
        elif (work := self._works.get(submission.job_id)) is None:
            rejection = Rejection.UNKNOWN_JOB
        else:
            difficulty = session.required(work)
            outcome = prove(work, payout, session.nonce1, submission, self.config.version_mask)
            if isinstance(outcome, Proof):
                proof = outcome
                rejection = judge(work, proof, difficulty)
            else:
                rejection = Rejection.STALE if work.stale else outcome
        fields = self._share_fields(request.params, difficulty, work, proof, rejection)
        if rejection is not None or proof is None or work is None:
            assert rejection is not None  # a share without proof was refused above
            self.rejected += 1
            session.send(error_line(request.id, rejection.code, rejection.text))
            self.events.share(miner, timestamp, fields)
            session.count_rejected()
            return
        session.send(result_line(request.id, True))
        solved = solves(work, self.block_difficulty, hash_to_int(proof.hash), proof.share_diff)
        if solved and work.template.prev_hash != self._solved:
            # Built now: while the node takes the block, the work may be retired.
            block = work.block(payout, proof.extranonce, proof.header)
            announce = self._accept(session, miner, timestamp, proof, difficulty, fields)
            task = asyncio.create_task(self._solve(miner, payout, timestamp, work, proof, block))
            self._solving.add(task)
            task.add_done_callback(self._solving.discard)
            task.add_done_callback(lambda _: announce())
        else:
            self._accept(session, miner, timestamp, proof, difficulty, fields)()

    async def finish(self, within: float) -> None:
        """Waits for blocks that the node has not answered for yet, at most ``within`` seconds."""
        if self._solving:
            await asyncio.wait(self._solving, timeout=within)

    def _accept(
        self,
        session: Session,
        miner: Miner,
        timestamp: int,
        proof: Proof,
        difficulty: float,
        fields: dict[str, Any],
    ) -> Callable[[], None]:
        """Counts an accepted share; returns what writes its events: best, vardiff, share."""
        now = time.monotonic()
        identity = miner.identity
        session.count_accepted()
        self.accepted += 1
        self.hashrates.add(now, identity.user, identity.worker, difficulty)
        broken = self.bests.accept(timestamp, identity.user, session.best, proof.share_diff)
        session.best = max(session.best, proof.share_diff)
        old = session.vardiff.difficulty
        new = session.vardiff.accepted(now, difficulty, self.bounds())
        if new is not None:
            session.change_difficulty(new)

        def announce() -> None:
            for item in broken:
                self.events.best(miner, timestamp, item, to_display(proof.hash))
            if new is not None:
                self.events.difficulty(miner, old, new, "vardiff", timestamp)
            self.events.share(miner, timestamp, fields)

        return announce

    async def _solve(
        self,
        miner: Miner,
        payout: Payout,
        timestamp: int,
        work: Work,
        proof: Proof,
        block: bytes,
    ) -> None:
        """Gives a solved block to the node; its event comes unless the node refused it."""
        template = work.template
        verdict = await self._submit_block(block)
        if verdict is Verdict.REFUSED:
            return
        if verdict is Verdict.TAKEN:
            self._solved = template.prev_hash
        self.blocks += 1
        log.info(
            "block found",
            height=template.height,
            hash=to_display(proof.hash),
            share_diff=proof.share_diff,
            **miner.who,
        )
        self.events.block(
            miner,
            timestamp,
            {
                "height": template.height,
                "hash": to_display(proof.hash),
                "prev_hash": to_display(template.prev_hash),
                "difficulty": proof.share_diff,
                "network_difficulty": work.network_difficulty,
                "reward_sats": template.coinbase_value,
                "fees_sats": template.fees,
                "nonce": f"{int.from_bytes(proof.header[76:], 'little'):08x}",
                "coinbase_sig": payout.signature,
            },
        )

    def _share_fields(
        self,
        params: list[Any],
        difficulty: float,
        work: Work | None,
        proof: Proof | None,
        rejection: Rejection | None,
    ) -> dict[str, Any]:
        """What a share's event says about the share; what the miner wrote is cleaned or null."""
        sent = [*params[:6], *[None] * 6]

        def hexed(value: Any, size: int) -> str | None:
            return hex_digits(value, size) or hex_or_none(value)

        return {
            "difficulty": difficulty,
            "share_diff": proof.share_diff if proof else None,
            "valid": rejection is None,
            "reject_reason": rejection.reason if rejection else None,
            "job_id": printable_or_none(sent[1], MAX_JOB_ID),
            "nonce": hexed(sent[4], 8),
            "nonce2": hexed(sent[2], 2 * self.config.nonce2length),
            "ntime": hexed(sent[3], 8),
            "hash": to_display(proof.hash) if proof else None,
            "version_bits": hexed(sent[5], 8),
            "network_difficulty": (work or self.work).network_difficulty,
        }

    # --- once in a while

    def lower_the_quiet(self) -> None:
        """Lowers the difficulty of miners that have sent nothing for long."""
        now = time.monotonic()
        for session in list(self.sessions.values()):
            new = session.vardiff.quiet(now, self.bounds())
            if new is not None and session.miner is not None:
                old = session.vardiff.difficulty
                session.change_difficulty(new)
                self.events.difficulty(session.miner, old, new, "no shares")

    def report_hashrates(self) -> None:
        """Writes a hashrate_update for every worker and every user."""
        online = {
            (item.miner.identity.user, item.miner.identity.worker)
            for item in self.sessions.values()
            if item.miner is not None
        }
        for user, worker, rates in self.hashrates.report(time.monotonic(), online):
            self.events.hashrate(user, worker, rates)
