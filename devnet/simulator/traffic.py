"""All events of a scenario, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

import numpy as np

from devnet.simulator.arrivals import (
    PROOF_DIGITS,
    REJECT_REASONS,
    Arrivals,
    Verdict,
    draw_arrivals,
    swing_at,
)
from devnet.simulator.best import Bests
from devnet.simulator.calendar import iso_week
from devnet.simulator.chain import SIGNATURE, WORK_EVERY, Chain
from devnet.simulator.fleet import Fleet
from devnet.simulator.hashrate import Hashrates
from devnet.simulator.journal import KINDS, Batch, Journal
from devnet.simulator.lifecycle import Change, Lifecycle, Turn
from devnet.simulator.scenario import SECOND, Scenario

BATCH: Final = 256  # events, about; a batch ends with the share that fills it

(
    _SHARE,
    _BLOCK,
    _CONNECTED,
    _DISCONNECTED,
    _DIFF,
    _HASHRATE,
    _NETWORK_BLOCK,
) = (
    KINDS.index(name)
    for name in (
        "share_submitted",
        "block_found",
        "miner_connected",
        "miner_disconnected",
        "diff_updated",
        "hashrate_update",
        "new_block_network",
    )
)
_FAREWELLS: Final = ("closed by the miner", "connection reset", "idle timeout")


def simulate(scenario: Scenario, fleet: Fleet) -> Iterator[Batch]:
    """The events of a scenario, batch by batch; ``fleet`` must be ``build_fleet(scenario)``."""
    yield from _Traffic(scenario, fleet).run()


class _Traffic:
    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        machines = scenario.miners
        self._scenario = scenario
        self._fleet = fleet
        self._journal = Journal(scenario)
        self._lifecycle = Lifecycle(scenario, fleet)
        self._chain = Chain(scenario, fleet)
        self._hashrates = Hashrates(scenario, fleet)
        self._bests = Bests(fleet, self._journal)
        self._rng = np.random.default_rng([scenario.seed, scenario.start, 3])
        self._clients = 0
        # Of each machine's session:
        self._since: list[int | None] = [None] * machines  # timestamp; None while away
        self._client = [0] * machines
        self._accepted = [0] * machines
        self._rejected = [0] * machines
        self._difficulty = [0.0] * machines
        self._prefix = [""] * machines  # members of a share that rarely change
        self._suffix = [""] * machines
        self._last: list[tuple[str, str] | None] = [None] * machines  # accepted last
        # Of the work that is handed out:
        self._jobs = 0
        self._job = self._ntime = self._stale_job = ""
        self._turns_at = 0  # when new work or a new week begins
        self._week_ends = 0

    def run(self) -> Iterator[Batch]:
        scenario, journal = self._scenario, self._journal
        shares_per_second = scenario.miners * scenario.shares_per_minute / 60
        # Large enough for numpy to pay, small enough for memory and for the swing of a day.
        window = min(3600.0, max(4096, scenario.miners / 4) / shares_per_second)
        # With a rate the stamps decide when the span is over, as they lag behind this clock.
        horizon = scenario.span if scenario.rate is None else inf
        day = scenario.start / SECOND
        self._announce_tip()
        begin = 0.0
        while begin < horizon and not journal.over:
            end = min(begin + window, horizon)
            changes, segments = self._lifecycle.advance(begin, end)
            shares = draw_arrivals(
                segments,
                self._fleet.hashrate,
                swing_at(day + (begin + end) / 2, scenario.diurnal),
                scenario,
                self._rng,
            )
            happenings: list[tuple[float, int, Change | int]] = [
                *((change.time, 0, change) for change in changes),
                *((time, 1, user) for time, user in self._hashrates.due(begin, end)),
                *((time, 2, 0) for time in self._chain.foreign_blocks(end)),
            ]
            happenings.sort(key=lambda happening: happening[0])
            yield from self._play(shares, happenings)
            begin = end
        yield journal.take().before(journal.end)

    def _play(
        self, shares: Arrivals, happenings: list[tuple[float, int, Change | int]]
    ) -> Iterator[Batch]:
        """Writes one window: the shares, and between them what else happens."""
        journal = self._journal
        cuts = np.searchsorted(shares.time, [time for time, _, _ in happenings]).tolist()
        columns = list(
            zip(
                shares.time.tolist(),
                shares.machine.tolist(),
                shares.share_diff.tolist(),
                shares.verdict.tolist(),
                range(0, len(shares.proof), PROOF_DIGITS),
                strict=True,
            )
        )
        done = 0
        for place in range(len(happenings) + 1):
            cut = cuts[place] if place < len(happenings) else len(columns)
            while done < cut:
                until = min(cut, done + BATCH)
                self._submit(columns[done:until], shares.proof)
                done = until
                if len(journal) >= BATCH:
                    if journal.over:
                        return
                    yield journal.take()
            if place < len(happenings):
                self._happen(*happenings[place])
                if len(journal) >= BATCH:
                    if journal.over:
                        return
                    yield journal.take()

    def _submit(self, rows: list[tuple[float, int, float, int, int]], proof: str) -> None:
        """Shares come in. The hot path: everything else is rare."""
        journal, bests, owner = self._journal, self._bests, self._fleet.owner
        tick, write = journal.tick, journal.write
        session_best, accepted = bests.session, self._accepted
        prefix, suffix, last = self._prefix, self._suffix, self._last
        rolls_version = self._fleet.rolls_version
        network_difficulty = self._chain.network_difficulty
        for time, machine, share_diff, verdict, at in rows:
            if tick(time) >= self._turns_at:
                self._turn()
            if verdict:
                self._refuse(machine, share_diff, Verdict(verdict), proof[at : at + PROOF_DIGITS])
                continue
            user = owner[machine]
            share_hash = proof[at : at + 64]
            solved = share_diff >= network_difficulty
            if solved:
                self._solve(machine, share_diff, share_hash, proof[at + 64 : at + 72])
            if share_diff > session_best[machine] or share_diff > bests.week[user]:
                bests.beat(machine, user, share_diff, share_hash)
            accepted[machine] += 1
            achieved = repr(share_diff)
            work = (
                f'"job_id":"{self._job}","nonce":"{proof[at + 64 : at + 72]}",'
                f'"nonce2":"{proof[at + 72 : at + 88]}","ntime":"{self._ntime}",'
                f'"hash":"{share_hash}"'
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
                self._extend(share_hash)

    def _refuse(self, machine: int, share_diff: float, verdict: Verdict, proof: str) -> None:
        """A share is rejected; of some the hash was never computed."""
        achieved, job, ntime = repr(share_diff), self._job, self._ntime
        nonces = f'"nonce":"{proof[64:72]}","nonce2":"{proof[72:88]}"'
        share_hash = f'"{proof[:64]}"'
        work = None
        previous = self._last[machine]
        if verdict is Verdict.DUPLICATE:
            if previous is None:  # nothing to repeat yet
                verdict = Verdict.UNKNOWN_JOB
            else:
                achieved, work = previous
        if verdict is Verdict.STALE:
            job = self._stale_job
        elif verdict is Verdict.NTIME:
            ntime = f"{int(self._ntime, 16) + 7201:08x}"
            achieved = share_hash = "null"
        elif verdict is Verdict.UNKNOWN_JOB:
            job = f"{int(proof[:16], 16):x}"
            achieved = share_hash = "null"
        elif verdict is Verdict.MALFORMED:
            achieved = "null"
            work = '"job_id":null,"nonce":null,"nonce2":null,"ntime":null,"hash":null'
        if work is None:
            work = f'"job_id":"{job}",{nonces},"ntime":"{ntime}","hash":{share_hash}'
        self._rejected[machine] += 1
        self._journal.write(
            _SHARE,
            f'{self._prefix[machine]}{achieved},"valid":false,'
            f'"reject_reason":"{REJECT_REASONS[verdict]}",{work}{self._suffix[machine]}',
        )

    def _happen(self, time: float, what: int, subject: Change | int) -> None:
        if self._journal.tick(time) >= self._turns_at:
            self._turn()
        if isinstance(subject, Change):
            self._change(subject)
        elif what == 1:
            self._report_hashrates(subject)
        else:
            self._extend(self._chain.forge_hash(self._chain.height + 1))

    def _change(self, change: Change) -> None:
        """A machine connects, leaves, or is given another difficulty."""
        machine = change.machine
        fleet, journal = self._fleet, self._journal
        identity, ip, agent = fleet.identity[machine], fleet.ip[machine], fleet.agent[machine]
        if change.turn is Turn.CONNECT:
            self._clients += 1
            self._client[machine] = self._clients
            self._since[machine] = journal.stamp
            self._accepted[machine] = self._rejected[machine] = 0
            self._bests.session[machine] = 0.0
            self._last[machine] = None
            journal.write(
                _CONNECTED,
                f'{identity},"ip":{ip},"initial_diff":{change.difficulty!r},'
                f'"client_id":{self._clients},"user_agent":{agent},"protocol":"stratum_v1"',
            )
        elif change.turn is Turn.RETARGET:
            journal.write(
                _DIFF,
                f'{identity},"old_diff":{self._difficulty[machine]!r},'
                f'"new_diff":{change.difficulty!r},"client_id":{self._client[machine]},'
                '"reason":"vardiff"',
            )
        else:
            duration = (journal.stamp - self._since_of(machine)) / SECOND
            journal.write(
                _DISCONNECTED,
                f'{identity},"session_duration":{duration!r},"client_id":{self._client[machine]},'
                f'"ip":{ip},"shares_accepted":{self._accepted[machine]},'
                f'"shares_rejected":{self._rejected[machine]},'
                f'"best_diff_session":{self._bests.session[machine]!r},'
                f'"reason":"{_FAREWELLS[self._client[machine] % len(_FAREWELLS)]}"',
            )
            self._since[machine] = None
        self._difficulty[machine] = change.difficulty
        self._prefix[machine] = f'{identity},"difficulty":{change.difficulty!r},"share_diff":'
        self._suffix[machine] = (
            f',"ip":{ip},"client_id":{self._client[machine]},"user_agent":{agent},'
            f'"network_difficulty":{self._chain.network_difficulty!r}'
        )

    def _since_of(self, machine: int) -> int:
        since = self._since[machine]
        if since is None:
            raise RuntimeError(f"machine {machine} has no session")
        return since

    def _report_hashrates(self, user: int) -> None:
        """The averages of a user's connected machines, and their sum as the user's own."""
        fleet, journal = self._fleet, self._journal
        machines = [
            machine
            for machine in range(fleet.first[user], fleet.first[user + 1])
            if self._since[machine] is not None
        ]
        if not machines:
            return
        ages = [(journal.stamp - self._since_of(machine)) / SECOND for machine in machines]
        readings = self._hashrates.read(machines, ages)
        for machine, reading in zip(machines, readings, strict=True):
            if fleet.workers[machine]:  # '' would pass for the total
                self._write_hashrate(fleet.identity[machine], reading)
        self._write_hashrate(
            fleet.totals[user], [sum(column) for column in zip(*readings, strict=True)]
        )

    def _write_hashrate(self, identity: str, reading: list[float]) -> None:
        m1, m5, h1, h24 = reading
        self._journal.write(
            _HASHRATE,
            f'{identity},"hashrate_1m":{m1:.1f},"hashrate_5m":{m5:.1f},'
            f'"hashrate_1h":{h1:.1f},"hashrate_24h":{h24:.1f}',
        )

    def _solve(self, machine: int, share_diff: float, share_hash: str, nonce: str) -> None:
        chain = self._chain
        reward, fees = chain.draw_reward()
        self._journal.write(
            _BLOCK,
            f'{self._fleet.identity[machine]},"height":{chain.height + 1},"hash":"{share_hash}",'
            f'"prev_hash":"{chain.hash}","difficulty":{share_diff!r},'
            f'"network_difficulty":{chain.network_difficulty!r},"reward_sats":{reward},'
            f'"fees_sats":{fees},"nonce":"{nonce}","coinbase_sig":"{SIGNATURE}"',
        )

    def _extend(self, block_hash: str) -> None:
        """A block is the new tip, and everybody gets new work."""
        self._chain.extend(block_hash)
        self._announce_tip()
        self._new_work()

    def _announce_tip(self) -> None:
        chain = self._chain
        self._journal.write(
            _NETWORK_BLOCK,
            f'"height":{chain.height},"hash":"{chain.hash}",'
            f'"network_difficulty":{chain.network_difficulty!r},"prev_hash":"{chain.prev_hash}"',
        )

    def _turn(self) -> None:
        """Time for new work, and perhaps a new week."""
        stamp = self._journal.stamp
        if stamp >= self._week_ends:
            week, self._week_ends = iso_week(stamp)
            self._bests.begin_week(week)
        self._new_work()
        # A week ends on a whole minute, so this never misses one.
        self._turns_at = stamp - stamp % (WORK_EVERY * SECOND) + WORK_EVERY * SECOND

    def _new_work(self) -> None:
        seconds = self._journal.stamp // SECOND
        self._jobs += 1
        self._stale_job = self._job or f"{seconds:08x}{0:08x}"
        self._job = f"{seconds:08x}{self._jobs:08x}"
        self._ntime = f"{seconds:08x}"
