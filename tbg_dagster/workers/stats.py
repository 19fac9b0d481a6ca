"""A worker's day in numbers. Pure: frames in, frames out."""

from typing import Any, Final

import numpy as np
import pandas as pd

from tbg_core.difficulty import HASHES_PER_DIFFICULTY

DAY_SECONDS: Final = 86_400.0
Z95: Final = 1.959964  # of the normal distribution, two-sided

COLUMNS: Final = (
    "user_id",
    "worker_id",
    "accepted",
    "rejected",
    "reject_ratio",
    "rejects_by_reason",
    "work",
    "hashrate",
    "hashrate_low",
    "hashrate_high",
    "hashrate_up",
    "uptime_seconds",
    "longest_gap_seconds",
    "best_share_diff",
    "luck",
    "luck_percentile",
)


def poisson_interval(count: "pd.Series[float]") -> tuple["pd.Series[float]", "pd.Series[float]"]:
    """The 95 % confidence interval of a Poisson mean of which ``count`` was observed.

    Byar's approximation (Breslow and Day, Statistical Methods in Cancer Research II,
    1987, eq. 2.13): within 1 % of the exact interval from a count of 3 on.
    """
    n = count.astype(float)
    safe = n.clip(lower=1e-9)
    low = n * (1 - 1 / (9 * safe) - Z95 / (3 * np.sqrt(safe))) ** 3
    low = low.where(n >= 0.5, 0.0).clip(lower=0.0)
    above = n + 1
    high = above * (1 - 1 / (9 * above) + Z95 / (3 * np.sqrt(above))) ** 3
    return low, high


def worker_stats(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Statistics of a day from what the shares of each worker say (stats.sql).

    ``hashrate`` is work * 2^32 over the whole day, with its 95 % interval: shares are
    Poisson, and shares of unequal difficulty weigh as (sum d)^2 / sum d^2 equal ones.
    ``luck`` is the best difficulty over the median that this work leads one to expect:
    the chance that none of the shares reaches x is exp(-work / x), so the median is
    work / ln 2, and ``luck_percentile`` is exp(-work / best). (The mean is infinite.)
    """
    frame = pd.DataFrame.from_records(rows)
    if frame.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    for column in ("work", "work_squared", "uptime", "longest_gap", "best_share_diff"):
        frame[column] = frame[column].astype(float)
    frame["reject_ratio"] = frame["rejected"] / (frame["accepted"] + frame["rejected"])

    per_second = HASHES_PER_DIFFICULTY / DAY_SECONDS
    frame["hashrate"] = frame["work"] * per_second
    equal_shares = (frame["work"] ** 2 / frame["work_squared"]).where(frame["work"] > 0, 0.0)
    low, high = poisson_interval(equal_shares)
    mean_difficulty = (frame["work_squared"] / frame["work"]).where(frame["work"] > 0)
    frame["hashrate_low"] = (low * mean_difficulty * per_second).fillna(0.0)
    # No accepted share says nothing of the difficulty, so nothing of an upper limit.
    frame["hashrate_high"] = (high * mean_difficulty * per_second).fillna(0.0)

    # Uptime is the gaps that chance explains, each of which ends with a share: the first share,
    # and the one after an outage, end none.
    up = frame["uptime"] > 0
    shares = frame["accepted"] + frame["rejected"]
    explained = frame.get("explained", shares - 1)
    work_up = frame["work"] * explained / shares
    frame["hashrate_up"] = (work_up * HASHES_PER_DIFFICULTY / frame["uptime"]).where(up)
    best = frame["best_share_diff"]
    frame["luck"] = best * np.log(2) / frame["work"].where(frame["work"] > 0)
    frame["luck_percentile"] = np.exp(-frame["work"] / best)
    return frame.rename(columns={"uptime": "uptime_seconds", "longest_gap": "longest_gap_seconds"})[
        list(COLUMNS)
    ]
