"""The HTTP side of the node: one path, POST only, basic authentication."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from devnet.node.auth import Auth
from devnet.node.jsonrpc import answer
from devnet.node.methods import Methods

log = structlog.get_logger(__name__)

MAX_BODY = 32 * 2**20
"""Bytes that bitcoind takes in one request."""

WRONG_PASSWORD_DELAY = 0.25
"""Seconds before a wrong password is refused, which slows down whoever guesses."""


class PortInUse(Exception):
    """The node cannot listen where it was told to."""


class RPCHandler:
    """Answers HTTP requests from ``methods`` for whoever ``auth`` accepts."""

    def __init__(self, methods: Methods, auth: Auth) -> None:
        self._methods = methods
        self._auth = auth

    async def handle(self, request: web.Request) -> web.Response:
        """One HTTP request. The order of the checks is bitcoind's."""
        if request.path != "/":
            return web.Response(status=404)
        if request.method != "POST":
            return web.Response(status=405, text="JSON-RPC takes POST requests only\n")
        header = request.headers.get("Authorization")
        if header is None or not self._auth.accepts(header):
            if header is not None:
                log.warning("wrong RPC user or password", peer=request.remote)
                await asyncio.sleep(WRONG_PASSWORD_DELAY)
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        reply = await answer(await request.read(), self._call)
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")

    async def _call(self, method: str, params: object) -> object:
        started = time.perf_counter()
        try:
            return await self._methods.call(method, params)
        finally:
            log.debug(
                "rpc", method=method[:64], milliseconds=1000 * (time.perf_counter() - started)
            )


@asynccontextmanager
async def serve(handler: RPCHandler, host: str, port: int) -> AsyncIterator[int]:
    """Listen on ``host`` and ``port`` (0 for any free one); yields the port.

    Raises ``PortInUse`` when that cannot be had.
    """
    application = web.Application(client_max_size=MAX_BODY)
    application.router.add_route("*", "/{path:.*}", handler.handle)
    # A long poll whose client has gone must not wait for the next block.
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=2.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            # The loop's own text repeats the address in Python's notation.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise PortInUse(f"cannot listen on {host} port {port}: {reason}") from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
