"""The RPC methods of the node, each under the name and with the answers of bitcoind."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from devnet.bitcoin.address import AddressError, decode_address_for
from devnet.bitcoin.hashing import to_display
from devnet.node.kernel import Entry, Kernel, KernelError
from devnet.node.node import BlockRefused, Node, UnknownBlock
from devnet.node.parameters import Parameter, bind, block_hash
from devnet.node.template import block_template, check_request, watched_tip
from devnet.node.views import (
    NETWORK,
    address_view,
    block_view,
    chain_view,
    header_view,
    mining_view,
)
from ingest.rpc import RPCError, RPCErrorCode

Handler = Callable[..., Awaitable[Any]]


class Methods:
    """Answers calls from ``node``; ``request_stop`` is called by the method ``stop``."""

    def __init__(self, node: Node, request_stop: Callable[[], None]) -> None:
        self._node = node
        self._request_stop = request_stop
        hash_and = (Parameter("blockhash", ("string",)),)
        self._table: dict[str, tuple[Handler, tuple[Parameter, ...]]] = {
            "devnet_generate": (
                self._devnet_generate,
                (
                    Parameter("parent_hash", ("string",)),
                    Parameter("nblocks", ("number",)),
                    Parameter("address", ("string",)),
                ),
            ),
            "generatetoaddress": (
                self._generate_to_address,
                (
                    Parameter("nblocks", ("number",)),
                    Parameter("address", ("string",)),
                    Parameter("maxtries", ("number",), None),
                ),
            ),
            "getbestblockhash": (self._get_best_block_hash, ()),
            "getblock": (
                self._get_block,
                (*hash_and, Parameter("verbosity", ("number", "bool"), 1)),
            ),
            "getblockchaininfo": (self._get_blockchain_info, ()),
            "getblockcount": (self._get_block_count, ()),
            "getblockhash": (self._get_block_hash, (Parameter("height", ("number",)),)),
            "getblockheader": (
                self._get_block_header,
                (*hash_and, Parameter("verbose", ("bool",), True)),
            ),
            "getblocktemplate": (
                self._get_block_template,
                (Parameter("template_request", ("object",), {}),),
            ),
            "getmininginfo": (self._get_mining_info, ()),
            "stop": (self._stop, ()),
            "submitblock": (
                self._submit_block,
                (Parameter("hexdata", ("string",)), Parameter("dummy", ("string",), None)),
            ),
            "uptime": (self._uptime, ()),
            "validateaddress": (self._validate_address, (Parameter("address", ("string",)),)),
        }

    @property
    def names(self) -> list[str]:
        """Every method, in alphabetical order."""
        return sorted(self._table)

    async def call(self, method: str, params: object) -> Any:
        """The result of ``method``; raises ``RPCError``."""
        if method not in self._table:
            raise RPCError(RPCErrorCode.METHOD_NOT_FOUND, "Method not found")
        handler, parameters = self._table[method]
        arguments = bind(method, parameters, params)
        try:
            return await handler(**arguments)
        except KernelError as error:
            raise RPCError(RPCErrorCode.VERIFY_ERROR, str(error)) from error

    async def _get_best_block_hash(self) -> str:
        return to_display(self._node.tip.hash)

    async def _get_block_count(self) -> int:
        return self._node.tip.height

    async def _get_block_hash(self, height: int) -> str:
        entry = await self._node.run(lambda kernel: kernel.at_height(height))
        if entry is None:
            raise RPCError(RPCErrorCode.INVALID_PARAMETER, "Block height out of range")
        return to_display(entry.hash)

    async def _get_block_header(self, blockhash: str, verbose: bool) -> Any:
        wanted = block_hash(blockhash, "blockhash")

        def read(kernel: Kernel) -> Any:
            entry = _known(kernel, wanted)
            return header_view(kernel, entry) if verbose else entry.header.pack().hex()

        return await self._node.run(read)

    async def _get_block(self, blockhash: str, verbosity: int) -> Any:
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

    async def _get_blockchain_info(self) -> Any:
        return await self._node.run(lambda kernel: chain_view(kernel, self._node.datadir))

    async def _get_mining_info(self) -> Any:
        return await self._node.run(mining_view)

    async def _get_block_template(self, template_request: dict[str, Any]) -> Any:
        check_request(template_request)
        longpoll_id = template_request.get("longpollid")
        if longpoll_id is not None:
            watched = watched_tip(longpoll_id, self._node.tip.hash)
            if not await self._node.wait_for_new_tip(watched):
                raise RPCError(RPCErrorCode.CLIENT_NOT_CONNECTED, "Shutting down")
        return await self._node.run(lambda kernel: block_template(kernel, int(time.time())))

    async def _submit_block(self, hexdata: str, dummy: str | None) -> str | None:
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

    async def _generate_to_address(
        self, nblocks: int, address: str, maxtries: int | None
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

    async def _validate_address(self, address: str) -> Any:
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
