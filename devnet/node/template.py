"""``getblocktemplate`` (BIP 22, BIP 23, BIP 145): what the next block has to look like."""

from typing import Any, Final

from devnet.bitcoin.coinbase import witness_commitment_script
from devnet.bitcoin.hashing import from_display, to_display
from devnet.node.kernel import Kernel
from devnet.node.mining import BLOCK_VERSION, minimum_time, subsidy_after
from devnet.node.views import bits_hex, target_hex
from tbg_core.rpc import RPCError, RPCErrorCode

_MAX_SIGOPS_COST: Final = 80_000
_MAX_SIZE: Final = 4_000_000
_MAX_WEIGHT: Final = 4_000_000
_HASH_DIGITS: Final = 64


def block_template(kernel: Kernel, now: int) -> dict[str, Any]:
    """The template on top of the tip. ``now`` is the time in seconds since the epoch.

    Without a mempool, the block consists of the coinbase, and its value is the subsidy.
    """
    tip = kernel.tip()
    earliest = minimum_time(kernel, tip)
    return {
        "capabilities": [],
        "version": BLOCK_VERSION,
        "rules": ["csv", "!segwit", "taproot"],
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": to_display(tip.hash),
        "transactions": [],
        "coinbaseaux": {},
        "coinbasevalue": subsidy_after(tip),
        "longpollid": to_display(tip.hash) + "0",
        "target": target_hex(tip.header.bits),
        "mintime": earliest,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": _MAX_SIGOPS_COST,
        "sizelimit": _MAX_SIZE,
        "weightlimit": _MAX_WEIGHT,
        "curtime": max(now, earliest),
        "bits": bits_hex(tip.header.bits),
        "height": tip.height + 1,
        "default_witness_commitment": witness_commitment_script([]).hex(),
    }


def check_request(request: dict[str, Any]) -> None:
    """Checks a template request.

    Mode "proposal" is refused too: libbitcoinkernel cannot test a block without storing it.

    Raises:
        RPCError: bitcoind refuses the request as well.
    """
    if request.get("mode", "template") not in ("template", None):
        raise RPCError(
            RPCErrorCode.INVALID_PARAMETER, 'Invalid mode: this node knows "template" only'
        )
    rules = request.get("rules")
    if rules is not None and not (
        isinstance(rules, list) and all(isinstance(rule, str) for rule in rules)
    ):
        raise RPCError(RPCErrorCode.TYPE_ERROR, "rules must be an array of strings")
    if "segwit" not in (rules or []):
        raise RPCError(
            RPCErrorCode.INVALID_PARAMETER,
            'getblocktemplate needs the segwit rule: call it with {"rules": ["segwit"]}',
        )


def watched_tip(longpoll_id: object, tip_hash: bytes) -> bytes:
    """The tip that a long poll waits to see replaced.

    The first 64 characters of ``longpollid`` name it; anything but a string means the present
    tip, as in bitcoind.

    Raises:
        RPCError: the string names no hash.
    """
    if not isinstance(longpoll_id, str):
        return tip_hash
    try:
        return from_display(longpoll_id[:_HASH_DIGITS])
    except ValueError as error:
        raise RPCError(
            RPCErrorCode.INVALID_PARAMETER,
            f"longpollid must begin with a block hash: {error}",
        ) from error
