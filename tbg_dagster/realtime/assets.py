"""External assets: nothing here is computed by Dagster."""

from collections.abc import Sequence

import dagster as dg

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


ASSETS = [
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
