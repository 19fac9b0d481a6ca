"""What a batch of shares adds to the week's best: pure."""

from datetime import date, datetime

import msgspec

from ingest.names import week_start


class WeekSum(msgspec.Struct, gc=False):
    """One user's valid shares of one week, out of one batch."""

    best: float
    time: datetime
    worker_id: int
    share_hash: bytes | None
    shares: int
    work: float


class Weekly:
    """Sums valid shares by user and ISO week (UTC)."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, date], WeekSum] = {}
        # Shares of a batch lie in one week or two: the last day's answer is kept.
        self._day: date | None = None
        self._week = date.min

    def add(
        self,
        user_id: int,
        worker_id: int,
        time: datetime,
        difficulty: float,
        share_diff: float,
        share_hash: bytes | None,
    ) -> None:
        """Adds a valid share; of equal bests the earlier one stays."""
        day = time.date()
        if day != self._day:
            self._day, self._week = day, week_start(time)
        key = (user_id, self._week)
        found = self.sums.get(key)
        if found is None:
            self.sums[key] = WeekSum(share_diff, time, worker_id, share_hash, 1, difficulty)
            return
        found.shares += 1
        found.work += difficulty
        if share_diff > found.best or (share_diff == found.best and time < found.time):
            found.best, found.time = share_diff, time
            found.worker_id, found.share_hash = worker_id, share_hash
