"""The node behind the pool: it makes templates and takes blocks."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog

from devnet.bitcoin.address import Network
from devnet.bitcoin.hashing import from_display, to_display
from devnet.pool.config import NodeConfig
from devnet.pool.node_answer import NodeAnswer
from devnet.pool.work import Template, TemplateError
from devnet.rpc import RPCClient
from tbg_core.rpc import (
    CookieCredentials,
    Credentials,
    NodeUnreachable,
    PasswordCredentials,
    RPCError,
    RPCErrorCode,
)

LONGPOLL_TIMEOUT: Final = 300.0  # seconds; a node answers when its tip or its mempool changes
_FINAL_ERRORS: Final = frozenset(
    {
        RPCErrorCode.DESERIALIZATION_ERROR,
        RPCErrorCode.VERIFY_ERROR,
        RPCErrorCode.INVALID_PARAMETER,
        RPCErrorCode.TYPE_ERROR,
    }
)
"""What a node answers about a block itself; any other error is the node's, and it passes."""

_FIRST_PAUSE: Final = 0.25  # seconds after a failure; doubles
_LONGEST_PAUSE: Final = 5.0

log = structlog.get_logger("pool.node")


class Node:
    """The first of the configured nodes that answers; an async context manager."""

    def __init__(self, configs: list[NodeConfig]) -> None:
        self._clients = [RPCClient(item.url, _credentials(item)) for item in configs]
        self._current = 0
        self._stack = AsyncExitStack()
        self._identified = False
        self.network: Network | None = None

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def call(self, method: str, *params: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - passed on to the client
        """One call; if the node does not answer, the next call goes to the next node.

        Raises:
            RPCError: the node's own error.
            NodeUnreachable: no answer.
        """
        current = self._current
        began = time.monotonic()
        try:
            return await self._clients[current].call(method, *params, timeout=timeout)
        except NodeUnreachable:
            patient = timeout is not None and time.monotonic() - began >= timeout
            # A long poll that runs out of time is not the node's fault.
            if current == self._current and not patient:
                self._current = (current + 1) % len(self._clients)
                self._identified = False
            raise

    async def identify(self) -> Network:
        """The node's network, which must be the same for all nodes.

        Raises:
            RPCError: as ``call``.
            NodeUnreachable: as ``call``; also if the answer names no network, or not the one of
                the node before.
        """
        info = await self.call("getblockchaininfo")
        try:
            network = Network(info["chain"])
        except (KeyError, TypeError, ValueError) as error:
            raise NodeUnreachable(f"getblockchaininfo names no network: {error}") from None
        if self.network is not None and network is not self.network:
            url = self._clients[self._current].url
            self._current = (self._current + 1) % len(self._clients)
            raise NodeUnreachable(f"{url} is on {network.value}, not on {self.network.value}")
        self.network = network
        self._identified = True
        return network

    async def template(self, longpoll_id: str | None = None) -> Template:
        """A block template; with ``longpoll_id``, once it differs from the one of that id.

        Raises:
            RPCError: as ``call``.
            NodeUnreachable: as ``call``.
            TemplateError: the answer is not a template.
        """
        if not self._identified:
            await self.identify()
        # Bitcoin Core refuses a template unless the client names the rules of the network.
        rules = ["segwit", "signet"] if self.network is Network.SIGNET else ["segwit"]
        request: dict[str, Any] = {"rules": rules}
        if longpoll_id is None:
            return Template.parse(await self.call("getblocktemplate", request))
        request["longpollid"] = longpoll_id
        return Template.parse(
            await self.call("getblocktemplate", request, timeout=LONGPOLL_TIMEOUT)
        )

    async def parent(self, block_hash: bytes) -> str | None:
        """The hash before a block, as explorers show it; None if the node cannot say now."""
        try:
            header = await self.call("getblockheader", to_display(block_hash))
            previous = header.get("previousblockhash")
            return None if previous is None else to_display(from_display(previous))
        except (NodeUnreachable, RPCError, ValueError, AttributeError, TypeError):
            return None

    async def submit(self, block: bytes) -> NodeAnswer:
        """Submits a block to the nodes in turn until one of them answers, however long it takes."""
        pause = _FIRST_PAUSE
        troubles: set[str] = set()  # each is logged once
        while True:
            for client in (*self._clients[self._current :], *self._clients[: self._current]):
                try:
                    answer = await client.call("submitblock", block.hex())
                except (NodeUnreachable, RPCError) as error:
                    if isinstance(error, RPCError) and error.code in _FINAL_ERRORS:
                        log.error("block refused", error=str(error))
                        return NodeAnswer.REFUSED
                    said = str(error)
                else:
                    verdict = NodeAnswer.of(answer)
                    if answer is not None:
                        log.warning("block answered", answer=answer, verdict=verdict.name)
                    if verdict is not NodeAnswer.LATER:
                        return verdict
                    said = str(answer)
                if said not in troubles:
                    troubles.add(said)
                    log.error("block not delivered yet: trying until a node takes it", error=said)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


@dataclass(eq=False, slots=True)
class Watcher:
    """Keeps the work fresh: on every new block at once, and every ``update_interval`` anyway.

    It uses the node's long poll (BIP 22). A node without one is asked for its tip every
    ``poll_interval`` seconds.
    """

    node: Node
    apply: Callable[[Template], None]
    update_interval: float
    poll_interval: float
    _latest: Template | None = None
    _trouble: str | None = None
    _updated: float = 0.0

    async def first(self) -> Template:
        """Waits for the first template of the node."""
        pause = _FIRST_PAUSE
        while True:
            try:
                self._latest = await self.node.template()
            except (NodeUnreachable, RPCError, TemplateError) as error:
                self._failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._recovered()
                self._updated = time.monotonic()
                return self._latest

    async def watch(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_tip())
            tasks.create_task(self._refresh())

    async def _refresh(self) -> None:
        while True:
            age = time.monotonic() - self._updated
            await asyncio.sleep(max(0.0, self.update_interval - age))
            if time.monotonic() - self._updated < self.update_interval:
                continue
            try:
                self._take(await self.node.template())
            except (NodeUnreachable, RPCError, TemplateError) as error:
                self._failed(error)
                await asyncio.sleep(_LONGEST_PAUSE)

    async def _follow_tip(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            latest = self._latest
            asked = time.monotonic()
            try:
                if latest is not None and latest.longpoll_id is not None:
                    template = await self.node.template(latest.longpoll_id)
                    if time.monotonic() - asked < self.poll_interval and (
                        template.prev_hash == latest.prev_hash
                    ):
                        # The node answers long polls at once, with nothing new.
                        await asyncio.sleep(self.poll_interval)
                    self._take(template)
                else:
                    tip = await self.node.call("getbestblockhash")
                    if latest is None or tip != to_display(latest.prev_hash):
                        self._take(await self.node.template())
                    await asyncio.sleep(self.poll_interval)
            except (NodeUnreachable, RPCError, TemplateError) as error:
                if time.monotonic() - asked >= LONGPOLL_TIMEOUT:
                    continue  # nothing happened for that long, which is not a failure
                self._failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE

    def _take(self, template: Template) -> None:
        self._recovered()
        self._latest = template
        self._updated = time.monotonic()
        self.apply(template)

    def _failed(self, error: Exception) -> None:
        """Logs what is wrong once, not at every try."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("the node gives no work; trying again", error=self._trouble)

    def _recovered(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            log.info("the node gives work again")


def _credentials(config: NodeConfig) -> Credentials:
    if config.cookie is not None:
        return CookieCredentials(config.cookie)
    return PasswordCredentials(config.auth, config.password)
