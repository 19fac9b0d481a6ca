"""Answers that are kept for a moment, in front of the routes.

- Who asks for what is kept gets the bytes, with an ETag, and no route runs.
- One request computes what many wait for. It goes on when they have stopped waiting.
- What is a little old is given out while it is computed again, so that a costly answer makes
  nobody wait. What could not be computed again is forgotten: the next one hears why.
- A costly answer is kept for longer: the database spends a tenth of its time on it at most.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter, itemgetter
from time import monotonic
from typing import Final
from urllib.parse import parse_qsl

import structlog
from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COST_FACTOR: Final = 10.0  # kept for so many times what it took
LONGEST: Final = 60.0  # seconds
STALE: Final = 30.0  # seconds that an answer may be given out while it is computed again
KEPT: Final = frozenset({200, 404})
LONG: Final = 8192  # bytes: a longer body is sent with gzip to who takes it
_OVERHEAD: Final = 1000  # bytes of an answer beside its body and its key
_GZIP: Final = b"\x1f\x8b"  # how it begins: a receipt is packed already
_NEVER: Final = re.compile(r"q\s*=\s*0(\.0*)?")

log: structlog.stdlib.BoundLogger = structlog.get_logger("tbg_serve")

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Answer:
    """One answer, and until when (by the monotonic clock) it is fresh."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    etag: bytes
    fresh_until: float
    seconds: float  # how long it is kept
    packed: bytes | None  # the body with gzip, of one that is long
    size: int  # bytes of memory, about, with those of its key


class Cache:
    """Keeps the answers of an app.

    Args:
        app: whose answers are kept.
        seconds: how long an answer is fresh, at least.
        most_bytes: of all that are kept.
        patience: seconds that a request waits for its answer.
        parameters: names of the query that the app knows; others make no other answer.
        never: beginnings of the paths that are not kept.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        seconds: float,
        most_bytes: int,
        patience: float,
        parameters: Iterable[str],
        never: tuple[str, ...],
    ) -> None:
        self._app = app
        self._seconds = seconds
        self._patience = patience
        self._parameters = frozenset(parameters)
        self._never = never
        self._answers = LRUCache[Key, Answer](most_bytes, getsizeof=attrgetter("size"))
        self._flights: dict[Key, asyncio.Task[Answer]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] not in ("GET", "HEAD")
            or scope["path"].startswith(self._never)
        ):
            await self._app(scope, receive, send)
            return
        key = self._key(scope)
        answer = self._answers.get(key)
        now = monotonic()
        if answer is not None and now < answer.fresh_until + STALE:
            if now >= answer.fresh_until:
                self._fly(key, scope)
        else:
            flight = self._fly(key, scope)
            try:
                answer = await asyncio.wait_for(asyncio.shield(flight), self._patience)
            except TimeoutError:
                answer = slow()
        await self._give(answer, scope, send)

    def _key(self, scope: Scope) -> Key:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        known = (pair for pair in query if pair[0] in self._parameters)
        # Of a name that comes twice the last value counts: their order stays.
        return scope["path"], tuple(sorted(known, key=itemgetter(0)))

    def _fly(self, key: Key, scope: Scope) -> asyncio.Task[Answer]:
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._compute(key, scope))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return flight

    async def _compute(self, key: Key, scope: Scope) -> Answer:
        """Runs the app for all clients that wait, and keeps what it says."""
        # Nothing of the one who happened to ask first: neither conditions nor a hang-up.
        own = {**scope, "method": "GET", "headers": [(b"host", b"localhost")], "client": None}
        begun = monotonic()
        status, headers = 500, list[tuple[bytes, bytes]]()
        parts: list[bytes] = []
        never = asyncio.Event()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await never.wait()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.extend(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        try:
            await self._app(own, receive, send)
        except Exception:
            log.exception("a route failed", path=key[0])
            status, headers[:], parts[:] = 500, _JSON, [b'{"error":"internal error"}']
        body = b"".join(parts)
        now = monotonic()
        cost = min((now - begun) * COST_FACTOR, LONGEST)
        seconds = max(self._seconds, cost) if self._seconds else 0.0
        # Weak: the same for the body with gzip and without.
        etag = b'W/"' + blake2b(body, digest_size=12).hexdigest().encode() + b'"'
        packed = None
        if status == 200 and len(body) >= LONG and not body.startswith(_GZIP):
            packed = await asyncio.to_thread(gzip.compress, body, 1)
        size = len(body) + len(packed or b"") + _size_of(key) + _OVERHEAD
        answer = Answer(status, tuple(headers), body, etag, now + seconds, seconds, packed, size)
        if status in KEPT and self._seconds and answer.size <= self._answers.maxsize:
            self._answers[key] = answer
        else:
            self._answers.pop(key, None)
        return answer

    async def _give(self, answer: Answer, scope: Scope, send: Send) -> None:
        headers = list(answer.headers)
        status, body = answer.status, answer.body
        asked = Headers(scope=scope)
        if status in KEPT:
            headers.append((b"etag", answer.etag))
            headers.append((b"cache-control", b"public, max-age=%d" % int(answer.seconds)))
            age = answer.seconds - (answer.fresh_until - monotonic())
            headers.append((b"age", b"%d" % max(0, int(age))))
        if answer.packed is not None:
            headers.append((b"vary", b"Accept-Encoding"))
        if status == 200 and _matches(asked.getlist("if-none-match"), answer.etag):
            gone = (b"content-length", b"content-type")
            headers = [pair for pair in headers if pair[0].lower() not in gone]
            status, body = 304, b""
        elif answer.packed is not None and _takes_gzip(asked.getlist("accept-encoding")):
            body = answer.packed
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )


_JSON: Final = [(b"content-type", b"application/json")]


def slow() -> Answer:
    """The answer to who has waited long enough; what is computed goes on, for the next one."""
    body = json.dumps(
        {"error": "not available", "reason": "the answer takes long: ask again in a moment"}
    ).encode()
    headers = (*_JSON, (b"content-length", str(len(body)).encode()), (b"retry-after", b"5"))
    return Answer(503, headers, body, b"", 0, 0, None, 0)


def _size_of(key: Key) -> int:
    path, query = key
    return len(path) + sum(len(name) + len(value) for name, value in query)


def _matches(conditions: list[str], etag: bytes) -> bool:
    """Whether an If-None-Match names the ETag; weak ones count, as for every GET."""
    names = [name.strip().removeprefix("W/") for name in ",".join(conditions).split(",")]
    return "*" in names or etag.decode().removeprefix("W/") in names


def _takes_gzip(encodings: list[str]) -> bool:
    """Whether an Accept-Encoding names gzip, with a weight that is not zero."""
    for part in ",".join(encodings).lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return _NEVER.fullmatch(weight.strip()) is None
    return False
