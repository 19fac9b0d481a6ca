"""What a batch says about its users and workers: pure."""

from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec

from ingest.writer.rows import Row
from tbg_core.periods import ONLINE_WITHIN

Rates = tuple[float, float, float, float]  # H/s over 1 m, 5 m, 1 h and 24 h
_BY_TIME: Final = attrgetter("micros")
# Besides shares. Bests, blocks and tips say nothing of a worker's row.
_TELLING: Final = frozenset(
    {"diff_updated", "miner_connected", "miner_disconnected", "hashrate_update"}
)


class WorkerUpdate(msgspec.Struct, frozen=True, gc=False):
    """What is new of one worker; None leaves a column as it is.

    Attributes:
        user: number of its user.
        micros: event time, or of the last of several.
        news: it connected or disconnected, or its difficulty was set.
    """

    user: int
    micros: int
    last_share: int | None = None
    current_diff: float | None = None
    is_online: bool | None = None
    user_agent: str | None = None
    rates: Rates | None = None
    news: bool = False

    def followed_by(self, later: "WorkerUpdate") -> "WorkerUpdate":
        """Merges both; the later value wins."""
        if later.micros < self.micros:
            return later.followed_by(self)
        return WorkerUpdate(
            self.user,
            later.micros,
            self.last_share if later.last_share is None else later.last_share,
            self.current_diff if later.current_diff is None else later.current_diff,
            self.is_online if later.is_online is None else later.is_online,
            self.user_agent if later.user_agent is None else later.user_agent,
            self.rates if later.rates is None else later.rates,
            self.news or later.news,
        )


# Whether a worker goes on as before. Of the last share of a batch, how many there are, and
# since when in microseconds a share says who is online.
Waits = Callable[[Row, int, int], bool]


class Updates:
    """Sums a batch up, by numbers of users and workers.

    Attributes:
        users: when they were last seen, in microseconds.
        workers: what is new of them.
        totals: users' total hashrates.
    """

    def __init__(self, rows: list[Row], now: int, waits: Waits) -> None:
        """``now`` in microseconds; shares of workers that wait are left out."""
        self.users: dict[int, int] = {}
        self.workers: dict[int, WorkerUpdate] = {}
        self.totals: dict[int, Rates] = {}
        # Of the many shares of a worker the last one says it all, but for their number.
        shares: dict[int | None, Row] = {}
        counts: Counter[int | None] = Counter()
        others: list[Row] = []
        for row in rows:
            if row.event == "share_submitted":
                last = shares.get(row.worker_id)
                if last is None or row.micros >= last.micros:
                    shares[row.worker_id] = row
                counts[row.worker_id] += 1
            elif row.event in _TELLING:
                others.append(row)
        fresh = now - ONLINE_WITHIN
        touched = {row.worker_id for row in others}
        told = [
            row
            for worker, row in shares.items()
            if not waits(row, counts[worker], fresh) or worker in touched
        ]
        # Of equal times a share comes first: its miner may say goodbye with it.
        for row in sorted(told + others, key=_BY_TIME):
            self.users[row.user_id] = row.micros
            if row.worker_id is None:
                self.totals[row.user_id] = _rates(row.data)
                continue
            update = _update(row, fresh)
            before = self.workers.get(row.worker_id)
            self.workers[row.worker_id] = update if before is None else before.followed_by(update)


def _update(row: Row, fresh: int) -> WorkerUpdate:
    data, user, micros = row.data, row.user_id, row.micros
    online = True if micros > fresh else None
    match row.event:
        case "share_submitted":
            return WorkerUpdate(user, micros, micros, data.difficulty, online, data.user_agent)
        case "diff_updated":
            return WorkerUpdate(user, micros, current_diff=data.new_diff, news=True)
        case "miner_connected":
            return WorkerUpdate(
                user, micros, None, data.initial_diff, online, data.user_agent, news=True
            )
        case "miner_disconnected":
            return WorkerUpdate(user, micros, is_online=False, news=True)
    return WorkerUpdate(user, micros, rates=_rates(data))


def _rates(data: Any) -> Rates:
    return data.hashrate_1m, data.hashrate_5m, data.hashrate_1h, data.hashrate_24h
