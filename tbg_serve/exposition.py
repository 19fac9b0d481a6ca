"""``/metrics``: the pool for Prometheus, and every worker where that was asked for.

The names are those of p2poolv2/p2poolv2 (stats/pool_local_stats and its exposition), so that
its boards work: ``worker_…{btcaddress,workername}``. The client library escapes the names.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_serve.database import Database, now
from tbg_serve.held import Held
from tbg_serve.pool import SECONDS, Pool
from tbg_serve.unavailable import Unavailable

Value = TypeVar("Value")

LABELS: Final = ("btcaddress", "workername")
MOST_WORKERS: Final = 50_000  # that have series of their own; who mines now comes first
EVER_SECONDS: Final = 600.0  # that the bests of the days before are kept at least
NAMELESS: Final = "unnamed"  # p2poolv2's own word for a worker without a name


def router(database: Database, pool: Pool, *, miners: bool, patience: float) -> APIRouter:
    """The route of the metrics.

    Args:
        database: what to ask.
        pool: the pool's numbers.
        miners: whether every worker has metrics of its own.
        patience: seconds that a person waits for the workers.
    """
    routes = APIRouter(tags=["prometheus"])
    started = now().timestamp()

    async def seen() -> list[Any]:
        return await database.fetch(_WORKERS, MOST_WORKERS, seconds=SECONDS)

    async def ever() -> dict[int, float]:
        found = await database.fetch(_EVER, seconds=SECONDS)
        return {row["worker_id"]: row["best"] for row in found}

    workers = Held(seen, 15.0, patience)
    bests = Held(ever, EVER_SECONDS, patience)

    @routes.get("/metrics")
    async def metrics() -> Response:
        """The pool's metrics, in Prometheus's text format."""
        counts, week = await pool.counts.get(), await pool.week.get()
        best = await pool.high_scores()
        found = await pool.found()
        difficulty = await pool.miners.network_difficulty()
        since = await _or_none(pool.round)
        families: list[Metric] = [
            _gauge("pool_users", "Users seen in the last 24 hours", counts.users),
            _gauge("pool_workers", "Workers online", counts.workers),
            _gauge("pool_hashrate", "H/s, over five minutes", counts.rates["hashrate_5m"]),
            # Hashes, as p2poolv2 counts them; of the running week.
            _counter(
                "shares_accepted_total",
                "Work of the running week, in hashes",
                week["work"] * HASHES_PER_DIFFICULTY,
            ),
            _counter("accepted_difficulty_total", "Work of the running week", week["work"]),
            _counter("shares_rejected_total", "Rejected shares of the week", week["rejected"]),
            _gauge("best_share", "Best difficulty of the running week", found["best"] or 0),
            _gauge(
                "best_share_ever",
                "Best difficulty of all time",
                best[0]["best_difficulty"] if best else 0,
            ),
            _counter("bitcoin_blocks_found_total", "Blocks of the pool", found["blocks"]),
            _gauge("network_difficulty", "Of the network's tip", difficulty or 0),
            _gauge("start_time_seconds", "When this server started", started),
            _gauge("last_update_seconds", "When this answer was made", now().timestamp()),
        ]
        if since is not None:
            text = "Work since the last block of the pool"
            families.append(_gauge("work_since_last_block", text, since[1]))
        more: Callable[[], list[Metric]] = list
        if miners:
            kept = await _or_none(bests)
            more = partial(_of_workers, await workers.get(), kept)

        def written() -> bytes:
            return generate_latest(_Once([*families, *more()]))

        # Of many workers it takes seconds: others are answered meanwhile.
        body = await asyncio.to_thread(written)
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})

    return routes


class _Once(CollectorRegistry):
    """A registry of some families, collected once."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _of_workers(rows: list[Any], bests: dict[int, float] | None) -> list[Metric]:
    users = CounterMetricFamily(
        "user_shares_valid_total", "Of the workers that are listed, in hashes", labels=LABELS[:1]
    )
    work = CounterMetricFamily(
        "worker_shares_valid_total", "Work of the running week, in hashes", labels=LABELS
    )
    best = GaugeMetricFamily("worker_best_share", "Best difficulty of the week", labels=LABELS)
    ever = GaugeMetricFamily(
        "worker_best_share_ever", "Best difficulty of the days that are kept", labels=LABELS
    )
    last = GaugeMetricFamily("worker_last_share_at", "Unix time of the last share", labels=LABELS)
    rate = GaugeMetricFamily("worker_hashrate", "H/s, over five minutes", labels=LABELS)
    online = GaugeMetricFamily("worker_online", "1 if it is online", labels=LABELS)
    taken = {row["btc_address"] for row in rows if row["worker_name"] == NAMELESS}
    sums = dict[str, float]()
    for row in rows:
        address, name = row["btc_address"], row["worker_name"]
        # A label without a value is none to Prometheus, and two of one name are an error.
        labels = (address, name or ("" if address in taken else NAMELESS))
        sums[address] = sums.get(address, 0.0) + row["work"] * HASHES_PER_DIFFICULTY
        work.add_metric(labels, row["work"] * HASHES_PER_DIFFICULTY)
        best.add_metric(labels, row["best"])
        if bests is not None:
            ever.add_metric(labels, max(bests.get(row["id"], 0.0), row["best"]))
        last.add_metric(labels, row["last_share"])
        rate.add_metric(labels, row["hashrate"])
        online.add_metric(labels, int(row["is_online"]))
    for address, hashes in sums.items():
        users.add_metric((address,), hashes)
    left_out = _gauge(
        "workers_left_out",
        f"Workers of the last week beyond the {MOST_WORKERS} that are listed",
        rows[0]["workers"] - len(rows) if rows else 0,
    )
    return [users, work, best, ever, last, rate, online, left_out]


async def _or_none(held: Held[Value]) -> Value | None:
    """What takes long to count is left out until it is there."""
    try:
        return await held.get()
    except Unavailable:
        return None


_EVER: Final = """
select worker_id, bounded(max(best_share_diff)) as best from shares_daily
where best_share_diff is not null group by worker_id
"""
# Workers with a share in the last week: the others are forgotten, as by ckpool.
_WORKERS: Final = """
with days as (
    select worker_id, sum(least(work, 1e290)) as work, max(best_share_diff) as best
    from worker_stats_daily
    where day >= date_trunc('week', now() at time zone 'UTC')::date
    group by worker_id
),
edge as (
    select coalesce(
        (
            select (max(day) + 1)::timestamp at time zone 'UTC' from worker_stats_daily
            where day >= date_trunc('week', now() at time zone 'UTC')::date
        ),
        date_trunc('week', now(), 'UTC')
    ) as moment
),
hours as (
    select h.worker_id, sum(least(h.work, 1e290)) as work, max(h.best_share_diff) as best,
        max(h.bucket) + interval '1 hour' as until
    from shares_hourly h, edge e
    where h.bucket >= e.moment and h.bucket <= now()
    group by h.worker_id
),
rest as (
    select s.worker_id, sum(s.difficulty) as work, max(s.share_diff) as best
    from served_shares s, edge e
    where s.is_valid and s.time < now() + interval '1 day'
      and s.time >= coalesce((select max(until) from hours), e.moment)
    group by s.worker_id
)
select w.id, u.btc_address, w.worker_name, w.is_online, count(*) over () as workers,
    coalesce(d.work, 0) + coalesce(h.work, 0) + coalesce(r.work, 0) as work,
    coalesce(bounded(greatest(d.best, h.best, r.best)), 0) as best,
    coalesce(extract(epoch from w.last_share), 0)::float8 as last_share,
    case when u.last_seen > now() - interval '1 hour'
        then coalesce(least(greatest(w.hashrate_5m, 0), 1e30), 0) else 0 end as hashrate
from workers w
join users u on u.id = w.user_id
left join days d on d.worker_id = w.id
left join hours h on h.worker_id = w.id
left join rest r on r.worker_id = w.id
where w.is_online or w.last_share > now() - interval '7 days'
order by w.is_online desc, w.last_share desc nulls last, w.id
limit $1
"""
