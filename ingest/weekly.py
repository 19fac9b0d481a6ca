"""What a batch of shares adds to the week's best: pure."""

from datetime import date

import msgspec

from ingest.batch import Row
from ingest.calendar import DAY
from ingest.names import week_start


class WeekSum(msgspec.Struct, gc=False):
    """One user's valid shares of one week, out of one batch.

    ``micros`` is when the best of them was found, in microseconds since the epoch.
    """

    user: str
    best: float
    micros: int
    worker_id: int | None
    share_hash: bytes | None
    shares: int
    work: float


class Weekly:
    """Sums valid shares by user and ISO week (UTC)."""

    def __init__(self) -> None:
        self.weeks: dict[date, dict[int, WeekSum]] = {}
        # Shares of a batch lie in one week or two: the last day's answer is kept.
        self._day = -1
        self._sums: dict[int, WeekSum] = {}

    def add(self, row: Row, share_hash: bytes | None) -> None:
        """Adds a valid share; of equal bests the earlier one stays."""
        day = row.micros // DAY
        if day != self._day:
            self._day = day
            self._sums = self.weeks.setdefault(week_start(row.time), {})
        data = row.data
        found = self._sums.get(row.user_id)
        if found is None:
            self._sums[row.user_id] = WeekSum(
                data.user,
                data.share_diff,
                row.micros,
                row.worker_id,
                share_hash,
                1,
                data.difficulty,
            )
            return
        found.shares += 1
        found.work += data.difficulty
        best = data.share_diff
        if best > found.best or (best == found.best and row.micros < found.micros):
            found.best, found.micros = best, row.micros
            found.worker_id, found.share_hash = row.worker_id, share_hash
