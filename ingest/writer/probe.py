"""Good entries of every stream: what the database refuses while it takes one is refused rightly."""

from typing import Any, Final

import msgspec

from ingest.counts import Report
from tbg_core.boots import Status
from tbg_core.entry import Entry
from tbg_core.events import EARLIEST
from tbg_core.names import DEAD_LETTER_STREAM, LEDGER_STREAM, stream_of
from tbg_core.periods import DAY, HOUR

NAME: Final = "tbg probe"
_BOOT: Final = f"{NAME}/1"
_HASH: Final = "00" * 32
_MINER: Final = {"user": NAME, "worker": NAME}
_PROOF: Final = {"header": "00" * 80, "coinbase": "00", "branch": []}
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
        "proof": _PROOF,
    },
    "block_found": {
        **_MINER,
        "height": 0,
        "hash": _HASH,
        "difficulty": 1.0,
        "network_difficulty": 1.0,
        "reward_sats": 0,
        "coinbase_sig": NAME,
        "proof": _PROOF,
    },
    "miner_connected": {**_MINER, "ip": "127.0.0.1", "initial_diff": 1.0},
    "miner_disconnected": {**_MINER, "session_duration": 0},
    "diff_updated": {**_MINER, "old_diff": 1.0, "new_diff": 2.0},
    "hashrate_update": {
        **_MINER,
        "hashrate_1m": 1.0,
        "hashrate_5m": 1.0,
        "hashrate_1h": 1.0,
        "hashrate_24h": 1.0,
    },
    "new_block_network": {"height": 0, "hash": _HASH, "network_difficulty": 1.0},
}


def good_entries(entry: Entry, micros: int, miner: tuple[str, str] = (NAME, NAME)) -> list[Entry]:
    """Good entries in the place of another one: same stream, same id, one after the other.

    The second one changes what the first one wrote, so that they do all that an event of
    their kind does: insert, and raise or update what is there.

    Args:
        entry: the other one.
        micros: its time, so that all meet the same partition.
        miner: names of the user and the worker.
    """
    # A block marks the share that solved it.
    streams = [entry.stream, entry.stream]
    if entry.stream == stream_of("block_found"):
        streams.insert(0, stream_of("share_submitted"))
    first = micros - 1 if micros % DAY else micros
    return [
        _good(stream, entry.id, seq, micros if seq > 1 else first, miner)
        for seq, stream in enumerate(streams, 1)
    ]


def _good(stream: str, entry_id: bytes, seq: int, micros: int, miner: tuple[str, str]) -> Entry:
    named: dict[str, str] = {"instance": _BOOT, "seq": str(seq)}
    if stream == LEDGER_STREAM:
        line = (_BOOT, micros - micros % HOUR, seq)
        report = Report(
            received=[line],
            dropped=[(_BOOT, "probe/probe", [(2 * seq, 2 * seq + 1)])],
            duplicates=[line],
            skews=[(*line, seq)],
            id=f"probe/{seq}",
            read=[line],
            statuses=[Status(_BOOT, "hosted", max(micros, EARLIEST), seq, 0, "running")],
        )
        named = {"report": msgspec.json.encode(report).decode()}
    elif stream == DEAD_LETTER_STREAM:
        named |= {"stage": NAME, "reason": NAME, "detail": NAME, "raw": NAME}
    else:
        event = stream.removeprefix("mining:")
        data = {
            name: value * seq if isinstance(value, float) else value
            for name, value in _DATA[event].items()
        }
        if "user" in data:
            data["user"], data["worker"] = miner
        named |= {"event": event, "timestamp": str(micros), "source": "hosted"}
        named["data"] = msgspec.json.encode(data).decode()
    return Entry(stream, entry_id, [word.encode() for pair in named.items() for word in pair])
