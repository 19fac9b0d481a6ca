"""The day that has closed, in numbers, for the miners that a route is about."""

import math
from collections import Counter
from datetime import date
from typing import Final, LiteralString

import psycopg
from psycopg.rows import DictRow

from tbg_core.wording import counted, percent, si
from tbg_notify.kinds import Worker
from tbg_notify.routes import Route
from tbg_notify.text import Text
from tbg_notify.words import day_and_clock, some, worker_name

REJECTS: Final = 0.05  # of the shares, from which a worker needs a look
UPTIME: Final = 0.5  # of the day, below which it does
# Fewer shares say nothing of uptime: it is the time between the first and the last.
ENOUGH_SHARES: Final = 20
GONE_DAYS: Final = 7  # a worker that is silent for longer was taken away

_DAY: Final[LiteralString] = """
select
    u.btc_address as user, w.worker_name as worker, d.accepted, d.rejected, d.reject_ratio,
    d.rejects_by_reason, d.work, d.hashrate, d.hashrate_low, d.hashrate_high,
    d.uptime_seconds, d.best_share_diff, f.naps, l.silent_since, o.hashrate as now_hashrate,
    o.network_difficulty
from worker_stats_daily d
join users u on u.id = d.user_id
join workers w on w.id = d.worker_id
left join worker_flaps f on f.worker_id = d.worker_id
left join worker_liveness l on l.worker_id = d.worker_id and l.back_since is null
left join block_odds o on o.scope = 'worker' and o.worker_id = d.worker_id
where d.day = %(day)s
order by d.hashrate desc, 1, 2
"""
# Workers that were not there all day: nothing else names them any more.
_ABSENT: Final[LiteralString] = """
select u.btc_address as user, w.worker_name as worker, l.silent_since
from worker_liveness l
join workers w on w.id = l.worker_id
join users u on u.id = w.user_id
where l.back_since is null
  and l.silent_since >= %(day)s::date - %(gone)s
  and not exists (select from worker_stats_daily d where d.worker_id = w.id and d.day = %(day)s)
order by 3 desc, 1, 2
"""


def digest(connection: psycopg.Connection[DictRow], route: Route, day: date) -> Text | None:
    """The digest of a day (UTC), None if no miner of the route had a share."""
    rows, absent = (
        [
            row
            for row in connection.execute(query, {"day": day, "gone": GONE_DAYS}).fetchall()
            if route.matches(row["user"], row["worker"])
        ]
        for query in (_DAY, _ABSENT)
    )
    if not rows:
        return None
    accepted, rejected = (sum(row[name] for row in rows) for name in ("accepted", "rejected"))
    hashrate, work = (sum(row[name] for row in rows) for name in ("hashrate", "work"))
    # Independent counts: their errors add up as squares.
    low = math.hypot(*(row["hashrate"] - row["hashrate_low"] for row in rows))
    high = math.hypot(*(row["hashrate_high"] - row["hashrate"] for row in rows))
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons.update(row["rejects_by_reason"])
    facts = [
        (
            "hash rate",
            f"{si(hashrate)}H/s ({si(max(hashrate - low, 0))} to {si(hashrate + high)}, 95 %)",
        ),
        ("workers", f"{len(rows):,}"),
        ("shares", f"{accepted:,} accepted"),
        ("rejects", _rejects(rejected, accepted + rejected, reasons)),
        *_best(rows, work),
        *_odds(rows),
    ]
    weak = [text for row in [*rows, *absent] if (text := _needs_a_look(row, route))]
    return Text(
        f"{day:%d %B}: {si(hashrate)}H/s, {counted(accepted, 'share')}",
        (f"{counted(len(weak), 'worker needs', 'workers need')} a look:", *some(weak))
        if weak
        else ("No worker needs a look.",),
        table=(("day (UTC)", f"{day:%A, %d %B %Y}"), *facts),
    )


def _rejects(rejected: int, shares: int, reasons: Counter[str]) -> str:
    if not rejected:
        return "none"
    named = ", ".join(f"{why} {n:,}" for why, n in reasons.most_common(5))
    return f"{rejected:,} ({percent(rejected / shares)}): {named}"


def _best(rows: list[DictRow], work: float) -> list[tuple[str, str]]:
    bests = [row for row in rows if row["best_share_diff"]]
    if not bests or not work:
        return []
    top = max(bests, key=lambda row: row["best_share_diff"])
    best, median = top["best_share_diff"], work / math.log(2)
    by = worker_name(Worker(top["user"], top["worker"]))
    return [
        ("best share", f"{si(best, 4)}, by {by}"),
        (
            "luck promised",
            f"{si(median)} (half of such days do better); chance of {si(best)} or better: "
            f"{percent(-math.expm1(-work / best))}",
        ),
    ]


def _odds(rows: list[DictRow]) -> list[tuple[str, str]]:
    known = [row for row in rows if row["network_difficulty"]]
    if not known:
        return []
    per_second = sum(row["now_hashrate"] for row in known) / (
        known[0]["network_difficulty"] * 2.0**32
    )
    day, year = (-math.expm1(-per_second * seconds) for seconds in (86_400, 31_557_600))
    return [("odds of a block", f"{percent(day)} a day, {percent(year)} a year")]


def _needs_a_look(row: DictRow, route: Route) -> str | None:
    why = []
    if row["silent_since"]:
        why.append(f"silent since {day_and_clock(row['silent_since'], route.zone)}")
    rejected = row.get("rejected", 0)
    shares = rejected + row.get("accepted", 0)
    # Of a slow miner's few shares, chance rejects more: two standard deviations.
    if rejected - 2 * math.sqrt(rejected) > REJECTS * shares:
        why.append(f"{100 * row['reject_ratio']:.0f} % of its shares rejected")
    if shares >= ENOUGH_SHARES and row["uptime_seconds"] < UPTIME * 86_400:
        why.append(f"up for {row['uptime_seconds'] / 3600:.1f} of 24 hours")
    if row.get("naps"):
        why.append("flaps")
    who = worker_name(Worker(row["user"], row["worker"]))
    return f"{who}: {', '.join(why)}" if why else None
