"""Connections come and go, and difficulties change: what decides how fast a machine submits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devnet.simulator.fleet import Fleet
from devnet.simulator.scenario import Scenario


class Turn(IntEnum):
    """What happens to a machine."""

    CONNECT = 0
    RETARGET = 1
    DISCONNECT = 2


class Change(NamedTuple):
    """One turn in the life of a machine, ``time`` in seconds from the start.

    ``difficulty`` is the assigned share difficulty from then on.
    """

    time: float
    turn: Turn
    machine: int
    difficulty: float


@dataclass(frozen=True, slots=True)
class Segments:
    """Stretches of time in which a machine was connected at one difficulty, as columns.

    ``begin`` and ``end`` are in seconds from the start.
    """

    machine: NDArray[np.int64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]
    difficulty: NDArray[np.float64]


class Lifecycle:
    """Moves the fleet through time, window by window.

    A machine connects with a difficulty that may be half or double of what suits it, gets the
    right one within two minutes, and a slightly different one now and then, as vardiff does.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        self._scenario = scenario
        self._target = fleet.difficulty.tolist()
        self._random = Random(f"{scenario.seed}/{scenario.start}/lifecycle")  # noqa: S311 - a simulation wants it repeatable
        self._order = count()
        self._session = [0] * scenario.miners
        self._since = np.zeros(scenario.miners)
        self._difficulty = fleet.difficulty.copy()
        self._connected = np.full(scenario.miners, scenario.settled)
        # (time, tie-breaker, turn, machine, session): a turn of an earlier session is void.
        self._agenda: list[tuple[float, int, Turn, int, int]] = []
        for machine in range(scenario.miners):
            if scenario.settled:
                self._plan(self._draw(scenario.vardiff), Turn.RETARGET, machine)
                self._plan(self._draw(scenario.session), Turn.DISCONNECT, machine)
            else:
                self._plan(self._random.uniform(0, scenario.ramp), Turn.CONNECT, machine)

    def advance(self, begin: float, end: float) -> tuple[list[Change], Segments]:
        """What changes in [begin, end), in order, and the segments that it leaves.

        Windows must follow each other without a gap.
        """
        changes: list[Change] = []
        closed: list[tuple[int, float, float, float]] = []
        while self._agenda[0][0] < end:
            time, _, turn, machine, session = heappop(self._agenda)
            if session != self._session[machine]:
                continue
            if turn is not Turn.CONNECT:
                closed.append(
                    (
                        machine,
                        max(begin, float(self._since[machine])),
                        time,
                        float(self._difficulty[machine]),
                    )
                )
            difficulty = self._take(time, turn, machine)
            changes.append(Change(time, turn, machine, difficulty))
        still = np.flatnonzero(self._connected)
        ended = np.array(closed, dtype=np.float64).reshape(-1, 4)
        return changes, Segments(
            machine=np.concatenate([still, ended[:, 0].astype(np.int64)]),
            begin=np.concatenate([np.maximum(self._since[still], begin), ended[:, 1]]),
            end=np.concatenate([np.full(len(still), end), ended[:, 2]]),
            difficulty=np.concatenate([self._difficulty[still], ended[:, 3]]),
        )

    def _take(self, time: float, turn: Turn, machine: int) -> float:
        """Applies a turn, plans what follows from it, and returns the new difficulty."""
        random, scenario = self._random, self._scenario
        difficulty = float(self._difficulty[machine])
        if turn is Turn.CONNECT:
            factor = random.choice((0.5, 1.0, 1.0, 2.0))
            difficulty = self._target[machine] * factor
            self._connected[machine] = True
            until_right = random.uniform(20, 120) if factor != 1.0 else self._draw(scenario.vardiff)
            self._plan(time + until_right, Turn.RETARGET, machine)
            self._plan(time + self._draw(scenario.session), Turn.DISCONNECT, machine)
        elif turn is Turn.RETARGET:
            # A divisor, so that the mean rate of shares stays what it was.
            difficulty = float(f"{self._target[machine] / random.uniform(0.8, 1.2):.4g}")
            self._plan(time + self._draw(scenario.vardiff), Turn.RETARGET, machine)
        else:
            self._connected[machine] = False
            self._session[machine] += 1
            self._plan(time + self._draw(scenario.offline), Turn.CONNECT, machine)
        self._since[machine] = time
        self._difficulty[machine] = difficulty
        return difficulty

    def _plan(self, time: float, turn: Turn, machine: int) -> None:
        heappush(self._agenda, (time, next(self._order), turn, machine, self._session[machine]))

    def _draw(self, mean: float) -> float:
        """A time span from the exponential distribution, in seconds."""
        return self._random.expovariate(1 / mean)
