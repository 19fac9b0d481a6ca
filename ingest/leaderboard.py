"""The week's best difficulties as sorted sets: user → best difficulty."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import asyncpg
import redis.asyncio as redis
import structlog
from redis.exceptions import OutOfMemoryError

from ingest.names import leaderboard_key, week_start
from ingest.weekly import Bests

_CHUNK: Final = 1000

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.leaderboard")


class Leaderboard:
    """Keeps the sorted sets of the weeks that are not finalised.

    Args:
        client: a Redis client.
        keep: how long after its end a week's set lives.

    Attributes:
        behind: scores are missing because Redis was full: :meth:`reconcile` is due.
    """

    def __init__(self, client: redis.Redis, keep: timedelta) -> None:
        self._client = client
        self._keep = keep
        self.behind = False

    def _expires(self, week: date) -> datetime:
        return datetime.combine(week + timedelta(days=7), time(), UTC) + self._keep

    async def raise_bests(self, bests: list[tuple[date, str, float]]) -> None:
        """Raises users' scores; a lower one changes nothing, so it may be repeated.

        A full Redis must not keep the writer from committing, because only what is
        committed can be trimmed: then the scores wait.
        """
        weeks: dict[date, dict[str, float]] = {}
        now = datetime.now(UTC)
        for week, user, best in bests:
            if self._expires(week) > now:
                scores = weeks.setdefault(week, {})
                scores[user] = max(best, scores.get(user, 0.0))
        for week, scores in weeks.items():
            key = leaderboard_key(week)
            try:
                await self._client.zadd(key, scores, gt=True)
            except OutOfMemoryError as error:
                if not self.behind:
                    log.error("the leaderboard waits: redis is full", error=str(error))
                self.behind = True
                return
            await self._client.expireat(key, self._expires(week))

    async def reconcile(self, connection: asyncpg.Connection, known: Bests) -> None:
        """Brings the sets, and what the writer knows, up to what is committed.

        A kill between a commit and its scores, or a Redis that lost its data,
        leaves a set behind the table.
        """
        self.behind = False
        known.forget()
        first = week_start(datetime.now(UTC)) - timedelta(days=7)
        async with connection.transaction():
            rows: list[tuple[date, str, float]] = []
            async for row in connection.cursor(
                "select w.week_start, w.user_id, u.btc_address, w.best_difficulty "
                "from weekly_best_diff w join users u on u.id = w.user_id "
                "where w.week_start >= $1 and w.finalized_at is null",
                first,
                prefetch=_CHUNK,
            ):
                week, user, address, best = row
                known.learn(week, user, best)
                rows.append((week, address, best))
                if len(rows) == _CHUNK:
                    await self.raise_bests(rows)
                    rows = []
            await self.raise_bests(rows)
