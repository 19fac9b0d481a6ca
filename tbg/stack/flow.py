"""The line that ``tbg up`` prints every few seconds: what flows."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import psycopg
import redis
from psycopg.rows import TupleRow

from tbg.snapshot import stream_lags
from tbg_core.database import open_connection
from tbg_core.primary import connect_redis
from tbg_core.wording import counted, si

# Shares of the last minute are recounted each time, because rows come late: after an
# outage, or with a batch. Older ones count as settled.
SETTLE: Final = timedelta(seconds=60)
CONNECT_SECONDS: Final = 5


@dataclass(frozen=True)
class Totals:
    """Shares, and the best difficulty among the accepted ones."""

    accepted: int = 0
    rejected: int = 0
    best: float = 0.0

    @property
    def all(self) -> int:
        return self.accepted + self.rejected

    def plus(self, other: "Totals") -> "Totals":
        return Totals(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            max(self.best, other.best),
        )


class Flow:
    """Counts what was stored since this object was created."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._database_url = database_url
        self._redis_url = redis_url
        self._redis: redis.Redis | None = None
        self._database: psycopg.Connection[TupleRow] | None = None
        self._started = datetime.now(UTC)
        self._settled_until = self._started
        self._settled = Totals()
        self._totals = Totals()
        self._asked = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        if self._redis is not None:
            self._redis.close()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def line(self) -> str:
        """Returns the line; if a server is down, it says which."""
        try:
            return self._line()
        except psycopg.Error as error:
            self._disconnect()
            return f"the database does not answer: {str(error).strip().splitlines()[0]}"
        except redis.RedisError as error:
            self._redis = None  # another server may take writes next time
            return f"Redis does not answer: {error}"

    def _line(self) -> str:
        if self._database is None:
            self._database = open_connection(self._database_url)
        if self._redis is None:
            self._redis = connect_redis(self._redis_url, CONNECT_SECONDS)
        lags = stream_lags(self._database, self._redis)
        oldest = max(lag.seconds for lag in lags.values())
        before = self._totals
        self._count_shares(self._database, datetime.now(UTC) - SETTLE - timedelta(seconds=oldest))
        [(blocks, height)] = self._database.execute(
            "select (select count(*) from blocks where found_at >= %s), "
            "(select max(height) from network_blocks)",
            [self._started],
        )
        asked, self._asked = self._asked, time.monotonic()
        rate = (self._totals.all - before.all) / (self._asked - asked)
        waiting = sum(lag.entries for lag in lags.values())
        return (
            f"{rate:.1f} shares/s · {self._totals.accepted:,} accepted · "
            f"{self._totals.rejected:,} rejected · best {si(self._totals.best)} · "
            f"{counted(blocks, 'block')} · height {'–' if height is None else height} · "
            f"lag {counted(waiting, 'entry', 'entries')}, {oldest:.1f} s"
        )

    def _count_shares(self, database: psycopg.Connection[TupleRow], settle: datetime) -> None:
        """Brings the totals up to date, and settles what is older than ``settle``."""
        settle = max(settle, self._settled_until)
        rows = database.execute(
            """
            select time < %s, count(*) filter (where is_valid), count(*) filter (where not is_valid),
                   coalesce(max(share_diff) filter (where is_valid), 0)
            from shares where time >= %s
            group by 1
            """,
            [settle, self._settled_until],
        ).fetchall()
        self._totals = self._settled
        for settled, *counts in rows:
            self._totals = self._totals.plus(Totals(*counts))
            if settled:
                self._settled = self._settled.plus(Totals(*counts))
        self._settled_until = settle
