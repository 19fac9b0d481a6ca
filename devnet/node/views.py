"""Blocks and chain as bitcoind's RPCs show them."""

from pathlib import Path
from typing import Any, Final

from devnet.bitcoin.address import AddressError, AddressKind, Network, decode_address_for
from devnet.bitcoin.block import Block
from devnet.bitcoin.difficulty import difficulty_from_bits, target_from_bits, work_from_target
from devnet.bitcoin.hashing import to_display
from devnet.node.kernel import Entry, Kernel
from devnet.node.mining import median_time

NETWORK: Final = Network.REGTEST

_HASHRATE_BLOCKS: Final = 120
"""Blocks over which ``networkhashps`` is averaged."""


def header_view(kernel: Kernel, entry: Entry) -> dict[str, Any]:
    """``getblockheader`` with verbose=true."""
    return _header_view(kernel, entry, _read(kernel, entry))


def block_view(kernel: Kernel, entry: Entry, raw_block: bytes) -> dict[str, Any]:
    """``getblock`` with verbosity 1: the header, sizes in bytes, and the txids."""
    block = Block.unpack(raw_block)
    stripped = len(block.pack(witness=False))
    return _header_view(kernel, entry, block) | {
        "strippedsize": stripped,
        "size": len(raw_block),
        "weight": 3 * stripped + len(raw_block),
        "tx": [to_display(transaction.txid) for transaction in block.transactions],
    }


def _header_view(kernel: Kernel, entry: Entry, block: Block | None) -> dict[str, Any]:
    active = kernel.is_active(entry)
    header = entry.header
    view = {
        "hash": to_display(entry.hash),
        # -1 says that the block is not on the active chain
        "confirmations": kernel.height - entry.height + 1 if active else -1,
        "height": entry.height,
        "version": header.version,
        "versionHex": f"{header.version & 0xFFFFFFFF:08x}",
        "merkleroot": to_display(header.merkle_root),
        "time": header.time,
        "mediantime": median_time(kernel, entry),
        "nonce": header.nonce,
        **_target_view(header.bits),
        "chainwork": chainwork_hex(entry),
        "nTx": 0 if block is None else len(block.transactions),
    }
    if entry.height > 0:
        view["previousblockhash"] = to_display(header.prev_hash)
    following = kernel.at_height(entry.height + 1) if active else None
    if following is not None:
        view["nextblockhash"] = to_display(following.hash)
    return view


def chain_view(kernel: Kernel, datadir: Path) -> dict[str, Any]:
    """``getblockchaininfo``."""
    tip = kernel.tip()
    return {
        "chain": NETWORK.value,
        "blocks": tip.height,
        "headers": kernel.best_header_height(),
        "bestblockhash": to_display(tip.hash),
        **_target_view(tip.header.bits),
        "time": tip.header.time,
        "mediantime": median_time(kernel, tip),
        "verificationprogress": 1.0,
        "initialblockdownload": False,  # it has no peers
        "chainwork": chainwork_hex(tip),
        "size_on_disk": sum(
            file.stat().st_size for file in (datadir / "blocks").glob("*.dat") if file.is_file()
        ),
        "pruned": False,
        "warnings": [],
    }


def mining_view(kernel: Kernel) -> dict[str, Any]:
    """``getmininginfo``."""
    tip = kernel.tip()
    target = _target_view(tip.header.bits)
    return {
        "blocks": tip.height,
        **target,
        "networkhashps": network_hashrate(kernel),
        "pooledtx": 0,
        "chain": NETWORK.value,
        "next": {"height": tip.height + 1, **target},  # regtest never retargets
        "warnings": [],
    }


def network_hashrate(kernel: Kernel) -> float:
    """H/s over the last 120 blocks, from their work and times (Bitcoin Core's GetNetworkHashPS)."""
    tip = kernel.tip()
    first = tip.height - min(_HASHRATE_BLOCKS, tip.height)
    entries = [kernel.at_height(height) for height in range(first, tip.height + 1)]
    times = [entry.header.time for entry in entries if entry is not None]
    seconds = max(times) - min(times)
    if seconds == 0:
        return 0
    return _block_work(tip) * (tip.height - first) / seconds


def address_view(text: str) -> dict[str, Any]:
    """``validateaddress``; the places of errors inside an address are not searched for."""
    try:
        address = decode_address_for(text, NETWORK)
    except AddressError as error:
        return {"isvalid": False, "error_locations": [], "error": str(error)}
    view: dict[str, Any] = {
        "isvalid": True,
        "address": address.text,
        "scriptPubKey": address.script_pubkey.hex(),
        "isscript": address.kind in (AddressKind.P2SH, AddressKind.P2WSH, AddressKind.P2TR),
        "iswitness": address.witness_program is not None,
    }
    if address.witness_program is not None:
        view["witness_version"] = address.witness_version
        view["witness_program"] = address.witness_program.hex()
    return view


def _target_view(bits: int) -> dict[str, Any]:
    return {
        "bits": bits_hex(bits),
        "target": target_hex(bits),
        "difficulty": difficulty_from_bits(bits),
    }


def bits_hex(bits: int) -> str:
    """A compact target as eight hex digits."""
    return f"{bits:08x}"


def target_hex(bits: int) -> str:
    """The target of ``bits`` as 64 hex digits, highest first."""
    return f"{target_from_bits(bits):064x}"


def chainwork_hex(entry: Entry) -> str:
    """The work of the chain up to ``entry``: regtest's blocks all have the same target."""
    return f"{_block_work(entry) * (entry.height + 1):064x}"


def _block_work(entry: Entry) -> int:
    return work_from_target(target_from_bits(entry.header.bits))


def _read(kernel: Kernel, entry: Entry) -> Block | None:
    raw_block = kernel.read_block(entry.hash)
    return None if raw_block is None else Block.unpack(raw_block)
