"""The messages that the platform sends, as other programs may rely on them.

Programs get them from Redis (docs/messages.md): an entry of a stream has the fields ``event``,
``timestamp`` (microseconds), ``source`` and ``data``, and ``data`` is the JSON of a model here.
The messages ``notify:*`` wait in the table ``outbox`` for the notifier alone. Fields
may be added; one that is here keeps its name, its unit and its meaning.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tbg_core.names import ALERTS_STREAM, BLOCK_STATUS_STREAM, ROOTS_STREAM, WEEKLY_RESET_STREAM

NOTIFY: Final = "notify:"  # before the names of messages for people alone

BlockStatus = Literal["found", "accepted", "confirmed", "orphaned", "rejected"]
Micros = Annotated[int, Field(description="microseconds since the Unix epoch")]
Address = Annotated[str, Field(description="the user's Bitcoin address; text of a stranger")]
Name = Annotated[str, Field(description="the worker's name; text of a stranger")]
Difficulty = Annotated[float, Field(description="share difficulty; 1 is 2^32 hashes")]
Moment = Annotated[str, Field(description="ISO 8601, with its offset from UTC")]
Hash = Annotated[str, Field(description="64 hex digits, as explorers show a block's hash")]


class Payload(BaseModel):
    """What all messages have in common: fields that a reader does not know are kept."""

    model_config = ConfigDict(extra="allow")

    def payload(self) -> dict[str, Any]:
        """The JSON object that is sent: the fields that were set, and no others."""
        return self.model_dump(mode="json", exclude_unset=True)


class Place(Payload):
    """One user's place in a week."""

    rank: int = Field(description="1 is the winner; users with equal bests share a rank")
    user: Address
    worker: Name | None
    best_difficulty: Difficulty
    best_share_time: Micros
    best_share_hash: Hash | None
    proven: bool = Field(default=False, description="whether its proof of work holds")


class Released(Payload):
    """A best that a person let pass although its proof fails."""

    rank: int | None
    best_share_hash: Hash
    by: str = Field(description="the person")
    reason: str = Field(description="why")
    at: Moment


class StillWaiting(Payload):
    """What a result was published without."""

    late_shares: int = Field(description="shares that came late and are not counted yet")
    stream: str | None = Field(default=None, description="a stream with entries before the end")
    since: Moment | None = None


class WeekRoots(Payload):
    """The roots of receipts that a result rests on."""

    hours: int = Field(description="hours of the week that have a root; the last one follows soon")
    first: int = Field(description="place of the first entry in the log of roots")
    last: int = Field(description="place of the last")
    hash: str = Field(description="64 hex digits: the hash of the last entry, and so of all before")


class WeekResult(Payload):
    """The result of a closed week; the same ranking always gives the same result."""

    week: str = Field(pattern=r"^\d{4}-W\d\d$", description="the ISO week")
    week_start: str = Field(description="its Monday in UTC, as 2026-11-16")
    entrants: int = Field(description="users with a valid share")
    winner: Place | None = Field(description="the first of top; null without entrants")
    top: list[Place] = Field(max_length=10, description="the first ten")
    proven: bool = Field(default=False, description="whether the winner's proof holds")
    released: list[Released] = Field(default_factory=list)
    complete: bool = Field(default=True, description="whether every share that came is counted")
    waiting: StillWaiting | None = Field(default=None, description="what is not, otherwise")
    roots: WeekRoots | None = Field(default=None, description="what anybody can check it against")


class WeeklyReset(WeekResult):
    """A week is closed, or late shares have changed its result."""

    kind: Literal["result", "correction"]
    revision: int = Field(description="1 for the result, one more for each correction")


class BlockChange(Payload):
    """A block has come into another state."""

    hash: Hash
    height: int
    old_status: BlockStatus
    new_status: BlockStatus
    confirmations: int = Field(description="100 make it final")
    user: Address
    reward_sats: int = Field(description="satoshis, fees included")
    found_at: Micros


class NamedWorker(Payload):
    """A worker that a message names."""

    user: Address
    worker: Name
    silent_since: Moment | None = None
    naps: int | None = Field(default=None, description="short silences in 24 hours")


class WorkersAlert(Payload):
    """Workers have gone silent, or are back."""

    state: Literal["firing", "recovered"]
    incident: Literal["workers_offline"]
    severity: Literal["WARN", "ERROR"]
    title: str = Field(description="one sentence for people")
    workers: list[NamedWorker] = Field(description="the first of them")
    workers_total: int = Field(description="how many they are")


class Incident(Payload):
    """A thing that is wrong, or is well again. A warning that becomes an error fires once more."""

    state: Literal["firing", "recovered"]
    incident: str = Field(
        description="what it is about: run:<job>, run:<job>:<partitions> or check:<asset>:<check>"
    )
    id: str = Field(
        default="", description="of this one incident from its beginning; the same when it recovers"
    )
    severity: Literal["WARN", "ERROR"] = "ERROR"
    title: str = Field(description="one sentence for people")
    detail: str = ""
    timestamp: int = Field(default=0, description="microseconds since the Unix epoch")


class WorkersNews(Payload):
    """Workers whose silence, return or flapping people may want to hear of."""

    workers: list[NamedWorker]
    at: Moment
    flapping: bool = Field(default=False, description="whether they come and go all day")


class BlockNews(Payload):
    """A block was found."""

    user: Address
    worker: Name | None
    height: int
    hash: Hash
    reward_sats: int = Field(description="satoshis, fees included")
    at: Moment


class BestNews(Payload):
    """A user's or a worker's new best share."""

    kinds: list[str] = Field(min_length=1, description="what it is: see docs/alerts.md")
    user: Address
    worker: Name | None
    best: Difficulty
    rank: int | None = Field(default=None, description="the user's place in the week")
    chance: float | None = Field(description="0 to 1: of doing as well with the work done")
    hash: Hash | None
    is_block: bool | None = None
    at: Moment


class HourRoot(Payload):
    """An hour is closed, or late events have changed it: its root, for receipts."""

    index: int = Field(description="place in the log of roots, from 0")
    hour: Micros
    revision: int = Field(description="1 for the first root of the hour")
    boots: int = Field(description="engine boots in it")
    root: list[str | int] = Field(
        description="64 hex digits; the work, in decimal digits of 2^-96; valid shares"
    )
    difficulty: float = Field(description="the work as a difficulty, rounded")
    reason: str = Field(description="why a person published it; empty for an ordinary one")
    previous: str = Field(
        description="64 hex digits: hash of the entry before, zeros for the first"
    )
    hash: str = Field(description="64 hex digits: of this entry, and so of all before it")


class DigestNews(Payload):
    """A day's statistics are there."""

    day: str = Field(description="the day in UTC, as 2026-11-16")


# Name of the stream, or of the message in the outbox, and what its payload is.
MESSAGES: Final[dict[str, tuple[type[Payload], ...]]] = {
    WEEKLY_RESET_STREAM: (WeeklyReset,),
    BLOCK_STATUS_STREAM: (BlockChange,),
    ALERTS_STREAM: (WorkersAlert, Incident),
    ROOTS_STREAM: (HourRoot,),
    f"{NOTIFY}incident": (Incident,),
    f"{NOTIFY}worker_offline": (WorkersNews,),
    f"{NOTIFY}worker_back": (WorkersNews,),
    f"{NOTIFY}worker_flapping": (WorkersNews,),
    f"{NOTIFY}block_found": (BlockNews,),
    f"{NOTIFY}best": (BestNews,),
    f"{NOTIFY}daily_digest": (DigestNews,),
}
