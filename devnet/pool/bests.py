"""Best share difficulties: of a session, of the running ISO week (UTC), of all time.

Only accepted shares count. Week and all time belong to the user, over all its workers, and live
in a small file, so that a restart of the pool gives nobody a best that was none.
"""

import json
import math
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

Period = Literal["session", "week", "alltime"]

_FORMAT: Final = 1


class BestsError(ValueError):
    """The state file cannot be used; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One best that a share broke; ``previous`` is 0 where there was none."""

    period: Period
    previous: float
    new: float
    week: str


def iso_week(timestamp: int) -> str:
    """The ISO week in UTC of a time in microseconds, as 2026-W47."""
    year, week, _ = datetime.fromtimestamp(timestamp / 1e6, UTC).isocalendar()
    return f"{year:04}-W{week:02}"


@dataclass(slots=True)
class Bests:
    """The bests of every user; ``dirty`` when something changed; the one who saves resets it."""

    week: str = ""
    weekly: dict[str, float] = field(default_factory=dict)
    alltime: dict[str, float] = field(default_factory=dict)
    dirty: bool = False

    def accept(
        self, timestamp: int, user: str, session_best: float, share_diff: float
    ) -> list[Broken]:
        """What an accepted share breaks, narrowest scope first.

        Args:
            timestamp: microseconds since the epoch; decides the week. A share of a week that is
                over (one whose block took long to submit) breaks nothing of the running one.
            session_best: of the miner's connection before this share; the caller keeps it.
            share_diff: achieved difficulty.
        """
        week = iso_week(timestamp)
        if week > self.week:
            self.week = week
            self.weekly = {}
            self.dirty = True
        broken: list[Broken] = []
        if share_diff > session_best:
            broken.append(Broken("session", session_best, share_diff, week))
        if week == self.week and share_diff > self.weekly.get(user, 0.0):
            broken.append(Broken("week", self.weekly.get(user, 0.0), share_diff, week))
            self.weekly[user] = share_diff
            self.dirty = True
        if share_diff > self.alltime.get(user, 0.0):
            broken.append(Broken("alltime", self.alltime.get(user, 0.0), share_diff, week))
            self.alltime[user] = share_diff
            self.dirty = True
        return broken

    @classmethod
    def load(cls, path: Path) -> "Bests":
        """The bests in ``path``; none where the file does not exist yet.

        Raises:
            BestsError: when the file is not one that :meth:`dump` made.
        """
        try:
            state = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, RecursionError) as error:
            raise BestsError(f"{path} cannot be read: {error}{_ADVICE}") from None
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise BestsError(f"{path} is not a state file of this pool{_ADVICE}")
        week = state.get("week")
        if not isinstance(week, str):
            raise BestsError(f"{path}: week is not a text{_ADVICE}")
        return cls(week, _table(path, state, "weekly"), _table(path, state, "alltime"))

    def dump(self) -> str:
        """The text that :meth:`load` reads."""
        state = {
            "format": _FORMAT,
            "week": self.week,
            "weekly": self.weekly,
            "alltime": self.alltime,
        }
        return json.dumps(state)


def write_whole(path: Path, text: str) -> None:
    """Writes ``path`` in one step: a crash leaves the old file or the new one, whole."""
    fresh = path.with_name(path.name + ".tmp")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


_ADVICE: Final = "; move it away to start without bests"


def _table(path: Path, state: dict[str, Any], name: str) -> dict[str, float]:
    table = state.get(name)
    if not isinstance(table, dict):
        raise BestsError(f"{path}: {name} is not a table{_ADVICE}")
    for user, best in table.items():
        if not isinstance(best, float) or not math.isfinite(best) or best <= 0:
            raise BestsError(f"{path}: the best of {user} in {name} is no difficulty{_ADVICE}")
    return dict(table)
