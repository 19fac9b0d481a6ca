"""The manifest of an archived day: its files, and what each hour of it adds up to."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from itertools import repeat
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from tbg_core.events import MAX_DIFFICULTY


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Entry):
    """A file of the archive; ``file`` is its path below the archive's root."""

    file: str
    rows: int = 0
    bytes: int
    sha256: str


class Hour(_Entry):
    """Sums of an hour (UTC). The same rows in any order give the same sums."""

    hour: datetime
    shares: int = 0
    accepted: int = 0
    blocks: int = 0
    difficulty: float = 0.0  # sum of assigned difficulty of all shares, rounded once
    best: float | None = None  # highest achieved difficulty of a valid share
    events: dict[str, int] = {}
    payload_bytes: int = 0  # of all events of the hour


class Manifest(_Entry):
    """A revision of an archived day.

    ``database`` is the one that wrote it; None in format 1.
    """

    format: Literal[1, 2] = 2
    database: UUID | None = None
    day: date
    revision: int
    archived_at: datetime
    read_at: datetime  # start of the transaction that read the rows
    shares: File
    events: File
    best: float | None
    difficulty: float
    hours: list[Hour]


def fold(shares: Iterable[dict[str, Any]], events: Iterable[dict[str, Any]]) -> list[Hour]:
    """Adds up groups of rows, by hour.

    Args:
        shares: groups of one hour and difficulty: ``hour``, ``difficulty``, ``shares``,
            ``accepted``, ``blocks``, ``best``.
        events: groups of one hour and event: ``hour``, ``event``, ``events``,
            ``payload_bytes``.
    """
    groups: dict[datetime, list[dict[str, Any]]] = defaultdict(list)
    for group in shares:
        groups[group["hour"]].append(group)
    kinds: dict[datetime, Counter[str]] = defaultdict(Counter)
    payload_bytes: Counter[datetime] = Counter()
    for group in events:
        kinds[group["hour"]][group["event"]] += group["events"]
        payload_bytes[group["hour"]] += group["payload_bytes"]
    return [
        Hour(
            hour=hour,
            shares=sum(group["shares"] for group in groups[hour]),
            accepted=sum(group["accepted"] for group in groups[hour]),
            blocks=sum(group["blocks"] for group in groups[hour]),
            # Within the contract's bounds, and exactly rounded, so that the order of the rows does not matter.
            difficulty=math.fsum(
                term
                for group in groups[hour]
                for term in repeat(min(group["difficulty"], MAX_DIFFICULTY), group["shares"])
            ),
            best=max(
                (group["best"] for group in groups[hour] if group["best"] is not None), default=None
            ),
            events=dict(sorted(kinds[hour].items())),
            payload_bytes=payload_bytes[hour],
        )
        for hour in sorted(groups.keys() | kinds.keys())
    ]


def best_of(hours: Iterable[Hour]) -> float | None:
    """The best share of these hours."""
    return max((hour.best for hour in hours if hour.best is not None), default=None)
