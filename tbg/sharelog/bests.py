"""Best share difficulties that accepted shares break, by user: of a week, of all time.

As our engines derive them: only accepted shares count, and a best is strictly higher than
the one before. Shares of two logs may come slightly out of order, so every week keeps its
own bests, and a share that breaks the all-time best also breaks its week's best.
"""

from typing import Literal, NamedTuple

from tbg_core.periods import iso_week, week_begins


class Broken(NamedTuple):
    """One best that a share broke; ``previous`` is 0 if there was none."""

    period: Literal["week", "alltime"]
    previous: float
    week: str


class LogBests:
    """The bests of every user."""

    def __init__(self) -> None:
        self._weekly: dict[tuple[int, str], float] = {}
        self._alltime: dict[str, float] = {}

    def accept(self, micros: int, user: str, share_diff: float) -> list[Broken]:
        """What an accepted share breaks: nothing, its week, or its week and all time."""
        key = week_begins(micros), user
        best = self._weekly.get(key, 0.0)
        if share_diff <= best:
            return []
        self._weekly[key] = share_diff
        week = iso_week(micros)
        broken = [Broken("week", best, week)]
        best = self._alltime.get(user, 0.0)
        if share_diff > best:
            self._alltime[user] = share_diff
            broken.append(Broken("alltime", best, week))
        return broken
