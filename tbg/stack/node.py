"""The Bitcoin node of a stack: ours, or one that the user runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from devnet.bitcoin.address import Network
from tbg.stack.ports import PROBE_SECONDS
from tbg_core.rpc import (
    CookieCredentials,
    Credentials,
    PasswordCredentials,
    RPCFailure,
    call,
    split_url,
)


@dataclass(frozen=True)
class Node:
    """Where a node's RPC is, and how to log in: by password, or by its cookie file.

    Attributes:
        url: http://host:port, without user and password.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    cookie: Path | None = None

    @classmethod
    def named(cls, url: str, cookie: Path | None, environ: Mapping[str, str]) -> "Node":
        """Returns the node that a user names.

        The credentials are ``cookie``, or in the URL, or in BITCOIN_RPC_USER and
        BITCOIN_RPC_PASSWORD, or in the file that BITCOIN_RPC_COOKIE_FILE names: the
        first of these that is there.

        Raises:
            click.ClickException: when the URL is wrong or there are no credentials.
        """
        try:
            bare, inside = split_url(url)
        except ValueError:
            raise click.ClickException("--node-url must look like http://127.0.0.1:18443") from None
        if cookie is not None:
            return cls(bare, cookie=cookie.expanduser().resolve())
        if inside is not None and inside.password:
            return cls(bare, inside.user, inside.password)
        user = environ.get("BITCOIN_RPC_USER", "")
        password = environ.get("BITCOIN_RPC_PASSWORD", "")
        if user and password:
            return cls(bare, user, password)
        named = environ.get("BITCOIN_RPC_COOKIE_FILE")
        if named:
            return cls(bare, cookie=Path(named).expanduser().resolve())
        raise click.ClickException(
            f"no credentials for the node at {bare}: set BITCOIN_RPC_USER and "
            "BITCOIN_RPC_PASSWORD, or name its cookie file with --node-cookie"
        )

    @property
    def credentials(self) -> Credentials:
        if self.cookie is not None:
            return CookieCredentials(self.cookie)
        return PasswordCredentials(self.user, self.password)

    def environment(self) -> dict[str, str]:
        """The settings by which the batch side reaches the node."""
        url = self.url
        if self.cookie is None:
            scheme, place = self.url.split("://", 1)
            url = f"{scheme}://{quote(self.user, '')}:{quote(self.password, '')}@{place}"
        return {
            "BITCOIN_RPC_URL": url,
            "BITCOIN_RPC_COOKIE_FILE": str(self.cookie or ""),
            # They are in the URL; what the user's shell holds may be of another node.
            "BITCOIN_RPC_USER": "",
            "BITCOIN_RPC_PASSWORD": "",
        }

    def pool_arguments(self) -> list[str]:
        """Options of ``tbg devnet pool``; the password is in TBG_RPC_PASSWORD."""
        if self.cookie is not None:
            return ["--node-url", self.url, "--rpccookie", str(self.cookie)]
        return ["--node-url", self.url, "--rpcuser", self.user]

    def call(self, method: str, seconds: float = PROBE_SECONDS) -> Any:
        """Calls a method without parameters, and returns its result.

        Raises:
            RPCFailure: when there is no answer, or the answer is an error.
        """
        return call(self.url, self.credentials, method, timeout=seconds)

    def answers(self) -> bool:
        """Returns whether the node serves its chain."""
        try:
            return isinstance(self.call("getblockcount"), int)
        except RPCFailure:
            return False

    def trouble(self) -> str | None:
        """Returns why the node does not serve its chain; None if it does."""
        try:
            self.call("getblockcount")
        except RPCFailure as error:
            return f"the node at {self.url} does not answer: {error}"
        return None

    def network(self) -> Network:
        """Returns the network of a node that the user named.

        Raises:
            click.ClickException: when it does not answer, or is on mainnet or on a
                network that we do not know.
        """
        try:
            chain = self.call("getblockchaininfo", seconds=10)["chain"]
            network = Network(chain)
        except RPCFailure as error:
            raise click.ClickException(f"the node of --node-url: {error}") from error
        except (KeyError, TypeError):
            raise click.ClickException(
                f"{self.url} answered getblockchaininfo without a chain: is it a Bitcoin node?"
            ) from None
        except ValueError:
            raise click.ClickException(
                f"the node at {self.url} is on {chain!r}, a network that we do not know"
            ) from None
        if network is Network.MAIN:
            raise click.ClickException(
                f"the node at {self.url} is on mainnet, where mistakes cost real money: "
                "name one on regtest or signet"
            )
        return network
