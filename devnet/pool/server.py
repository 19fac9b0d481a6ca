"""The Stratum port: connections and their limits. ``session`` holds the conversation."""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from devnet.pool.pool import Pool
from devnet.pool.protocol import MAX_LINE, NO_ID, OTHER, error_line
from devnet.pool.proxy_header import FIRST, Networks, ProxyHeaderError, networks, read_header
from devnet.pool.rate_limit import RateLimit
from devnet.pool.session import Session
from devnet.pool.tls import Certificate

Address = tuple[str, int]  # host and port

MAX_UNSENT: Final = 256 * 1024  # bytes that a miner may leave unread before it is dropped
_BACKLOG: Final = 512  # connections that the kernel keeps for us in a flood

_LOCAL: Final = networks(
    [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    ]
)
"""Networks of one's own, where many devices may stand behind one address: no limit by address."""

log = structlog.get_logger("pool.server")


class StratumServer:
    """Serves ``pool`` to the miners that connect."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._config = pool.config
        self._proxies = networks(pool.config.proxies)
        self._connections: dict[int, Connection] = {}
        self._by_ip: Counter[str] = Counter()
        self._next_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.turned_away: Counter[str] = Counter()
        """Connections refused, by reason."""

    @asynccontextmanager
    async def listen(
        self, addresses: list[Address], certificate: Certificate | None = None
    ) -> AsyncIterator[list[Address]]:
        """Accepts connections until the block ends; yields the addresses with their real ports.

        With ``certificate`` over TLS. When it ends, every connection is closed and its event is
        written.

        Raises:
            OSError: it cannot listen on an address.
        """
        tls: dict[str, Any] = {}
        if certificate is not None:
            timeout = self._config.handshake_timeout
            tls = {"ssl": certificate.context, "ssl_handshake_timeout": timeout}
        async with contextlib.AsyncExitStack() as stack:
            bound: list[Address] = []
            stack.push_async_callback(self._close_all)
            for host, port in addresses:
                server = await asyncio.start_server(
                    self._accept, host, port, limit=MAX_LINE, backlog=_BACKLOG, **tls
                )
                stack.callback(server.close)
                bound += [item.getsockname()[:2] for item in server.sockets]
            yield bound

    @property
    def connections(self) -> int:
        """Open connections, authorised or not."""
        return len(self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            ip, first = await self._origin(reader, writer)
            await self._serve(ip, first, reader, writer)
        finally:
            self._tasks.discard(task)

    async def _origin(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str | None, bytes]:
        """The miner's IP address, and what was read of its first line.

        One of our proxies may name the miner in a header; without one it speaks for itself.
        """
        peer = _ip(writer.get_extra_info("peername"))
        if peer is None or not _within(peer, self._proxies):
            return peer, b""
        try:
            async with asyncio.timeout(self._config.handshake_timeout):
                first = await reader.read(1)
                if first not in FIRST:
                    return peer, first
                return await read_header(reader, first) or peer, b""
        except (ProxyHeaderError, asyncio.IncompleteReadError, TimeoutError, OSError) as error:
            log.warning("no PROXY header from a proxy", proxy=peer, error=str(error))
            return None, b""

    async def _serve(
        self,
        ip: str | None,
        first: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        refused = None
        if ip is None:
            refused = "gone"
        elif self._stopping:
            refused = "stopping"
        elif len(self._connections) >= self._config.maxclients:
            refused = "maxclients"
        elif self._full(ip):
            refused = "max_per_address"
        if refused is not None or ip is None:
            self.turned_away[str(refused)] += 1
            if ip is not None:
                writer.write(error_line(NO_ID, OTHER, "Too many connections"))
            writer.close()
            return
        self._next_id += 1
        client_id = self._next_id
        connection = Connection(self._pool, client_id, ip, reader, writer, first)
        self._connections[client_id] = connection
        self._by_ip[ip] += 1
        try:
            await connection.serve()
        finally:
            # No await since the event of its end: a reader of the event finds the place free.
            del self._connections[client_id]
            self._by_ip[ip] -= 1
            if not self._by_ip[ip]:
                del self._by_ip[ip]
            await connection.wait_closed()

    def _full(self, ip: str) -> bool:
        """Whether an address has all the connections that it may have."""
        most = self._config.max_per_address
        return 0 < most <= self._by_ip[ip] and not _within(ip, _LOCAL)

    async def _close_all(self) -> None:
        self._stopping = True
        for connection in list(self._connections.values()):
            connection.close("pool shutdown")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)


class Connection:
    """One TCP connection and the session on it."""

    def __init__(
        self,
        pool: Pool,
        client_id: int,
        ip: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: bytes = b"",
    ) -> None:
        self._config = pool.config
        self._first = first  # of its first line, read already
        self._reader = reader
        self._writer = writer
        self._reason: str | None = None
        self._opened = time.monotonic()
        self._rate = RateLimit(pool.config.message_rate, self._opened)
        self._session = Session(pool, client_id, ip, self.send, self.close)
        with contextlib.suppress(OSError):  # the peer may be gone already
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, line: bytes) -> None:
        """Sends a line without waiting; drops a miner that does not read."""
        if self._reason is not None:
            return
        self._writer.write(line)
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self.close("too slow to read")
            self._writer.transport.abort()

    def close(self, reason: str) -> None:
        """Ends the connection; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._writer.close()

    async def serve(self) -> None:
        """Reads lines until either side ends the connection."""
        try:
            while self._reason is None:
                line = await self._next_line()
                if line is None:
                    break
                self._session.handle(line)
        finally:
            self.close("closed by the pool")
            self._session.end(self._reason or "unknown")
            log.debug("disconnected", client=self._session.client_id, reason=self._reason)

    async def wait_closed(self) -> None:
        """Gives the last lines a moment to leave; a miner that does not read loses them."""
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)

    async def _next_line(self) -> bytes | None:
        """The next line, or None if the connection ends."""
        pause = self._rate.pause(time.monotonic())
        if pause:
            await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(self._patience()):
                first, self._first = self._first, b""
                if first == b"\n":
                    return first
                return first + await self._reader.readuntil(b"\n")
        except TimeoutError:
            self.close("idle" if self._session.mining else "no handshake")
        except asyncio.IncompleteReadError:
            self.close("closed by the miner")
        except asyncio.LimitOverrunError:
            self.send(error_line(NO_ID, OTHER, f"A line has at most {MAX_LINE} bytes"))
            self.close("line too long")
        except OSError:
            self.close("connection lost")
        return None

    def _patience(self) -> float:
        """Seconds that the next line may take: a stranger has one limit for its whole handshake."""
        if self._session.mining is not None:
            return self._config.idle_timeout
        return max(0.0, self._opened + self._config.handshake_timeout - time.monotonic())


def _within(ip: str, among: Networks) -> bool:
    address = ipaddress.ip_address(ip)
    return any(address in network for network in among)


def _ip(peer: object) -> str | None:
    """The peer's address without zone, IPv4 in its own notation; None if it is gone already."""
    if not isinstance(peer, tuple) or not peer:
        return None
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
