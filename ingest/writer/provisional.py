"""Which shares raise a user's best of the week: pure."""

from datetime import date
from typing import Final

import msgspec

from ingest.writer.compact import Column
from ingest.writer.rows import Row
from tbg_core.names import week_start
from tbg_core.periods import DAY

# The running one, the one before until it is finalised, and what an engine's wrong clock adds.
MOST_WEEKS: Final = 4
MOST_PAGES: Final = 60_000  # 123 MB a week; past it, the week begins again


class WeekBest(msgspec.Struct, gc=False):
    """One user's best valid share of one week, out of one batch.

    ``micros`` is when it was found, in microseconds since the epoch.
    """

    user: str
    best: float
    micros: int
    worker_id: int | None
    share_hash: bytes | None


class ProvisionalBests:
    """What the table holds of the open weeks at least: 8 bytes a user and week.

    Nothing here is higher than the table: a value comes from it, after a commit or from a
    look at all of them. Rows only rise while their week is open, so a value here can only be
    too low, and that costs an upsert. The rows of a finalised week are the batch side's, which
    computes late shares from the hours, whatever is remembered here.
    """

    def __init__(self) -> None:
        self._weeks: dict[date, Column] = {}

    def forget(self) -> None:
        """Forgets all weeks."""
        self._weeks.clear()

    def learn(self, week: date, user: int, best: float) -> None:
        """The table holds this."""
        column = self._weeks.get(week)
        if column is None or column.pages > MOST_PAGES:
            column = self._weeks[week] = Column("d", -1.0)
            if len(self._weeks) > MOST_WEEKS:
                del self._weeks[min(self._weeks)]
        column[user] = best

    def of(self, week: date) -> Column:
        """The best of every user by number; -1 where none is known."""
        return self._weeks.get(week) or _UNKNOWN


_UNKNOWN: Final = Column("d", -1.0)  # never written


class Weekly:
    """The valid shares of a batch that may raise a best, by ISO week (UTC) and user."""

    def __init__(self, known: ProvisionalBests) -> None:
        self.weeks: dict[date, dict[int, WeekBest]] = {}
        self._known = known
        # Shares of a batch lie in one week or two: the last day's answer is kept.
        self._day = -1
        self._column = _UNKNOWN
        self._bests: dict[int, WeekBest] = {}

    def add(self, row: Row, share_hash: bytes | None) -> None:
        """Looks at a valid share; of equal bests the earlier one wins."""
        day = row.micros // DAY
        if day != self._day:
            self._day = day
            week = week_start(row.time)
            self._column = self._known.of(week)
            self._bests = self.weeks.setdefault(week, {})
        best = row.data.share_diff
        # An equal one may be earlier: the table decides.
        if best < self._column[row.user_id]:
            return
        found = self._bests.get(row.user_id)
        if found is None or (best, -row.micros) > (found.best, -found.micros):
            self._bests[row.user_id] = WeekBest(
                row.data.user, best, row.micros, row.worker_id, share_hash
            )
