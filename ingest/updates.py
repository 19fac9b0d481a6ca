"""What a batch says of its users and workers: pure."""

from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

import msgspec

from ingest.batch import Row
from ingest.miners import Worker

# An event older than this tells nothing about who is online now.
ONLINE_WITHIN: Final = timedelta(minutes=10)

Online = bool | None


class WorkerUpdate(msgspec.Struct, gc=False):
    """What is new of one worker; None leaves a column as it is."""

    at: datetime
    last_share: datetime | None = None
    current_diff: float | None = None
    is_online: Online = None
    user_agent: str | None = None
    hashrate_1m: float | None = None
    hashrate_5m: float | None = None
    hashrate_1h: float | None = None
    hashrate_24h: float | None = None


WORKER_COLUMNS: Final = WorkerUpdate.__struct_fields__


class Updates:
    """Sums a batch up, by user and by worker.

    Attributes:
        last_seen: by user.
        workers: by user and worker.
        unnamed_rates: a user's total hashrates over 1 m, 5 m, 1 h and 24 h.
    """

    def __init__(self, rows: list[Row], now: datetime) -> None:
        self.last_seen: dict[str, datetime] = {}
        self.workers: dict[Worker, WorkerUpdate] = {}
        self.unnamed_rates: dict[str, tuple[float, float, float, float]] = {}
        self._first: dict[Worker, tuple[datetime, str]] = {}
        self._fresh = now - ONLINE_WITHIN
        for row in sorted(rows, key=attrgetter("micros")):
            if row.event != "new_block_network":
                self._add(row)

    def _add(self, row: Row) -> None:
        data = row.data
        self.last_seen[data.user] = row.time
        name = (data.user, data.worker)
        if row.event == "hashrate_update" and not data.worker:
            self.unnamed_rates[data.user] = (
                data.hashrate_1m, data.hashrate_5m, data.hashrate_1h, data.hashrate_24h,
            )  # fmt: skip
            return
        update = self.workers.get(name)
        if update is None:
            update = self.workers[name] = WorkerUpdate(row.time)
            self._first[name] = row.time, row.source
        update.at = row.time
        match row.event:
            case "share_submitted":
                update.last_share = row.time
                update.current_diff = data.difficulty
                update.is_online = row.time > self._fresh or None
                update.user_agent = data.user_agent or update.user_agent
            case "diff_updated":
                update.current_diff = data.new_diff
            case "miner_connected":
                update.current_diff = data.initial_diff
                update.is_online = row.time > self._fresh or None
                update.user_agent = data.user_agent or update.user_agent
            case "miner_disconnected":
                update.is_online = False
            case "hashrate_update":
                update.hashrate_1m = data.hashrate_1m
                update.hashrate_5m = data.hashrate_5m
                update.hashrate_1h = data.hashrate_1h
                update.hashrate_24h = data.hashrate_24h

    def user_names(self) -> dict[str, datetime]:
        """Every user of the batch, with a time that it was seen at."""
        return self.last_seen

    def worker_names(self) -> dict[Worker, tuple[datetime, str]]:
        """Every worker of the batch, with its first time and source."""
        return self._first
