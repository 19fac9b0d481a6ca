"""Finds the claims to shares in the database, and judges each by its proof."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from ingest.proof import SIGNATURE, Claim, Fact, Proof, Tip, holds, verify

TOP: Final = 10

_OF_HASH: Final[LiteralString] = """
select * from share_claims where share_hash = %s
order by found_at, week_start nulls last, "user"
"""
_OF_WEEK: Final[LiteralString] = """
select * from share_claims where week_start = %s
order by rank nulls last, difficulty desc, found_at
limit %s
"""
_TIPS: Final[LiteralString] = """
select hash, height, seen_at, replaced_at from network_tips where hash = any(%s)
"""
_KNOWN: Final[LiteralString] = """
select exists (select from network_blocks where seen_at between %s and %s) as known
"""
_AROUND: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Case:
    """A claim, its proof, and what came of it.

    Attributes:
        rank: place in its week; None where it counts for none or the week runs.
        proof: None where the share has none.
        facts: none without a proof.
    """

    claim: Claim
    worker: str
    rank: int | None
    proof: Proof | None
    facts: list[Fact]

    @property
    def fails(self) -> bool:
        """Whether there is a proof, and it does not hold."""
        return self.proof is not None and not holds(self.facts, unchecked=True)

    @property
    def proven(self) -> bool:
        """Whether there is a proof, and nothing of it fails."""
        return self.proof is not None and not self.fails


def cases_of_hash(
    connection: psycopg.Connection[Any], share_hash: str, signature: str = SIGNATURE
) -> list[Case]:
    """Every claim to a share: bests of weeks, a block, a best that was broken later.

    Args:
        connection: to a migrated database.
        share_hash: hex, in the order that block explorers show.
        signature: the pool's, in its coinbases.
    """
    return _judge(connection, _OF_HASH, [share_hash.lower()], signature)


def cases_of_week(
    connection: psycopg.Connection[Any], monday: date, signature: str = SIGNATURE
) -> list[Case]:
    """The bests of the first :data:`TOP` of a week, best first."""
    return _judge(connection, _OF_WEEK, [monday, TOP], signature)


def tips_for(connection: psycopg.Connection[Any], proof: Proof) -> dict[str, Tip] | None:
    """The block before a share, by hash; None if the pool saw no block around that day."""
    cursor = connection.cursor(row_factory=dict_row)
    known = cursor.execute(_KNOWN, [proof.time - _AROUND, proof.time + _AROUND]).fetchone()
    found = cursor.execute(_TIPS, [[proof.prev_hash]]).fetchall()
    if not found and not (known and known["known"]):
        return None
    return {row["hash"]: Tip(row["height"], row["seen_at"], row["replaced_at"]) for row in found}


def _judge(
    connection: psycopg.Connection[Any], query: LiteralString, given: list[Any], signature: str
) -> list[Case]:
    rows = connection.cursor(row_factory=dict_row).execute(query, given).fetchall()
    cases = []
    for row in rows:
        claim, proof = _claim(row, signature), _proof(row)
        facts = verify(proof, claim, tips_for(connection, proof)) if proof else []
        cases.append(Case(claim, row["worker"], row["rank"], proof, facts))
    return cases


def _claim(row: Mapping[str, Any], signature: str) -> Claim:
    return Claim(
        hash=row["share_hash"] or "",
        user=row["user"],
        difficulty=row["difficulty"],
        time=row["found_at"],
        week=_midnight(row["week_start"]),
        signature=row["coinbase_sig"] or signature,
        counted=_midnight(row["counted_week"]),
    )


def _proof(row: Mapping[str, Any]) -> Proof | None:
    if row["header"] is None:
        return None
    branch = row["branch"]
    return Proof(
        row["header"],
        row["coinbase"],
        tuple(branch[at : at + 32] for at in range(0, len(branch), 32)),
    )


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None
