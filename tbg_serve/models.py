"""What ``/v1`` answers, with the unit of every number. Times are UTC, ISO 8601."""

from datetime import date, datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """One answer, or a part of it."""

    model_config = ConfigDict(frozen=True)


def unit(description: str, name: str) -> object:
    """A field's description, with its unit for programs."""
    return Field(description=description, json_schema_extra={"unit": name})


Difficulty = Annotated[float, unit("difficulty; 1 takes 2^32 hashes on average", "difficulty")]
Rate = Annotated[float, unit("hashes per second", "H/s")]
Shares = Annotated[int, unit("shares", "shares")]
Work = Annotated[float, unit("sum of the assigned difficulty of accepted shares", "difficulty")]
Seconds = Annotated[float, unit("seconds", "s")]
Chance = Annotated[float, unit("probability, 0 to 1", "1")]
Sats = Annotated[int, unit("satoshis; 100 000 000 are one bitcoin", "sat")]
Events = Annotated[int, unit("events", "events")]
Item = TypeVar("Item", bound=Model)


class Page(Model, Generic[Item]):
    """Some of many, in order."""

    items: list[Item]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one")


class Problem(Model):
    """Why there is no answer."""

    error: str
    reason: str


class HashRates(Model):
    """As the engine measured them last; 0 when it has not for an hour (a day: `last_24h`)."""

    last_1m: Rate
    last_5m: Rate
    last_1h: Rate
    last_24h: Rate


class UserHashRates(HashRates):
    """And from the shares of today and the six days before, UTC."""

    last_7d: Rate


class Sums(Model):
    """Shares of a span of time."""

    since: datetime = Field(description="beginning of the span")
    counted_until: datetime | None = Field(
        description="time of the last share that is counted; null where there is none"
    )
    accepted: Shares
    rejected: Shares
    work: Work


class Best(Model):
    """A best share, of the shares since a moment."""

    since: datetime | None = Field(description="null: since ever")
    difficulty: Difficulty
    found_at: datetime | None
    share_hash: str | None = Field(description="block header hash, hex; null where unknown")
    chance: Chance | None = Field(
        description="of doing as well or better with the work done; null where unknown",
    )


class Proof(Model):
    """What proves a share's difficulty (docs/check-your-best.md), hex."""

    share_hash: str
    difficulty: Difficulty
    found_at: datetime
    header: str = Field(description="80 bytes")
    coinbase: str = Field(description="the coinbase transaction, without witness")
    branch: list[str] = Field(description="hashes from the coinbase to the merkle root, 32 bytes")


class Odds(Model):
    """How likely a block is, at the hash rate of the last 24 hours."""

    hash_rate: Rate
    network_difficulty: Difficulty | None = Field(description="null until a block was seen")
    expected_seconds: Seconds | None = Field(
        description="mean time to a block; null without hash rate"
    )
    chance_day: Chance
    chance_week: Chance
    chance_year: Chance


class Round(Model):
    """The shares since the pool's last block, against what a block takes on average."""

    since: datetime | None = Field(description="when the pool's last block was found")
    work: Work
    luck: float | None = Field(
        description="expected work over work done: 2 after a block that took half of the work "
        "that it takes on average; falls until the next block",
        json_schema_extra={"unit": "1"},
    )


class PoolOdds(Odds):
    """The pool's odds, and its round."""

    round: Round | None = Field(description="null while it is being counted")


class Place(Model):
    """A user's place in a week."""

    rank: int = Field(description="1 leads; provisional until the week is final", ge=1)
    user: str = Field(description="Bitcoin address")
    worker: str | None = Field(description="that found the best share")
    best_difficulty: Difficulty
    best_share_time: datetime
    best_share_hash: str | None = Field(description="hex")
    final: bool = Field(description="whether the week's result stands")
    total_shares: int | None = Field(
        description="accepted shares; null until the week is final",
        json_schema_extra={"unit": "shares"},
    )
    total_work: float | None = Field(
        description="sum of their assigned difficulty; null until then",
        json_schema_extra={"unit": "difficulty"},
    )


class Week(Page[Place]):
    """A week of the game, and its standing."""

    week: str = Field(description="ISO week, as 2026-W49", examples=["2026-W49"])
    week_start: date = Field(description="its Monday, UTC")
    ends_at: datetime = Field(description="when it is over, and the next one begins")
    final: bool = Field(description="whether its result stands")


class ClosedWeek(Model):
    """A week whose result was published."""

    week: str
    week_start: date
    revision: int = Field(description="1 is the first result, each later one a correction")
    published_at: datetime
    entrants: int = Field(description="users with a valid share")
    winner: str | None = Field(description="Bitcoin address")
    winner_worker: str | None
    winner_difficulty: Annotated[float | None, unit("difficulty", "difficulty")]


class UserBests(Model):
    """Null where there is none."""

    session: Best | None = Field(description="since a worker of the user last connected")
    week: Best | None = Field(description="since Monday, UTC")
    alltime: Best | None


class WorkerBests(UserBests):
    """Null where there is none."""

    month: Best | None = Field(description="since the first of the month, UTC")
    round: Best | None = Field(description="since the pool's last block")


class User(Model):
    """A miner's Bitcoin address, over all of its workers."""

    user: str = Field(description="Bitcoin address")
    first_seen: datetime
    last_seen: datetime | None
    workers: int = Field(description="that were ever seen")
    workers_online: int
    hash_rates: UserHashRates
    week: Sums = Field(description="the running week's shares")
    bests: UserBests
    odds: Odds


class WorkerLine(Model):
    """A worker in a list."""

    worker: str = Field(description="name after the first dot of the Stratum user; may be empty")
    online: bool
    first_seen: datetime
    last_share: datetime | None = Field(description="may be up to an hour older than the truth")
    user_agent: str | None
    assigned_difficulty: Difficulty | None
    hash_rates: HashRates


class Worker(WorkerLine):
    """One worker."""

    user: str = Field(description="Bitcoin address")
    connected_at: datetime | None = Field(description="its last connection")
    last_7d: Rate = Field(description="hashes per second, from the shares of today and six days")
    week: Sums = Field(description="the running week's shares")
    rejects_by_reason: dict[str, int] = Field(description="rejected shares of the running week")
    bests: WorkerBests
    proof: Proof | None = Field(description="of its best of all time, where one is stored")
    odds: Odds


class Hour(Model):
    """The shares of an hour."""

    hour: datetime = Field(description="its beginning")
    accepted: Shares
    rejected: Shares
    work: Work
    hash_rate: Rate = Field(description="hashes per second, over the whole hour")
    best_difficulty: Difficulty | None


class Block(Model):
    """A block that the pool found, and what became of it."""

    height: int
    hash: str
    prev_hash: str | None
    status: str = Field(
        description="found, accepted (on the chain), confirmed (final), orphaned or rejected"
    )
    confirmations: int = Field(
        description="on the active chain", json_schema_extra={"unit": "blocks"}
    )
    found_at: datetime
    confirmed_at: datetime | None
    user: str
    worker: str
    difficulty: Difficulty
    network_difficulty: Difficulty
    reward_sats: Sats
    fees_sats: Annotated[int | None, unit("satoshis of fees in the reward", "sat")]
    coinbase_sig: str


class LedgerSums(Model):
    """Events of a span of hours. Emitted = committed + dead-lettered + missing."""

    since: datetime
    hours: int = Field(description="closed hours with events", json_schema_extra={"unit": "h"})
    engines: int = Field(description="boots of engines")
    emitted: Events
    received: Events
    published: Events
    committed: Events
    dead_lettered: Events
    duplicates: Events
    dropped: Events
    missing: Events
    unexplained: Events


class OpenHours(Model):
    """Hours that are not closed yet, so far."""

    received: Events
    committed: Events
    dead_lettered: Events
    duplicates: Events


class Ledger(Model):
    """The sums of the share ledger."""

    closed: LedgerSums
    open: OpenHours


class LogHead(Model):
    """The log of roots as it is."""

    size: Annotated[int, unit("entries", "entries")]
    root: str = Field(description="hex: the root of the RFC 6962 tree over the entries' hashes")
    last: str | None = Field(description="hex: hash of the last entry; null while there is none")


class Consistency(Model):
    """What proves that the log only grew between two sizes (RFC 6962, section 2.1.2)."""

    first: Annotated[int, unit("size of the smaller log", "entries")]
    second: Annotated[int, unit("size of the larger log", "entries")]
    first_root: str = Field(description="hex")
    second_root: str = Field(description="hex")
    proof: list[str] = Field(description="hashes in hex, in the order of the RFC")
