"""How much one address may ask: a bucket of tokens for each, in front of everything."""

import ipaddress
import json
import math
from time import monotonic
from typing import Final

from cachetools import LRUCache
from starlette.types import ASGIApp, Receive, Scope, Send

REMEMBERED: Final = 50_000  # addresses; the one that was silent for longest is forgotten first
BURST_SECONDS: Final = 4.0  # of the rate that may come at once


def address_of(scope: Scope) -> str:
    """Whose request it is: an address, of IPv6 its /64; it appears in no answer."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return host


class Limit:
    """Answers 429 where an address asks too often.

    Args:
        app: what is limited.
        rate: requests a second of one address; 0 for no limit.
    """

    def __init__(self, app: ASGIApp, rate: float) -> None:
        self._app = app
        self._rate = rate
        self._most = max(rate * BURST_SECONDS, 1.0)
        self._buckets = LRUCache[str, tuple[float, float]](REMEMBERED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._rate:
            await self._app(scope, receive, send)
            return
        wait = self._wait(address_of(scope))
        if not wait:
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": "too many requests", "reason": f"wait {wait} s"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(wait).encode()),
        ]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _wait(self, address: str) -> int:
        """Takes a token: 0, or the seconds until there is one."""
        now = monotonic()
        tokens, since = self._buckets.get(address, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._rate)
        wait = 0
        if tokens >= 1:
            tokens -= 1
        else:
            wait = math.ceil((1 - tokens) / self._rate)
        self._buckets[address] = tokens, now
        return wait
