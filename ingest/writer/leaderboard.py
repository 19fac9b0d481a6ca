"""The week's best difficulties as sorted sets: user → best difficulty."""

import asyncio
from datetime import date, timedelta
from time import monotonic
from typing import Final

import asyncpg
import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from ingest import metrics
from ingest.writer.provisional import ProvisionalBests
from tbg_core.names import leaderboard_key
from tbg_core.periods import midnight

PATIENCE: Final = 2.0  # seconds that one answer may take
RETRY: Final = 5.0  # seconds before the first try again, doubled each time
MOST_PAUSE: Final = 60.0
_CHUNK: Final = 1000

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.leaderboard")


class Leaderboard:
    """Keeps the sorted sets of the weeks that are not finalised.

    It decorates: nothing that Redis answers, or does not answer, keeps a row from the database.

    Args:
        client: a Redis client.
        keep: how long after its end a week's set lives.

    Attributes:
        behind: scores are missing, because Redis was full, has something else under a set's
            key, or refuses: :meth:`reconcile` is due.
    """

    def __init__(self, client: redis.Redis, keep: timedelta) -> None:
        self._client = client
        self._keep = keep
        self.behind = False
        self._failures = 0
        self._next = 0.0  # when to try again, by the monotonic clock

    async def raise_bests(self, bests: list[tuple[date, str, float]]) -> None:
        """Raises users' scores; a lower one changes nothing, so it may be repeated."""
        if bests and not self.behind:
            await self._raise(bests)

    async def _raise(self, bests: list[tuple[date, str, float]]) -> None:
        weeks: dict[date, dict[str, float]] = {}
        for week, user, best in bests:
            scores = weeks.setdefault(week, {})
            scores[user] = max(best, scores.get(user, 0.0))
        for week, scores in weeks.items():
            key = leaderboard_key(week)
            expires = midnight(week + timedelta(days=7)) + self._keep
            try:
                # Redis removes a set whose time is over at once, by its own clock.
                async with asyncio.timeout(PATIENCE):
                    await self._client.zadd(key, scores, gt=True)
                    await self._client.expireat(key, expires)
            except (RedisError, OSError, TimeoutError) as error:
                self._note_failure(key, error)
                return

    def _note_failure(self, key: str, error: Exception) -> None:
        self._failures += 1
        pause = min(RETRY * 2 ** (self._failures - 1), MOST_PAUSE)
        self._next = monotonic() + pause
        self.behind = True
        metrics.SIDE_FAILURES.labels("leaderboard").inc()
        log.error(
            "the leaderboard waits: redis does not take it; rows are committed all the same",
            key=key,
            error=str(error) or repr(error),
            retry_seconds=pause,
        )

    @property
    def due(self) -> bool:
        """Whether it is behind, and it is time to try again."""
        return self.behind and monotonic() >= self._next

    async def reconcile(self, connection: asyncpg.Connection, known: ProvisionalBests) -> None:
        """Brings the sets, and what the writer knows, up to what is committed.

        A kill between a commit and its scores, or a Redis that lost its data,
        leaves a set behind the table.
        """
        self.behind = False
        known.forget()
        async with connection.transaction():
            rows: list[tuple[date, str, float]] = []
            async for row in connection.cursor(_OPEN_WEEKS, prefetch=_CHUNK):
                week, user, address, best = row
                known.learn(week, user, best)
                rows.append((week, address, best))
                if len(rows) == _CHUNK:
                    await self.raise_bests(rows)
                    rows = []
            await self.raise_bests(rows)
        if not self.behind:
            self._failures = 0


# The last week and those after it, by the database's clock.
_OPEN_WEEKS: Final = """
select w.week_start, w.user_id, u.btc_address, w.best_difficulty
from weekly_best_diff w
join users u on u.id = w.user_id
where w.week_start >= date_trunc('week', now() at time zone 'UTC')::date - 7
  and w.finalized_at is null
"""
