"""``tbg devnet node``."""

import asyncio
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import click
import structlog

from devnet.log_options import log_options
from devnet.node.auth import COOKIE_NAME, Auth, write_cookie
from devnet.node.datadir import DataDirectoryInUse
from devnet.node.kernel import KernelError
from devnet.node.methods import Methods
from devnet.node.node import Node
from devnet.node.server import RPCServer
from devnet.node.web import PortInUse
from devnet.password import PASSWORD_VARIABLE, password_option
from tbg_core.log import configure
from tbg_core.signals import STOP

log = structlog.get_logger(__name__)

EXAMPLES: Final = """\b
Examples:
  tbg devnet node
      A chain in ./.tbg/node; clients read the password from .tbg/node/.cookie
  TBG_RPC_PASSWORD=... tbg devnet node --rpcuser pool --port 18443
      With a user and a password of your own
  tbg devnet node --datadir /tmp/chain --rpcpassword-file /run/secrets/rpc
"""


@click.command("node", context_settings={"show_default": True}, epilog=EXAMPLES)
@click.option(
    "--datadir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".tbg/node"),
    help="Folder of the chain; created if it is missing.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=18443,
    help="Port to listen on; 0 takes a free one and logs it.",
)
@click.option("--rpcuser", default="tbg", help="User name of clients.")
@password_option(
    f"File that holds the clients' password. Without it and without TBG_RPC_PASSWORD"
    f" in the environment, the node makes one up and leaves it in <datadir>/{COOKIE_NAME}.",
)
@log_options("every call and what the consensus code says")
def node(
    datadir: Path,
    host: str,
    port: int,
    rpcuser: str,
    rpcpassword: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run a regtest node: a real chain with bitcoind's RPCs for mining.

    Bitcoin Core's own consensus code (libbitcoinkernel) checks every block. There are no peers
    and no mempool: blocks hold only their coinbase. SIGTERM, Ctrl-C and the RPC `stop` end it
    cleanly; every block that it acknowledged survives even a kill.
    """
    configure(log_level, log_format)
    try:
        password = rpcpassword or os.environ.get(PASSWORD_VARIABLE)
        auth = Auth(rpcuser, password) if password else None
        asyncio.run(run(datadir, host, port, auth))
    except (DataDirectoryInUse, KernelError, PortInUse, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


async def run(datadir: Path, host: str, port: int, auth: Auth | None) -> None:
    """Serves the chain in ``datadir`` until SIGTERM, SIGINT or the RPC ``stop``.

    Without ``auth`` it makes up a password and writes it to the cookie file.

    Raises:
        DataDirectoryInUse: another node has the directory.
        PortInUse: the port is taken.
        OSError: the directory or the cookie file cannot be written.
        KernelError: the chain cannot be opened, or the node failed while it ran.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP:
        loop.add_signal_handler(number, stop.set)
    async with Node(datadir) as opened:
        cookie = datadir / COOKIE_NAME
        chosen = auth or write_cookie(cookie)
        try:
            server = RPCServer(Methods(opened, stop.set), chosen)
            async with server.listen(host, port) as bound:
                _warn_if_open(host)
                log.info(
                    "node ready",
                    url=f"http://{host}:{bound}",
                    datadir=str(datadir),
                    password="as given" if auth else f"in {cookie}",
                )
                await _first_of(stop, opened.failed)
                log.info("node stopping")
                opened.release_waiters()
        finally:
            if auth is None:
                cookie.unlink(missing_ok=True)
    if opened.failed.is_set():
        raise KernelError(f"the node failed on {datadir}; its last error is in the log")


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _warn_if_open(host: str) -> None:
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        log.warning("the RPC port is open to the network, without encryption", host=host)


if __name__ == "__main__":
    sys.exit(node())
