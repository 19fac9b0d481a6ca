"""The best shares: of a session, of a user's week, of a user's life."""

from devnet.simulator.fleet import Fleet
from devnet.simulator.journal import KINDS, Journal

_WEEKS = 4  # kept; the clock steps no further back
_SHARE_BEST_DIFF = KINDS.index("share_best_diff")


class FleetBests:
    """Bests so far, 0 before the first share.

    ``session`` is indexed by machine, ``week`` by user. All start at 0 with the scenario, so every
    best is one of its shares.
    """

    def __init__(self, fleet: Fleet, journal: Journal) -> None:
        self._fleet = fleet
        self._journal = journal
        self._weeks: dict[str, list[float]] = {}
        self._week = ""
        self.session = [0.0] * len(fleet.owner)
        self.week = [0.0] * len(fleet.users)
        self._alltime = [0.0] * len(fleet.users)

    def enter_week(self, week: str) -> None:
        """The engine's clock is in an ISO week, as ``2026-W47``; in a new one all start again.

        A clock that stepped back finds the bests of the week that it comes back to.
        """
        if week == self._week:
            return
        if self._week:  # what is settled before the first week belongs to it
            self.week = self._weeks.pop(week, []) or [0.0] * len(self._fleet.users)
        self._week = week
        self._weeks[week] = self.week
        if len(self._weeks) > _WEEKS:
            del self._weeks[next(iter(self._weeks))]

    def beat(self, machine: int, user: int, share_diff: float, share_hash: str) -> None:
        """Writes an event for every scope whose best an accepted share breaks."""
        if share_diff > self.session[machine]:
            self._write(machine, share_diff, self.session[machine], "session", share_hash)
            self.session[machine] = share_diff
        if share_diff > self.week[user]:
            self._write(machine, share_diff, self.week[user], "week", share_hash)
            self.week[user] = share_diff
        if share_diff > self._alltime[user]:
            self._write(machine, share_diff, self._alltime[user], "alltime", share_hash)
            self._alltime[user] = share_diff

    def settle(self, machine: int, share_diff: float) -> None:
        """Sets a best from before the scenario, in every scope, without an event."""
        user = self._fleet.owner[machine]
        self.session[machine] = share_diff
        self.week[user] = max(self.week[user], share_diff)
        self._alltime[user] = max(self._alltime[user], share_diff)

    def _write(self, machine: int, new: float, old: float, period: str, share_hash: str) -> None:
        self._journal.write(
            _SHARE_BEST_DIFF,
            f'{self._fleet.identity[machine]},"new_best_diff":{new!r},"previous_best_diff":{old!r},'
            f'"period":"{period}","week":"{self._week}","hash":"{share_hash}"',
        )
