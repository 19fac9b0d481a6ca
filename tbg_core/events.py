"""The eight mining events, contract version 1: the single source of truth.

docs/events.md and docs/events.schema.json are generated from these models
(``tbg docs``), and the fast decoder of :mod:`tbg_core.decode` is derived from
them. An event is one UTF-8 JSON object per datagram, at most
:data:`MAX_DATAGRAM` bytes.

Fields marked ``ALWAYS_SENT`` are optional to accept, and our own engines
always send them. Unknown extra fields are accepted and passed on.
"""

import ipaddress
import re
import time
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tbg_core.periods import HOUR

CONTRACT_VERSION: Final = 1
MAX_DATAGRAM: Final = 8192  # bytes
MAX_PROOF: Final = 4096  # bytes that a proof stays below

EARLIEST: Final = 1_230_768_000_000_000  # 2009-01-01, the year of the genesis block
MAX_AHEAD: Final = HOUR

INT64_MAX: Final = 2**63 - 1
MAX_INSTANCE: Final = 128  # characters
SEQ_MAX: Final = 2**53 - 1  # the largest integer that every reader of JSON keeps exact (RFC 8259)
MAX_MONEY: Final = 21_000_000 * 100_000_000  # satoshis, consensus/amount.h
# No hash has less than 2^-32 of difficulty 1, and none more than about 2^224: the hash 1. What
# lies outside is a fault or an attack, and its sums and squares leave the range of a double.
MIN_DIFFICULTY: Final = 1e-12
MAX_DIFFICULTY: Final = 2.0**224
MAX_HASHRATE: Final = 1e24  # H/s, a thousand times what all miners had together in 2026

ALWAYS_SENT: Final[dict[str, Any]] = {"always_sent": True}


def check_timestamp(value: int) -> int:
    """Refuses a time more than one hour ahead: a wrong or forged clock.

    Raises:
        ValueError: when ``value`` lies more than :data:`MAX_AHEAD` ahead.
    """
    if value > time.time_ns() // 1000 + MAX_AHEAD:
        raise ValueError("is more than one hour ahead of this machine's clock")
    return value


@lru_cache(maxsize=65_536)
def check_ip(value: str) -> str:
    """Accepts an IPv4 or IPv6 address in text form, without a zone.

    Cached, because a fleet sends the same addresses over and over.

    Raises:
        ValueError: when ``value`` is no address.
    """
    if "%" in value:
        raise ValueError("is an IP address with a zone, which the database cannot hold")
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("is not an IP address") from None
    return value


def check_best(value: float) -> float:
    """Accepts a difficulty, or 0 where there is none yet.

    Raises:
        ValueError: when ``value`` lies between 0 and :data:`MIN_DIFFICULTY`.
    """
    if 0 < value < MIN_DIFFICULTY:
        raise ValueError(f"is neither 0 nor a difficulty of at least {MIN_DIFFICULTY:g}")
    return value


# A Bech32 address (BIP 173) may be written in upper case throughout, as QR codes do, and is
# the same address. Case is part of a Base58 address, none of which begins like this.
_UPPER_BECH32: Final = re.compile(r"(?:BC|TB|BCRT)1[02-9AC-HJ-NP-Z]+")


def canonical_address(value: str) -> str:
    """The one form in which an address is stored: upper-case Bech32 in lower case.

    Mixed case is no address, and is left as it is, as Base58 is.
    """
    if value.isupper() and _UPPER_BECH32.fullmatch(value):
        return value.lower()
    return value


# PostgreSQL text cannot hold U+0000.
NO_NUL: Final = r"^[^\x00]*$"
HEX: Final = r"^([0-9a-fA-F]{2})+$"

Timestamp = Annotated[int, Field(ge=EARLIEST, le=INT64_MAX), AfterValidator(check_timestamp)]
Text = Annotated[str, Field(max_length=256, pattern=NO_NUL)]
ShortText = Annotated[str, Field(max_length=128, pattern=NO_NUL)]
Source = Annotated[str, Field(min_length=1, max_length=16, pattern=NO_NUL)]
Instance = Annotated[str, Field(min_length=1, max_length=MAX_INSTANCE, pattern=NO_NUL)]
Seq = Annotated[int, Field(ge=1, le=SEQ_MAX)]
Address = Annotated[
    str, Field(min_length=1, max_length=90, pattern=NO_NUL), AfterValidator(canonical_address)
]
WorkerName = Annotated[str, Field(max_length=128, pattern=NO_NUL)]
Ip = Annotated[str, Field(max_length=45), AfterValidator(check_ip)]
Difficulty = Annotated[float, Field(ge=MIN_DIFFICULTY, le=MAX_DIFFICULTY, allow_inf_nan=False)]
Best = Annotated[
    float, Field(ge=0, le=MAX_DIFFICULTY, allow_inf_nan=False), AfterValidator(check_best)
]
Hashrate = Annotated[float, Field(ge=0, le=MAX_HASHRATE, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=INT64_MAX)]
Sats = Annotated[int, Field(ge=0, le=MAX_MONEY)]
Height = Annotated[int, Field(ge=0, le=2**31 - 1)]
Hash = Annotated[str, Field(min_length=64, max_length=64, pattern=HEX)]
Hex = Annotated[str, Field(min_length=2, max_length=64, pattern=HEX)]
Header = Annotated[str, Field(min_length=160, max_length=160, pattern=HEX)]
Coinbase = Annotated[str, Field(min_length=2, max_length=MAX_PROOF, pattern=HEX)]
EngineState = Literal["running", "ended", "crashed"]
Week = Annotated[str, Field(pattern=r"^[0-9]{4}-W(0[1-9]|[1-4][0-9]|5[0-3])$")]


def holds_nul(value: Any) -> bool:
    """Whether a JSON value holds U+0000 in any of its texts."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(holds_nul, value))


class _Open(BaseModel):
    """Strict about its fields; extra fields are kept, as far as the database can."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    @model_validator(mode="after")
    def _extras(self) -> Self:
        if holds_nul(self.__pydantic_extra__):
            raise ValueError("an extra field holds U+0000, which the database cannot hold")
        return self


class Data(_Open):
    """What one kind of event says."""


class MinerData(Data):
    """What every event about a miner carries."""

    user: Address = Field(
        description="the miner's Bitcoin address; Bech32 in upper case becomes lower case"
    )
    worker: WorkerName = Field(
        description="what follows the first of `.`, `_`, `/` and `+` in the Stratum user name, "
        "'' if nothing does; the engine strips white space and a leading `bitcoin:` first"
    )


def check_proof(proof: Any) -> None:
    """The rule between the fields of a proof.

    Raises:
        ValueError: when the proof has :data:`MAX_PROOF` bytes or more.
    """
    if len(proof.header) + len(proof.coinbase) + 64 * len(proof.branch) >= MAX_PROOF:
        raise ValueError(f"has {MAX_PROOF} hex digits or more")


class Proof(_Open):
    """What lets anybody check a share: its work, and whom it would have paid."""

    header: Header = Field(description="the 80 bytes that were hashed")
    coinbase: Coinbase = Field(
        description="the coinbase transaction without witness; its double SHA-256 is its txid"
    )
    branch: list[Hash] = Field(
        description="merkle branch from the coinbase to the root, each hash in the order in "
        "which it is hashed"
    )

    @model_validator(mode="after")
    def _size(self) -> "Proof":
        check_proof(self)
        return self


def check_share(data: Any) -> None:
    """The rules between the fields of a share.

    Raises:
        ValueError: when a valid share lacks what its hash proves, or a
            rejected one does not say why.
    """
    if data.valid:
        if data.reject_reason is not None:
            raise ValueError("reject_reason must be null when valid is true")
        if (
            data.share_diff is None
            or data.job_id is None
            or data.nonce is None
            or data.nonce2 is None
        ):
            raise ValueError("share_diff, job_id, nonce and nonce2 may be null only when rejected")
    elif data.reject_reason is None:
        raise ValueError("reject_reason must say why valid is false")


class ShareSubmittedData(MinerData):
    """One share, accepted or rejected."""

    difficulty: Difficulty = Field(description="assigned share difficulty")
    share_diff: Difficulty | None = Field(
        description="achieved share difficulty; null only on a rejected share whose hash was never computed"
    )
    valid: bool = Field(description="whether the pool accepted it")
    reject_reason: ShortText | None = Field(description="why not; null when valid")
    job_id: ShortText | None = Field(
        description="the work it was mined on; null only when rejected"
    )
    nonce: Hex | None = Field(description="hex; null only when rejected")
    nonce2: Hex | None = Field(description="extranonce2 in hex; null only when rejected")
    ip: Ip = Field(description="the miner's IP address")
    client_id: Count | None = Field(
        default=None,
        description="the engine's number for the connection",
        json_schema_extra=ALWAYS_SENT,
    )
    ntime: Hex | None = Field(
        default=None, description="block time in hex", json_schema_extra=ALWAYS_SENT
    )
    hash: Hash | None = Field(
        default=None,
        description="block header hash, in the order that block explorers show",
        json_schema_extra=ALWAYS_SENT,
    )
    user_agent: Text | None = Field(
        default=None,
        description="what the miner called itself in mining.subscribe",
        json_schema_extra=ALWAYS_SENT,
    )
    version_bits: Hex | None = Field(
        default=None, description="version bits that the miner rolled (BIP 310), hex"
    )
    network_difficulty: Difficulty | None = Field(
        default=None, description="what a block needed at that moment"
    )

    @model_validator(mode="after")
    def _rules(self) -> "ShareSubmittedData":
        check_share(self)
        return self


class ShareBestDiffData(MinerData):
    """A miner's best share difficulty was broken, in one scope."""

    new_best_diff: Difficulty = Field(description="the new best")
    previous_best_diff: Best = Field(description="the one it broke; 0 if it is the first")
    period: Literal["session", "week", "alltime"] = Field(description="the scope that was broken")
    week: Week | None = Field(
        default=None, description="ISO week, UTC, as 2026-W47", json_schema_extra=ALWAYS_SENT
    )
    hash: Hash | None = Field(
        default=None, description="hash of the share", json_schema_extra=ALWAYS_SENT
    )
    proof: Proof | None = Field(
        default=None,
        description="what proves the share; our engines send it for `week` and `alltime`",
    )


class BlockFoundData(MinerData):
    """A share solved a block and the node took it."""

    height: Height = Field(description="height of the block")
    hash: Hash = Field(description="block hash")
    difficulty: Difficulty = Field(description="achieved share difficulty")
    network_difficulty: Difficulty = Field(description="what the block needed")
    reward_sats: Sats = Field(description="the whole coinbase value, satoshis")
    coinbase_sig: Text = Field(description="signature in the coinbase")
    fees_sats: Sats | None = Field(default=None, description="its fee part, satoshis")
    prev_hash: Hash | None = Field(
        default=None, description="hash of the block before it", json_schema_extra=ALWAYS_SENT
    )
    nonce: Hex | None = Field(default=None, description="hex", json_schema_extra=ALWAYS_SENT)
    proof: Proof | None = Field(
        default=None, description="what proves the share that solved it; our engines send it"
    )


class MinerConnectedData(MinerData):
    """A miner authorised."""

    ip: Ip = Field(description="the miner's IP address")
    initial_diff: Difficulty = Field(description="share difficulty it starts with")
    client_id: Count | None = Field(
        default=None,
        description="the engine's number for the connection",
        json_schema_extra=ALWAYS_SENT,
    )
    user_agent: Text | None = Field(
        default=None,
        description="what the miner called itself in mining.subscribe",
        json_schema_extra=ALWAYS_SENT,
    )
    protocol: ShortText | None = Field(
        default=None, description="`stratum_v1`", json_schema_extra=ALWAYS_SENT
    )


class MinerDisconnectedData(MinerData):
    """A miner that had authorised is gone."""

    session_duration: Seconds = Field(description="seconds since it authorised")
    client_id: Count | None = Field(
        default=None,
        description="the engine's number for the connection",
        json_schema_extra=ALWAYS_SENT,
    )
    ip: Ip | None = Field(
        default=None, description="the miner's IP address", json_schema_extra=ALWAYS_SENT
    )
    shares_accepted: Count | None = Field(
        default=None, description="shares accepted in the session", json_schema_extra=ALWAYS_SENT
    )
    shares_rejected: Count | None = Field(
        default=None, description="shares rejected in the session", json_schema_extra=ALWAYS_SENT
    )
    best_diff_session: Best | None = Field(
        default=None,
        description="best share difficulty of the session, 0 without shares",
        json_schema_extra=ALWAYS_SENT,
    )
    reason: ShortText | None = Field(
        default=None, description="why it left, if known", json_schema_extra=ALWAYS_SENT
    )


class DiffUpdatedData(MinerData):
    """A miner's assigned share difficulty changed."""

    old_diff: Difficulty = Field(description="share difficulty before")
    new_diff: Difficulty = Field(description="share difficulty from now on")
    client_id: Count | None = Field(
        default=None,
        description="the engine's number for the connection",
        json_schema_extra=ALWAYS_SENT,
    )
    reason: ShortText | None = Field(default=None, description="`vardiff`, `suggest` and the like")


class HashrateUpdateData(MinerData):
    """Decaying average hashrates of a worker, or of a user (worker '')."""

    hashrate_1m: Hashrate = Field(description="H/s over 1 minute")
    hashrate_5m: Hashrate = Field(description="H/s over 5 minutes")
    hashrate_1h: Hashrate = Field(description="H/s over 1 hour")
    hashrate_24h: Hashrate = Field(description="H/s over 24 hours")


class NewBlockNetworkData(Data):
    """The network's tip moved."""

    height: Height = Field(description="height of the new tip")
    hash: Hash = Field(description="hash of the new tip")
    network_difficulty: Difficulty = Field(description="what the next block needs")
    prev_hash: Hash | None = Field(default=None, description="hash of the block before it")


class Event(_Open):
    """The envelope around every event's data."""

    event: str = Field(description="one of the eight names")
    timestamp: Timestamp = Field(description="microseconds since the Unix epoch, UTC")
    source: Source = Field(
        description="`hosted` for our own engines, `simulated` for generated traffic; "
        "later `proxy`, `self-hosted`"
    )
    instance: Instance | None = Field(
        default=None,
        description="engine name and boot, as `ckpool-eu1/1763769600123456`: "
        "a new one at every engine start",
        json_schema_extra=ALWAYS_SENT,
    )
    seq: Seq | None = Field(
        default=None,
        description="counts every event of that instance from 1, dropped ones too, "
        "so that a gap is a loss",
        json_schema_extra=ALWAYS_SENT,
    )


class ShareSubmitted(Event):
    """A share came in, accepted or rejected."""

    event: Literal["share_submitted"]
    data: ShareSubmittedData


class ShareBestDiff(Event):
    """A best share difficulty was broken."""

    event: Literal["share_best_diff"]
    data: ShareBestDiffData


class BlockFound(Event):
    """A miner found a block."""

    event: Literal["block_found"]
    data: BlockFoundData


class MinerConnected(Event):
    """A miner authorised."""

    event: Literal["miner_connected"]
    data: MinerConnectedData


class MinerDisconnected(Event):
    """A miner left."""

    event: Literal["miner_disconnected"]
    data: MinerDisconnectedData


class DiffUpdated(Event):
    """An assigned share difficulty changed."""

    event: Literal["diff_updated"]
    data: DiffUpdatedData


class HashrateUpdate(Event):
    """Average hashrates, about once a minute."""

    event: Literal["hashrate_update"]
    data: HashrateUpdateData


class NewBlockNetwork(Event):
    """The network found a block, ours or not."""

    event: Literal["new_block_network"]
    data: NewBlockNetworkData


def check_status(data: Any) -> None:
    """The rule between the fields of an ``engine_status``.

    Raises:
        ValueError: when more numbers were never handed over than were given.
    """
    if data.unsent is not None and data.unsent > data.last_seq:
        raise ValueError("unsent is more than last_seq")


class EngineStatusData(Data):
    """How far an engine boot has numbered its events, and whether it is over."""

    last_seq: Annotated[int, Field(ge=0, le=SEQ_MAX)] = Field(
        description="the highest number that the boot has given, 0 before the first"
    )
    unsent: Count | None = Field(
        default=None,
        description="how many of its numbers were never handed to the socket; null if unknown",
        json_schema_extra=ALWAYS_SENT,
    )
    state: EngineState = Field(
        description="`running`: a heartbeat, about every 10 s. `ended`: the boot is over, and "
        "`last_seq` is its last number. `crashed`: it is over, and may have given more numbers"
    )

    @model_validator(mode="after")
    def _rules(self) -> "EngineStatusData":
        check_status(self)
        return self


class EngineStatus(Event):
    """An engine vouches for its numbers; for the books only."""

    event: Literal["engine_status"]
    data: EngineStatusData


STATUS: Final = "engine_status"

EVENTS: Final[dict[str, type[Event]]] = {
    "share_submitted": ShareSubmitted,
    "share_best_diff": ShareBestDiff,
    "block_found": BlockFound,
    "miner_connected": MinerConnected,
    "miner_disconnected": MinerDisconnected,
    "diff_updated": DiffUpdated,
    "hashrate_update": HashrateUpdate,
    "new_block_network": NewBlockNetwork,
}
