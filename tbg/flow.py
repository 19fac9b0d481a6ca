"""The line that ``tbg up`` prints every few seconds: what flows."""

from datetime import UTC, datetime, timedelta
from typing import Final, Self

import psycopg
import redis

from tbg.snapshot import stream_lags

# A share is counted once it is this old: by then it is committed, or the lag shows.
SETTLE: Final = timedelta(seconds=2)
CONNECT_SECONDS: Final = 5


class Flow:
    """Counts what was stored since it was made."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._database_url = database_url
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=CONNECT_SECONDS)
        self._database: psycopg.Connection[tuple[object, ...]] | None = None
        self._since = datetime.now(UTC) - SETTLE
        self.accepted = 0
        self.rejected = 0
        self.blocks = 0
        self.best = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def line(self) -> str:
        """Returns the line; where a server is away, it says which."""
        try:
            return self._line()
        except psycopg.Error as error:
            self._disconnect()
            return f"the database does not answer: {str(error).strip().splitlines()[0]}"
        except redis.RedisError as error:
            return f"Redis does not answer: {error}"

    def _line(self) -> str:
        if self._database is None:
            self._database = psycopg.connect(
                self._database_url, autocommit=True, connect_timeout=CONNECT_SECONDS
            )
        until = datetime.now(UTC) - SETTLE
        shares = self._database.execute(
            """
            select count(*) filter (where is_valid), count(*) filter (where not is_valid),
                   coalesce(max(share_diff) filter (where is_valid), 0)
            from shares where time >= %s and time < %s
            """,
            [self._since, until],
        ).fetchone()
        blocks = self._database.execute(
            "select count(*) from blocks where found_at >= %s and found_at < %s",
            [self._since, until],
        ).fetchone()
        height = self._database.execute("select max(height) from network_blocks").fetchone()
        lags = stream_lags(self._database, self._redis)
        assert shares is not None
        assert blocks is not None
        assert height is not None
        seconds = (until - self._since).total_seconds()
        accepted, rejected, best = int(str(shares[0])), int(str(shares[1])), float(str(shares[2]))
        self._since = until
        self.accepted += accepted
        self.rejected += rejected
        self.blocks += int(str(blocks[0]))
        self.best = max(self.best, best)
        waiting = sum(lag.entries for lag in lags.values())
        oldest = max(lag.seconds for lag in lags.values())
        rate = (accepted + rejected) / seconds if seconds > 0 else 0.0
        return (
            f"{rate:.1f} shares/s · {self.accepted:,} accepted · {self.rejected:,} rejected · "
            f"best {difficulty(self.best)} · {self.blocks:,} blocks · "
            f"height {'–' if height[0] is None else height[0]} · "
            f"lag {waiting:,} entries, {oldest:.1f} s"
        )


def difficulty(value: float) -> str:
    """Shows a difficulty as miners do: 4.29G, 512, 0.001."""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
