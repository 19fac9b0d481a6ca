"""The average hashrates that an engine reports about every minute."""

from typing import Final

import numpy as np

from devnet.simulator.fleet import Fleet
from devnet.simulator.scenario import Scenario

WINDOWS: Final = np.array([60.0, 300.0, 3600.0, 86_400.0])
"""Time constants of the decaying averages, in seconds: 1 m, 5 m, 1 h, 24 h."""


class Hashrates:
    """Plausible readings of the four averages, drawn rather than summed up share by share.

    A decaying average of Poisson arrivals that began ``age`` seconds ago has the mean
    ``hashrate * (1 - exp(-age / window))``, and after a long time the relative deviation
    ``1 / sqrt(2 * shares per second * window)``.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        self._every = scenario.hashrate_every
        self._hashrate = fleet.hashrate
        rng = np.random.default_rng([scenario.seed, scenario.start, 2])
        self._rng = rng
        self._phase = rng.random(len(fleet.users)) * self._every
        self._deviation = 1 / np.sqrt(2 * scenario.shares_per_minute / 60 * WINDOWS)

    def due(self, begin: float, end: float) -> list[tuple[float, int]]:
        """Readings that are due in [begin, end): pairs of seconds and user.

        Each user has a fixed moment within the interval, which spreads a large fleet's readings
        over it.
        """
        if not self._every:
            return []
        first = np.ceil((begin - self._phase) / self._every).astype(np.int64)
        last = np.ceil((end - self._phase) / self._every).astype(np.int64)
        counts = last - first
        users = np.repeat(np.arange(len(self._phase)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        times = self._phase[users] + (first[users] + within) * self._every
        return list(zip(times.tolist(), users.tolist(), strict=True))

    def read(
        self, machines: list[int], ages: list[float], silences: list[float]
    ) -> list[list[float]]:
        """The four averages of each machine, in H/s.

        ``ages`` says for how many seconds each is connected, ``silences`` for how many it naps.
        """
        age, silence = np.array(ages)[:, None], np.array(silences)[:, None]
        noise = 1 + self._deviation * self._rng.standard_normal((len(machines), len(WINDOWS)))
        filled = -np.expm1(-(age - silence) / WINDOWS) * np.exp(-silence / WINDOWS)
        mean = self._hashrate[machines][:, None] * filled
        readings: list[list[float]] = np.maximum(mean * noise, 0).tolist()
        return readings
