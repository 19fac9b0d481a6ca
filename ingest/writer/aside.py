"""Jobs beside the rows: a failure is logged and counted, and stops nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

import structlog
from redis.exceptions import RedisError

from ingest import metrics
from tbg_core.primary import ELSEWHERE

PATIENCE: Final = 5.0  # seconds that a job may take
PAUSE: Final = 30.0  # seconds until a job that failed is tried again

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.aside")


class Aside:
    """Does jobs that no row depends on, such as trimming.

    A job that Redis refuses (a right is missing, a key is of another type) or does not answer
    is left out for :data:`PAUSE` seconds: events go on. If Redis is away, reading says so.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    async def do(self, job: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Does a job, unless it failed a moment ago; whether it was done.

        Raises:
            RedisError: another server takes writes now.
        """
        if monotonic() < self._until.get(job, 0.0):
            return False
        try:
            async with asyncio.timeout(PATIENCE):
                await work()
        except ELSEWHERE:
            raise
        except (RedisError, OSError, TimeoutError, KeyError) as error:
            if job not in self._until:
                log.error(
                    "a job beside the rows fails; events are committed all the same",
                    job=job,
                    error=str(error) or repr(error),
                )
            self._until[job] = monotonic() + PAUSE
            metrics.SIDE_FAILURES.labels(job).inc()
            return False
        if self._until.pop(job, None) is not None:
            log.info("a job beside the rows works again", job=job)
        return True
