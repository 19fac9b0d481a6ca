"""What ``--json`` prints, as other programs may rely on it (docs/json.md).

Fields may be added; one that is here keeps its name, its unit and its meaning. A command prints
what its model names, and nothing else.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import click
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel


def _text(moment: Any) -> Any:
    return moment.isoformat() if isinstance(moment, datetime) else moment


Moment = Annotated[
    str, BeforeValidator(_text), Field(description="ISO 8601, with its offset from UTC")
]
Day = Annotated[str, Field(description="day in UTC, as 2026-11-22")]
Hash = Annotated[str, Field(description="64 hex digits, as explorers show a block's hash")]
Address = Annotated[str, Field(description="the user's Bitcoin address; text of a stranger")]
Boot = Annotated[str, Field(description="the engine boot: name/microseconds of its start")]
Count = dict[str, int]


class Output(BaseModel):
    """What all outputs have in common."""

    model_config = ConfigDict(from_attributes=True)


class Program(Output):
    """A program of a stack that runs."""

    name: str
    state: str = Field(description="as supervisord says it: RUNNING, EXITED and others")
    pid: int = Field(description="number of its process; 0 without one")
    uptime: float = Field(description="seconds since it started")


class Troubles(Output):
    """What is wrong with a part."""

    problems: list[str] = Field(description="a sentence for each; empty if all is well")


class Lag(Output):
    """What a stream holds that is not committed yet."""

    entries: int = Field(description="entries, counted up to 10,000")
    seconds: float = Field(description="age of the oldest in seconds")


class EventCounts(Output):
    """One kind of event."""

    last: Moment | None = Field(description="time of the newest event; null if there is none")
    minute: int = Field(description="events of the last minute")
    hour: int = Field(description="events of the last hour")
    in_stream: int = Field(description="entries in the stream")
    lag: Lag


class FailingTarget(Output):
    """A target of a route for alerts that takes no messages now."""

    route: str
    target: str = Field(description="its address without secrets")
    since: str = Field(description="time of the first failure, ISO 8601 in UTC")
    permanent: bool = Field(description="whether it refuses for good")
    answer: str = Field(description="its last answer")
    waiting: int = Field(description="messages of the route that wait")


class CellState(Output):
    """The streams that one writer serves."""

    committed: Moment = Field(description="time of the writer's newest commit")
    behind: float = Field(description="seconds that the oldest entry has waited")
    reached: bool = Field(description="whether its streams are in the Redis that was asked")


class Status(Output):
    """What runs, what arrived last, what waits and what is lost."""

    programs: dict[str, Program] = Field(description="by name; empty if no stack runs")
    dagster: Troubles | None = Field(description="null if Dagster is no part of the stack")
    machine: Troubles = Field(description="of the node and the disk")
    events: dict[str, EventCounts] = Field(description="by kind, as in docs/events.md")
    accepted_minute: int = Field(description="valid shares of the last minute")
    rejected_minute: int = Field(description="refused shares of the last minute")
    accepted_hour: int = Field(description="valid shares of the last hour")
    rejected_hour: int = Field(description="refused shares of the last hour")
    dead_letters: int = Field(description="dead letters that were not brought back")
    dead_letters_hour: int = Field(description="those of the last hour")
    dead_letter_reasons: Count = Field(description="dead letters by stage/reason")
    missing: int = Field(description="numbers that are neither in the database nor in a stream")
    on_the_way: int = Field(description="numbers in a stream, after later ones were committed")
    duplicates: int = Field(description="events that came again")
    instances_with_gaps: Count = Field(description="missing numbers by engine boot")
    failing_channels: list[FailingTarget] = Field(description="longest first")
    cells: dict[str, CellState] = Field(description="by name; empty text for one without")


class Finding(Output):
    """What one look found."""

    about: str = Field(description="what was looked at")
    state: Literal["good", "warning", "bad", "unknown"]
    text: str = Field(description="what was found")
    action: str = Field(description="what to do; empty if nothing is to be done")


class Diagnosis(Output):
    """Everything that must be right, and what to do."""

    healthy: bool = Field(description="whether no finding is bad")
    findings: list[Finding]


class _Ending(Output):
    ending: Literal["running", "ended", "unknown"] = Field(description="how the boot ended")
    last_seq: int | None = Field(description="highest number of the boot that is known")
    unsent: int | None = Field(
        description="numbers that never reached the socket; null if the engine said nothing"
    )
    heard_at: Moment | None = Field(description="time of the boot's newest sign of life")


class LedgerHour(_Ending):
    """The books of an engine boot and an hour of its events' own time."""

    instance: Boot
    hour: Moment = Field(description="beginning of the hour, ISO 8601")
    emitted: int = Field(description="numbers that the engine gave")
    received: int = Field(description="events that receivers read")
    published: int = Field(description="events that reached Redis")
    committed: int = Field(description="events that became rows")
    dead_lettered: int = Field(description="events that were refused")
    duplicates: int = Field(description="events that came again")
    dropped: int = Field(description="events that were lost where it was counted")
    dropped_by_cause: Count = Field(description="the same, by stage/reason")
    missing: int = Field(description="numbers without a row or a dead letter")
    unexplained: int = Field(description="missing, and nobody reported the loss")
    cell: str = Field(description="cell of the boot; empty if it has no name")


class AuditedBoot(_Ending):
    """What became of an engine boot's numbers, counted from the rows."""

    instance_id: int = Field(description="number of the boot in this database")
    instance: Boot
    emitted: int = Field(description="numbers that the engine gave")
    stored: int = Field(description="numbers that have a row")
    refused: int = Field(description="numbers that have a dead letter")
    dropped: int = Field(description="numbers that were lost where it was counted")
    missing: int = Field(description="numbers without a row, a dead letter or a report")
    doubled: int = Field(description="rows beyond the first of their number")
    unaccounted: int = Field(description="numbers that are taken for stored and are nowhere")
    absent: list[list[int]] = Field(description="their spans: first and last number of each")


class DeadLetter(Output):
    """An event that was refused."""

    id: int = Field(description="number of the letter in this database")
    received_at: Moment = Field(description="time of the refusal, ISO 8601")
    stage: str = Field(description="who refused it")
    reason: str = Field(description="a word that is counted by")
    detail: str = Field(description="a sentence; may hold text of a stranger")
    instance: Boot | None = Field(description="null if it could not be read")
    seq: int | None = Field(description="its number; null if it could not be read")
    raw: str = Field(description="its bytes as text, at most 2,000 characters; of a stranger")
    replayed_at: Moment | None = Field(description="time at which it was brought back")


class Replayed(Output):
    """What became of a dead letter that was replayed."""

    id: int = Field(description="number of the letter in this database")
    result: str = Field(
        description="`replayed`, `stored already`, `replayed already`, `gone` or `refused`"
    )
    reason: str = Field(description="why it was refused again; empty otherwise")
    detail: str = Field(description="the same as a sentence")


class BestShare(Output):
    """The best share of a user or worker in a period."""

    scope: Literal["user", "worker"]
    period: Literal["session", "week", "month", "round", "alltime"]
    since: Moment | None = Field(description="beginning of the period; null for all time")
    btc_address: Address
    worker_name: str | None = Field(description="worker of the share; text of a stranger")
    best_difficulty: float = Field(description="share difficulty; 1 is 2^32 hashes")
    found_at: Moment = Field(description="time of the share, ISO 8601")
    share_hash: Hash | None
    shares: int | None = Field(description="valid shares of the period")
    work: float | None = Field(description="sum of their difficulty")
    chance: float | None = Field(description="0 to 1: of doing as well or better with that work")


class Fact(Output):
    """One thing that a proof must show."""

    name: str
    holds: bool | None = Field(description="null if it could not be checked")
    text: str = Field(description="what was found")


class ProofOfWork(Output):
    """What proves a share, all in hex."""

    header: str = Field(description="80 bytes")
    coinbase: str = Field(description="the coinbase transaction, without witness")
    branch: list[str] = Field(description="hashes of the Merkle branch, 32 bytes each")


class Verified(Output):
    """A claim to a share, its proof, and what the proof shows."""

    hash: str = Field(description="64 hex digits; empty if nobody knows it")
    user: Address
    worker: str = Field(description="the worker's name; text of a stranger")
    difficulty: float = Field(description="share difficulty that is claimed")
    time: Moment | None = Field(description="time of the share, ISO 8601 in UTC")
    week: str | None = Field(description="ISO week that it counts for, as 2026-W47")
    rank: int | None = Field(description="rank in that week")
    signature: str = Field(description="signature of the pool, or several between commas")
    kept: bool = Field(
        default=False, description="whether a person kept the shares of an hour with a wrong clock"
    )
    proof: ProofOfWork | None
    facts: list[Fact] = Field(description="empty without a proof")


class ArchivedDay(Output):
    """A day in the archive."""

    day: Day
    revision: int = Field(description="1 for the first, one more whenever rows came late")
    shares: int = Field(description="rows of shares")
    events: int = Field(description="rows of other events")
    bytes: int = Field(description="size of its files in bytes")
    best: float | None = Field(description="greatest share difficulty of a valid share")


class RestoredDay(Output):
    """A day that was brought back."""

    day: Day
    revision: int = Field(description="revision of the archive that the rows came from")
    shares: int = Field(description="rows of shares that were brought back")
    events: int = Field(description="rows of other events that were brought back")


class VerifiedDay(Output):
    """A day of the archive that was read again."""

    day: Day
    in_database: bool = Field(description="whether it was compared with rows")
    wrong: str | None = Field(description="what differs; null if nothing does")


class AlertTest(Output):
    """What came of a test message."""

    route: str
    kind: str = Field(description="as in docs/alerts.md")
    outcome: str = Field(description="`sent`, `not wanted`, or `failed:` and why")


class AlertAnswer(Output):
    """Whether a message about a worker would be sent now."""

    route: str
    kind: str = Field(description="as in docs/alerts.md")
    sent: str = Field(description="`yes, at once`, `at` a time and why, or `no:` and why")


class Imported(Output):
    """What an import of share logs found and sent."""

    files: int
    lines: int
    accepted: int = Field(description="valid shares that were sent")
    rejected: int = Field(description="refused shares that were sent")
    rejected_by_reason: Count
    bests: Count = Field(description="bests that were sent, by period")
    before_since: int = Field(description="shares before --since, not sent")
    copies: int = Field(description="shares that another copy of the log had")
    skipped: int = Field(description="lines that are no share")
    skipped_by_reason: Count
    recovered: int = Field(description="shares that were found on torn lines")
    unsent: int = Field(description="lines that a shutdown kept from being sent")
    unknown_fields: Count = Field(description="lines with fields that ckpool does not write")
    unreadable: dict[str, str] = Field(description="files, and why they could not be read")
    events: int = Field(description="events that were sent, each once")
    instances: int = Field(description="engine boots that were made of the logs")
    resent: int = Field(description="events that were sent again to another receiver")
    seconds: float = Field(description="duration in seconds")
    interrupted: bool = Field(description="whether a signal ended it")


class Without(Output):
    """Shares of which a receipt says nothing."""

    unnumbered: int = Field(description="shares without a number")
    without_root: int = Field(description="shares of hours that have no root yet")
    hours: list[int] = Field(description="those hours: microseconds since the Unix epoch")


class WrittenReceipt(Output):
    """A receipt that was written."""

    file: str
    bytes: int = Field(description="its size in bytes")
    signature: str | None = Field(description="file of the signature; null without a key")
    user: Address
    shares: int = Field(description="shares in it")
    valid: int = Field(description="those that are valid")
    difficulty: float = Field(description="sum of their difficulty")
    without: Without
    hours: int = Field(description="hours in it")


class PublishedRoots(Output):
    """The log of roots as it was written."""

    size: int = Field(description="entries of the log")
    root: str = Field(description="64 hex digits: root of the tree over the log")
    last: str | None = Field(description="64 hex digits: hash of the last entry")
    added: int = Field(description="entries that the folder did not have")


class BackedUp(Output):
    """A backup that was written."""

    file: str
    bytes: int = Field(description="its size in bytes")
    made: Moment
    version: str = Field(description="version of this program")
    postgresql: int = Field(description="major version of PostgreSQL")
    of_a_running_stack: bool


class WrittenSettings(Output):
    """What was added to .env; no values."""

    path: str
    added: list[str] = Field(description="names of the variables that were added")
    secrets: list[str] = Field(description="those with a new random secret")


class Environment(RootModel[dict[str, str]]):
    """How to reach the stack: names of environment variables and their values, secrets included."""


class HopCounts(Output):
    """One kind of event at each hop."""

    emitted: int = Field(description="events that the pool sent")
    redis: int = Field(description="entries in Redis")
    database: int = Field(description="rows")


class Latency(Output):
    """Milliseconds from a share's own time on."""

    shares: int = Field(description="shares that were timed")
    median: float
    p99: float
    longest: float


class Latencies(Output):
    """How long shares took."""

    redis: Latency
    database: Latency


class Smoke(Output):
    """What each hop counted of a stack that mined for a moment."""

    ok: bool
    problems: list[str] = Field(description="what differs")
    seconds: float = Field(description="duration in seconds")
    events: dict[str, HopCounts] = Field(description="by kind")
    blocks: int = Field(description="rows of blocks")
    dead_letters: int = Field(alias="dead letters")
    missing: int = Field(alias="missing by sequence")
    duplicates: int
    nowhere: int = Field(alias="numbers that are nowhere")
    doubled: int = Field(alias="rows beyond the first of their number")
    latency_ms: Latencies


# What each command prints: one object, a list of them, or one a line.
OUTPUTS: Final[dict[str, tuple[type[BaseModel], Literal["object", "list", "lines"]]]] = {
    "status": (Status, "object"),
    "doctor": (Diagnosis, "object"),
    "ledger": (LedgerHour, "list"),
    "ledger --audit": (AuditedBoot, "list"),
    "dead-letters list": (DeadLetter, "list"),
    "dead-letters replay": (Replayed, "list"),
    "bests": (BestShare, "list"),
    "verify": (Verified, "lines"),
    "receipt": (WrittenReceipt, "object"),
    "receipts publish": (PublishedRoots, "object"),
    "archive list": (ArchivedDay, "list"),
    "archive restore": (RestoredDay, "list"),
    "archive verify": (VerifiedDay, "list"),
    "alerts test": (AlertTest, "list"),
    "alerts explain": (AlertAnswer, "list"),
    "import sharelog": (Imported, "object"),
    "backup": (BackedUp, "object"),
    "init": (WrittenSettings, "object"),
    "env": (Environment, "object"),
    "smoke": (Smoke, "object"),
}
# Models that stand in others.
PARTS: Final = (
    Program,
    Troubles,
    EventCounts,
    Lag,
    FailingTarget,
    CellState,
    Finding,
    ProofOfWork,
    Fact,
    Without,
    HopCounts,
    Latencies,
    Latency,
)


def show(model: type[BaseModel], found: Any) -> None:
    """Prints one object as ``--json`` does."""
    _show(_plain(model, found))


def show_all(model: type[BaseModel], found: Iterable[Any]) -> None:
    """Prints a list of objects as ``--json`` does."""
    _show([_plain(model, one) for one in found])


def show_line(model: type[BaseModel], found: Any) -> None:
    """Prints one object on a line of its own."""
    click.echo(json.dumps(_plain(model, found)))


def _plain(model: type[BaseModel], found: Any) -> Any:
    return model.model_validate(found).model_dump(by_alias=True, exclude_unset=True)


def _show(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))
