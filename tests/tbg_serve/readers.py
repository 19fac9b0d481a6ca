"""Readers of the integrations, written again from what they read: each raises where it would.

public-pool-ui: src/app/components/{splash,dashboard}; NerdMiner: src/monitor.cpp, getPoolData;
Home Assistant: exergyheat/ha-integration-public-pool, coordinator.py; ckstats: lib/api.ts,
scripts/updateUsers.ts, utils/helpers.ts.
"""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

_HASHRATE = re.compile(r"^(\d+(\.\d+)?(?:e[+-]\d+)?)([ZEPTGMK])$", re.IGNORECASE)
_UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21}


def number(value: Any) -> float:
    """JavaScript's Number, of what these readers give it."""
    assert isinstance(value, int | float | str)
    assert not isinstance(value, bool)
    found = float(value)
    assert math.isfinite(found)
    return found


def instant(value: Any) -> datetime:
    """JavaScript's new Date of an ISO text."""
    assert isinstance(value, str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value)
    return datetime.fromisoformat(value)


def integer(value: Any) -> int:
    """JavaScript's BigInt: a fraction throws."""
    assert isinstance(value, int | str)
    assert not isinstance(value, bool)
    return int(value)


def chart(points: list[dict[str, Any]]) -> list[tuple[datetime, float]]:
    """public-pool-ui adds up `data`: a text would be joined instead."""
    for point in points:
        assert set(point) == {"label", "data"}
        assert isinstance(point["data"], int | float)
    return [(instant(point["label"]), number(point["data"])) for point in points]


def dashboard(info: dict[str, Any]) -> dict[str, dict[str, float]]:
    """public-pool-ui's dashboard: sessions by worker."""
    groups: dict[str, dict[str, float]] = {}
    for worker in info["workers"]:
        group = groups.setdefault(worker["name"], {"sessions": 0, "rate": 0, "best": 0})
        group["sessions"] += 1
        group["rate"] += math.floor(number(worker["hashRate"]))
        group["best"] = max(group["best"], number(worker["bestDifficulty"]))
        assert instant(worker["startTime"]) <= datetime.now(UTC)
        instant(worker["lastSeen"])
        assert isinstance(worker["sessionId"], str)
    assert info["workersCount"] == len(info["workers"])
    return groups


def splash(info: dict[str, Any]) -> None:
    """public-pool-ui's first page."""
    instant(info["uptime"])
    for block in info["blockData"]:
        assert isinstance(block["height"], int)
        assert all(isinstance(block[name], str) for name in ("minerAddress", "worker", "sessionId"))
    for agent in info["userAgents"]:
        assert isinstance(agent["count"], str)
        assert int(agent["count"]) > 0
        assert isinstance(agent["userAgent"], str)
        number(agent["totalHashRate"])
        number(agent["bestDifficulty"])
    for score in info["highScores"]:
        instant(score["updatedAt"])
        number(score["bestDifficulty"])
        assert isinstance(score["bestDifficultyUserAgent"], str)


def nerdminer(info: dict[str, Any]) -> tuple[int, float, float]:
    """NerdMiner's screen: workers, hash rate, best."""
    total = sum(number(worker["hashRate"]) for worker in info["workers"])
    return int(info["workersCount"]), total, number(info["bestDifficulty"])


def home_assistant(
    pool: dict[str, Any], network: dict[str, Any], client: dict[str, Any]
) -> dict[str, Any]:
    """The sensors of Home Assistant's integration."""
    return {
        "pool_hashrate": float(pool["totalHashRate"]) / 1e12,
        "pool_miners": int(pool["totalMiners"]),
        "pool_block_height": int(pool["blockHeight"]),
        "blocks_found_count": len(pool["blocksFound"]),
        "pool_fee": float(pool["fee"]),
        "network_difficulty": float(network["difficulty"]),
        "network_hashrate": float(network["networkhashps"]) / 1e18,
        "network_block_height": int(network["blocks"]),
        "address_best_difficulty": float(client["bestDifficulty"]),
        "address_workers_count": int(client["workersCount"]),
        "workers": {
            worker["name"]: (
                float(worker["hashRate"]) / 1e9,
                float(worker["bestDifficulty"]),
                datetime.fromisoformat(worker["lastSeen"].replace("Z", "+00:00")),
            )
            for worker in client["workers"]
        },
    }


def hashrate(value: Any) -> int:
    """ckstats' convertHashrate."""
    text = str(value)
    found = _HASHRATE.match(text)
    if found is None:
        return integer(text)
    return round(float(found[1]) * _UNITS[found[3].upper()])


def ckstats_pool(text: str) -> dict[str, Any]:
    """ckstats' pool: the lines of pool.status, merged."""
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert len(lines) == 3
    found: dict[str, Any] = {}
    for line in lines:
        found |= line
    for name in ("1m", "5m", "15m", "1hr", "6hr", "1d", "7d"):
        found[f"hashrate{name}"] = hashrate(found[f"hashrate{name}"])
    for name in ("runtime", "lastupdate", "Users", "Workers", "Idle", "Disconnected"):
        integer(found[name])
    for name in ("accepted", "rejected", "bestshare"):
        integer(found[name])
    for name in ("diff", "SPS1m", "SPS5m", "SPS15m", "SPS1h"):
        number(found[name])
    return found


def ckstats_user(text: str) -> dict[str, Any]:
    """ckstats' user and workers."""

    def line(data: dict[str, Any]) -> dict[str, Any]:
        return {
            **{
                name: hashrate(data[name])
                for name in (f"hashrate{span}" for span in ("1m", "5m", "1hr", "1d", "7d"))
            },
            "lastshare": integer(data["lastshare"]),
            "shares": integer(data["shares"]),
            "bestshare": number(data["bestshare"]),
            "bestever": integer(data["bestever"]),
        }

    data = json.loads(text)
    workers = {}
    for worker in data["worker"]:
        name = worker["workername"]
        workers[name.split(".")[1] if "." in name else name] = line(worker)
    return {
        **line(data),
        "workers": data["workers"],
        "authorised": str(data["authorised"]),
        "worker": workers,
    }
