"""``tbg ledger --audit --repair``: brings back missing events that the streams still hold.

What no stream holds can only come from its engine again. So receivers learn which numbers
are missing, and let them in although they were published once (:mod:`ingest.missing`).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import redis
from psycopg.rows import tuple_row

from ingest.missing import REMEMBERED, Spans, missing_key, packed
from tbg_core.backlog import Place, find_places, reached, slowest
from tbg_core.entry import START, Entry, identity
from tbg_core.names import DEAD_LETTER_STREAM, EVENT_STREAMS

PAGE: Final = 5000  # entries in one round trip

Places = dict[tuple[str, str], tuple[str, str | None]]  # by cell and stream
Rows = Sequence[Mapping[str, Any]]
Database = psycopg.Connection[Any]


@dataclass(frozen=True)
class Repaired:
    """What a repair did.

    Attributes:
        reopened: numbers that were taken for stored, and are holes now.
        found: missing numbers that a stream holds; None if Redis was not asked.
        missing: missing numbers, those found included.
        unreached: cells that miss some of them and whose streams are in another Redis.
    """

    reopened: int
    found: int | None
    missing: int
    unreached: list[str]


def repair(database: Database, client: "redis.Redis | None", rows: Rows) -> Repaired:
    """Makes the writer read again what is missing, and receivers take it again.

    A running writer notices that its offsets have moved, and begins again. What is still in
    the streams fills the holes; everything else there is recognised.

    Args:
        database: autocommit.
        client: answers in bytes; None if there is no Redis to ask.
        rows: of the audit.

    Raises:
        redis.RedisError: Redis does not answer; nothing was changed.
    """
    hurt = [row for row in rows if row["unaccounted"]]
    lost = _lost(database, hurt)
    cells = _cells(database)
    places: Places = {}
    found: set[tuple[str, int]] | None = None
    unreached: set[str] = set()
    if client is not None:
        committed = slowest(find_places(database))
        here = reached(committed, client)
        unreached = {cells[instance] for instance in lost} - here
        found = _search([one for one in committed if one.cell in here], client, lost, places)
    for row in hurt:
        # Where their entries are, nobody knows.
        cell = cells[row["instance"]]
        places |= {(cell, stream): (START, None) for stream in EVENT_STREAMS}
    with database.transaction():
        # In the order in which the writer locks them.
        for (cell, stream), (last_id, entry) in sorted(places.items()):
            # What is committed stays known: it is read again, not stored again.
            database.execute(
                "insert into stream_marks (redis, stream, last_id, entry, entries, unnumbered) "
                "select redis, stream, last_id, entry, 0, '' from stream_offsets "
                "where cell = %s and stream = %s and redis is not null and entry is not null "
                "on conflict do nothing",
                [cell, stream],
            )
            database.execute(
                "update stream_offsets set last_id = %s, entry = %s, entries = 0, "
                "updated_at = now() where cell = %s and stream = %s",
                [last_id, entry, cell, stream],
            )
        for row in hurt:
            database.execute(
                "update engine_instances set seq_missing = seq_missing + ("
                "select range_agg(int8range(a.first, a.last, '[]')) "
                "from unnest(%s::bigint[], %s::bigint[]) as a(first, last)) where id = %s",
                [
                    [first for first, _ in row["absent"]],
                    [last for _, last in row["absent"]],
                    row["instance_id"],
                ],
            )
    if client is not None:
        # The writer of a cell that is not reached says so itself when it begins again.
        for instance, spans in lost.items():
            if cells[instance] in here:
                client.set(missing_key(instance, cells[instance]), packed(spans), ex=REMEMBERED)
    return Repaired(
        sum(row["unaccounted"] for row in hurt),
        None if found is None else len(found),
        sum(end - start for spans in lost.values() for start, end in spans),
        sorted(unreached),
    )


def _cells(database: Database) -> dict[str, str]:
    with database.cursor(row_factory=tuple_row) as cursor:
        return dict(cursor.execute("select instance, cell from engine_instances").fetchall())


def _lost(database: Database, hurt: Rows) -> dict[str, Spans]:
    """The numbers of each boot that have no row, half-open and in order."""
    lost: dict[str, Spans] = {
        row["instance"]: [(first, last + 1) for first, last in row["absent"]] for row in hurt
    }
    with database.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "select instance, lower(span), upper(span) from engine_boots(), unnest(holes) as span"
        )
        for instance, start, end in cursor:
            lost.setdefault(instance, []).append((start, end))
    return {instance: sorted(spans) for instance, spans in lost.items()}


def _search(
    committed: Sequence[Place], client: "redis.Redis", lost: Mapping[str, Spans], places: Places
) -> set[tuple[str, int]]:
    """Finds lost numbers among what was committed; ``places`` says where to read on for them."""
    found: set[tuple[str, int]] = set()
    for place in committed:
        if place.stream not in (*EVENT_STREAMS, DEAD_LETTER_STREAM):
            continue
        before: Entry | None = None
        last = "-"
        # What lies past the offset is on its way.
        while place.last_id != START:
            page: Any = client.xrange(place.key, last, place.last_id, PAGE)
            for entry_id, fields in page:
                entry = Entry(place.stream, entry_id, _flat(fields))
                instance, seq = identity(entry.named())
                if seq is not None and _within(lost.get(instance or "", []), seq):
                    found.add((instance or "", seq))
                    if (place.cell, place.stream) not in places:
                        places[place.cell, place.stream] = (
                            (START, None) if before is None else (before.id.decode(), before.mark)
                        )
                before = entry
            if len(page) < PAGE or before is None:
                break
            last = f"({before.id.decode()}"
    return found


def _flat(fields: Mapping[bytes, bytes]) -> list[bytes]:
    return [word for pair in fields.items() for word in pair]


def _within(spans: Spans, number: int) -> bool:
    position = bisect_right(spans, number, key=lambda span: span[0])
    return position > 0 and number < spans[position - 1][1]
