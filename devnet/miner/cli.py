"""``tbg devnet miner``."""

import asyncio
import os
from hashlib import sha256
from typing import Any, Final

import click
import structlog

from devnet.bitcoin.address import Network, encode_address
from devnet.bitcoin.script import witness_program_script
from devnet.log_options import log_options
from devnet.miner.miner import Miner, MinerError, Tally
from devnet.miner.stratum import pool_address
from devnet.stop import on_signal
from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.log import configure

EXAMPLES = """\b
Examples:
  tbg devnet miner
      Beside `tbg devnet pool`, as a guest on this machine
  tbg devnet miner --user bcrt1q....garage --processes 2
      For an address of your own, as the worker "garage"
  tbg devnet miner --max-hashrate 0 --nice 0
      As fast as the processor can, about a million hashes a second
  tbg devnet miner --shares 20
      Until 20 shares were accepted
"""

GUEST_HASHRATE: Final = 200_000.0
"""Hashes per second: 13 % of a core of the machine that it was measured on."""
GUEST_NICE: Final = 10

log = structlog.get_logger("miner")


def throwaway_user() -> str:
    """A regtest address without a known key, and a worker name.

    Its key hash is the first 20 bytes of a SHA-256 of words: a key for it is as hard to find as
    for any other address. Its regtest coins are worthless and stay unspent.
    """
    program = sha256(b"The Bitcoin Game devnet miner").digest()[:20]
    return encode_address(witness_program_script(0, program), Network.REGTEST) + ".cpu"


@click.command("miner", context_settings={"show_default": True}, epilog=EXAMPLES)
@click.option("--url", default="stratum+tcp://127.0.0.1:3333", help="The pool.")
@click.option(
    "--user",
    help="Your address, or address.worker.  [default: a regtest address without a key]",
)
@click.option("--password", default="x", help="Sent to the pool unchanged.")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    help="Processes that search; without a limit, each fills a core.",
)
@click.option(
    "--max-hashrate",
    type=click.FloatRange(0),
    default=GUEST_HASHRATE,
    help="Hashes per second of all processes together; 0 for no limit.",
)
@click.option(
    "--nice",
    type=click.IntRange(0, 19),
    default=GUEST_NICE,
    help="Added to the processes' niceness: the higher, the more others go first.",
)
@click.option(
    "--version-rolling/--no-version-rolling",
    "roll_versions",
    default=True,
    help="Ask the pool for version bits to roll (BIP 310).",
)
@click.option(
    "--shares",
    type=click.IntRange(0),
    default=0,
    help="Stop after so many accepted shares; 0 for never.",
)
@click.option(
    "--send-bad-share",
    "bad_share",
    is_flag=True,
    help="Also send one share that the pool has to reject; fail if it does not.",
)
@click.option(
    "--summary-interval",
    type=click.FloatRange(0.1),
    default=5,
    help="Seconds between two lines of progress.",
)
@log_options("every share")
def miner(
    url: str,
    user: str | None,
    max_hashrate: float,
    nice: int,
    summary_interval: float,
    log_level: str,
    log_format: str,
    **wishes: Any,
) -> None:
    """Mine on the CPU for a Stratum V1 pool: real work, with an eighth of a core by default.

    Under a limit it suggests a difficulty to the pool that gives a share a second. It reconnects
    whenever it loses the pool. SIGTERM and Ctrl-C end it.
    """
    configure(log_level, log_format)
    os.nice(nice)
    try:
        host, port = pool_address(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error

    async def run() -> Tally:
        mining = Miner(
            host,
            port,
            user or throwaway_user(),
            max_hashrate=max_hashrate,
            suggestion=max_hashrate / HASHES_PER_DIFFICULTY,  # a share a second
            **wishes,
        )
        on_signal(mining.stop)
        return await mining.run(summary_interval)

    try:
        tally = asyncio.run(run())
    except MinerError as error:
        raise click.ClickException(str(error)) from error
    log.info(
        "miner ended",
        hashes=tally.hashes,
        accepted=tally.accepted,
        rejected=tally.rejected,
        best=tally.best,
    )


if __name__ == "__main__":
    miner()
