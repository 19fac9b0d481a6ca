"""Checks a share by its proof of work, and trusts nothing else.

Pure, and apart from the code that makes the proofs: a fault in the pool's addresses or
transactions must not hide itself here. Formats: block header and coinbase as Bitcoin's
protocol has them, addresses by BIP 173 and BIP 350, difficulty as ckpool and Bitcoin Core
count it (difficulty 1 is the target 0xffff << 208).
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Self

from tbg_core.events import MAX_PROOF

SIGNATURE: Final = "/TheBitcoinGame"  # what our pools' signatures begin with
DIFFICULTY_1: Final = 0xFFFF << 208
# ckpool computes a difficulty in floating point, step by step; ours is exact to its last bit.
ROUNDING: Final = 1e-9
# Consensus lets the time of a header run two hours ahead, and miners roll it.
MOST_SKEW: Final = timedelta(hours=2)
WEEK: Final = timedelta(days=7)
# Consensus rules: of one output, and of a coinbase's input.
MOST_SATOSHIS: Final = 21 * 10**14
MOST_SCRIPT_SIG: Final = 100  # bytes

_TAG: Final = rb"(?:([A-Za-z0-9_.\-]{1,20})/)?"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_PREFIXES: Final = ("bc", "tb", "bcrt")


class ProofError(ValueError):
    """A proof or a claim that does not have the form of one; the text says what is wrong."""


def sha256d(data: bytes) -> bytes:
    """Double SHA-256."""
    return sha256(sha256(data).digest()).digest()


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves a share.

    Attributes:
        header: the 80 bytes that were hashed.
        coinbase: the coinbase transaction without witness.
        branch: from the coinbase to the merkle root, each in the order that is hashed.
    """

    header: bytes
    coinbase: bytes
    branch: tuple[bytes, ...]

    @classmethod
    def read(cls, value: Any) -> Self:
        """Reads the JSON object of an event.

        Raises:
            ProofError: it is not one.
        """
        if not isinstance(value, dict):
            raise ProofError("the proof is not an object with header, coinbase and branch")
        branch = value.get("branch")
        if not isinstance(branch, list):
            raise ProofError("branch is not a list")
        proof = cls(
            _bytes("header", value.get("header")),
            _bytes("coinbase", value.get("coinbase")),
            tuple(_bytes(f"branch[{at}]", item) for at, item in enumerate(branch)),
        )
        if len(proof.header) != 80:
            raise ProofError(f"header has {len(proof.header)} bytes instead of 80")
        if any(len(item) != 32 for item in proof.branch):
            raise ProofError("a hash in branch does not have 32 bytes")
        size = 2 * (len(proof.header) + len(proof.coinbase) + 32 * len(proof.branch))
        if size >= MAX_PROOF:
            raise ProofError(f"the proof has {size} hex digits, {MAX_PROOF} or more")
        return proof

    def dump(self) -> dict[str, Any]:
        """The JSON object that :meth:`read` reads."""
        return {
            "header": self.header.hex(),
            "coinbase": self.coinbase.hex(),
            "branch": [item.hex() for item in self.branch],
        }

    @property
    def hash(self) -> str:
        """Hash of the header, in the order that block explorers show."""
        return sha256d(self.header)[::-1].hex()

    @property
    def difficulty(self) -> float:
        """Difficulty that the hash achieved."""
        value = int.from_bytes(sha256d(self.header), "little")
        return DIFFICULTY_1 / value if value else float("inf")

    @property
    def root(self) -> bytes:
        """The merkle root that coinbase and branch lead to; the coinbase is always left."""
        node = sha256d(self.coinbase)
        for sibling in self.branch:
            node = sha256d(node + sibling)
        return node

    @property
    def prev_hash(self) -> str:
        """Hash of the block before it, in the order that block explorers show."""
        return self.header[4:36][::-1].hex()

    @property
    def time(self) -> datetime:
        """Time in the header, which the miner set."""
        return datetime.fromtimestamp(int.from_bytes(self.header[68:72], "little"), UTC)


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a share.

    Attributes:
        hash: block header hash, in the order that block explorers show.
        user: address that the block would have paid.
        difficulty: at least achieved.
        time: when it came in; None where nobody says.
        week: Monday 00:00 UTC of the week it counts for; None where it counts for none.
        signature: the pool's, in the coinbase, or several, any of which will do; without a
            slash at its end, what it begins with.
        tag: the user's, behind the signature; None where nobody claims one.
        counted: Monday of an earlier week that the share counted for already.
        kept: the engine's clock was wrong in that hour, and a person kept its shares. Then
            ``time`` says nothing, and the week and the tips alone judge the header's time.
    """

    hash: str
    user: str
    difficulty: float
    time: datetime | None = None
    week: datetime | None = None
    signature: str | tuple[str, ...] = SIGNATURE
    tag: str | None = None
    counted: datetime | None = None
    kept: bool = False


def signatures_of(setting: str) -> tuple[str, ...]:
    """The signatures in a setting: one, or several between commas."""
    return tuple(filter(None, map(str.strip, setting.split(","))))


@dataclass(frozen=True, slots=True)
class Tip:
    """A block as the pool's engines saw it.

    Attributes:
        height: of the block.
        seen: when they saw it.
        replaced: when they saw the block that came next; None while it is the tip.
    """

    height: int
    seen: datetime
    replaced: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was checked.

    Attributes:
        name: short, the same for every share.
        holds: None where nothing was there to check it by.
        text: what was found.
    """

    name: str
    holds: bool | None
    text: str


def verify(proof: Proof, claim: Claim, tips: dict[str, Tip] | None) -> list[Fact]:
    """Every fact of a claim, from its proof.

    Args:
        proof: of the share.
        claim: what is said of it.
        tips: blocks that the pool saw, or its node has, by hash; None where nobody could say.
    """
    try:
        script_sig, outputs = _parse_coinbase(proof.coinbase)
    except ProofError as error:
        paid = marked = Fact("coinbase", False, f"is no coinbase transaction: {error}")
    else:
        paid, marked = _pays(outputs, claim.user), _signature(script_sig, claim)
    achieved = proof.difficulty
    enough = achieved * (1 + ROUNDING) >= claim.difficulty
    ours = proof.hash == claim.hash.lower()
    joins = proof.root == proof.header[36:68]
    return [
        Fact("hash", ours, f"the header hashes to {proof.hash}" + _unless(ours, claim.hash)),
        Fact(
            "difficulty",
            enough,
            f"the hash has difficulty {achieved:.12g}"
            + _unless(enough, f"{claim.difficulty:.12g}"),
        ),
        Fact(
            "merkle root",
            joins,
            f"the coinbase {'hashes' if joins else 'does not hash'} up the branch of "
            f"{len(proof.branch)} to the merkle root",
        ),
        *dict.fromkeys((paid, marked)),
        _time(proof, claim),
        _previous(proof, claim, tips),
    ]


def holds(facts: list[Fact], *, unchecked: bool = False) -> bool:
    """Whether all facts hold; ``unchecked`` says what counts for those without a check."""
    return all(unchecked if fact.holds is None else fact.holds for fact in facts)


def _unless(held: bool, claimed: str) -> str:
    return "" if held else f", claimed is {claimed}"


def _pays(outputs: list[tuple[int, bytes]], user: str) -> Fact:
    # By script: what is split over several outputs is one payment.
    sums: Counter[bytes] = Counter()
    for value, script in outputs:
        sums[script] += value
    paid = sum(value for script, value in sums.items() if address_of(script, user) == user)
    others = [value for script, value in sums.items() if address_of(script, user) != user]
    # A pool's fee pays the same address in every coinbase: the miner's part is the largest.
    if paid > max(others, default=0):
        part = paid / sums.total()
        return Fact("payee", True, f"the coinbase pays {paid} satoshis ({part:.2%}) to {user}")
    if paid:
        return Fact("payee", False, f"the coinbase pays {user} no more than another address")
    return Fact("payee", False, f"the coinbase does not pay {user}")


def _signature(script_sig: bytes, claim: Claim) -> Fact:
    ours = (claim.signature,) if isinstance(claim.signature, str) else claim.signature
    for signature in ours:
        found = re.search(_pattern(signature) + _TAG, script_sig)
        if found is not None:
            break
    else:
        return Fact("signature", False, f"the coinbase lacks {' and '.join(ours)}")
    text = f"the coinbase holds {found[0].decode(errors='replace')}"
    tag = (found[1] or b"").decode()
    if claim.tag is None or claim.tag == tag:
        return Fact("signature", True, text)
    return Fact("signature", False, f"{text}; claimed is the tag {claim.tag or '(none)'}")


def _pattern(signature: str) -> bytes:
    escaped = re.escape(signature.encode())
    return escaped if signature.endswith("/") else escaped + rb"[!-.0-~]*/"


def _time(proof: Proof, claim: Claim) -> Fact:
    text = f"the header's time is {proof.time:%F %T} UTC"
    if claim.counted is not None:
        return Fact("time", False, f"{text}; it counted for the week of {claim.counted:%F} already")
    if claim.time is None and claim.week is None:
        return Fact("time", None, f"{text}; no time is claimed")
    if claim.time and not claim.kept and abs(proof.time - claim.time) > MOST_SKEW:
        return Fact("time", False, f"{text}; the share is said to be of {claim.time:%F %T}")
    if claim.week is not None and not (
        claim.week - MOST_SKEW <= proof.time < claim.week + WEEK + MOST_SKEW
    ):
        return Fact("time", False, f"{text}, outside the week of {claim.week:%F}")
    return Fact("time", True, text)


def _previous(proof: Proof, claim: Claim, tips: dict[str, Tip] | None) -> Fact:
    name, prev = "previous block", proof.prev_hash
    if tips is None:
        return Fact(name, None, f"{prev}: nobody here could say whether there is such a block")
    tip = tips.get(prev)
    if tip is None:
        return Fact(name, False, f"{prev} is no block that the pool saw or its node has")
    start = claim.week or claim.time or proof.time
    end = start + WEEK if claim.week else start
    replaced = tip.replaced or end + MOST_SKEW
    plausible = tip.seen <= end + MOST_SKEW and replaced >= start - MOST_SKEW
    seen = f"block {tip.height}, the tip from {tip.seen:%F %T}"
    if tip.replaced is not None:
        seen += f" to {tip.replaced:%F %T}"
    return Fact(name, plausible, seen if plausible else f"{seen}, not at the time of the share")


# --- Transactions -----------------------------------------------------------------------


def _parse_coinbase(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The input's script and the outputs (satoshis, script) of a coinbase without witness.

    Raises:
        ProofError: the bytes are not exactly one such transaction. Else an inner node of a
            merkle tree could pass for a transaction.
    """
    reader = _Reader(data)
    reader.take(4)  # version
    if reader.size() != 1 or reader.take(36) != bytes(32) + b"\xff" * 4:
        raise ProofError("it does not have the one input that spends nothing")
    script_sig = reader.take(reader.size())
    if len(script_sig) > MOST_SCRIPT_SIG:
        raise ProofError(f"its script has {len(script_sig)} bytes")
    reader.take(4)  # sequence
    outputs = []
    for _ in range(reader.size()):
        value = int.from_bytes(reader.take(8), "little", signed=True)
        if not 0 <= value <= MOST_SATOSHIS:
            raise ProofError(f"an output pays {value} satoshis")
        outputs.append((value, reader.take(reader.size())))
    reader.take(4)  # lock time
    if reader.at != len(data):
        raise ProofError(f"{len(data) - reader.at} bytes follow it")
    return script_sig, outputs


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) < count:
            raise ProofError("it ends too early")
        self.at += count
        return taken

    def size(self) -> int:
        """A compact size."""
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        width: int = 1 << first - 0xFC
        size = int.from_bytes(self.take(width), "little")
        if size < (0xFD if width == 2 else 1 << 4 * width):
            raise ProofError("a size in it is longer than it must be")
        return size


# --- Addresses --------------------------------------------------------------------------


def address_of(script: bytes, like: str) -> str | None:
    """The address that a script pays, in the network and kind of another address.

    None where the script has no such address. Encoding it, instead of decoding ``like``,
    leaves no address with a wrong checksum or in another form.
    """
    prefix = like.rpartition("1")[0]
    if prefix in _PREFIXES:
        program = script[2:]
        if not 2 <= len(program) <= 40 or script[1] != len(program):
            return None
        version = script[0] - 0x50 if script[0] else 0
        if script[0] and not 1 <= version <= 16:
            return None
        return prefix + "1" + _bech32(prefix, [version, *_fives(program)], version)
    if script[:3] + script[23:] == b"\x76\xa9\x14\x88\xac" and len(script) == 25:
        return _base58(b"\x00" if like.startswith("1") else b"\x6f", script[3:23])
    if script[:2] + script[22:] == b"\xa9\x14\x87" and len(script) == 23:
        return _base58(b"\x05" if like.startswith("3") else b"\xc4", script[2:22])
    return None


def _base58(version: bytes, payload: bytes) -> str:
    data = version + payload
    data += sha256d(data)[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\x00"))) + text


def _fives(data: bytes) -> Iterator[int]:
    """The bits of bytes in groups of five, zeros at the end."""
    count = -(-len(data) * 8 // 5)
    bits = int.from_bytes(data, "big") << count * 5 - len(data) * 8
    return (bits >> 5 * (count - 1 - at) & 31 for at in range(count))


def _bech32(prefix: str, values: list[int], version: int) -> str:
    codes = prefix.encode()
    expanded = [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]
    checksum = 1
    for value in [*expanded, *values, *bytes(6)]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= term if top >> bit & 1 else 0
    checksum ^= 0x2BC830A3 if version else 1  # Bech32m from version 1 on
    values = [*values, *(checksum >> 5 * (5 - at) & 31 for at in range(6))]
    return "".join(_BECH32[value] for value in values)


def _bytes(name: str, value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > MAX_PROOF or len(value) % 2:
        raise ProofError(f"{name} is not hex of whole bytes")
    if not re.fullmatch(r"[0-9a-fA-F]+", value):
        raise ProofError(f"{name} is not hex of whole bytes")
    return bytes.fromhex(value)
