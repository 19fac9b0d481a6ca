"""Which reports of receivers were counted: each counts once, however often it is read."""

from collections.abc import Iterable
from typing import Final

import asyncpg

from ingest.counts import Report

MOST_KNOWN: Final = 1000  # processes in memory; the database knows all


class Reports:
    """Recognises a report by its id.

    A process numbers its reports and hands them on one after the other, so all up to the
    highest number that was counted are counted. What :meth:`fresh` finds counts only after
    :meth:`keep`; a failed batch is forgotten with :meth:`drop`.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._trial: dict[str, int] = {}

    async def fresh(
        self, connection: asyncpg.Connection, reports: Iterable[Report]
    ) -> list[Report]:
        """The reports that were not counted yet, in their order; all that have no id."""
        named = [report.id.rpartition("/")[0] for report in reports if report.id]
        if not set(named) <= self._known.keys():
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            self._known |= dict.fromkeys(named, 0)
            for process, last in await connection.fetch(
                "select process, reports from report_processes where process = any($1)", named
            ):
                self._known[process] = last
        fresh = []
        for report in reports:
            if report.id:
                process, _, number = report.id.rpartition("/")
                if int(number) <= self._trial.get(process, self._known[process]):
                    continue
                self._trial[process] = int(number)
            fresh.append(report)
        return fresh

    async def save(self, connection: asyncpg.Connection) -> None:
        """Writes what the batch counted, in its transaction."""
        if self._trial:
            await connection.execute(
                "insert into report_processes as r (process, reports) "
                "select * from unnest($1::text[], $2::bigint[]) "
                "on conflict (process) do update "
                "set reports = greatest(r.reports, excluded.reports), last_seen = now()",
                list(self._trial),
                list(self._trial.values()),
            )

    def keep(self) -> None:
        """The batch is committed."""
        self._known |= self._trial
        self._trial.clear()

    def drop(self) -> None:
        """The batch was rolled back."""
        self._trial.clear()
