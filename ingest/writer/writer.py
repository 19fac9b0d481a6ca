"""The writer: Redis streams → database.

Whatever fails outside a batch's data ends the session, and the next one begins from
the offsets that the database holds: so does a writer that was killed.
"""

import asyncio
import contextlib
from typing import Final

import asyncpg
import structlog
from redis.backoff import ExponentialBackoff

from ingest.settings import WriterSettings
from ingest.writer.refusal import Pace
from ingest.writer.session import AWAY, NotMigratedError, Session
from tbg_core import redis_server
from tbg_core.database import explain
from tbg_core.metrics_server import MetricsServer
from tbg_core.redis_server import Guard
from tbg_core.tasks import end

STOP_SECONDS: Final = 5.0  # that a stop may take when a server does not answer

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer")


class Writer:
    """Commits what is in Redis until it is stopped.

    Args:
        settings: checked settings.
    """

    def __init__(self, settings: WriterSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._pace = Pace(settings.batch_size)
        self._guard = Guard(log, settings.cell)
        self._session = self._begin()
        self._metrics = MetricsServer(
            settings.metrics_host, settings.writer_metrics_port, self._ready, settings.cell
        )

    def _begin(self) -> Session:
        return Session(self._settings, self._stopping, self._pace, self._guard)

    def _ready(self) -> tuple[bool, str]:
        trouble = self._session.trouble
        return not trouble, trouble or "committing"

    def stop(self) -> None:
        """Requests shutdown: what is in the streams is still committed."""
        self._stopping.set()

    def _explain(self, error: BaseException) -> str:
        # What has no SQLSTATE may be Redis's.
        if hasattr(error, "sqlstate") or isinstance(
            error, asyncpg.InterfaceError | asyncpg.InternalClientError
        ):
            return explain(error, self._settings.database_url)
        return redis_server.explain(error)

    async def run(self) -> None:
        """Runs until :meth:`stop`; waits with growing pauses while a server is away."""
        sessions = asyncio.create_task(self._sessions())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({sessions, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        _, late = await asyncio.wait({sessions}, timeout=STOP_SECONDS)
        if late:  # a server that takes a question and does not answer
            await end(sessions, STOP_SECONDS)
        try:
            await sessions
        except asyncio.CancelledError:
            log.warning(
                "stopped while a server did not answer; what it had not committed waits in Redis"
            )
        self._metrics.close()

    async def _sessions(self) -> None:
        backoff = ExponentialBackoff(cap=5.0, base=0.1)
        failures = 0
        while True:
            try:
                await self._session.run()
            except (*AWAY, NotMigratedError) as error:
                failures = 1 if self._session.committed else failures + 1
                pause = backoff.compute(failures)
                trouble = self._explain(error)
                log.error(
                    "cannot commit: events wait in Redis",
                    error=trouble,
                    retry_seconds=round(pause, 1),
                )
                self._session = self._begin()
                self._session.trouble = trouble
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                if self._stopping.is_set():
                    log.warning("stopped; what was not committed waits in Redis")
                    return
            else:
                log.info("stopped")
                return
