"""All events of a scenario, in the order of time."""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Final

import numpy as np

from devnet.simulator.arrivals import PROOF_DIGITS, Arrivals, draw_arrivals, swing_at
from devnet.simulator.best import FleetBests
from devnet.simulator.chain import Chain
from devnet.simulator.clock import Clock
from devnet.simulator.fleet import Fleet
from devnet.simulator.hashrate import Hashrates
from devnet.simulator.journal import KINDS, Batch, Journal
from devnet.simulator.lifecycle import Change, Lifecycle, Turn
from devnet.simulator.scenario import Scenario
from devnet.simulator.session import Sessions
from devnet.simulator.share import Shares
from devnet.simulator.work import Work
from tbg_core.periods import SECOND

BATCH: Final = 256  # events, about; a batch ends with the share or happening that fills it

_HASHRATE: Final = KINDS.index("hashrate_update")

_Happening = tuple[float, Callable[[], None]]
"""When, in seconds from the start, and what to do then."""


def simulate(scenario: Scenario, fleet: Fleet) -> Iterator[Batch]:
    """The events of a scenario, batch by batch; ``fleet`` must be ``build_fleet(scenario)``."""
    yield from _Traffic(scenario, fleet).run()


class _Traffic:
    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        self._scenario = scenario
        self._fleet = fleet
        self._journal = journal = Journal(scenario)
        self._lifecycle = Lifecycle(scenario, fleet)
        self._chain = Chain(scenario, fleet, journal)
        self._clock = Clock(scenario)
        self._down = False  # between two boots of the engine
        self._hashrates = Hashrates(scenario, fleet)
        bests = FleetBests(fleet, journal)
        tail = f',"network_difficulty":{self._chain.network_difficulty!r}'
        self._sessions = Sessions(scenario, fleet, journal, bests, tail)
        self._work = Work(journal, bests)
        self._shares = Shares(fleet, journal, self._sessions, bests, self._chain, self._work)
        self._rng = np.random.default_rng([scenario.seed, scenario.start, 3])

    def run(self) -> Iterator[Batch]:
        scenario, journal = self._scenario, self._journal
        shares_per_second = scenario.miners * scenario.shares_per_minute / 60
        # Large enough for numpy to pay, small enough for memory and for the swing of a day.
        window = min(3600.0, max(4096, scenario.miners / 4) / shares_per_second)
        # With a rate the stamps decide when the span is over, as they lag behind this clock.
        horizon = scenario.span if scenario.rate is None else inf
        begin = 0.0
        self._chain.announce()  # as engines do at their start
        while begin < horizon and not journal.over:
            end = min(begin + window, horizon)
            changes, segments = self._lifecycle.advance(begin, end)
            swing = swing_at(scenario.start / SECOND + (begin + end) / 2, scenario.diurnal)
            shares = draw_arrivals(segments, self._fleet.hashrate, swing, scenario, self._rng)
            happenings: list[_Happening] = [
                *((change.time, partial(self._change, change)) for change in changes),
                *(
                    (time, partial(self._report_hashrates, time, user))
                    for time, user in self._hashrates.due(begin, end)
                ),
                *((time, self._foreign_block) for time in self._chain.foreign_blocks(end)),
                *((time, partial(self._step, error)) for time, error in self._clock.steps(end)),
            ]
            happenings.sort(key=lambda happening: happening[0])
            yield from self._play(shares, happenings)
            begin = end
        rest = journal.take().before(journal.end)
        if len(rest):
            yield rest

    def _play(self, shares: Arrivals, happenings: list[_Happening]) -> Iterator[Batch]:
        """Writes one window: the shares, and between them what else happens."""
        journal = self._journal
        rows = list(
            zip(
                shares.time.tolist(),
                shares.machine.tolist(),
                shares.share_diff.tolist(),
                shares.verdict.tolist(),
                range(0, len(shares.proof), PROOF_DIGITS),
                strict=True,
            )
        )
        cuts = np.searchsorted(shares.time, [time for time, _ in happenings]).tolist()
        done = 0
        for cut, happening in zip([*cuts, len(rows)], [*happenings, None], strict=True):
            while done < cut and not journal.over:
                until = min(cut, done + BATCH)
                self._shares.submit(rows[done:until], shares.proof)
                done = until
                yield from self._full_batch()
            if journal.over:
                return
            if happening is not None:
                time, happen = happening
                if journal.tick(time) >= self._work.turns_at:
                    self._work.turn()
                happen()
                yield from self._full_batch()

    def _full_batch(self) -> Iterator[Batch]:
        """The events so far, if they fill a batch or end an engine instance."""
        waiting = len(self._journal)
        if waiting >= (1 if self._down else BATCH) and not self._journal.over:
            yield self._journal.take()

    def _change(self, change: Change) -> None:
        if change.turn is Turn.BOOT:
            self._down = False
            self._journal.boot()
            self._chain.announce()
            self._work.renew()
        elif change.turn in (Turn.STOP, Turn.CRASH):
            self._down = True
            self._sessions.end(change.time, in_order=change.turn is Turn.STOP)
        else:
            self._sessions.change(change)

    def _foreign_block(self) -> None:
        self._chain.extend()
        if not self._down:
            self._chain.announce()
        self._work.renew()

    def _step(self, error: int) -> None:
        self._journal.error = error
        self._work.turn()

    def _report_hashrates(self, time: float, user: int) -> None:
        """The averages of a user's connected machines, and their sum as the user's own.

        With a rate, each event has its own moment, so that a user with many machines makes no
        burst.
        """
        fleet, sessions = self._fleet, self._sessions
        machines = [
            machine
            for machine in range(fleet.first[user], fleet.first[user + 1])
            if sessions.connected(machine)
        ]
        if not machines:
            return
        readings = self._hashrates.read(
            machines,
            [sessions.age(machine) for machine in machines],
            [sessions.silence(machine) for machine in machines],
        )
        for machine, reading in zip(machines, readings, strict=True):
            if fleet.workers[machine]:  # '' would pass for the total
                self._write_hashrate(time, fleet.identity[machine], reading)
        total = [sum(column) for column in zip(*readings, strict=True)]
        self._write_hashrate(time, fleet.totals[user], total)

    def _write_hashrate(self, time: float, identity: str, reading: list[float]) -> None:
        self._journal.tick(time)
        m1, m5, h1, h24 = reading
        self._journal.write(
            _HASHRATE,
            f'{identity},"hashrate_1m":{m1:.1f},"hashrate_5m":{m5:.1f},'
            f'"hashrate_1h":{h1:.1f},"hashrate_24h":{h24:.1f}',
        )
