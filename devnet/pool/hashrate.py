"""Decaying average hashrates over 1 minute, 5 minutes, 1 hour and 24 hours.

As in ckpool: the accepted difficulty per second, averaged with an exponential decay of that length,
times 2^32 hashes per difficulty. An average starts at 0 and comes close to the rate of a new miner
after three times its length. Pure: time comes in as monotonic seconds.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

from devnet.pool.vardiff import decayed
from tbg_core.difficulty import HASHES_PER_DIFFICULTY

WINDOWS: Final = {
    "hashrate_1m": 60.0,
    "hashrate_5m": 300.0,
    "hashrate_1h": 3600.0,
    "hashrate_24h": 86400.0,
}

REPORTED_AFTER_LEAVING: Final = 900.0  # seconds, while the short averages fall to zero
FORGOTTEN_AFTER: Final = 86400.0  # seconds without a share


@dataclass(slots=True)
class Meter:
    """The four averages of one worker or user."""

    last_share: float
    _updated: float = field(init=False)
    _rates: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._updated = self.last_share
        self._rates = dict.fromkeys(WINDOWS, 0.0)

    def add(self, now: float, difficulty: float) -> None:
        """Adds an accepted share."""
        self._advance(now, difficulty)
        self.last_share = now

    def rates(self, now: float) -> dict[str, float]:
        """Hashes per second, by the event's field names."""
        self._advance(now, 0.0)
        return {name: rate * HASHES_PER_DIFFICULTY for name, rate in self._rates.items()}

    def _advance(self, now: float, amount: float) -> None:
        elapsed = now - self._updated
        self._updated = max(now, self._updated)
        for name, window in WINDOWS.items():
            self._rates[name] = decayed(self._rates[name], amount, elapsed, window)


class Hashrates:
    """The meters of all workers, and of every user over all of its workers."""

    def __init__(self) -> None:
        # A user's total stands under the worker None; '' is a worker without a name.
        self._meters: dict[tuple[str, str | None], Meter] = {}

    def add(self, now: float, user: str, worker: str, difficulty: float) -> None:
        """Adds an accepted share."""
        for key in ((user, worker), (user, None)):
            meter = self._meters.get(key)
            if meter is None:
                meter = self._meters[key] = Meter(now)
            meter.add(now, difficulty)

    def report(
        self, now: float, online: Set[tuple[str, str]]
    ) -> list[tuple[str, str, dict[str, float]]]:
        """User, worker and rates of all who are online or left a short while ago.

        The worker '' is the user's total, as in the event contract, so a worker without a name is
        not reported on its own. Meters without a share for a day are forgotten.
        """
        users = {user for user, _ in online}
        rows = []
        for (user, worker), meter in list(self._meters.items()):
            idle = now - meter.last_share
            if idle > FORGOTTEN_AFTER:
                del self._meters[user, worker]
                continue
            is_online = user in users if worker is None else (user, worker) in online
            if worker != "" and (is_online or idle <= REPORTED_AFTER_LEAVING):
                rows.append((user, worker or "", meter.rates(now)))
        return rows
