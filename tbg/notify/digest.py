"""The day that has closed, in numbers, for the miners that a route is about."""

import math
from collections import Counter
from datetime import date
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import DictRow

from tbg.figures import percent, si
from tbg.notify.kinds import Worker
from tbg.notify.routes import Route
from tbg.notify.text import Text
from tbg.notify.words import NAMED, some, worker_name
from tbg_dagster.counting import counted

REJECTS: Final = 0.05  # of the shares, from which a worker needs a look
UPTIME: Final = 0.5  # of the day, below which it does

_DAY: Final[LiteralString] = """
select
    u.btc_address as user, w.worker_name as worker, d.accepted, d.rejected, d.reject_ratio,
    d.rejects_by_reason, d.work, d.hashrate, d.hashrate_low, d.hashrate_high,
    d.uptime_seconds, d.best_share_diff, f.naps, o.hashrate as now_hashrate,
    o.network_difficulty
from worker_stats_daily d
join users u on u.id = d.user_id
join workers w on w.id = d.worker_id
left join worker_flaps f on f.worker_id = d.worker_id
left join block_odds o on o.scope = 'worker' and o.worker_id = d.worker_id
where d.day = %s
order by d.hashrate desc, 1, 2
"""


def digest(connection: psycopg.Connection[DictRow], route: Route, day: date) -> Text | None:
    """The digest of a day (UTC), None if no miner of the route had a share."""
    rows = [
        row
        for row in connection.execute(_DAY, [day]).fetchall()
        if route.matches(row["user"], row["worker"])
    ]
    if not rows:
        return None
    accepted, rejected = (sum(row[name] for row in rows) for name in ("accepted", "rejected"))
    hashrate, work = (sum(row[name] for row in rows) for name in ("hashrate", "work"))
    # Independent counts: their errors add up as squares.
    low = math.sqrt(sum((row["hashrate"] - row["hashrate_low"]) ** 2 for row in rows))
    high = math.sqrt(sum((row["hashrate_high"] - row["hashrate"]) ** 2 for row in rows))
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons.update(row["rejects_by_reason"])
    facts = [
        (
            "hash rate",
            f"{si(hashrate)}H/s ({si(max(hashrate - low, 0))} to {si(hashrate + high)}, 95 %)",
        ),
        ("workers", f"{len(rows):,}"),
        ("shares", f"{accepted:,} accepted, {rejected:,} rejected"),
    ]
    if reasons:
        facts.append(("rejects", ", ".join(f"{why} {n:,}" for why, n in reasons.most_common(5))))
    facts += _best(rows, work) + _odds(rows)
    weak = [text for row in rows if (text := _needs_a_look(row))]
    return Text(
        f"{day:%d %B}: {si(hashrate)}H/s, {counted(accepted, 'share')}",
        tuple(some(weak)) if weak else ("No worker needs a look.",),
        f"{counted(len(weak), 'worker')} to look at." if len(weak) > NAMED else "",
        (("day (UTC)", f"{day}"), *facts),
    )


def _best(rows: list[dict[str, Any]], work: float) -> list[tuple[str, str]]:
    bests = [row for row in rows if row["best_share_diff"]]
    if not bests or not work:
        return []
    top = max(bests, key=lambda row: row["best_share_diff"])
    best, median = top["best_share_diff"], work / math.log(2)
    by = worker_name(Worker(top["user"], top["worker"]))
    return [
        ("best share", f"{si(best, 4)}, by {by}"),
        (
            "luck",
            f"{best / median:.2g} times the median of this work; chance of as much or more: "
            f"{percent(-math.expm1(-work / best))}",
        ),
    ]


def _odds(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    known = [row for row in rows if row["network_difficulty"]]
    if not known:
        return []
    per_second = sum(row["now_hashrate"] for row in known) / (
        known[0]["network_difficulty"] * 2.0**32
    )
    day, year = (-math.expm1(-per_second * seconds) for seconds in (86_400, 31_557_600))
    return [("odds of a block", f"{percent(day)} a day, {percent(year)} a year")]


def _needs_a_look(row: dict[str, Any]) -> str | None:
    why = []
    if row["reject_ratio"] > REJECTS:
        why.append(f"{100 * row['reject_ratio']:.0f} % of its shares rejected")
    if row["uptime_seconds"] < UPTIME * 86_400:
        why.append(f"up for {row['uptime_seconds'] / 3600:.1f} of 24 hours")
    if row["naps"]:
        why.append("flaps")
    who = worker_name(Worker(row["user"], row["worker"]))
    return f"{who}: {', '.join(why)}" if why else None
