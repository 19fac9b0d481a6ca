"""The Bitcoin node, asked about blocks through its JSON-RPC."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from tbg_core import rpc
from tbg_core.proof import Tip


class NodeError(Exception):
    """The node gave no answer, or none that a node gives; the message says which."""


@dataclass(frozen=True)
class Header:
    """What the node knows of a block (RPC ``getblockheader``).

    Attributes:
        height: of the block.
        confirmations: 1 for the tip; -1 for a block off the active chain.
        time: in the header, as its miner set it; None where the node does not say.
    """

    height: int
    confirmations: int
    time: datetime | None = None


class BitcoinNode(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """bitcoind, or the devnet node, which speaks as it does."""

    url: str = Field(
        description="http://host:port of the RPC server; may carry user:password@ as well"
    )
    user: str = Field(default="", description="if the URL does not carry it")
    password: str = Field(default="", description="if the URL does not carry it")
    cookie_file: str = Field(
        default="", description="the node's .cookie, instead of user and password"
    )
    timeout_seconds: int = Field(default=10, description="that an answer may take")
    retries: int = Field(default=4, description="of a run that the node did not answer")
    retry_seconds: int = Field(default=5, description="until the first retry; doubles each time")

    def height(self) -> int:
        """Height of the tip (RPC ``getblockcount``).

        Raises:
            NodeError: when there is no sensible answer.
        """
        height = self._call("getblockcount")
        if not isinstance(height, int) or isinstance(height, bool) or height < 0:
            raise NodeError(f"getblockcount answered {height!r}, which is no height")
        return height

    def catching_up(self) -> bool:
        """Whether it has yet to fetch or connect blocks (RPC ``getblockchaininfo``).

        Raises:
            NodeError: when there is no sensible answer.
        """
        answer = self._call("getblockchaininfo")
        try:
            downloading, blocks, headers = (
                answer[name] for name in ("initialblockdownload", "blocks", "headers")
            )
        except (TypeError, KeyError):
            raise NodeError(f"getblockchaininfo answered {answer!r:.200}") from None
        if type(downloading) is not bool or type(blocks) is not int or type(headers) is not int:
            raise NodeError(f"getblockchaininfo answered {answer!r:.200}")
        return downloading or blocks < headers

    def header(self, block_hash: str) -> Header | None:
        """The header of a block, or None when the node has never heard of it.

        Raises:
            NodeError: when there is no sensible answer.
        """
        answer = self._call("getblockheader", block_hash)
        if answer is None:
            return None
        try:
            known, height, confirmations = (
                answer[name] for name in ("hash", "height", "confirmations")
            )
        except (TypeError, KeyError):
            raise NodeError(f"getblockheader {block_hash} answered {answer!r:.200}") from None
        sensible = (
            known == block_hash
            and type(height) is int
            and type(confirmations) is int
            and (confirmations == -1 or confirmations >= 1)
        )
        if not sensible:
            raise NodeError(f"getblockheader {block_hash} answered {answer!r:.200}")
        seconds = answer.get("time")
        known_time = type(seconds) is int and 0 <= seconds < 1 << 32
        return Header(
            height, confirmations, datetime.fromtimestamp(seconds, UTC) if known_time else None
        )

    def tip(self, block_hash: str) -> Tip | None:
        """A block, and when it was the tip by the headers' times; None when there is none.

        Raises:
            NodeError: when there is no sensible answer, or the node has yet to fetch blocks.
        """
        header = self.header(block_hash)
        if header is None:
            if self.catching_up():
                raise NodeError(f"the node does not have block {block_hash} yet")
            return None
        if header.time is None:
            raise NodeError(f"getblockheader {block_hash} names no time")
        replaced = None
        if header.height < self.height():
            following = self.header(str(self._call("getblockhash", header.height + 1)))
            replaced = following.time if following else None
        return Tip(header.height, header.time, replaced)

    def _call(self, method: str, *parameters: Any) -> Any:
        """The result of a call, None for what the node does not know (code -5)."""
        url, credentials = self._address()
        try:
            result = rpc.call(url, credentials, method, *parameters, timeout=self.timeout_seconds)
        except rpc.RPCError as error:
            if error.code == rpc.RPCErrorCode.INVALID_ADDRESS_OR_KEY:
                return None
            raise NodeError(f"{url} refused {method}: {error}") from error
        except rpc.NodeUnreachable as error:
            raise NodeError(f"no answer from {url} (BITCOIN_RPC_*) to {method}: {error}") from error
        if result is None:
            raise NodeError(f"{url} answered {method} with null")
        return result

    def _address(self) -> tuple[str, rpc.Credentials | None]:
        """The URL without credentials, and the credentials."""
        try:
            url, credentials = rpc.split_url(self.url)
        except ValueError as error:
            raise NodeError(f"BITCOIN_RPC_URL: {error}") from None
        if self.cookie_file:
            return url, rpc.CookieCredentials(Path(self.cookie_file))
        if credentials is None and self.user:
            return url, rpc.PasswordCredentials(self.user, self.password)
        return url, credentials
