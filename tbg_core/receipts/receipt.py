"""A receipt: every numbered share of a user, with what leads from it to a published root."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any, Final

from psycopg.rows import tuple_row

from tbg_core.periods import from_micros, to_micros
from tbg_core.receipts import stored
from tbg_core.receipts.boot import Built, build
from tbg_core.receipts.log import Entry
from tbg_core.receipts.merkle import Growing
from tbg_core.receipts.node import Node, difficulty_of, join, node_json
from tbg_core.receipts.records import Boot, Share, boot_leaf, share_leaf
from tbg_core.receipts.stored import HOUR, Connection, Rows, Tree
from tbg_core.wording import counted

FORMAT: Final = 1


class ReceiptError(Exception):
    """There is no such receipt; the text says why."""


def make(
    connection: Connection,
    rows: Rows,
    user: str,
    start: datetime,
    end: datetime,
    *,
    elsewhere: Collection[date] = (),
    sums: bool = False,
    most: int | None = None,
) -> dict[str, Any]:
    """The receipt of a user for the shares with a time in [``start``, ``end``).

    Cost: every tree that holds one of them is built again, about 6 µs a leaf.

    Args:
        connection: autocommit.
        rows: where the rows of trees come from.
        user: Bitcoin address.
        start: aware.
        end: aware.
        elsewhere: days whose rows are not in the database alone.
        sums: without the shares: what the pool says of each tree, and the path of the tree.
        most: rows that may be read for it.

    Raises:
        ReceiptError: when a tree does not give its root any more, when shares were dropped, or
            when there are too many rows.
    """
    first, last = to_micros(start), to_micros(end)
    for day, dropped in _dropped(connection, user, start, end):
        if day not in elsewhere:
            raise ReceiptError(
                f"the database has dropped {counted(dropped, 'share')} of {day}: tbg receipt reads "
                "them from the archive (--archive, ARCHIVE_URL), or ask for other days"
            )

    def is_mine(share: Share) -> bool:
        return share.user == user and first <= share.micros < last

    hours = []
    shares = valid = work = 0
    chosen = _chosen(connection, user, start, end, elsewhere)
    rowed = sum(
        tree.last - tree.first + 1 - sum(b - a for found in tree.stated for a, b in found)
        for tree in chosen
    )
    if most is not None and rowed > most:
        raise ReceiptError(f"{rowed:,} rows would be read, and {most:,} may be: ask for less time")
    for hour, mine in groupby(chosen, key=lambda tree: tree.hour):
        found: dict[int, Built] = {}
        with connection.transaction():
            for tree in mine:
                built = build(
                    tree.first,
                    tree.last,
                    rows(connection, hour, tree.instance_id, tree.first, tree.last),
                    tree.stated,
                    again=True,
                    marks=is_mine,
                )
                if built.root != tree.root:
                    raise ReceiptError(
                        f"{tree.instance} at {hour:%F %H:%M}: its rows do not give the root that "
                        "was published; the check roots_rebuild says the same"
                    )
                if built.marked:
                    found[tree.instance_id] = built
        if not found:
            continue
        boots = stored.trees(connection, hour, hour + HOUR)
        entry = stored.newest(connection, hour, hour + HOUR)[hour]
        places = {
            place: found[t.instance_id] for place, t in enumerate(boots) if t.instance_id in found
        }
        hours.append(hour_of(entry, [tree.boot for tree in boots], places, sums=sums))
        for built in found.values():
            leaves = [share_leaf(share) for share in built.marked]
            shares += len(leaves)
            valid += sum(leaf.valid for leaf in leaves)
            work += sum(leaf.work for leaf in leaves)
    return {
        "format": FORMAT,
        "user": user,
        "from": first,
        "to": last,
        "shares": shares,
        "valid": valid,
        "work": str(work),
        "difficulty": difficulty_of(work),
        "without": _without(connection, user, start, end),
        "hours": hours,
    }


def hour_of(
    entry: Entry, boots: Sequence[Boot], found: Mapping[int, Built], *, sums: bool = False
) -> dict[str, Any]:
    """The part of a receipt about an hour.

    Args:
        entry: the newest of the hour.
        boots: in it, in the order of its tree.
        found: trees with shares of the user, by their place among the boots.
        sums: without the shares.

    Raises:
        ReceiptError: when the boots do not give the root of the entry.
    """
    growing: Growing[Node] = Growing(join)
    for place, boot in enumerate(boots):
        growing.add(boot_leaf(boot), 1, place in found)
    finished = growing.finish()
    assert finished is not None
    root, proof = finished
    if root != entry.root:
        raise ReceiptError(
            f"{from_micros(entry.hour):%F %H:%M}: its trees do not give the root that was published"
        )
    return {
        "entry": entry.place,
        "nodes": list(map(node_json, proof)),
        "trees": [_tree(place, boots[place], found[place], sums=sums) for place in sorted(found)],
    }


def _tree(place: int, boot: Boot, built: Built, *, sums: bool) -> dict[str, Any]:
    leaves = [share_leaf(share) for share in built.marked]
    said = {
        "shares": len(leaves),
        "valid": sum(leaf.valid for leaf in leaves),
        "work": str(sum(leaf.work for leaf in leaves)),
    }
    return {
        "place": place,
        "instance": boot.instance,
        "first": boot.first,
        "last": boot.last,
        **({"said": said} if sums else {}),
        "shares": [] if sums else list(map(_share, built.marked)),
        "nodes": list(map(node_json, [built.root] if sums else built.proof)),
    }


def _share(share: Share) -> list[Any]:
    """A share as a receipt has it: its leaf's fields but the user."""
    return [
        share.seq, share.micros, share.worker, share.difficulty, share.share_diff, share.valid,
        share.reject_reason, share.hash.hex() if share.hash is not None else None, share.source,
    ]  # fmt: skip


def _chosen(
    connection: Connection, user: str, start: datetime, end: datetime, elsewhere: Collection[date]
) -> list[Tree]:
    """The trees that hold shares of the user, and those of days that are not looked up."""
    wanted = {(hour, boot) for hour, boot in _holding(connection, user, start, end)}
    whole = {
        day + number * HOUR
        for day in (
            datetime(day.year, day.month, day.day, tzinfo=start.tzinfo) for day in elsewhere
        )
        # A number may lie in the hour beside its event's time.
        for number in range(-1, 25)
        if start - HOUR <= day + number * HOUR < end + HOUR
    }
    hours = whole | {hour for hour, _ in wanted}
    if not hours:
        return []
    return [
        tree
        for tree in stored.trees(connection, min(hours), max(hours) + HOUR)
        if tree.hour in whole or (tree.hour, tree.instance_id) in wanted
    ]


def _holding(
    connection: Connection, user: str, start: datetime, end: datetime
) -> list[tuple[datetime, int]]:
    return (
        connection.cursor(row_factory=tuple_row)
        .execute(_HOLDING, {"user": user, "start": start, "end": end})
        .fetchall()
    )


def _dropped(
    connection: Connection, user: str, start: datetime, end: datetime
) -> list[tuple[date, int]]:
    """Days of a span of which the hours count more shares of the user than are there."""
    low = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    high = end + (low - end) % HOUR
    return (
        connection.cursor(row_factory=tuple_row)
        .execute(_DROPPED, {"user": user, "low": low, "high": high})
        .fetchall()
    )


def _without(connection: Connection, user: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Shares in the database of which a receipt says nothing, and the hours without a root."""
    unnumbered, waiting, hours = 0, 0, []
    for row in connection.cursor(row_factory=tuple_row).execute(
        _WITHOUT, {"user": user, "start": start, "end": end}
    ):
        unnumbered += row[1]
        waiting += row[2]
        if row[2]:
            hours.append(to_micros(row[0]))
    return {"unnumbered": unnumbered, "without_root": waiting, "hours": hours}


_HOLDING: Final = """
with mine as (
    select s.instance_id, date_trunc('hour', s.time, 'UTC') as hour, min(s.seq) as low,
        max(s.seq) as high
    from receipt_shares s
    join users u on u.id = s.user_id
    where u.btc_address = %(user)s and s.time >= %(start)s and s.time < %(end)s
      and s.seq is not null and s.instance_id is not null
    group by 1, 2
)
select distinct t.hour, t.instance_id
from mine m
join receipt_trees t
  on t.instance_id = m.instance_id and t.first_seq <= m.high and t.last_seq >= m.low
"""

_WITHOUT: Final = """
select
    date_trunc('hour', s.time, 'UTC'),
    count(*) filter (where s.seq is null or s.instance_id is null),
    count(*) filter (where s.seq is not null and s.instance_id is not null and not exists (
        select from receipt_trees t
        where t.instance_id = s.instance_id and t.first_seq <= s.seq and t.last_seq >= s.seq
    ))
from receipt_shares s
join users u on u.id = s.user_id
where u.btc_address = %(user)s and s.time >= %(start)s and s.time < %(end)s
group by 1
order by 1
"""

_DROPPED: Final = """
with counted as (
    select h.bucket as hour, sum(h.shares)::bigint as shares
    from shares_hourly h
    join users u on u.id = h.user_id
    where u.btc_address = %(user)s and h.bucket >= %(low)s and h.bucket < %(high)s
    group by 1
),
there as (
    select date_trunc('hour', s.time, 'UTC') as hour, count(*) as shares
    from receipt_shares s
    join users u on u.id = s.user_id
    where u.btc_address = %(user)s and s.time >= %(low)s and s.time < %(high)s
    group by 1
)
select (c.hour at time zone 'UTC')::date, sum(c.shares - coalesce(t.shares, 0))::bigint
from counted c
left join there t using (hour)
where c.shares > coalesce(t.shares, 0)
group by 1
order by 1
"""
