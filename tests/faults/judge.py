"""What became of every number that the engines emitted, by the suite's own journals and the rows.

The product's books are not believed but judged: they must name every loss.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.faults.crew import Boot, Crew, Plain
from tests.faults.journal import HANDED
from tests.faults.redis_tail import Numbers

_ROWS = """
select i.instance, array_agg(n.seq order by n.seq) as numbers
from engine_instances i
join (
    select instance_id, seq from shares union all select instance_id, seq from mining_events
) n on n.instance_id = i.id
where i.instance = any($1) group by 1
"""
_LETTERS = """
select instance, array_agg(seq order by seq) as numbers from dead_letters
where instance = any($1) group by 1
"""
_BOOKS = """
select b.instance, b.seq_emitted, b.holes, b.drops, e.ending, coalesce(h.committed, 0) as committed,
    coalesce(h.refused, 0) as refused, coalesce(h.missing, 0) as missing,
    coalesce(h.dropped, 0) as dropped, coalesce(h.duplicates, 0) as duplicates
from engine_boots() b
join engine_endings e on e.instance_id = b.instance_id
left join (
    select instance_id, sum(committed) as committed, sum(dead_lettered) as refused,
        sum(missing) as missing, sum(dropped) as dropped, sum(duplicates) as duplicates
    from ledger_hours group by 1
) h on h.instance_id = b.instance_id
where b.instance = any($1)
"""
_WEEKLY = """
select u.btc_address as name, w.shares, w.work, w.best, r.shares as raw_shares, r.work as raw_work,
    r.best as raw_best
from users u
left join lateral (
    select sum(total_shares)::bigint as shares, sum(total_work) as work, max(best_difficulty) as best
    from weekly_standings where user_id = u.id
) w on true
left join lateral (
    select nullif(count(*), 0) as shares, sum(difficulty) as work, max(share_diff) as best
    from shares where user_id = u.id and is_valid
) r on true
where u.btc_address = any($1)
"""
_UNNUMBERED = """
select count(*) as rows, count(distinct job_id) as events from shares
where seq is null and starts_with(job_id, $1)
"""


@dataclass
class Excuses:
    """What the faults of a round may have cost.

    Attributes:
        killed: receivers that died of kill -9.
        tail: what a Redis lost that had confirmed it.
        damaged: what was in damaged records of the spool.
        disk_full: whether the spool's disk was.
        misjudged: whether the daemon's clock was wrong: it refuses sound events then.
    """

    killed: set[int] = field(default_factory=set)
    tail: Numbers = field(default_factory=set)
    damaged: Numbers = field(default_factory=set)
    disk_full: bool = False
    misjudged: bool = False


@dataclass
class Verdict:
    """Of one round or of many: distinct numbers, counted from journals and rows."""

    faults: int = 0
    boots: int = 0
    emitted: int = 0
    stored: int = 0
    refused: int = 0
    recognised: int = 0
    unnumbered: int = 0
    end_of_boot: int = 0
    redis_tail: int = 0
    spool_damage: int = 0
    disk_full: int = 0
    unexplained: int = 0
    twice: int = 0

    def __iadd__(self, other: "Verdict") -> "Verdict":
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


async def judge(db: asyncpg.Connection, crew: Crew, plain: Plain, excuses: Excuses) -> Verdict:
    """Checks all that must hold of a round that is over.

    Raises:
        AssertionError: something does not.
    """
    boots = crew.boots
    names = [boot.name for boot in boots]
    rows = {row["instance"]: row["numbers"] for row in await db.fetch(_ROWS, names)}
    letters = {row["instance"]: row["numbers"] for row in await db.fetch(_LETTERS, names)}
    books = {row["instance"]: row for row in await db.fetch(_BOOKS, names)}
    verdict = Verdict(boots=len(boots))
    for boot in boots:
        stored, refused = Counter(rows.get(boot.name, ())), set(letters.get(boot.name, ()))
        one = _boot(boot, stored, refused, books.get(boot.name), excuses)
        verdict += one
    for row in await db.fetch(_WEEKLY, [engine.name for engine in crew.engines]):
        assert row["shares"] == row["raw_shares"], dict(row)
        assert row["work"] == row["raw_work"], dict(row)
        assert row["best"] == row["raw_best"], dict(row)
    unnumbered = await db.fetchrow(_UNNUMBERED, f"{plain.prefix}-")
    assert unnumbered is not None
    assert unnumbered["events"] <= plain.sent
    # An event in flight when Redis lost its end is published again, under another id.
    assert unnumbered["rows"] == unnumbered["events"] or excuses.tail, dict(unnumbered)
    verdict.unnumbered = unnumbered["events"]
    return verdict


def _boot(
    boot: Boot,
    stored: Counter[int],
    refused: set[int],
    books: Any,
    excuses: Excuses,
) -> Verdict:
    words = boot.journal.read()
    there = stored.keys() | refused
    if words and words[-1] == 1 and books is not None and books["seq_emitted"] < len(words):
        words.pop()  # killed between the journal's note and the engine's
    emitted = set(range(1, len(words) + 1))
    assert there <= emitted, f"{boot.name}: numbers that were not emitted: {there - emitted}"
    broken = boot.journal.broken()
    if not excuses.misjudged:
        assert not stored.keys() & broken, boot.name
        assert refused <= broken, f"{boot.name}: refused {_short(refused - broken)}"
    lost = emitted - there
    verdict = Verdict(
        boots=0,
        emitted=len(emitted),
        stored=len(stored),
        refused=len(refused - stored.keys()),
        twice=sum(stored.values()) - len(stored),
    )
    named = _numbers(books["drops"]) if books is not None and excuses.disk_full else set()
    unexplained = []
    for seq in sorted(lost):
        if (boot.name, seq) in excuses.tail:
            verdict.redis_tail += 1
        elif (boot.name, seq) in excuses.damaged:
            verdict.spool_damage += 1
        elif seq in named:
            verdict.disk_full += 1
        elif _died_with(seq, words, excuses.killed):
            verdict.end_of_boot += 1
        else:
            unexplained.append(seq)
    assert not unexplained, (
        f"{boot.name}: lost without a reason: {_short(set(unexplained))}; handed: {_runs(words)}; "
        f"killed: {sorted(excuses.killed)}"
    )
    assert not verdict.twice, f"{boot.name}: stored twice"
    _check_books(boot, books, emitted, stored, refused, lost, excuses)
    verdict.recognised = int(books["duplicates"]) if books is not None else 0
    return verdict


def _died_with(seq: int, words: list[int], killed: set[int]) -> bool:
    """Whether the engine's death explains that a number is lost.

    It had not handed it over; or to a receiver that died, and it died before it came to send
    it again. It sends again in the order of the numbers, so it had sent none after it.
    """
    word, after = words[seq - 1], max(words[seq:], default=0)
    if word < HANDED:
        return after < HANDED
    return word - HANDED in killed and after <= word


def _check_books(
    boot: Boot,
    books: Any,
    emitted: set[int],
    stored: Counter[int],
    refused: set[int],
    lost: set[int],
    excuses: Excuses,
) -> None:
    if books is None:
        assert not emitted or excuses.tail, f"{boot.name}: not in the books"
        return
    where = f"{boot.name}: {dict(books)}"
    if excuses.tail and books["seq_emitted"] < len(emitted):
        # What vouched for its end was lost with the end of Redis: the books must not say
        # that they know it.
        assert books["ending"] != "ended", where
    else:
        assert books["seq_emitted"] == len(emitted), (where, len(emitted))
        assert books["ending"] == "ended" or excuses.tail, where
    known = {seq for seq in lost if seq <= books["seq_emitted"]}
    assert _numbers(books["holes"]) == known, (where, _short(known))
    assert books["missing"] == len(known), (where, len(known))
    assert books["committed"] == len(stored), (where, len(stored))
    assert books["refused"] == len(refused - stored.keys()), (where, len(refused))
    assert books["dropped"] == len(known & _numbers(books["drops"])), where


def _numbers(ranges: Any) -> set[int]:
    return {seq for span in ranges for seq in range(span.lower, span.upper)}


def _short(numbers: set[int]) -> str:
    ordered = sorted(numbers)
    return f"{len(ordered)}: {ordered[:10]} … {ordered[-3:]}"


def _runs(words: list[int]) -> list[tuple[int, int]]:
    """Where the journal's words change: the first number of each run, and its word."""
    return [(seq, word) for seq, word in enumerate(words, 1) if seq == 1 or word != words[seq - 2]]
