"""External assets: nothing here is computed by Dagster, which observes them."""

import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import dagster as dg

from tbg_core.names import EVENT_STREAMS, leaderboard_key, week_start
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, RedisServer

GROUP = "realtime"
OWNERS = ["team:realtime"]


def _external(
    key: str, kinds: set[str], description: str, deps: Sequence[str] = ()
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key, deps=deps, kinds=kinds, description=description, group_name=GROUP, owners=OWNERS
    )


def _table(key: str, description: str) -> dg.AssetSpec:
    return _external(key, {"postgres", "table"}, description, deps=["event_streams"])


_SPECS: Final = [
    _external(
        "miners",
        {"bitcoin"},
        "The people who play: every ASIC, from a Bitaxe to an S21, that searches for a nonce "
        "over Stratum and submits what meets its share difficulty.",
    ),
    _external(
        "mining_engine",
        {"cplusplus"},
        "The ckpool fork (or the devnet pool). Judges every share, hands out work, and emits the "
        "eight mining events as datagrams without ever waiting.",
        deps=["miners"],
    ),
    _external(
        "event_streams",
        {"redis"},
        "The Redis streams `mining:<event>`: where an event is safe first. Written by the "
        "receiver, trimmed only once the writer has committed it.",
        deps=["mining_engine"],
    ),
    _table(
        "shares",
        "Every share, accepted or rejected: one row each, kept for `RETENTION_DAYS`. The raw "
        "material of everything here.",
    ),
    _table("blocks", "Every block that a miner of ours found, with its life: found to final."),
    _table("workers", "Every worker with its last share, hashrates, and whether it is online."),
    _table("network_blocks", "The tips of the Bitcoin network as our engines saw them."),
    _table(
        "engine_instances",
        "One row per engine boot, with the sequence numbers that were never seen: a gap is a loss.",
    ),
    _table("dead_letters", "Every event that was refused, with where and why."),
    _external(
        "live_leaderboard",
        {"redis"},
        "The running week as sorted sets `leaderboard:best_diff:<week>`: user → best difficulty, "
        "kept current by the writer with every share.",
        deps=["event_streams"],
    ),
]


def _observe(database: Database, redis_server: RedisServer) -> Iterator[dg.ObserveResult]:
    """What each of them holds now, and when its newest row came.

    With the quick checks, every five minutes: an asset that is seen is no gap in the lineage.
    """
    with database.connect() as connection:
        [row] = connection.execute(query(__package__, "observed.sql"))
    with redis_server.connect() as client:
        lengths: list[Any] = [client.xlen(stream) for stream in EVENT_STREAMS]
        ranked: Any = client.zcard(leaderboard_key(week_start(clock.now())))
    seen: dict[str, dict[str, Any]] = {
        "miners": {"online": row["online"]},
        "mining_engine": {"boots_heard_in_10_minutes": row["boots_heard"], "newest": row["heard"]},
        "event_streams": {"entries": sum(lengths)},
        "shares": {"in_the_last_minute": row["shares_minute"], "newest": row["newest_share"]},
        "blocks": {"dagster/row_count": row["blocks"], "newest": row["newest_block"]},
        "workers": {"dagster/row_count": row["workers"], "online": row["online"]},
        "network_blocks": {"height": row["height"], "newest": row["newest_tip"]},
        "engine_instances": {"dagster/row_count": row["boots"], "newest": row["heard"]},
        "dead_letters": {"dagster/row_count": row["dead_letters"], "newest": row["newest_letter"]},
        "live_leaderboard": {"users": ranked},
    }
    for spec in _SPECS:
        yield dg.ObserveResult(
            asset_key=spec.key,
            metadata={
                name: _shown(value)
                for name, value in seen[spec.key.to_user_string()].items()
                if value is not None
            },
        )


def _shown(value: Any) -> Any:
    return dg.TimestampMetadataValue(value.timestamp()) if isinstance(value, datetime) else value


with warnings.catch_warnings():
    # One look for all of them, where ten would be ten steps of a run, each with its connection.
    warnings.simplefilter("ignore", dg.BetaWarning)
    observe_realtime: Final = dg.multi_observable_source_asset(
        specs=_SPECS, name="observe_realtime"
    )(_observe)
