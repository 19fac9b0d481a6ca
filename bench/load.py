"""Datagrams for a benchmark, and the process that sends them.

``python -m bench.load`` is started by :class:`Load` alone: it says ``ready``, waits
for a line, sends, and says what became of it as JSON.
"""

import contextlib
import json
import os
import random
import secrets
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests import mixture
from tests.processes import PYTHON, Process

GOLDEN: Final = Path(__file__).resolve().parent.parent / "tests" / "events" / "share_submitted.json"
_SEND_BUFFER: Final = 8 * 2**20
_RESERVED: Final = ("timestamp", "instance", "seq", "user", "worker", "share_diff", "hash")


def datagrams(
    count: int,
    *,
    workers: int = 1000,
    instance: str = "bench/1",
    first: int = 1,
    seed: int = 1,
    mixed: bool = False,
    each: bool = False,
) -> Iterator[bytes]:
    """Events of as many workers, four to a user, numbered from ``first``.

    Shares alone, or ``mixed``: all eight events as on an ordinary day. The workers are drawn, or
    ``each`` comes once before any comes again, in no order that an index would like, and with
    the best of a thousand shares: without that, every fifth share to come would be a best, as
    in a week's first minute.
    """
    draw = random.Random(seed)  # noqa: S311  load, no secret
    value: dict[str, Any] = json.loads(GOLDEN.read_bytes())
    for name in _RESERVED:
        (value if name in value else value["data"])[name] = f"@{name}"
    text = json.dumps(value, separators=(",", ":")).replace("%", "%%")
    for name in _RESERVED:
        kind = "s" if name in ("instance", "user", "worker", "hash") else "d"
        text = text.replace(f'"@{name}"', f'"%({name})s"' if kind == "s" else f"%({name})s")
    for seq in range(first, first + count):
        # Coprime to every power of ten.
        worker = seq * 618_033_989 % workers if each else draw.randrange(workers)
        kind = mixture.kind(draw) if mixed else "share_submitted"
        if kind != "share_submitted":
            yield mixture.datagram(
                kind,
                instance=instance,
                seq=seq,
                micros=time.time_ns() // 1000,
                user=f"bcrt1qbench{worker // 4:028d}",
                worker=f"rig-{worker}",
            )
            continue
        yield (
            text
            % {
                "timestamp": time.time_ns() // 1000,
                "instance": instance,
                "seq": seq,
                "user": f"bcrt1qbench{worker // 4:028d}",
                "worker": f"rig-{worker}",
                "share_diff": 512 / (1 - draw.random() ** (0.001 if each else 1)),
                "hash": f"{draw.getrandbits(224):064x}",
            }
        ).encode()


class Load:
    """A sender in a process of its own.

    Args:
        path: the event socket.
        mode: ``flood`` waits for room; ``paced`` and ``bursts`` never wait, and count
            what found none.
        count: events, of each burst size at most.
        rate: events a second, when paced.
        options: ``punctual`` to wake up before others when paced; the rest goes to
            :func:`datagrams`.
    """

    def __init__(self, path: Path, mode: str, count: int, rate: int = 0, **options: Any) -> None:
        words = {"path": str(path), "mode": mode, "count": count, "rate": rate, **options}
        command = [PYTHON, "-m", "bench.load", json.dumps(words)]
        log = path.with_name(f"load-{secrets.token_hex(4)}")
        self._process = Process(command, log, listens=True)
        weakref.finalize(self, self._process.kill)  # at our end at the latest
        self._process.start().wait_for("ready\n")

    def go(self) -> None:
        """Begins to send."""
        self._process.tell("go")

    def result(self) -> dict[str, float]:
        """Waits for the end: sent, refused, seconds; largest burst."""
        self._process.wait(900)
        return dict(json.loads(self._process.output.splitlines()[-1]))


def _connect(path: str, *, wait: bool) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # What waits in the receiver's queue is paid from the sender's buffer: the default
    # of 208 KiB holds 167 shares, regardless of the queue's length.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    made.connect(path)
    made.settimeout(60 if wait else 0)
    return made


def _flood(path: str, made: list[bytes]) -> dict[str, float]:
    target = _connect(path, wait=True)
    begun = time.monotonic()
    for datagram in made:
        target.send(datagram)
    return {"sent": len(made), "refused": 0, "seconds": time.monotonic() - begun}


def _keep_pace() -> None:
    """Makes this process wake up on time, if the system allows it.

    An engine on a machine of its own sends evenly; here four processes want the same
    two cores, and a sender that wakes late sends all that it missed at once.
    """
    with contextlib.suppress(AttributeError, PermissionError):  # macOS; no right to
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _paced(path: str, source: Iterator[bytes], rate: int, *, punctual: bool) -> dict[str, float]:
    target = _connect(path, wait=False)
    if punctual:
        _keep_pace()
    sent = refused = 0
    longest = 0
    begun = time.monotonic()
    while True:
        due = int(rate * (time.monotonic() - begun)) - sent - refused
        longest = max(longest, due)
        for _ in range(due):
            datagram = next(source, None)
            if datagram is None:
                seconds = time.monotonic() - begun
                return {
                    "sent": sent, "refused": refused, "seconds": seconds, "longest_catch_up": longest
                }  # fmt: skip
            try:
                target.send(datagram)
            except BlockingIOError:
                refused += 1
            else:
                sent += 1
        time.sleep(0.00005)


def _bursts(path: str, made: list[bytes]) -> dict[str, float]:
    """Doubles the burst until one of three finds no room, then halves in."""
    target = _connect(path, wait=False)

    def fits(size: int) -> bool:
        for _ in range(3):
            time.sleep(0.2)
            try:
                for datagram in made[:size]:
                    target.send(datagram)
            except BlockingIOError:
                return False
        return True

    fitting, size = 0, 8
    while size <= len(made) and fits(size):
        fitting, size = size, 2 * size
    while size - fitting > max(1, fitting // 10):
        middle = (fitting + size) // 2
        if middle <= len(made) and fits(middle):
            fitting = middle
        else:
            size = middle
    return {"largest": fitting}


def main() -> None:
    """Does what the one argument says."""
    options = json.loads(sys.argv[1])
    path, mode, count, rate = (options.pop(name) for name in ("path", "mode", "count", "rate"))
    punctual = options.pop("punctual", False)
    source = datagrams(count, mixed=True, **options)
    made = [] if mode == "paced" else list(source)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # who started us is gone
    if mode == "flood":
        result = _flood(path, made)
    elif mode == "paced":
        result = _paced(path, source, rate, punctual=punctual)
    else:
        result = _bursts(path, made)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
