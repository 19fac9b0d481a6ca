"""Good entries of every stream: what the database refuses while it takes one is refused rightly."""

from typing import Any, Final

import msgspec

from ingest.counts import Report
from tbg_core.entry import Entry
from tbg_core.names import DEAD_LETTER_STREAM, LEDGER_STREAM

NAME: Final = "tbg probe"
_BOOT: Final = f"{NAME}/1"
_HASH: Final = "00" * 32
_MINER: Final = {"user": NAME, "worker": NAME}
_DATA: Final[dict[str, dict[str, Any]]] = {
    "share_submitted": {
        **_MINER,
        "difficulty": 1.0,
        "share_diff": 1.0,
        "valid": True,
        "reject_reason": None,
        "job_id": "0",
        "nonce": "00000000",
        "nonce2": "00000000",
        "ip": "127.0.0.1",
        "hash": _HASH,
    },
    "share_best_diff": {
        **_MINER,
        "new_best_diff": 1.0,
        "previous_best_diff": 0,
        "period": "session",
    },
    "block_found": {
        **_MINER,
        "height": 0,
        "hash": _HASH,
        "difficulty": 1.0,
        "network_difficulty": 1.0,
        "reward_sats": 0,
        "coinbase_sig": NAME,
    },
    "miner_connected": {**_MINER, "ip": "127.0.0.1", "initial_diff": 1.0},
    "miner_disconnected": {**_MINER, "session_duration": 0},
    "diff_updated": {**_MINER, "old_diff": 1.0, "new_diff": 2.0},
    "hashrate_update": {
        **_MINER,
        "hashrate_1m": 0,
        "hashrate_5m": 0,
        "hashrate_1h": 0,
        "hashrate_24h": 0,
    },
    "new_block_network": {"height": 0, "hash": _HASH, "network_difficulty": 1.0},
}


def good_entry(entry: Entry, micros: int) -> Entry:
    """A good entry in the place of another one: same stream, same id.

    Args:
        entry: the other one.
        micros: its time, so that both meet the same partition.
    """
    named: dict[str, str] = {"instance": _BOOT, "seq": "1"}
    if entry.stream == LEDGER_STREAM:
        report = Report([(_BOOT, micros - micros % 3_600_000_000, 1)], [])
        named = {"report": msgspec.json.encode(report).decode()}
    elif entry.stream == DEAD_LETTER_STREAM:
        named |= {"stage": NAME, "reason": NAME, "detail": NAME, "raw": NAME}
    else:
        event = entry.stream.removeprefix("mining:")
        data = msgspec.json.encode(_DATA[event]).decode()
        named |= {"event": event, "timestamp": str(micros), "source": "hosted", "data": data}
    return Entry(entry.stream, entry.id, [word.encode() for pair in named.items() for word in pair])
