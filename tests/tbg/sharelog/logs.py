"""Share logs of the documented form, made from a seed."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BASE = 30  # seconds of a work base: ckpool begins a file for each
REJECTS = (
    (1, "Invalid JobID"),
    (2, "Stale"),
    (3, "Ntime out of range"),
    (4, "Duplicate"),
    (5, "Above target"),
)
HOUR = 3600


def start_of(hours_ago: float) -> int:
    """Seconds since the epoch: the full hour that is so long ago."""
    return int(time.time() - hours_ago * HOUR) // HOUR * HOUR


def line(moment: float, chance: random.Random, **changes: Any) -> dict[str, Any]:
    """One line, as upstream writes it."""
    user = f"bcrt1quser{chance.randrange(20):04}"
    nanoseconds = int(moment * 1e9)
    rejected = chance.random() < 0.05
    errn, error = chance.choice(REJECTS) if rejected else (0, None)
    unhashed = errn == 1
    difficulty = chance.choice((1.0, 512.0, 10000.0))
    achieved = -1.0 if unhashed else round(difficulty / (1.0 - chance.random()), 6)
    made: dict[str, Any] = {
        "workinfoid": (int(moment) // BASE * BASE) << 32,
        "clientid": chance.randrange(1000),
        "enonce1": f"{chance.getrandbits(32):08x}",
        "nonce2": f"{chance.getrandbits(64):016x}",
        "nonce": f"{chance.getrandbits(32):08x}",
        "ntime": f"{int(moment):08x}",
        "diff": difficulty,
        "sdiff": achieved,
        "hash": "" if unhashed else f"{chance.getrandbits(256):064x}",
        "result": not rejected,
        "errn": errn,
        "createdate": f"{nanoseconds // 10**9},{nanoseconds % 10**9}",
        "createby": "code",
        "createcode": "parse_submit",
        "createinet": "0.0.0.0:3333",
        "workername": f"{user}.rig{chance.randrange(3)}",
        "username": user,
        "address": f"192.0.2.{chance.randrange(256)}",
        "agent": "bitaxe/BM1370/v2.9.0",
    }
    if error is not None:
        made["error"] = error
    return made | changes


def lines(seed: str, start: float, seconds: float, count: int) -> Iterator[bytes]:
    """``count`` lines, spread over a span of time, each with its end."""
    chance = random.Random(seed)
    for number in range(count):
        yield json.dumps(line(start + seconds * number / count, chance)).encode() + b"\n"


def write_logs(
    folder: Path, seed: str, start: int, seconds: int, count: int, files: int
) -> list[Path]:
    """Writes a span of time in ``files`` files, in ckpool's folders; returns their paths."""
    paths = []
    each = seconds / files
    for number in range(files):
        begun = start + each * number
        below = folder / f"{800_000 + number // 20:08x}"
        below.mkdir(parents=True, exist_ok=True)
        path = below / f"{int(begun) << 32 | number:016x}.sharelog"
        share = count * (number + 1) // files - count * number // files
        path.write_bytes(b"".join(lines(f"{seed}/{number}", begun, each, share)))
        paths.append(path)
    return paths
