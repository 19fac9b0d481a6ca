"""``tbg devnet pool``."""

import asyncio
import contextlib
import os
import resource
from pathlib import Path
from typing import Any

import click
import structlog

from devnet.log_options import log_options
from devnet.password import PASSWORD_VARIABLE, password_option
from devnet.pool.bests import BestsError
from devnet.pool.config import ConfigError, PoolConfig
from devnet.pool.service import serve
from devnet.stop import on_signal
from tbg_core.log import configure

EXAMPLES = """\b
Examples:
  tbg devnet pool
      Beside `tbg devnet node`: regtest, miners on this machine
  tbg devnet pool --host 0.0.0.0 --start-difficulty 1000
      For a Bitaxe on the local network
  tbg devnet pool --config ckpool.conf
      With a ckpool configuration file, for any node that speaks bitcoind's RPC
"""

log = structlog.get_logger("pool")


@click.command("pool", context_settings={"show_default": True}, epilog=EXAMPLES)
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A ckpool configuration file (JSON). The options below take precedence.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one and logs it.  [default: 3333]",
)
@click.option(
    "--tls-port",
    type=click.IntRange(0, 65535),
    envvar="POOL_TLS_PORT",
    show_envvar=True,
    help="Port for Stratum over TLS (stratum+ssl://), beside the other; needs a certificate.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="POOL_TLS_CERTIFICATE",
    show_envvar=True,
    help="PEM file with the certificate, and its key unless --tls-key names it.",
)
@click.option(
    "--tls-key",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="POOL_TLS_KEY",
    show_envvar=True,
    help="PEM file with the certificate's key, without a password.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    envvar="POOL_PROXIES",
    show_envvar=True,
    help="Address or network of a proxy that names its miners by the PROXY protocol; repeatable.",
)
@click.option(
    "--max-per-address",
    type=click.IntRange(min=0),
    envvar="POOL_MAX_PER_ADDRESS",
    show_envvar=True,
    help="Connections at once from one IP address; 0 sets no limit. Local networks have none."
    "  [default: 256]",
)
@click.option("--node-url", help="The node's RPC.  [default: http://127.0.0.1:18443]")
@click.option(
    "--rpccookie",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The node's cookie file.  [default: .tbg/node/.cookie]",
)
@click.option(
    "--rpcuser",
    help="RPC user, instead of a cookie; its password is in TBG_RPC_PASSWORD or the file"
    " below.  [default: tbg]",
)
@password_option("File that holds the RPC password.")
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    envvar="SOCKET_PATH",
    default=Path("/tmp/ckpool/events.sock"),  # noqa: S108 - the receiver's own default
    show_envvar=True,
    help="The receiver's socket, where events go; it need not exist yet.",
)
@click.option(
    "--state",
    "state_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".tbg/pool/bests.json"),
    help="File that keeps the weekly and all-time bests across restarts.",
)
@click.option("--name", default="devnet-pool", help="The engine's name in events.")
@click.option(
    "--start-difficulty", "startdiff", type=float, help="First share difficulty.  [default: 0.0001]"
)
@click.option(
    "--min-difficulty", "mindiff", type=float, help="Lowest share difficulty.  [default: 1e-06]"
)
@click.option(
    "--block-difficulty",
    type=float,
    help="On regtest: the share difficulty that makes a block.  [default: 0.005]",
)
@click.option(
    "--signature", "btcsig", help="Signature in the coinbase.  [default: /TheBitcoinGame/]"
)
@click.option(
    "--roots",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of `tbg receipts publish --key`, whose last root the coinbase carries.",
)
@click.option(
    "--hashrate-interval", type=float, help="Seconds between two hashrate events.  [default: 60]"
)
@click.option("--allow-mainnet", is_flag=True, help="Serve a node on mainnet: real money.")
@log_options("one line per event")
def pool(
    config_path: Path | None,
    host: str | None,
    port: int | None,
    tls_port: int | None,
    proxies: tuple[str, ...],
    node_url: str | None,
    rpccookie: Path | None,
    rpcuser: str | None,
    rpcpassword: str | None,
    socket_path: Path,
    state_path: Path,
    name: str,
    allow_mainnet: bool,
    log_level: str,
    log_format: str,
    **options: Any,
) -> None:
    """Run a Stratum V1 solo pool: a block pays only the miner who found it.

    The user name of a miner is its address, or address.worker. The password may hold tag=NAME,
    which signs the coinbase, and d=512, which asks for a difficulty. SIGTERM and Ctrl-C close the
    connections, send the remaining events and end the pool.
    """
    # The rest of the options have the names of the configuration's keys.
    configure(log_level, log_format)
    shown = f"[{host}]" if host and ":" in host else host or "127.0.0.1"
    if host is not None or port is not None:
        options["serverurl"] = f"{shown}:{3333 if port is None else port}"
    if tls_port is not None:
        options["tls_serverurl"] = f"{shown}:{tls_port}"
    options["proxies"] = list(proxies) or None
    try:
        configured, _ = PoolConfig.read(config_path, {})
        if node_url or rpccookie or rpcuser or rpcpassword or not configured.btcd:
            options["btcd"] = [_node(node_url, rpccookie, rpcuser, rpcpassword)]
        config, warnings = PoolConfig.read(config_path, options)
        for warning in warnings:
            log.warning(warning)
        _allow_files(config.maxclients + 64)
        asyncio.run(_run(config, socket_path, state_path, name, allow_mainnet))
    except (ConfigError, BestsError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _run(
    config: PoolConfig, socket_path: Path, state_path: Path, name: str, allow_mainnet: bool
) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends the process at once."""
    stop = asyncio.Event()
    on_signal(stop.set)
    await serve(
        config,
        stop,
        socket_path=socket_path,
        state_path=state_path,
        name=name,
        allow_mainnet=allow_mainnet,
    )


def _node(
    url: str | None, cookie: Path | None, user: str | None, password: str | None
) -> dict[str, Any]:
    """The entry of ``btcd`` that the options describe."""
    node: dict[str, Any] = {"url": url} if url else {}
    password = password or os.environ.get(PASSWORD_VARIABLE)
    if cookie is not None:
        return node | {"cookie": cookie}
    if password:
        return node | {"auth": user or "tbg", "pass": password}
    if user is not None:
        raise ConfigError(f"--rpcuser needs a password, in {PASSWORD_VARIABLE} or a file")
    return node | {"cookie": Path(".tbg/node/.cookie")}


def _allow_files(needed: int) -> None:
    """Raises the limit of open files towards ``needed``: each miner takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if wanted > soft:
        with contextlib.suppress(ValueError, OSError):  # macOS has limits below the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    pool()
