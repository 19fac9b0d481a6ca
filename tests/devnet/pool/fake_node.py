"""A node that says what a test wants: the real one knows only regtest, and never misbehaves."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from tests.devnet.pool.test_work import answer


@contextmanager
def nobody_listens() -> Iterator[str]:
    """The URL of a port that is taken, so that nothing can begin to listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


class FakeNode:
    """Answers each RPC with what ``answers`` holds for it: a value, a response, or a function."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"getblocktemplate": answer(longpollid=None)} | answers
        self.calls: list[tuple[str, Any]] = []
        self.url = ""
        self.away = False
        """While it is set, connections are cut off without an answer."""

    async def handle(self, request: web.Request) -> web.Response:
        call = await request.json()
        if self.away:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        self.calls.append((call["method"], call["params"]))
        if call["method"] not in self.answers:
            error = {"code": -32601, "message": "Method not found"}
            return web.json_response({"result": None, "error": error, "id": call["id"]})
        result = self.answers[call["method"]]
        if callable(result):
            result = result()
        if isinstance(result, web.Response):
            return result
        return web.json_response({"result": result, "error": None, "id": call["id"]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeNode"]:
        application = web.Application()
        application.router.add_post("/", self.handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
