"""A genuine proof of work, and forgeries of it that each break one fact."""

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from devnet.bitcoin.address import decode_address
from tbg_core.proof import DIFFICULTY_1, sha256d

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


# --- Proofs of any coinbase, whose merkle tree it is alone --------------------------------

BTC: Final = 10**8  # satoshis
USER: Final = genuine()["data"]["user"]
POOL: Final = OTHER_USER
FILLER: Final = b"\x51"  # a script of nobody


def script_of(user: str) -> bytes:
    return decode_address(user).script_pubkey


def size_of(number: int, width: int = 0) -> bytes:
    """A compact size, in its one form or in one of ``width`` bytes behind the first."""
    if not width:
        width = 0 if number < 0xFD else 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8
    if not width:
        return bytes([number])
    return {2: b"\xfd", 4: b"\xfe", 8: b"\xff"}[width] + number.to_bytes(width, "little")


def coinbase_of(
    outputs: list[tuple[int, str | bytes]],
    signature: str = "/TheBitcoinGame/",
    *,
    count: bytes | None = None,
    inputs: bytes = b"\x01",
    width: int = 0,
    after: bytes = b"",
) -> bytes:
    """A coinbase transaction, or what looks like one."""
    script = b"\x03\x01\x02\x03" + signature.encode() + bytes(8)
    made = b"\x01\0\0\0" + inputs + bytes(32) + b"\xff" * 4 + bytes([len(script)]) + script
    made += b"\xff" * 4 + (size_of(len(outputs)) if count is None else count)
    for value, to in outputs:
        paid = script_of(to) if isinstance(to, str) else to
        made += struct.pack("<Q", value % (1 << 64)) + size_of(len(paid), width) + paid
    return made + bytes(4) + after


def proven(coinbase: bytes, **claim: Any) -> dict[str, Any]:
    """What ``tbg verify --json`` writes of a share with this coinbase; its work is none."""
    header = struct.pack("<I", 0x20000000) + bytes(range(32)) + sha256d(coinbase)
    header += struct.pack("<III", 1_763_769_600, 0x207FFFFF, 0)
    difficulty = DIFFICULTY_1 / int.from_bytes(sha256d(header), "little")
    return {
        "hash": sha256d(header)[::-1].hex(),
        "user": USER,
        "worker": "",
        "difficulty": difficulty * 0.99,
        "signature": "/TheBitcoinGame",
        "time": None,
        "week": None,
        "proof": {"header": header.hex(), "coinbase": coinbase.hex(), "branch": []},
        **claim,
    }


def crafted(
    outputs: list[tuple[int, str | bytes]], signature: str = "/TheBitcoinGame/", **claim: Any
) -> dict[str, Any]:
    """A share whose coinbase pays this, in satoshis; the file names the same signature."""
    return proven(coinbase_of(outputs, signature), signature=signature, **claim)


_MINE: Final[list[tuple[int, str | bytes]]] = [(3 * BTC, USER)]
_HONEST: Final = json.dumps(crafted(_MINE))

# What pays the user the most, in a form that our engines could send.
HONEST: Final[dict[str, str]] = {
    "a pool's fee": json.dumps(crafted([(98, USER), (2, POOL)])),
    "all of it, in two outputs around the pool's": json.dumps(
        crafted([(60, USER), (100, POOL), (60, USER)])
    ),
    "a last output of nothing": json.dumps(crafted([(3 * BTC, USER), (BTC, POOL), (0, USER)])),
    "21 million coins": json.dumps(crafted([(21 * 10**14, USER)])),
    "a hash in capitals": json.dumps({**crafted(_MINE), "hash": crafted(_MINE)["hash"].upper()}),
    "another signature behind ours": json.dumps(crafted(_MINE, "/TheBitcoinGame-eu/")),
}
# And what does not, in forms that a forger might think of.
CRAFTED: Final[dict[str, str]] = {
    **{
        name: json.dumps(proof)
        for name, proof in {
            "the pool's script twice": crafted([(3 * BTC, POOL), (BTC // 10, USER), (0, POOL)]),
            "the pool's part in pieces": crafted([(60, POOL), (100, USER), (60, POOL)]),
            "a negative value": crafted([(-1, USER), (3 * BTC, POOL)]),
            "a negative value of the pool": crafted([(1, USER), (9, POOL), (-9, POOL)]),
            "more than there will be": crafted([(2**63 - 1, USER), (3 * BTC, POOL)]),
            "a sum that wraps": crafted([(1, USER), (2**63, POOL), (2**63, POOL)]),
            "as much as another": crafted([(BTC, USER), (BTC, POOL)]),
            "as much as another, first": crafted([(BTC, POOL), (BTC, USER)]),
            "nothing": crafted([(0, USER)]),
            "no output": crafted([]),
            "another payee": crafted([(BTC, POOL)]),
            "another pool": crafted(_MINE, "/OtherPool/"),
            "no signature": crafted(_MINE, ""),
            "too much difficulty": crafted(_MINE, difficulty=1e15),
            "endless difficulty": crafted(_MINE, difficulty=float("inf")),
            "no number": crafted(_MINE, difficulty=float("nan")),
            "a negative difficulty": crafted(_MINE, difficulty=-1),
            "no difficulty": crafted(_MINE, difficulty=0),
            "bytes behind it": proven(coinbase_of(_MINE, after=b"\0")),
            "cut short": proven(coinbase_of(_MINE)[:-1]),
            "cut in an output": proven(coinbase_of(_MINE)[:-12]),
            "outputs that do not come": proven(coinbase_of(_MINE, count=b"\x02")),
            "a huge number of outputs": proven(coinbase_of(_MINE, count=b"\xff" * 9)),
            "a number of outputs that is too long": proven(coinbase_of(_MINE, count=b"\xfd\1\0")),
            "a size that is too long": proven(coinbase_of(_MINE, width=2)),
            # Read with one byte for its number of outputs, it would pay another script.
            "outputs past one byte": proven(
                coinbase_of([(1, USER)] + 255 * [(0, FILLER)] + [(9, POOL)])
            ),
            "with its witness": proven(coinbase_of(_MINE, inputs=b"\0\1\1")),
            "two inputs": proven(coinbase_of(_MINE, inputs=b"\2")),
            "a script beyond the rules": proven(coinbase_of(_MINE, "/TheBitcoinGame/" + "x" * 90)),
            "nobody's address": crafted(_MINE, user="bcrt1"),
            "junk in the address": crafted(_MINE, user=USER.replace("1", "\x1b[2J1", 1)),
            "junk at the end of the address": crafted(_MINE, user=f"{USER[:-6]}\x1b[1K\r "),
            # 26 + 0x50 is OP_RETURN: what it is paid, nobody gets.
            "an address of no version": crafted(
                [(BTC, b"\x6a\x14" + script_of(USER)[2:])], user=USER.replace("1q", "16", 1)
            ),
            "no proof": crafted(_MINE, proof=None),
            "a branch of bytes": {
                **crafted(_MINE),
                "proof": {**crafted(_MINE)["proof"], "branch": ["00"]},
            },
            "an empty header": {
                **crafted(_MINE),
                "proof": {**crafted(_MINE)["proof"], "header": ""},
            },
        }.items()
    },
    "a user that stands twice": _HONEST.replace(
        '"user":', '"user": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "user":'
    ),
    "nothing in the file": "",
}
