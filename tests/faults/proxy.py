"""A TCP proxy between a stage and a server, which a test may cut, slow and deafen."""

import asyncio
import contextlib
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65_536


class Proxy:
    """Forwards connections on a port of 127.0.0.1 to another one.

    Attributes:
        port: where it listens.
        delay: seconds that every chunk waits before it is forwarded.
        deaf: answers are thrown away, and connections cut with the first of them:
            the server did what it was asked, and nobody hears of it.
        cut_after: bytes that are still forwarded to the server before every
            connection is cut; None for no cut.
        held: pieces that were to be forwarded since :meth:`hold`, and wait.
        part: bytes of such a piece that go all the same.
        refusing: new connections end at once, as when nobody listens.
        cuts: connections cut so far.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._holding: set[asyncio.StreamWriter] = set()
        self._release = asyncio.Event()
        self.held = self.part = 0
        self._server: asyncio.Server | None = None
        self.port = 0
        self.delay = 0.0
        self.deaf = False
        self.cut_after: int | None = None
        self.refusing = False
        self.cuts = 0

    async def start(self) -> "Proxy":
        """Listens."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def url(self, url: str) -> str:
        """The same URL by way of the proxy."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{host}:{self.port}"))

    def cut(self) -> None:
        """Ends every connection at once, as a reset does."""
        for writer in list(self._open):
            writer.transport.abort()
        self.cuts += len(self._open) // 2
        self._open.clear()

    def hold(self) -> None:
        """Keeps what the open connections send from now on, also after their client is gone.

        A connection that is opened later is not held, until this is called again.
        """
        self._holding |= self._open
        self._release.clear()

    def release(self) -> None:
        """Lets what was kept go to the server, as the kernel does after an outage."""
        self._holding.clear()
        self._release.set()

    async def close(self) -> None:
        """Ends everything."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refusing:
            back.transport.abort()
            return
        try:
            server, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            back.transport.abort()
            return
        pair = {back, there}
        self._open |= pair
        try:
            await asyncio.gather(self._ask(client, there), self._answer(server, back))
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone: so is the other one
        finally:
            self._open -= pair
            for writer in pair:
                writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            if writer in self._holding:
                self.held += 1
                writer.write(data[: self.part])
                data = data[self.part :]
                await self._release.wait()
            if self.cut_after is not None:
                writer.write(data[: self.cut_after])
                if len(data) >= self.cut_after:
                    with contextlib.suppress(OSError):
                        await writer.drain()
                    self.cut_after = None
                    self.cut()
                    return
                self.cut_after -= len(data)
            else:
                writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if self.deaf:
                self.deaf = False
                self.cut()
                return
            if self.delay:
                await asyncio.sleep(self.delay)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
