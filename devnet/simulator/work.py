"""The work that the pool hands out, which changes every half minute and with every block."""

from typing import Final

from devnet.simulator.best import FleetBests
from devnet.simulator.journal import Journal
from tbg_core.periods import SECOND, iso_week

WORK_EVERY: Final = 30  # seconds, ckpool's update_interval


class Work:
    """Job, its time in hex, and the job before it, on which a share is stale.

    Call ``turn`` when the journal's moment has reached ``turns_at``, and when the clock steps.
    """

    def __init__(self, journal: Journal, bests: FleetBests) -> None:
        self._journal = journal
        self._bests = bests
        self._jobs = 0
        self.turns_at = 0
        self.job = self.stale_job = self.ntime = ""

    def turn(self) -> None:
        """Makes new work, and begins the week that the clock is in."""
        clock = self._journal.clock
        self._bests.enter_week(iso_week(clock))
        self.renew()
        # A week ends on a whole minute, so this never misses one.
        self.turns_at = self._journal.now + WORK_EVERY * SECOND - clock % (WORK_EVERY * SECOND)

    def renew(self) -> None:
        """Makes new work."""
        seconds = self._journal.clock // SECOND
        self._jobs += 1
        self.stale_job = self.job or f"{seconds:08x}{0:08x}"
        self.job = f"{seconds:08x}{self._jobs:08x}"
        self.ntime = f"{seconds:08x}"
