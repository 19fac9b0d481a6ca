"""Writes what a batch holds into the tables, in the caller's transaction.

Every connection is one that :func:`ingest.writer.codecs.prepare` prepared. Rows that several
writers may write are written in one order, which avoids deadlocks.
"""

import time
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import date
from typing import Any, Final

import asyncpg

from ingest.counts import Sums
from ingest.writer.provisional import Weekly
from ingest.writer.refusal import NotKeptError
from ingest.writer.rows import DeadLetter, Row
from tbg_core.periods import HOUR, from_micros
from tbg_core.proof import sha256d

# Microseconds: the hourly rollup runs two minutes past the hour.
LATE_AFTER: Final = 120_000_000
SHARE_COLUMNS: Final = (
    "time", "share_diff", "difficulty", "seq", "user_id", "worker_id", "instance_id",
    "is_valid", "is_block", "source", "nonce", "nonce2", "share_hash", "job_id",
    "ip_address", "reject_reason",
)  # fmt: skip
PROVEN_EVENTS: Final = ("share_best_diff", "block_found")
EVENT_COLUMNS: Final = ("time", "seq", "instance_id", "event", "source", "payload")

Number = Callable[[str | None], int | None]  # the database's number of an instance
Raised = tuple[date, int, str, float]  # week, number and address of the user, its best


async def find_stored(
    db: asyncpg.Connection,
    items: Sequence[Row | DeadLetter],
    number: Number,
    *,
    refused: bool = True,
) -> list[Row | DeadLetter]:
    """Finds which events are in the database: by number, time and content, not by number alone.

    Args:
        db: the connection.
        items: numbered, and ``user_id`` is set in those about a miner.
        number: finds the database's number of an instance.
        refused: whether a dead letter will do.
    """
    if not items:
        return []
    micros = [item.micros for item in items]
    hashes = [
        item.data.hash if isinstance(item, Row) and item.event == "share_submitted" else None
        for item in items
    ]
    rows = await db.fetch(
        _FIND_STORED,
        [item.instance for item in items],
        [number(item.instance) for item in items],
        [item.seq for item in items],
        micros,
        [item.user_id if isinstance(item, Row) else None for item in items],
        [item.event if isinstance(item, Row) else None for item in items],
        [unhexlify(one) if one else None for one in hashes],
        [str(moment).encode() for moment in micros],
        min(micros),
        max(micros),
        refused,
    )
    return [items[row["place"] - 1] for row in rows]


async def insert_blocks(db: asyncpg.Connection, rows: list[Row]) -> list[Row]:
    """Inserts the blocks that were found, and returns their events, in one order."""
    found = sorted(
        (row for row in rows if row.event == "block_found"),
        key=lambda row: (row.data.hash.lower(), row.user_id),
    )
    if found:
        # A winning share that is sent again fires again: the hash is the block.
        await db.executemany(
            "insert into blocks (block_height, block_hash, prev_hash, user_id, worker_id, "
            "reward_sats, fees_sats, difficulty, network_difficulty, coinbase_sig, found_at, "
            "source) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12) "
            "on conflict (block_hash) do nothing",
            [
                (
                    row.data.height,
                    row.data.hash.lower(),
                    row.data.prev_hash.lower() if row.data.prev_hash else None,
                    row.user_id,
                    row.worker_id,
                    row.data.reward_sats,
                    row.data.fees_sats,
                    row.data.difficulty,
                    row.data.network_difficulty,
                    row.data.coinbase_sig,
                    row.time,
                    row.source,
                )
                for row in found
            ],
        )
        hashes = {row.data.hash.lower() for row in found}
        kept = await db.fetchval(
            "select count(*) from blocks where block_hash = any($1)", list(hashes)
        )
        if kept != len(hashes):
            raise NotKeptError("every block")
    return found


async def copy_shares(
    db: asyncpg.Connection,
    rows: list[Row],
    number: Number,
    blocks: Collection[bytes],
    weekly: Weekly,
) -> None:
    """Copies the shares, and shows the valid ones to the week.

    Args:
        db: the connection.
        rows: of any event; ``user_id`` and ``worker_id`` are set.
        number: finds the database's number of an instance.
        blocks: hashes of blocks that were found before.
        weekly: of this batch.
    """
    solved = {unhexlify(row.data.hash) for row in rows if row.event == "block_found"}
    records: list[tuple[Any, ...]] = []
    for row in rows:
        if row.event != "share_submitted":
            continue
        data = row.data
        share_hash = unhexlify(data.hash) if data.hash else None
        records.append(
            (
                row.micros,
                data.share_diff,
                data.difficulty,
                row.seq,
                row.user_id,
                row.worker_id,
                number(row.instance),
                data.valid,
                share_hash in solved or share_hash in blocks,
                row.source,
                unhexlify(data.nonce) if data.nonce else None,
                unhexlify(data.nonce2) if data.nonce2 else None,
                share_hash,
                data.job_id,
                data.ip,
                data.reject_reason,
            )
        )
        if data.valid:
            weekly.add(row, share_hash)
    await _copy(db, "shares", records, SHARE_COLUMNS)


async def copy_events(db: asyncpg.Connection, rows: list[Row], number: Number) -> None:
    """Copies every event that is not a share."""
    records = [
        (
            row.micros,
            row.seq,
            number(row.instance),
            row.event,
            row.source,
            row.raw_data.decode(),
        )
        for row in rows
        if row.event != "share_submitted"
    ]
    await _copy(db, "mining_events", records, EVENT_COLUMNS)


async def _copy(
    db: asyncpg.Connection, table: str, records: list[tuple[Any, ...]], columns: Sequence[str]
) -> None:
    if not records:
        return
    status = await db.copy_records_to_table(table, records=records, columns=columns)
    if status != f"COPY {len(records)}":
        raise NotKeptError(f"every row of {table} ({status} of {len(records)})")


async def mark_block_shares(db: asyncpg.Connection, found: list[Row]) -> None:
    """Marks the shares that solved these blocks and were stored before; ``found`` in one order."""
    # The share may be in an earlier batch; its time is the block's, nearly.
    for row in found:
        await db.execute(
            "update shares set is_block = true where user_id = $1 and share_hash = $2 "
            "and time between $3 and $4 and not is_block",
            row.user_id,
            unhexlify(row.data.hash),
            row.micros - HOUR,
            row.micros + HOUR,
        )


async def upsert_weekly(db: asyncpg.Connection, weekly: Weekly) -> list[Raised]:
    """Raises bests, and returns what the table holds of their users now.

    A finalised week is left alone.
    """
    raised: list[Raised] = []
    for week, bests in sorted(weekly.weeks.items()):
        if not bests:
            continue
        items = sorted(bests.items())
        written = await db.fetch(
            _UPSERT_WEEKLY,
            week,
            [user for user, _ in items],
            [best.best for _, best in items],
            [best.micros for _, best in items],
            [best.worker_id for _, best in items],
            [best.share_hash for _, best in items],
        )
        raised += [
            (week, row["user_id"], bests[row["user_id"]].user, row["best_difficulty"])
            for row in written
        ]
    return raised


async def insert_network_blocks(db: asyncpg.Connection, rows: list[Row]) -> None:
    """Inserts the network's tips; one that another engine saw first stays."""
    # In one order, because the engines of all writers see the same blocks.
    tips = sorted(
        (row for row in rows if row.event == "new_block_network"),
        key=lambda row: row.data.hash.lower(),
    )
    if tips:
        await db.executemany(
            "insert into network_blocks (hash, height, network_difficulty, prev_hash, "
            "seen_at, source) values ($1, $2, $3, $4, $5, $6) on conflict (hash) do nothing",
            [
                (
                    row.data.hash.lower(),
                    row.data.height,
                    row.data.network_difficulty,
                    row.data.prev_hash.lower() if row.data.prev_hash else None,
                    row.time,
                    row.source,
                )
                for row in tips
            ],
        )


async def insert_proofs(db: asyncpg.Connection, rows: list[Row]) -> None:
    """Inserts what proves bests and blocks, once for each share.

    A share is known by the hash that the event claims: a proof of another share is kept as
    it came, and fails when it is verified.
    """
    proven = [
        (
            unhexlify(row.data.hash) if row.data.hash else sha256d(header)[::-1],
            row.user_id,
            row.data.difficulty if row.event == "block_found" else row.data.new_best_diff,
            row.time,
            header,
            unhexlify(row.data.proof.coinbase),
            unhexlify("".join(row.data.proof.branch)),
        )
        for row in rows
        if row.event in PROVEN_EVENTS and row.data.proof is not None
        for header in (unhexlify(row.data.proof.header),)
    ]
    if proven:
        await db.executemany(
            "insert into share_proofs "
            "(share_hash, user_id, difficulty, found_at, header, coinbase, branch) "
            "values ($1, $2, $3, $4, $5, $6, $7) on conflict (share_hash) do nothing",
            sorted(proven),
        )


async def note_late_hours(db: asyncpg.Connection, rows: list[Row], now: int) -> None:
    """Notes the shares that came late: after their hour had closed, or after it was read.

    A statement of its own, after the shares were inserted. The rollup (see
    ``rollup/raw.py``) first notes how far it reads in ``rollup_progress`` and then looks for transactions
    that have inserted, so that each share is read there or seen here.

    Args:
        db: the connection, in the transaction of the rows.
        rows: of any event.
        now: microseconds since the epoch.
    """
    closed = now - LATE_AFTER
    shares = Counter(
        row.micros - row.micros % HOUR for row in rows if row.event == "share_submitted"
    )
    if shares:
        hours = sorted(shares)
        await db.execute(
            _NOTE_LATE, hours, [shares[hour] for hour in hours], closed - closed % HOUR
        )


async def add_to_ledger(db: asyncpg.Connection, sums: Sums, number: Number) -> None:
    """Adds a batch's sums to the ledger, the numbers that were dropped, and what vouches for boots.

    Instances before hours, as the rest of the transaction locks them.
    """
    if sums.left_out:
        await db.executemany(
            "update engine_instances set duplicates = duplicates + $2 where id = $1",
            [(number(instance), count) for (instance, _), count in sorted(sums.left_out.items())],
        )
    statuses = [status for _, status in sorted(sums.statuses.items())]
    if statuses:
        await db.execute(
            _UPDATE_ENDINGS,
            [number(status.instance) for status in statuses],
            [status.last_seq for status in statuses],
            [status.unsent for status in statuses],
            [status.state for status in statuses],
        )
    keys = sorted(
        sums.lines.keys()
        | sums.received.keys()
        | sums.left_out.keys()
        | sums.skews.keys()
        | sums.read.keys()
    )
    if keys:
        lines = [sums.lines.get(key) for key in keys]
        await db.execute(
            _UPSERT_LEDGER,
            [number(instance) for instance, _ in keys],
            [from_micros(hour) for _, hour in keys],
            [sums.received[key] for key in keys],
            [line.first_seq if line else None for line in lines],
            [line.last_seq if line else None for line in lines],
            [line.committed if line else 0 for line in lines],
            [line.dead_lettered if line else 0 for line in lines],
            [
                (line.duplicates if line else 0) + sums.left_out[key]
                for key, line in zip(keys, lines, strict=True)
            ],
            [sums.skews[key][0] if key in sums.skews else None for key in keys],
            [sums.skews[key][1] if key in sums.skews else None for key in keys],
            [sums.read.get(key) for key in keys],
        )
    # A boot of which nothing came is in the books with the hour in which it was last there.
    silent = {status.instance: status.micros for status in statuses if status.last_seq}
    for instance, _, _ in sums.dropped:
        silent.setdefault(instance, time.time_ns() // 1000)
    if silent:
        await db.execute(
            "insert into ledger (instance_id, hour) "
            "select g.id, date_trunc('hour', g.at, 'UTC') "
            "from unnest($1::integer[], $2::timestamptz[]) as g(id, at) "
            "where not exists (select from ledger l where l.instance_id = g.id) "
            "on conflict do nothing",
            [number(instance) for instance in sorted(silent)],
            [from_micros(silent[instance]) for instance in sorted(silent)],
        )
    if sums.dropped:
        # Ranges are united: a drop that is reported twice is one.
        await db.executemany(
            "insert into ledger_drops as l (instance_id, cause, numbers) values ($1, $2, $3) "
            "on conflict (instance_id, cause) do update "
            "set numbers = l.numbers + excluded.numbers",
            [
                (number(instance), cause, [asyncpg.Range(*span) for span in lost])
                for instance, cause, lost in sums.dropped
            ],
        )


async def insert_letters(
    db: asyncpg.Connection, letters: list[DeadLetter], *, counted: bool
) -> None:
    """Inserts dead letters; ``counted`` where the ledger counts those with a number."""
    if letters:
        kept = await db.fetch(
            "insert into dead_letters (stage, reason, detail, raw, instance, seq, counted_in) "
            "select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], "
            "$6::bigint[], $7::timestamptz[]) returning id",
            [item.stage for item in letters],
            [item.reason for item in letters],
            [item.detail for item in letters],
            [item.raw for item in letters],
            [item.instance for item in letters],
            [item.seq for item in letters],
            [
                item.micros - item.micros % HOUR
                if counted and item.instance is not None and item.seq is not None
                else None
                for item in letters
            ],
        )
        if len(kept) != len(letters):
            raise NotKeptError("every dead letter")


# The bounds of time let the planner leave out the other days' partitions.
_FIND_STORED: Final = """
select g.place
from unnest(
    $1::text[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::integer[], $6::text[],
    $7::bytea[], $8::bytea[]
) with ordinality as g(instance, instance_id, seq, time, user_id, event, hash, stamp, place)
where exists (
    select from shares s
    where s.user_id = g.user_id and s.time = g.time and s.seq = g.seq
      and s.instance_id = g.instance_id and s.time between $9 and $10
      and (s.share_hash = g.hash or s.share_hash is null or g.hash is null)
) or exists (
    select from mining_events e
    where e.event = g.event and e.time = g.time and e.seq = g.seq
      and e.instance_id = g.instance_id and e.time between $9 and $10
) or exists (
    -- What was refused names the event's time, unless it could not be read.
    select from dead_letters d
    where $11 and d.instance = g.instance and d.seq = g.seq
      and (g.event is null or position(g.stamp in d.raw) > 0)
)
"""

_NOTE_LATE: Final = """
insert into late_share_hours as l (hour, shares)
select g.hour, g.shares
from unnest($1::timestamptz[], $2::bigint[]) as g(hour, shares)
where g.hour < greatest($3::timestamptz, (select read_until from rollup_progress))
on conflict (hour) do update set
    shares = l.shares + excluded.shares, last_recorded_at = now()
"""

_UPSERT_LEDGER: Final = """
insert into ledger as l (
    instance_id, hour, received, first_seq, last_seq, committed, dead_lettered, duplicates,
    skew_min, skew_max, seq_read
)
select * from unnest(
    $1::integer[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]
)
on conflict (instance_id, hour) do update set
    received = l.received + excluded.received,
    first_seq = least(l.first_seq, excluded.first_seq),
    last_seq = greatest(l.last_seq, excluded.last_seq),
    committed = l.committed + excluded.committed,
    dead_lettered = l.dead_lettered + excluded.dead_lettered,
    duplicates = l.duplicates + excluded.duplicates,
    skew_min = least(l.skew_min, excluded.skew_min),
    skew_max = greatest(l.skew_max, excluded.skew_max),
    seq_read = greatest(l.seq_read, excluded.seq_read)
"""

# As ingest.counts.weigh has it, so that what is said again or late changes nothing.
_UPDATE_ENDINGS: Final = """
update engine_instances i set
    seq_declared = greatest(i.seq_declared, g.last_seq),
    unsent = case when g.last_seq >= i.seq_declared then g.unsent else i.unsent end,
    state = g.state,
    declared_at = now()
from unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[])
    as g(id, last_seq, unsent, state)
where i.id = g.id and (
    i.state is null
    or g.last_seq > i.seq_declared
    or (g.last_seq = i.seq_declared and g.state = 'running' and i.state = 'running')
    or (g.last_seq = i.seq_declared and g.state = 'ended' and i.state <> 'ended')
    or (g.state = 'crashed' and i.state = 'running')
)
"""

# A finalised week belongs to the batch side: late_share_hours makes it compute
# the week again.
_UPSERT_WEEKLY: Final = """
insert into weekly_best_diff as w (
    user_id, week_start, best_difficulty, best_share_time, best_worker_id, best_share_hash
)
select g.user_id, $1::date, best, at, worker, hash from unnest(
    $2::integer[], $3::float8[], $4::timestamptz[], $5::integer[], $6::bytea[]
) as g(user_id, best, at, worker, hash)
on conflict (user_id, week_start) do update set
    -- The higher one, of equal ones the earlier one.
    best_difficulty = greatest(w.best_difficulty, excluded.best_difficulty),
    best_share_time = case
        when (excluded.best_difficulty, w.best_share_time)
            > (w.best_difficulty, excluded.best_share_time)
        then excluded.best_share_time else w.best_share_time end,
    best_worker_id = case
        when (excluded.best_difficulty, w.best_share_time)
            > (w.best_difficulty, excluded.best_share_time)
        then excluded.best_worker_id else w.best_worker_id end,
    best_share_hash = case
        when (excluded.best_difficulty, w.best_share_time)
            > (w.best_difficulty, excluded.best_share_time)
        then excluded.best_share_hash else w.best_share_hash end
where w.finalized_at is null
returning w.user_id, w.best_difficulty
"""
