"""Finds the claims to shares in the database, and judges each by its proof."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from tbg_core.periods import midnight
from tbg_core.proof import SIGNATURE, Claim, Fact, Proof, Tip, holds, signatures_of, verify

TOP: Final = 10

# kept: a person kept the shares of that hour although an engine's clock was wrong.
_CLAIMS: Final[LiteralString] = """
select c.*, exists (
    select from skewed_hours k
    where k.hour = date_trunc('hour', c.found_at, 'UTC') and k.decision = 'keep'
) as kept
from share_claims c
"""
_OF_HASH: Final[LiteralString] = (
    _CLAIMS
    + """
where share_hash = %s
order by found_at, week_start nulls last, "user"
"""
)
_OF_WEEK: Final[LiteralString] = (
    _CLAIMS
    + """
where week_start = %s
order by rank nulls last, difficulty desc, found_at
limit %s
"""
)
# So many that it is plain that the end is of several.
_ENDING: Final[LiteralString] = """
select distinct share_hash from share_claims
where right(share_hash, length(%(end)s::text)) = %(end)s order by share_hash limit 3
"""
_TIPS: Final[LiteralString] = """
select hash, height, seen_at, replaced_at from network_tips where hash = any(%s)
"""
_KNOWN: Final[LiteralString] = """
select exists (select from network_blocks where seen_at between %s and %s) as known
"""
_AROUND: Final = timedelta(days=1)


class Unanswered(Exception):
    """The node cannot say now whether a block is in its chain."""


Ask = Callable[[str], Tip | None]
"""Finds a block by its hash; None where there is none. Raises :class:`Unanswered`."""


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
    connection: psycopg.Connection[Any],
    share_hash: str,
    signature: str = SIGNATURE,
    ask: Ask | None = None,
) -> list[Case]:
    """Every claim to a share: bests of weeks, a block, a best that was broken later.

    Args:
        connection: to a migrated database.
        share_hash: hex, in the order that block explorers show.
        signature: the pool's, in its coinbases; several between commas.
        ask: finds blocks that the pool did not see; None where no node can be asked.
    """
    return _judge(connection, _OF_HASH, [share_hash.lower()], signature, ask)


def hashes_ending(connection: psycopg.Connection[Any], end: str) -> list[str]:
    """The claimed shares, at most three, whose hash ends so.

    Args:
        end: hex digits, in the order that block explorers show: the beginning is all zeros.
    """
    rows = connection.execute(_ENDING, {"end": end.lower()}).fetchall()
    return [row[0] for row in rows]


def cases_of_week(
    connection: psycopg.Connection[Any],
    monday: date,
    signature: str = SIGNATURE,
    ask: Ask | None = None,
) -> list[Case]:
    """The bests of the first :data:`TOP` of a week, best first."""
    return _judge(connection, _OF_WEEK, [monday, TOP], signature, ask)


def tips_for(
    connection: psycopg.Connection[Any], proof: Proof, ask: Ask | None = None
) -> dict[str, Tip] | None:
    """The block before a share, by hash; None where nobody can say.

    A block that the pool did not see is asked for: one message of its engines may be lost.
    Without ``ask`` such a block counts as none, unless the pool saw no block around that day.
    """
    cursor = connection.cursor(row_factory=dict_row)
    found = cursor.execute(_TIPS, [[proof.prev_hash]]).fetchone()
    if found:
        return {proof.prev_hash: Tip(found["height"], found["seen_at"], found["replaced_at"])}
    if ask is not None:
        try:
            tip = ask(proof.prev_hash)
        except Unanswered:
            return None
        return {proof.prev_hash: tip} if tip else {}
    known = cursor.execute(_KNOWN, [proof.time - _AROUND, proof.time + _AROUND]).fetchone()
    return {} if known and known["known"] else None


def _judge(
    connection: psycopg.Connection[Any],
    query: LiteralString,
    given: list[Any],
    signature: str,
    ask: Ask | None,
) -> list[Case]:
    rows = connection.cursor(row_factory=dict_row).execute(query, given).fetchall()
    cases = []
    for row in rows:
        claim, proof = _claim(row, signature), _proof(row)
        facts = verify(proof, claim, tips_for(connection, proof, ask)) if proof else []
        cases.append(Case(claim, row["worker"], row["rank"], proof, facts))
    return cases


def _claim(row: Mapping[str, Any], signature: str) -> Claim:
    return Claim(
        hash=row["share_hash"] or "",
        user=row["user"],
        difficulty=row["difficulty"],
        time=row["found_at"],
        week=row["week_start"] and midnight(row["week_start"]),
        signature=row["coinbase_sig"] or signatures_of(signature),
        counted=row["counted_week"] and midnight(row["counted_week"]),
        kept=row["kept"],
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
