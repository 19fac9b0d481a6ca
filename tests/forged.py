"""A genuine proof of work, and forgeries of it that each break one fact."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from devnet.bitcoin.address import decode_address
from ingest.proof import sha256d

GOLDEN: Final = Path(__file__).parent / "events" / "proven"
OTHER_USER: Final = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"

Change = Callable[[dict[str, Any]], None]


def genuine(event: str = "share_best_diff") -> dict[str, Any]:
    """The golden datagram of an event with a proof, which a real pool sent."""
    value: dict[str, Any] = json.loads((GOLDEN / f"{event}.json").read_bytes())
    return value


def forged(change: Change) -> dict[str, Any]:
    """The data of the genuine best after a change."""
    data: dict[str, Any] = copy.deepcopy(genuine()["data"])
    change(data)
    return data


def other_share(data: dict[str, Any]) -> None:
    """Its proof is of another share, which is worth more."""
    proof = data["proof"]
    header = bytearray.fromhex(proof["header"])
    for nonce in range(1 << 24):
        header[76:80] = nonce.to_bytes(4, "little")
        value = int.from_bytes(sha256d(bytes(header)), "little")
        if (0xFFFF << 208) / value > data["new_best_diff"] and header.hex() != proof["header"]:
            proof["header"] = header.hex()
            return


def other_coinbase(data: dict[str, Any]) -> None:
    """Its coinbase pays one satoshi more, and was never in the block."""
    proof = data["proof"]
    proof["coinbase"] = proof["coinbase"].replace("205fa012", "215fa012")


def paid_elsewhere(data: dict[str, Any]) -> None:
    """Its coinbase pays another address."""
    mine = decode_address(data["user"]).script_pubkey
    other = decode_address(OTHER_USER).script_pubkey
    proof = data["proof"]
    proof["coinbase"] = proof["coinbase"].replace(
        (bytes([len(mine)]) + mine).hex(), (bytes([len(other)]) + other).hex()
    )


def header_bit(data: dict[str, Any]) -> None:
    """Its header says another time."""
    proof = data["proof"]
    proof["header"] = proof["header"][:136] + "00" + proof["header"][138:]


# What is forged, and the facts that then fail.
FORGERIES: Final[dict[str, tuple[Change, set[str]]]] = {
    "other header": (header_bit, {"hash", "difficulty"}),
    "other coinbase": (other_coinbase, {"merkle root"}),
    "coinbase of another address": (paid_elsewhere, {"merkle root", "payee"}),
    "other address": (lambda data: data.update(user=OTHER_USER), {"payee"}),
    "address with a wrong checksum": (
        lambda data: data.update(user=data["user"][:-1] + "q"),
        {"payee"},
    ),
    "swapped branch": (lambda data: data["proof"]["branch"].reverse(), {"merkle root"}),
    "shorter branch": (lambda data: data["proof"]["branch"].pop(), {"merkle root"}),
    "longer branch": (lambda data: data["proof"]["branch"].append("00" * 32), {"merkle root"}),
    "truncated coinbase": (
        lambda data: data["proof"].update(coinbase=data["proof"]["coinbase"][:-2]),
        {"merkle root", "coinbase"},
    ),
    "longer coinbase": (
        lambda data: data["proof"].update(coinbase=data["proof"]["coinbase"] + "00"),
        {"merkle root", "coinbase"},
    ),
    "proof of another share": (other_share, {"hash"}),
    "higher difficulty": (
        lambda data: data.update(new_best_diff=data["new_best_diff"] * 1.000001),
        {"difficulty"},
    ),
    "other hash": (lambda data: data.update(hash="00" * 32), {"hash"}),
}
# What is no proof by its form.
DEFORMED: Final[dict[str, Change]] = {
    "truncated header": lambda data: data["proof"].update(header=data["proof"]["header"][:-2]),
    "oversized": lambda data: data["proof"].update(coinbase="00" * 2048),
    "oversized branch": lambda data: data["proof"].update(branch=["00" * 32] * 64),
    "non-hex": lambda data: data["proof"].update(coinbase="zz" + data["proof"]["coinbase"][2:]),
    "half a byte": lambda data: data["proof"].update(coinbase=data["proof"]["coinbase"][:-1]),
    "branch that is a text": lambda data: data["proof"].update(branch="00" * 32),
    "short hash in the branch": lambda data: data["proof"]["branch"].append("00" * 31),
    "no header": lambda data: data["proof"].pop("header"),
}
