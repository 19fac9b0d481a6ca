"""The Bitcoin node, asked about blocks through its JSON-RPC."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import dagster as dg
import requests
from pydantic import Field

# RPC_INVALID_ADDRESS_OR_KEY of Bitcoin Core's rpc/protocol.h: "Block not found".
_NOT_FOUND: Final = -5


class NodeError(Exception):
    """The node gave no answer, or none that a node gives; the message says which."""


@dataclass(frozen=True)
class Header:
    """What the node knows of a block (RPC ``getblockheader``).

    Attributes:
        height: of the block.
        confirmations: 1 for the tip; -1 for a block off the active chain.
    """

    height: int
    confirmations: int


class BitcoinNode(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """bitcoind, or the devnet node, which speaks as it does."""

    url: str = Field(
        description="http://host:port of the RPC server; may carry user:password@ as well"
    )
    user: str = Field(default="", description="where the URL does not carry it")
    password: str = Field(default="", description="where the URL does not carry it")
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
        return Header(height, confirmations)

    def _call(self, method: str, *parameters: Any) -> Any:
        url, credentials = self._address()
        try:
            response = requests.post(
                url,
                json={"method": method, "params": list(parameters), "id": 1},
                auth=credentials,
                timeout=self.timeout_seconds,
            )
        except requests.RequestException as error:
            # The error's own text may repeat the URL, but never credentials: they are not in it.
            raise NodeError(f"no answer from {url} (BITCOIN_RPC_URL): {error}") from error
        if response.status_code in (401, 403):
            raise NodeError(f"{url} refuses the user and password of BITCOIN_RPC_*")
        try:
            body = response.json()
            refusal, result = body["error"], body["result"]
        except (ValueError, TypeError, KeyError):
            raise NodeError(
                f"{url} answered {method} with HTTP {response.status_code} and no JSON-RPC: "
                f"{response.text[:120]!r}"
            ) from None
        if isinstance(refusal, dict):
            if refusal.get("code") == _NOT_FOUND:
                return None
            raise NodeError(
                f"{url} refused {method}: {refusal.get('message')} (code {refusal.get('code')})"
            )
        if refusal is not None or result is None:
            raise NodeError(f"{url} answered {method} with {str(body)[:120]!r}")
        return result

    def _address(self) -> tuple[str, tuple[str, str] | None]:
        """The URL without credentials, and the credentials."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        url = urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))
        if self.cookie_file:
            try:
                # Read for every call: each start of the node writes a new one.
                user, _, password = Path(self.cookie_file).read_text("utf-8").strip().partition(":")
            except OSError as error:
                raise NodeError(
                    f"the cookie file {self.cookie_file} cannot be read ({error.strerror}); "
                    "is the node running?"
                ) from error
            return url, (user, password)
        if parts.username is not None:
            return url, (unquote(parts.username), unquote(parts.password or ""))
        return url, (self.user, self.password) if self.user else None
