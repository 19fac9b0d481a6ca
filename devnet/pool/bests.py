"""Best share difficulties: of a session, of an ISO week (UTC), of all time.

Only accepted shares count. Week and all time belong to the user, over all its workers, and live
in a small file, so that a restart of the pool does not report a best that was beaten before.

The clock of the machine may be wrong for a while. A share belongs to the week that its time says,
and once the clock says an earlier week, what was kept for later ones is forgotten: it was wrong.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tbg_core.periods import iso_week

Period = Literal["session", "week", "alltime"]

WEEKS_KEPT: Final = 4  # the running week, and those to which a clock may go back

_FORMAT: Final = 2


class BestsError(ValueError):
    """The state file cannot be used; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One best that a share broke; ``previous`` is 0 if it is the first."""

    period: Period
    previous: float
    new: float
    week: str


@dataclass(slots=True)
class Bests:
    """The bests of every user, in ``weeks`` by ISO week.

    ``dirty`` is set by every change and cleared by saving.
    """

    weeks: dict[str, dict[str, float]] = field(default_factory=dict)
    alltime: dict[str, float] = field(default_factory=dict)
    dirty: bool = False

    def accept(
        self, timestamp: int, user: str, session_best: float, share_diff: float
    ) -> list[Broken]:
        """The bests that an accepted share breaks, narrowest first.

        Args:
            timestamp: microseconds since the epoch; decides the week.
            user: the miner's address.
            session_best: of the miner's connection before this share; the caller keeps it.
            share_diff: achieved difficulty.
        """
        week = iso_week(timestamp)
        weekly = self._week(week)
        broken: list[Broken] = []
        if share_diff > session_best:
            broken.append(Broken("session", session_best, share_diff, week))
        if share_diff > weekly.get(user, 0.0):
            broken.append(Broken("week", weekly.get(user, 0.0), share_diff, week))
            weekly[user] = share_diff
            self.dirty = True
        if share_diff > self.alltime.get(user, 0.0):
            broken.append(Broken("alltime", self.alltime.get(user, 0.0), share_diff, week))
            self.alltime[user] = share_diff
            self.dirty = True
        return broken

    def _week(self, week: str) -> dict[str, float]:
        """The table of a week that runs now, as far as the clock knows."""
        if week not in self.weeks or max(self.weeks) > week:
            kept = sorted(item for item in {*self.weeks, week} if item <= week)[-WEEKS_KEPT:]
            self.weeks = {item: self.weeks.get(item, {}) for item in kept}
            self.dirty = True
        return self.weeks[week]

    @classmethod
    def load(cls, path: Path) -> "Bests":
        """The bests in ``path``; none if the file does not exist yet.

        Raises:
            BestsError: the file is not one that :meth:`dump` made.
        """
        try:
            state = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, RecursionError) as error:
            raise BestsError(f"{path} cannot be read: {error}{_ADVICE}") from None
        if not isinstance(state, dict) or state.get("format") not in (1, _FORMAT):
            raise BestsError(f"{path} is not a state file of this pool{_ADVICE}")
        if state["format"] == 1:  # one week, as earlier pools wrote it
            state["weeks"] = {state.get("week"): state.get("weekly")}
        weeks = state.get("weeks")
        if not isinstance(weeks, dict) or not all(isinstance(item, str) for item in weeks):
            raise BestsError(f"{path}: weeks is not a table by week{_ADVICE}")
        return cls(
            {week: _table(path, weeks, week) for week in weeks}, _table(path, state, "alltime")
        )

    def dump(self) -> str:
        """The text that :meth:`load` reads."""
        return json.dumps({"format": _FORMAT, "weeks": self.weeks, "alltime": self.alltime})


_ADVICE: Final = "; move it away to start without bests"


def _table(path: Path, state: dict[str, Any], name: str) -> dict[str, float]:
    table = state.get(name)
    if not isinstance(table, dict):
        raise BestsError(f"{path}: {name} is not a table{_ADVICE}")
    for user, best in table.items():
        if not isinstance(best, float) or not math.isfinite(best) or best <= 0:
            raise BestsError(f"{path}: the best of {user} in {name} is not a difficulty{_ADVICE}")
    return dict(table)
