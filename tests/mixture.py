"""What an engine sends on an ordinary day: all eight events, in realistic proportions.

Shares alone fill one stream. The mixture fills eight at different speeds, and the
short ones are read to their ends long before the long one.
"""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "events"
# Of 171,394 events of three simulated days (1,000 miners, seed 1), in per mille.
WEIGHTS = {
    "share_submitted": 702,
    "share_best_diff": 110,
    "hashrate_update": 96,
    "diff_updated": 47,
    "miner_connected": 24,
    "miner_disconnected": 18,
    "new_block_network": 2,
    "block_found": 1,
}
_KINDS, _SHARES_OF = list(WEIGHTS), list(WEIGHTS.values())
_FILLED = ("user", "worker", "difficulty", "valid", "reject_reason")


@cache
def _template(event: str) -> str:
    """The golden datagram as a text to be formatted."""
    value: dict[str, Any] = json.loads((GOLDEN / f"{event}.json").read_bytes())
    value |= {"instance": "@instance", "seq": "@seq", "timestamp": "@time"}
    for field in _FILLED:
        if field in value["data"] and (event == "share_submitted" or field in ("user", "worker")):
            value["data"][field] = f"@{field}"
    text = json.dumps(value).replace("{", "{{").replace("}", "}}")
    for field in ("seq", "time", "difficulty", "valid", "reject_reason"):
        text = text.replace(f'"@{field}"', f"{{{field}}}")
    for field in ("user", "worker", "instance"):
        text = text.replace(f"@{field}", f"{{{field}}}")
    return text


def kind(draw: random.Random) -> str:
    """The next event's kind."""
    return draw.choices(_KINDS, _SHARES_OF)[0]


def datagram(
    event: str,
    *,
    instance: str,
    seq: int,
    micros: int,
    user: str,
    worker: str = "rig",
    valid: bool = True,
    broken: bool = False,
) -> bytes:
    """One datagram; a ``broken`` share breaks the contract, and becomes a dead letter."""
    text = _template(event).format(
        instance=instance,
        seq=seq,
        time=micros,
        user=user,
        worker=worker,
        difficulty=0 if broken else 512.0,
        valid="true" if valid else "false",
        reject_reason="null" if valid else '"Stale"',
    )
    return text.encode()
