"""The RPC port of the node: one path, POST only, basic authentication."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog

from devnet.node import web
from devnet.node.auth import Auth
from devnet.node.jsonrpc import answer
from devnet.node.methods import Methods

log = structlog.get_logger(__name__)

WRONG_PASSWORD_DELAY: Final = 0.25
"""Seconds before a wrong password is refused, which slows down guessing."""


class RPCServer:
    """Answers HTTP requests that ``auth`` accepts, from ``methods``."""

    def __init__(self, methods: Methods, auth: Auth) -> None:
        self._methods = methods
        self._auth = auth

    def listen(self, host: str, port: int) -> AbstractAsyncContextManager[int]:
        """Serves on ``host`` and ``port`` (0 for any free one); yields the port.

        Raises:
            web.PortInUse: the port cannot be bound.
        """
        return web.serve(self._check, self._handle, host, port)

    async def _check(self, head: web.Head) -> web.Response | None:
        """The refusal of a request that is not for us; the order of the checks is bitcoind's."""
        if head.target != "/":
            return web.Response(404)
        if head.method != "POST":
            return web.Response(405, headers={"Allow": "POST"})
        given = head.headers.get("authorization")
        if given is not None and self._auth.accepts(given):
            return None
        if given is not None:
            log.warning("wrong RPC user or password", peer=head.peer)
            await asyncio.sleep(WRONG_PASSWORD_DELAY)
        return web.Response(401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})

    async def _handle(self, body: bytes) -> web.Response:
        return await answer(body, self._call)

    async def _call(self, method: str, params: object) -> object:
        started = time.perf_counter()
        try:
            return await self._methods.call(method, params)
        finally:
            log.debug(
                "rpc", method=method[:64], milliseconds=1000 * (time.perf_counter() - started)
            )
