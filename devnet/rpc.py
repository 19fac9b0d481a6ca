"""An asyncio client for a Bitcoin node's JSON-RPC, over the encoding of :mod:`tbg_core.rpc`."""

from typing import Any, Self

import aiohttp

from tbg_core.rpc import (
    DEFAULT_TIMEOUT,
    Credentials,
    NodeUnreachable,
    decode_response,
    encode_request,
    headers,
)


class RPCClient:
    """Calls to the node at ``url`` (``http://127.0.0.1:18443``); use it as a context manager.

    Safe for concurrent calls. Nothing is retried here: only the caller knows whether a repeated
    call is harmless.
    """

    def __init__(
        self, url: str, credentials: Credentials, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.url = url
        self._credentials = credentials
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Connections are not kept: bitcoind closes idle ones after 30 seconds, and a call on a
        # connection that closes under it fails without need.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - a long poll has a limit of its own, and the error names it
        """The result of one call.

        Args:
            method: of the node.
            *params: of the method, by position.
            timeout: seconds, in place of the client's, for a long poll say.

        Raises:
            RPCError: the node's error.
            NodeUnreachable: no answer, or not a node's.
        """
        if self._session is None:
            raise RuntimeError("RPCClient is an asynchronous context manager: enter it first")
        seconds = timeout or self._timeout
        try:
            async with self._session.post(
                self.url,
                data=encode_request(method, params),
                headers=headers(self._credentials),
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,  # the password is for this node alone
            ) as response:
                status, body = response.status, await response.read()
        except TimeoutError as error:
            raise NodeUnreachable(
                f"{self.url} did not answer {method} within {seconds:g} s"
            ) from error
        except aiohttp.ClientError as error:
            raise NodeUnreachable(f"{self.url} is not reachable for {method}: {error}") from error
        return decode_response(status, body)
