"""The line that ``tbg up`` prints every few seconds: what flows."""

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, LiteralString, Self

import psycopg
import redis
from psycopg.rows import TupleRow

from tbg.snapshot import stream_lags
from tbg_core.database import open_connection
from tbg_core.primary import connect_redis
from tbg_core.wording import counted, printable, si

# Shares of the last minute are recounted each time, because rows come late: after an
# outage, or with a batch. Older ones count as settled.
SETTLE: Final = timedelta(seconds=60)
CONNECT_SECONDS: Final = 5
DIGITS: Final = 12  # of a hash's end, which tbg verify takes
# Of our own engines; of simulated ones where there are no others: those are on another chain.
_CHAIN: Final[LiteralString] = """
with known as (select exists (select from network_blocks where source <> 'simulated') as real)
select
    (select count(*) from blocks
        where found_at >= %s and (source <> 'simulated' or not known.real)),
    (select max(height) from network_blocks where source <> 'simulated' or not known.real)
from known
"""
_BLOCKS: Final[LiteralString] = """
select b.id, b.block_height, b.block_hash,
    u.btc_address || case w.worker_name when '' then '' else '.' || w.worker_name end
from blocks b join users u on u.id = b.user_id join workers w on w.id = b.worker_id
where b.id > coalesce(%s::integer, 0)
order by b.id
"""
_BEST: Final[LiteralString] = """
select b.week_start, b.best_difficulty, encode(b.best_share_hash, 'hex'),
    u.btc_address || case coalesce(w.worker_name, '') when '' then '' else '.' || w.worker_name end
from weekly_best_diff b join users u on u.id = b.user_id
left join workers w on w.id = b.best_worker_id
where b.week_start = date_trunc('week', now() at time zone 'UTC')::date
order by b.best_difficulty desc, b.best_share_time
limit 1
"""


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
        self._block: int | None = None  # the newest that news() has returned
        self._best: tuple[date, float] = (date.min, 0.0)

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
        [(blocks, height)] = self._database.execute(_CHAIN, [self._started])
        asked, self._asked = self._asked, time.monotonic()
        rate = (self._totals.all - before.all) / (self._asked - asked)
        waiting = sum(lag.entries for lag in lags.values())
        return (
            f"{rate:.1f} shares/s · {self._totals.accepted:,} accepted · "
            f"{self._totals.rejected:,} rejected · best {si(self._totals.best)} · "
            f"{counted(blocks, 'block')} · height {'–' if height is None else height} · "
            f"lag {counted(waiting, 'entry', 'entries')}, {oldest:.1f} s"
        )

    def news(self) -> list[str]:
        """Blocks that were found since the last call, and a new best of the week.

        The first call returns none: it learns what there is.
        """
        if self._database is None:
            return []
        try:
            blocks = self._database.execute(_BLOCKS, [self._block]).fetchall()
            best = self._database.execute(_BEST).fetchone()
        except psycopg.Error:
            self._disconnect()
            return []
        first = self._block is None
        found = []
        if first:
            self._block = blocks[-1][0] if blocks else 0
        else:
            for number, height, share, who in blocks:
                self._block = number
                found.append(f"BLOCK {height} by {printable(who)}: tbg verify {share[-DIGITS:]}")
        if best is not None:
            week, difficulty, share, who = best
            if not first and (week, difficulty) > self._best:
                proof = f": tbg verify {share[-DIGITS:]}" if share else ""
                found.append(f"new best of the week, {si(difficulty)} by {printable(who)}{proof}")
            self._best = max(self._best, (week, difficulty))
        return found

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
