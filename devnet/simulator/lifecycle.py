"""Connections come and go, and difficulties change: what decides how fast a machine submits."""

from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from devnet.simulator.clock import about
from devnet.simulator.fleet import Fleet
from devnet.simulator.hardware import LOWEST_DIFFICULTY
from devnet.simulator.scenario import Scenario

ENGINE: Final = -1
"""In place of a machine, in a turn of the engine itself."""

_DOWN: Final = 10.0  # seconds until a stopped engine is back, more or less


class Turn(IntEnum):
    """What happens to a machine, or to the engine."""

    CONNECT = 0
    RETARGET = 1
    DISCONNECT = 2
    NAP = 3
    WAKE = 4
    LEAVE = 5
    STOP = 6
    CRASH = 7
    BOOT = 8


class Change(NamedTuple):
    """One turn, ``time`` in seconds from the start.

    ``machine`` is ``ENGINE`` for the last three turns; ``difficulty`` is the assigned share
    difficulty from then on, of a machine.
    """

    time: float
    turn: Turn
    machine: int
    difficulty: float


@dataclass(frozen=True, slots=True)
class Segments:
    """Stretches of time in which a machine sent shares at one difficulty, as columns.

    ``begin`` and ``end`` are in seconds from the start.
    """

    machine: NDArray[np.int64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]
    difficulty: NDArray[np.float64]


class Lifecycle:
    """Moves the fleet and its engine through time, window by window.

    A machine connects with a difficulty that may be half or double of what suits it, gets the
    right one within two minutes, and a slightly different one now and then, as vardiff does.
    When the engine is back after a restart, the machines that it had come back as well.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        self._scenario = scenario
        self._target = fleet.difficulty.tolist()
        self._random = Random(f"{scenario.seed}/{scenario.start}/lifecycle")  # noqa: S311 - a simulation wants it repeatable
        self._order = count()
        self._session = [0] * scenario.miners
        self._connected = [scenario.settled] * scenario.miners
        self._gone: set[int] = set()
        self._boots_at = 0.0
        self._begin = 0.0
        self._closed: list[tuple[int, float, float, float]] = []
        self._since = np.zeros(scenario.miners)
        self._difficulty = fleet.difficulty.copy()
        self._active = np.full(scenario.miners, scenario.settled)
        # (time, tie-breaker, turn, machine, session): a turn of an earlier session is void.
        self._agenda: list[tuple[float, int, Turn, int, int]] = []
        for machine in range(scenario.miners):
            if scenario.settled:
                self._plan(self._draw(scenario.vardiff), Turn.RETARGET, machine)
                self._plan_session(0.0, machine)
            else:
                self._plan(self._random.uniform(0, scenario.ramp), Turn.CONNECT, machine)
        self._plan(about(self._random, scenario.leave_every), Turn.LEAVE, ENGINE)
        self._plan_restart(0.0)

    def advance(self, begin: float, end: float) -> tuple[list[Change], Segments]:
        """What changes in [begin, end), in order, and the segments that it leaves.

        Windows must follow each other without a gap.
        """
        changes: list[Change] = []
        self._begin, self._closed = begin, []
        while self._agenda and self._agenda[0][0] < end:
            time, _, turn, machine, session = heappop(self._agenda)
            if machine == ENGINE:
                change = self._leave(time) if turn is Turn.LEAVE else self._restart(time, turn)
            elif session == self._session[machine]:
                change = self._take(time, turn, machine)
            else:
                continue
            if change is not None:
                changes.append(change)
        still = np.flatnonzero(self._active)
        ended = np.array(self._closed, dtype=np.float64).reshape(-1, 4)
        return changes, Segments(
            machine=np.concatenate([still, ended[:, 0].astype(np.int64)]),
            begin=np.concatenate([np.maximum(self._since[still], begin), ended[:, 1]]),
            end=np.concatenate([np.full(len(still), end), ended[:, 2]]),
            difficulty=np.concatenate([self._difficulty[still], ended[:, 3]]),
        )

    def _take(self, time: float, turn: Turn, machine: int) -> Change | None:
        """Applies a turn of a machine and plans what follows from it."""
        random, scenario = self._random, self._scenario
        if turn is Turn.CONNECT and time < self._boots_at:
            self._plan(self._boots_at + random.uniform(0, scenario.ramp), turn, machine)
            return None
        self._close(time, machine)
        difficulty = float(self._difficulty[machine])
        if turn is Turn.CONNECT:
            factor = random.choice((0.5, 1.0, 1.0, 2.0))
            difficulty = max(LOWEST_DIFFICULTY, self._target[machine] * factor)
            self._active[machine] = self._connected[machine] = True
            until_right = random.uniform(20, 120) if factor != 1.0 else self._draw(scenario.vardiff)
            self._plan(time + until_right, Turn.RETARGET, machine)
            self._plan_session(time, machine)
        elif turn is Turn.RETARGET:
            # A divisor, so that the mean rate of shares stays what it was.
            wanted = float(f"{self._target[machine] / random.uniform(0.8, 1.2):.4g}")
            difficulty = max(LOWEST_DIFFICULTY, wanted)
            self._plan(time + self._draw(scenario.vardiff), Turn.RETARGET, machine)
        elif turn is Turn.NAP:
            self._active[machine] = False
            self._plan(time + self._draw(scenario.nap), Turn.WAKE, machine)
        elif turn is Turn.WAKE:
            self._active[machine] = True
            self._plan(time + self._draw(scenario.nap_every), Turn.NAP, machine)
        else:
            self._disconnect(machine)
            self._plan(time + self._draw(scenario.offline), Turn.CONNECT, machine)
        self._since[machine] = time
        self._difficulty[machine] = difficulty
        return Change(time, turn, machine, difficulty)

    def _leave(self, time: float) -> Change | None:
        """A machine leaves for good; one that is away already never comes back."""
        scenario = self._scenario
        machine = self._random.randrange(scenario.miners)
        if 10 * (len(self._gone | {machine})) > scenario.miners:
            return None
        self._gone.add(machine)
        self._plan(time + about(self._random, scenario.leave_every), Turn.LEAVE, ENGINE)
        was_connected = self._connected[machine]
        self._close(time, machine)
        self._disconnect(machine)
        if not was_connected:
            return None
        return Change(time, Turn.LEAVE, machine, float(self._difficulty[machine]))

    def _restart(self, time: float, turn: Turn) -> Change:
        if turn is Turn.BOOT:
            self._plan_restart(time)
            return Change(time, turn, ENGINE, 0.0)
        self._boots_at = time + about(self._random, _DOWN)
        self._plan(self._boots_at, Turn.BOOT, ENGINE)
        for machine in range(self._scenario.miners):
            if self._connected[machine]:
                self._close(time, machine)
                self._disconnect(machine)
                self._plan(
                    self._boots_at + self._random.uniform(0, self._scenario.ramp),
                    Turn.CONNECT,
                    machine,
                )
        return Change(time, turn, ENGINE, 0.0)

    def _close(self, time: float, machine: int) -> None:
        """Ends the segment of a machine, if it has one."""
        if self._active[machine]:
            since = max(self._begin, float(self._since[machine]))
            self._closed.append((machine, since, time, float(self._difficulty[machine])))

    def _disconnect(self, machine: int) -> None:
        self._active[machine] = self._connected[machine] = False
        self._session[machine] += 1

    def _plan_session(self, time: float, machine: int) -> None:
        self._plan(time + self._draw(self._scenario.session), Turn.DISCONNECT, machine)
        self._plan(time + self._draw(self._scenario.nap_every), Turn.NAP, machine)

    def _plan_restart(self, time: float) -> None:
        turn = self._random.choice((Turn.STOP, Turn.CRASH))
        self._plan(time + about(self._random, self._scenario.restart_every), turn, ENGINE)

    def _plan(self, time: float, turn: Turn, machine: int) -> None:
        if time < inf:
            session = 0 if machine == ENGINE else self._session[machine]
            heappush(self._agenda, (time, next(self._order), turn, machine, session))

    def _draw(self, mean: float) -> float:
        """A time span from the exponential distribution, in seconds; ``mean`` may be infinite."""
        return mean if mean == inf else self._random.expovariate(1 / mean)
