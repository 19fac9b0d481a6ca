"""What people get messages about: their kinds, and how one is read from the outbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from tbg_core.messages import NOTIFY
from tbg_core.names import BLOCK_STATUS_STREAM, WEEKLY_RESET_STREAM

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
Scope = Literal["worker", "user", "game", "system"]


class Kind(NamedTuple):
    """One kind. The end of a thing has the severity of its beginning.

    ``scope``: about single workers, about a user, about everybody, or about the system.
    """

    severity: Severity
    scope: Scope
    says: str


KINDS: Final[dict[str, Kind]] = {
    "worker_offline": Kind("warning", "worker", "A worker is silent for longer than its pace."),
    "worker_back": Kind("warning", "worker", "It is back, and stays."),
    "worker_flapping": Kind("warning", "worker", "A worker comes and goes all day."),
    "best_alltime": Kind("info", "user", "A user's best share of all time."),
    "best_worker": Kind("info", "user", "A worker's best share of all time."),
    "best_week": Kind("info", "user", "A week's best that changed its user's rank."),
    "leader": Kind("info", "game", "The week has a new leader."),
    "block_found": Kind("info", "user", "A block was found."),
    "block_confirmed": Kind("info", "user", "A block is final."),
    "block_orphaned": Kind("critical", "user", "A block was lost, or is back on the chain."),
    "weekly_result": Kind("info", "game", "The result of a week, or its correction."),
    "ledger_loss": Kind("critical", "system", "The share ledger has a loss."),
    "data_quality": Kind("warning", "system", "A data check fails, or passes again."),
    "system": Kind("critical", "system", "A part of the system is sick, or back."),
    "daily_digest": Kind("info", "game", "The day that has closed, in numbers."),
}
WORKER_KINDS: Final = ("worker_offline", "worker_back", "worker_flapping")
# Of the whole pool, and not of the miners that a route may be limited to.
_LEDGER_ASSETS: Final = ("share_ledger", "engine_instances")


@dataclass(frozen=True)
class Worker:
    """A worker that a message names; its names are data of strangers."""

    user: str
    worker: str
    silent_since: datetime | None = None
    naps: int | None = None

    @property
    def key(self) -> str:
        """What caps and mutes know it by."""
        return f"{self.user}.{self.worker}"


@dataclass(frozen=True)
class Message:
    """One message of the outbox.

    Attributes:
        kinds: a route that wants one of them gets it; one share may be several things.
        user: whose it is, None if it is everybody's.
        at: when it happened.
    """

    id: int
    key: str
    kinds: tuple[str, ...]
    severity: Severity
    at: datetime
    user: str | None = None
    workers: tuple[Worker, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)


def read(row: Mapping[str, Any]) -> Message | None:
    """The message of an outbox row, None if it is not for people.

    Raises:
        KeyError, TypeError, ValueError: the payload is not what its stream holds.
    """
    stream, payload = row["stream"], row["payload"]
    if stream == BLOCK_STATUS_STREAM:
        kind = _block_kind(payload["old_status"], payload["new_status"])
        return _message(row, [kind], user=payload["user"]) if kind else None
    if stream == WEEKLY_RESET_STREAM:
        return _message(row, ["weekly_result"])
    if stream == f"{NOTIFY}incident":
        severity: Severity = "critical" if payload["severity"] == "ERROR" else "warning"
        return _message(row, [_incident_kind(payload["incident"])], severity=severity)
    if not stream.startswith(NOTIFY):
        return None  # for programs
    kinds = payload.get("kinds") or [stream.removeprefix(NOTIFY)]
    workers = [
        Worker(
            one["user"],
            one["worker"],
            datetime.fromisoformat(one["silent_since"]) if one.get("silent_since") else None,
            one.get("naps"),
        )
        for one in payload.get("workers", [])
    ]
    return _message(row, kinds, user=payload.get("user"), workers=workers)


def _message(
    row: Mapping[str, Any],
    kinds: Sequence[str],
    *,
    user: str | None = None,
    workers: Sequence[Worker] = (),
    severity: Severity | None = None,
) -> Message:
    payload = row["payload"]
    worst = max((KINDS[kind].severity for kind in kinds), key=SEVERITIES.index)
    at = datetime.fromisoformat(payload["at"]) if "at" in payload else row["created_at"]
    return Message(
        row["id"], row["key"], tuple(kinds), severity or worst, at, user, tuple(workers), payload
    )


def _block_kind(old: str, new: str) -> str | None:
    if new == "confirmed":
        return "block_confirmed"
    if new in ("orphaned", "rejected") or (new == "accepted" and old != "found"):
        return "block_orphaned"
    return None


def _incident_kind(incident: str) -> str:
    what, _, rest = incident.partition(":")
    if what != "check":
        return "system"
    return "ledger_loss" if rest.split(":")[0] in _LEDGER_ASSETS else "data_quality"
