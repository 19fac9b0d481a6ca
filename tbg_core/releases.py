"""A week that a person released although proofs among its first ten fail."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tbg_core.evidence import Case


@dataclass(frozen=True)
class Release:
    """One share that was let pass.

    Attributes:
        share_hash: hex, in the order that block explorers show.
        by: who decided.
    """

    share_hash: str
    user: str
    by: str
    reason: str
    at: datetime

    def covers(self, case: Case) -> bool:
        """Whether it is about this claim."""
        return (self.share_hash, self.user) == (case.claim.hash, case.claim.user)

    def told(self, rank: int | None) -> dict[str, Any]:
        """What is published of it."""
        return {
            "rank": rank,
            "best_share_hash": self.share_hash,
            "by": self.by,
            "reason": self.reason,
            "at": self.at.isoformat(),
        }


def released(connection: psycopg.Connection[Any], week: date) -> list[Release]:
    """What was let pass of a week."""
    rows = connection.cursor(row_factory=dict_row).execute(
        "select encode(r.share_hash, 'hex') as share_hash, u.btc_address as user, "
        "r.released_by, r.reason, r.released_at "
        "from week_releases r join users u on u.id = r.user_id where r.week_start = %s",
        [week],
    )
    return [
        Release(
            row["share_hash"], row["user"], row["released_by"], row["reason"], row["released_at"]
        )
        for row in rows
    ]


def release(
    connection: psycopg.Connection[Any], week: date, cases: Iterable[Case], by: str, reason: str
) -> None:
    """Lets these claims of a week pass, on record. What was released before stays as it was."""
    with connection.transaction():
        for case in cases:
            connection.execute(
                "insert into week_releases "
                "(week_start, share_hash, user_id, failure, released_by, reason) "
                "select %s, decode(%s, 'hex'), id, %s, %s, %s from users where btc_address = %s "
                "on conflict do nothing",
                [week, case.claim.hash, failure(case), by, reason, case.claim.user],
            )


def held_back(cases: Iterable[Case], releases: Iterable[Release]) -> list[Case]:
    """The claims whose proof fails, and that nobody released."""
    releases = list(releases)
    return [
        case
        for case in cases
        if case.fails and not any(release.covers(case) for release in releases)
    ]


def failure(case: Case) -> str:
    """What does not hold of a claim."""
    wrong = ", ".join(f"{fact.name}: {fact.text}" for fact in case.facts if fact.holds is False)
    return f"rank {case.rank} ({case.claim.user}): {wrong}"
