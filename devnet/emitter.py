"""Sends an engine's events to the receiver's datagram socket; the engine never waits.

:meth:`Emitter.emit` numbers the event, puts it into a bounded queue and returns; a task of the
same event loop sends. Events wait while the receiver's queue is full (ten datagrams by default on
Linux) or no receiver listens. When our queue is full too, events are dropped and counted by reason;
their sequence numbers stay used, so that the receiver sees the gap. The last events are sent again,
with their numbers, to a receiver that takes over: the old one may have died before it passed them
on. Duplicates are recognised downstream.

The engine also vouches for its numbers, with ``engine_status``: while it runs, when it ends, and
after its death through the page that it leaves beside the socket (:mod:`tbg_core.boots`), which the
receiver reads, or the next boot.
"""

import asyncio
import contextlib
import errno
import math
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import structlog

from tbg_core.boots import HEARTBEAT, Page, Status, datagram, left_behind, name_of
from tbg_core.events import MAX_DATAGRAM
from tbg_core.settings import SUN_PATH_MAX

DROP_REASONS: Final = (
    "receiver_slow",  # the queue was full behind a receiver that listens
    "receiver_absent",  # the queue was full and no receiver listened
    "too_large",  # longer than a datagram of the contract
    "shutdown",  # still queued when the engine ended
)
QUEUE_SIZE: Final = 65_536  # events; about 40 MB of shares at worst
KEPT: Final = 2048  # events sent again to a receiver that takes over from one that died
SEND_BUFFER: Final = 106_496  # bytes
_BURST: Final = 64  # datagrams between two looks at the event loop
_RETRY_ROOM: Final = 0.05  # seconds; safety net if the system does not report room
_RECONNECT_FIRST: Final = 0.05  # seconds
_RECONNECT_MAX: Final = 1.0  # seconds
_REPORT_EVERY: Final = 10.0  # seconds between two warnings about drops
_FIRST_STATUS: Final = 1.0  # seconds from connecting to the first engine_status
# Seconds in which a receiver that took the statement about a former boot has reported it.
_TAKEN: Final = 60.0

FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
"""What a system says when the receiver's queue, or a buffer on the way to it, is full."""


def connected(path: str) -> socket.socket:
    """A non-blocking datagram socket that is connected to the receiver at ``path``.

    Raises:
        OSError: no receiver listens there, or none may be reached.
    """
    candidate = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    candidate.setblocking(False)
    # Linux doubles it. macOS limits a datagram to a default of 2 KiB otherwise; and where the
    # default was raised, more could wait in the receiver's queue than is kept to be sent again.
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    try:
        candidate.connect(path)
    except OSError:
        candidate.close()
        raise
    return candidate


class Emitter:
    """One engine's connection to the receiver; an async context manager.

    Every method belongs to the thread of the running event loop. ``instance`` is
    ``<name>/<boot microseconds>``: new at every start, as the contract demands.

    Args:
        path: the receiver's Unix datagram socket; it need not exist yet.
        name: the engine's name, for example ``devnet-pool``.
        folder: keeps the page about this boot where the socket's folder takes no file.

    Raises:
        ValueError: the path is too long for a socket.
    """

    def __init__(self, path: Path | str, name: str, folder: Path | None = None) -> None:
        if len(os.fsencode(path)) > SUN_PATH_MAX:
            raise ValueError(
                f"the socket path {path} is longer than {SUN_PATH_MAX} bytes: use a shorter one"
            )
        self.path = str(path)
        self.instance = f"{name}/{time.time_ns() // 1000}"
        self.seq = 0
        """Events so far, dropped ones included."""
        self.sent = 0
        self.resent = 0
        self.dropped: Counter[str] = Counter()
        """Events that never reached the socket, by one of ``DROP_REASONS``."""
        self.connected = False
        self._queue: deque[bytes] = deque()
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        self._again: deque[bytes] = deque()
        self._page = Page(self.instance, "hosted")
        # The page lies beside the first of these that takes it.
        self._beside = [Path(path), *([] if folder is None else [folder / Path(path).name])]
        self._status_due = math.inf
        self._former: dict[Path, float] = {}  # pages of boots before this one: when reported
        self._encode = msgspec.json.Encoder().encode
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._pending = asyncio.Event()  # set while the queue holds something
        self._empty = asyncio.Event()  # set while nothing waits
        self._empty.set()
        self._closed = False
        self._absence_logged = False
        self._reported = -_REPORT_EVERY
        self._log = structlog.get_logger("emitter").bind(instance=self.instance)

    @property
    def queued(self) -> int:
        """Events that wait to be sent."""
        return len(self._queue)

    async def __aenter__(self) -> Self:
        self._page.open(*self._beside)
        self._task = asyncio.create_task(self._work(), name="emitter")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def emit(self, event: str, data: Mapping[str, Any], *, timestamp: int | None = None) -> int:
        """Queues one event and returns its sequence number; never waits.

        Args:
            event: one of the eight names of the contract.
            data: its data, as JSON types.
            timestamp: microseconds since the epoch; now if it is left out.
        """
        self.seq += 1
        if timestamp is None:
            timestamp = time.time_ns() // 1000
        self._page.note(self.seq, timestamp)
        event_bytes = self._encode(
            {
                "event": event,
                "timestamp": timestamp,
                "source": "hosted",
                "instance": self.instance,
                "seq": self.seq,
                "data": data,
            }
        )
        self._log.debug(event, seq=self.seq, at=timestamp, data=data)
        if len(event_bytes) > MAX_DATAGRAM:
            self._drop("too_large")
        elif self._closed:
            self._drop("shutdown")
        elif len(self._queue) >= QUEUE_SIZE:
            self._drop("receiver_slow" if self.connected else "receiver_absent")
        else:
            self._queue.append(event_bytes)
            self._pending.set()
            self._empty.clear()
        return self.seq

    async def close(self, within: float = 2.0) -> None:
        """Sends for at most ``within`` seconds, then drops what is left; safe to repeat."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._taken()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task, self._closed = None, True
        if self._socket is not None:
            self._say(self._page.ended())
        self._page.close()
        if self._queue:
            self.dropped["shutdown"] += len(self._queue)
            self._queue.clear()
        self._disconnect()
        self._log.info(
            "emitter closed", events=self.seq, sent=self.sent, dropped=dict(self.dropped)
        )

    async def _taken(self) -> None:
        """Waits until all that was sent is with a receiver that lives."""
        while True:
            await self._empty.wait()
            if self._socket is None:
                return  # nothing was ever sent
            # The death of a receiver shows only when something is sent.
            error = self._say(self._page.status())
            if error is None or error.errno in FULL:
                return
            self._lose(error)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY:
            self._reported = now
            self._log.warning("events dropped", reason=reason, dropped=dict(self.dropped))

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_forever())
            group.create_task(self._vouch_for_former_boots())

    async def _send_forever(self) -> None:
        while True:
            if self._socket is None:
                await self._connect()
            if not self._again:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._status_due):
                        await self._pending.wait()
            if self._socket is None:
                continue  # close() has found out that the receiver is gone
            if self._queue or self._again:
                await self._send_burst()
            elif self._now() >= self._status_due:
                # Behind all that it counts: a receiver that hears of a number has read it, or
                # never will.
                self._status_due = self._now() + HEARTBEAT
                if not self._page.is_open:
                    self._page.open(*self._beside)  # the disk may have room again
                error = self._say(self._page.status())
                if error is not None and error.errno not in FULL:
                    self._lose(error)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _vouch_for_former_boots(self) -> None:
        """Says how the boots before this one ended, until a receiver has taken it."""
        while True:
            # In a thread: a folder may answer late or never.
            former = await asyncio.to_thread(
                lambda: [
                    (path, status)
                    for path, status in left_behind(*self._beside)
                    if name_of(status.instance) == name_of(self.instance)
                ]
            )
            for path, status in former:
                since = self._former.get(path)
                if since is not None and self._now() - since > _TAKEN:
                    with contextlib.suppress(OSError):
                        await asyncio.to_thread(path.unlink, missing_ok=True)
                elif self._socket is not None and self._say(status) is None:
                    self._former.setdefault(path, self._now())
            await asyncio.sleep(HEARTBEAT if self.connected else _RECONNECT_MAX)

    def _say(self, status: Status) -> OSError | None:
        """Sends a statement; returns why not, and it is made again later."""
        assert self._socket is not None
        try:
            self._socket.send(datagram(status))
        except OSError as error:
            return error
        return None

    async def _send_burst(self) -> None:
        """Sends until the burst is over, the queue is empty or the receiver is full."""
        assert self._socket is not None
        for _ in range(_BURST):
            waiting = self._again or self._queue
            if not waiting:
                break
            try:
                self._socket.send(waiting[0])
            except OSError as error:
                if error.errno in FULL:
                    await self._wait_writable(error.errno)
                    break
                if error.errno == errno.EMSGSIZE:
                    # Some systems limit a datagram to less than the contract does.
                    waiting.popleft()
                    if waiting is self._queue:
                        self._drop("too_large")
                    continue
                self._lose(error)
                await asyncio.sleep(_RECONNECT_FIRST)
                break
            if waiting is self._queue:
                self._kept.append(waiting.popleft())
                self.sent += 1
                self._page.sent(self.sent)
            else:
                waiting.popleft()
                self.resent += 1
        if not self._queue and not self._again:
            self._pending.clear()
            self._empty.set()
        else:
            await asyncio.sleep(0)

    def _lose(self, error: OSError) -> None:
        # The receiver is gone, perhaps restarting: the event waits for the next one.
        self._log.warning("receiver lost", path=self.path, error=error.strerror)
        self._disconnect()
        self._again = deque(self._kept)
        if self._again:
            self._pending.set()
            self._empty.clear()

    async def _wait_writable(self, code: int | None) -> None:
        """Waits until the receiver took something from its queue, or a short while."""
        assert self._socket is not None
        if code == errno.ENOBUFS:
            # macOS says so of a full peer, and always calls the socket writable.
            await asyncio.sleep(0.001)
            return
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self._socket, writable.set)
        try:
            async with asyncio.timeout(_RETRY_ROOM):
                await writable.wait()
        except TimeoutError:
            pass  # the next send shows whether there is room
        finally:
            loop.remove_writer(self._socket)

    async def _connect(self) -> None:
        """Connects; tries until a receiver listens."""
        delay = _RECONNECT_FIRST
        while True:
            try:
                self._socket = connected(self.path)
            except OSError as error:
                # Absent, no longer listening, or not permitted: each can change.
                if not self._absence_logged:
                    self._absence_logged = True
                    self._log.warning("no receiver", path=self.path, error=error.strerror)
            else:
                self.connected, self._absence_logged = True, False
                self._status_due = self._now() + _FIRST_STATUS
                self._former.clear()
                if not self._page.is_open:
                    self._page.open(*self._beside)  # the receiver has made the folder
                self._log.info("receiver found", path=self.path, waiting=len(self._queue))
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RECONNECT_MAX)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self.connected = None, False
        self._status_due = math.inf
