"""The RPC methods of the node, each under the name and with the answers of bitcoind."""

import time
from collections.abc import Callable
from typing import Any

from devnet.bitcoin.address import AddressError, decode_address_for
from devnet.bitcoin.hashing import to_display
from devnet.node.kernel import Entry, Kernel, KernelError
from devnet.node.node import BlockRefused, Node, UnknownBlock
from devnet.node.parameters import Handler, bind, block_hash
from devnet.node.template import block_template, check_request, watched_tip
from devnet.node.views import (
    NETWORK,
    address_view,
    block_view,
    chain_view,
    header_view,
    mining_view,
)
from tbg_core.rpc import RPCError, RPCErrorCode


class Methods:
    """Answers calls from ``node``; ``request_stop`` is called by the method ``stop``.

    A handler is named after its method, with an underscore in front. Its signature says which
    parameters the method takes.
    """

    def __init__(self, node: Node, request_stop: Callable[[], None]) -> None:
        self._node = node
        self._request_stop = request_stop
        handlers: tuple[Handler, ...] = (
            self._devnet_generate,
            self._generatetoaddress,
            self._getbestblockhash,
            self._getblock,
            self._getblockchaininfo,
            self._getblockcount,
            self._getblockhash,
            self._getblockheader,
            self._getblocktemplate,
            self._getmininginfo,
            self._stop,
            self._submitblock,
            self._uptime,
            self._validateaddress,
        )
        self._table = {handler.__name__[1:]: handler for handler in handlers}

    @property
    def names(self) -> list[str]:
        """Every method, in alphabetical order."""
        return sorted(self._table)

    async def call(self, method: str, params: object) -> Any:
        """The result of ``method``.

        Raises:
            RPCError: the call has no result.
        """
        if method not in self._table:
            raise RPCError(RPCErrorCode.METHOD_NOT_FOUND, "Method not found")
        handler = self._table[method]
        arguments = bind(handler, params)
        try:
            return await handler(**arguments)
        except KernelError as error:
            raise RPCError(RPCErrorCode.VERIFY_ERROR, str(error)) from error

    async def _getbestblockhash(self) -> str:
        return to_display(self._node.tip.hash)

    async def _getblockcount(self) -> int:
        return self._node.tip.height

    async def _getblockhash(self, height: int) -> str:
        entry = await self._node.run(lambda kernel: kernel.at_height(height))
        if entry is None:
            raise RPCError(RPCErrorCode.INVALID_PARAMETER, "Block height out of range")
        return to_display(entry.hash)

    async def _getblockheader(self, blockhash: str, verbose: bool = True) -> Any:
        wanted = block_hash(blockhash, "blockhash")

        def read(kernel: Kernel) -> Any:
            entry = _known(kernel, wanted)
            return header_view(kernel, entry) if verbose else entry.header.pack().hex()

        return await self._node.run(read)

    async def _getblock(self, blockhash: str, verbosity: int | bool = 1) -> Any:
        wanted = block_hash(blockhash, "blockhash")
        if verbosity > 1:
            raise RPCError(
                RPCErrorCode.INVALID_PARAMETER, "verbosity: this node knows 0 and 1 only"
            )

        def read(kernel: Kernel) -> Any:
            entry = _known(kernel, wanted)
            raw_block = kernel.read_block(wanted)
            if raw_block is None:
                raise RPCError(
                    RPCErrorCode.MISC_ERROR, "Block not available: only its header is known"
                )
            return raw_block.hex() if verbosity <= 0 else block_view(kernel, entry, raw_block)

        return await self._node.run(read)

    async def _getblockchaininfo(self) -> Any:
        return await self._node.run(lambda kernel: chain_view(kernel, self._node.datadir))

    async def _getmininginfo(self) -> Any:
        return await self._node.run(mining_view)

    async def _getblocktemplate(self, template_request: dict[str, Any] | None = None) -> Any:
        request = template_request or {}
        check_request(request)
        longpoll_id = request.get("longpollid")
        if longpoll_id is not None:
            watched = watched_tip(longpoll_id, self._node.tip.hash)
            if not await self._node.wait_for_new_tip(watched):
                raise RPCError(RPCErrorCode.CLIENT_NOT_CONNECTED, "Shutting down")
        return await self._node.run(lambda kernel: block_template(kernel, int(time.time())))

    async def _submitblock(self, hexdata: str, dummy: str | None = None) -> str | None:
        del dummy  # BIP 22 has a second parameter, which bitcoind ignores as well
        try:
            verdict = await self._node.submit(bytes.fromhex(hexdata))
        except ValueError as error:  # not hex, or BlockDecodeError
            raise RPCError(RPCErrorCode.DESERIALIZATION_ERROR, "Block decode failed") from error
        if verdict.reject_reason is not None:
            return verdict.reject_reason
        if not verdict.new:
            return "duplicate"
        return None if verdict.checked else "inconclusive"

    async def _generatetoaddress(
        self, nblocks: int, address: str, maxtries: int | None = None
    ) -> list[str]:
        del maxtries  # every other hash solves a regtest block
        return await self._generate(None, nblocks, address)

    async def _devnet_generate(self, parent_hash: str, nblocks: int, address: str) -> list[str]:
        """Not bitcoind's: mine a branch from any known block, to make forks and reorgs."""
        return await self._generate(block_hash(parent_hash, "parent_hash"), nblocks, address)

    async def _generate(self, parent: bytes | None, nblocks: int, address: str) -> list[str]:
        try:
            script_pubkey = decode_address_for(address, NETWORK).script_pubkey
        except AddressError as error:
            raise RPCError(
                RPCErrorCode.INVALID_ADDRESS_OR_KEY, f"Error: Invalid address: {error}"
            ) from error
        hashes: list[str] = []
        for _ in range(nblocks):
            # Block by block, so that other calls have their turn in between.
            try:
                mined = await self._node.generate(script_pubkey, parent)
            except UnknownBlock as error:
                raise RPCError(RPCErrorCode.INVALID_ADDRESS_OR_KEY, "Block not found") from error
            except BlockRefused as error:
                raise RPCError(
                    RPCErrorCode.INTERNAL_ERROR,
                    f"block {len(hashes) + 1} of {nblocks} was not accepted: {error}",
                ) from error
            parent = None if parent is None else mined
            hashes.append(to_display(mined))
        return hashes

    async def _validateaddress(self, address: str) -> Any:
        return address_view(address)

    async def _uptime(self) -> int:
        return int(time.monotonic() - self._node.started_at)

    async def _stop(self) -> str:
        self._request_stop()
        return "devnet node stopping"


def _known(kernel: Kernel, wanted: bytes) -> Entry:
    entry = kernel.entry(wanted)
    if entry is None:
        raise RPCError(RPCErrorCode.INVALID_ADDRESS_OR_KEY, "Block not found")
    return entry
