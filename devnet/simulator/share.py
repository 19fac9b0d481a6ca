"""Writes shares: the hot path of the simulator. Everything else is rare."""

from dataclasses import dataclass
from typing import Final

from devnet.simulator.arrivals import PROOF_DIGITS, REJECT_REASONS, ShareOutcome
from devnet.simulator.best import FleetBests
from devnet.simulator.chain import Chain
from devnet.simulator.fleet import Fleet
from devnet.simulator.journal import KINDS, Journal
from devnet.simulator.session import Sessions
from devnet.simulator.work import Work

_SHARE: Final = KINDS.index("share_submitted")

Row = tuple[float, int, float, int, int]
"""Time in seconds, machine, share difficulty, verdict, and where its proof begins."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Writes shares and what follows from them: bests, blocks, counts."""

    _fleet: Fleet
    _journal: Journal
    _sessions: Sessions
    _bests: FleetBests
    _chain: Chain
    _work: Work

    def submit(self, rows: list[Row], proof: str) -> None:
        """Writes shares in the order of time. For one share: block, bests, share, new tip."""
        journal, bests, chain, current = self._journal, self._bests, self._chain, self._work
        tick, write, sessions = journal.tick, journal.write, self._sessions
        owner, rolls_version = self._fleet.owner, self._fleet.rolls_version
        prefix, suffix, last = sessions.prefix, sessions.suffix, sessions.last
        session_best, accepted = bests.session, sessions.accepted
        network_difficulty = chain.network_difficulty
        for time, machine, share_diff, verdict, at in rows:
            if tick(time) >= current.turns_at:
                current.turn()
            if verdict:
                self._refuse(
                    machine, share_diff, ShareOutcome(verdict), proof[at : at + PROOF_DIGITS]
                )
                continue
            user = owner[machine]
            share_hash = proof[at : at + 64]
            nonce = proof[at + 64 : at + 72]
            solved = share_diff >= network_difficulty
            if solved:
                chain.solve(machine, share_diff, share_hash, nonce)
            if share_diff > session_best[machine] or share_diff > bests.week[user]:
                bests.beat(machine, user, share_diff, share_hash)
            accepted[machine] += 1
            achieved = repr(share_diff)
            work = (
                f'"job_id":"{current.job}","nonce":"{nonce}","nonce2":"{proof[at + 72 : at + 88]}",'
                f'"ntime":"{current.ntime}","hash":"{share_hash}"'
            )
            if rolls_version[machine]:
                work += f',"version_bits":"{proof[at + 88 : at + 96]}"'
            last[machine] = (achieved, work)
            write(
                _SHARE,
                f'{prefix[machine]}{achieved},"valid":true,"reject_reason":null,{work}'
                f"{suffix[machine]}",
            )
            if solved:
                chain.extend(share_hash)
                chain.announce()
                current.renew()

    def _refuse(self, machine: int, share_diff: float, verdict: ShareOutcome, proof: str) -> None:
        """Writes a rejected share; the hash of some was never computed."""
        sessions, current = self._sessions, self._work
        achieved, job, ntime = repr(share_diff), current.job, current.ntime
        share_hash = f'"{proof[:64]}"'
        previous = sessions.last[machine]
        work = None
        if verdict is ShareOutcome.DUPLICATE and previous is None:  # nothing to repeat yet
            verdict = ShareOutcome.UNKNOWN_JOB
        if verdict is ShareOutcome.DUPLICATE and previous is not None:
            achieved, work = previous
        elif verdict is ShareOutcome.STALE:
            job = current.stale_job
        elif verdict is ShareOutcome.NTIME:
            ntime = f"{int(ntime, 16) + 7201:08x}"
            achieved = share_hash = "null"
        elif verdict is ShareOutcome.UNKNOWN_JOB:
            job = proof[48:64]  # random, so never handed out
            achieved = share_hash = "null"
        elif verdict is ShareOutcome.MALFORMED:
            achieved = "null"
            work = '"job_id":null,"nonce":null,"nonce2":null,"ntime":null,"hash":null'
        if work is None:
            work = (
                f'"job_id":"{job}","nonce":"{proof[64:72]}","nonce2":"{proof[72:88]}",'
                f'"ntime":"{ntime}","hash":{share_hash}'
            )
        sessions.rejected[machine] += 1
        self._journal.write(
            _SHARE,
            f'{sessions.prefix[machine]}{achieved},"valid":false,'
            f'"reject_reason":"{REJECT_REASONS[verdict]}",{work}{sessions.suffix[machine]}',
        )
