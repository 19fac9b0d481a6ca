"""Engine boots and which of their events are stored."""

from collections import defaultdict
from collections.abc import Container
from typing import Final

import asyncpg
import msgspec
import structlog

from ingest.missing import Spans
from ingest.sequence import Arrival, Seen
from ingest.writer.offsets import OffsetsMovedError
from ingest.writer.refusal import NotKeptError
from ingest.writer.rows import DeadLetter, Row

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.instances")


# Boots held in memory; of the others the database knows everything.
MOST_KNOWN: Final = 1000

Event = Row | DeadLetter


class Instance(msgspec.Struct):
    """One engine boot: its number and what was seen of it.

    ``sourced`` says whether its source is known: reports and dead letters name none.
    """

    id: int
    seen: Seen
    sourced: bool


class Instances:
    """Separates new events from resent ones, and remembers it in the database.

    What :meth:`sift` changes counts only after :meth:`keep`; a failed batch
    is forgotten with :meth:`drop`.

    Args:
        cell: where their engines are; None leaves it as it is known.
    """

    def __init__(self, cell: str | None = None) -> None:
        self._cell = cell
        self._known: dict[str, Instance] = {}
        self._trial: dict[str, tuple[Instance, int, int]] = {}

    async def load(self, connection: asyncpg.Connection, sources: dict[str, str | None]) -> None:
        """Makes sure that these instances are known.

        Args:
            connection: outside a transaction, so that what is remembered is there.
            sources: the source of each, None if the batch names none.
        """
        if len(self._known) > MOST_KNOWN:
            self._known = {name: self._known[name] for name in sources if name in self._known}
        # In few statements: an import brings a thousand instances in one batch.
        named: list[tuple[str, str]] = []
        unnamed: list[str] = []
        for name, source in sorted(sources.items()):
            known = self._known.get(name)
            if source is None:
                if known is None:
                    unnamed.append(name)
            elif known is None or not known.sourced:
                named.append((name, source))
        if named:
            await connection.execute(
                "insert into engine_instances as i (instance, source, cell) "
                "select *, coalesce($3, '') from unnest($1::text[], $2::text[]) "
                "on conflict (instance) do update set source = excluded.source, "
                "cell = coalesce($3, i.cell) "
                "where i.source <> excluded.source or i.cell <> coalesce($3, i.cell)",
                [name for name, _ in named],
                [source for _, source in named],
                self._cell,
            )
        if unnamed:
            await connection.execute(
                "insert into engine_instances (instance, source, cell) "
                "select name, 'hosted', coalesce($2, '') from unnest($1::text[]) as name "
                "on conflict (instance) do nothing",
                unnamed,
                self._cell,
            )
        for name, _ in named:
            if name in self._known:
                self._known[name].sourced = True
        unknown = [name for name in sources if name not in self._known]
        if not unknown:
            return
        for row in await connection.fetch(
            "select instance, id, seq_max, seq_missing, seq_floor from engine_instances "
            "where instance = any($1::text[])",
            unknown,
        ):
            name = row["instance"]
            missing = [(span.lower, span.upper) for span in row["seq_missing"]]
            seen = Seen(row["seq_max"], missing, row["seq_floor"])
            self._known[name] = Instance(row["id"], seen, sources[name] is not None)
        if left := [name for name in unknown if name not in self._known]:
            raise NotKeptError(f"engine boots such as {left[0]!r}")

    def doubtful(self, events: list[Event]) -> list[Event]:
        """The events of which only the database knows whether they are stored."""
        floors = {name: known.seen.floor for name, known in self._known.items() if known.seen.floor}
        if not floors:
            return []
        return [
            event
            for event in events
            if event.seq is not None and event.seq < floors.get(event.instance or "", 0)
        ]

    def sift(
        self,
        items: list[Event],
        stored: set[tuple[str, int]],
        again: Container[int] = (),
    ) -> tuple[list[Event], list[Event]]:
        """Separates new items from resent ones.

        Args:
            items: of instances that are loaded.
            stored: instance and number of the :meth:`doubtful` ones that the database
                has.
            again: ids (:func:`id`) of items whose entry may have been read before: what is
                stored of them is no second copy.

        Returns:
            (new, resent), each in the order that they came.
        """
        arrivals: defaultdict[str, list[int]] = defaultdict(list)
        for item in items:
            if item.instance is not None and item.seq is not None:
                arrivals[item.instance].append(item.seq)
        # Numbers that do not simply continue, and their places.
        odd: dict[str, list[tuple[int, int]]] = {}
        for name, numbers in arrivals.items():
            seen = self._known[name].seen
            numbers.sort()
            if numbers == list(range(seen.highest + 1, seen.highest + 1 + len(numbers))):
                seen = seen.copy()
                seen.highest = numbers[-1]
                self._try(name, seen, len(numbers), 0)
            else:
                odd[name] = []
        if not odd:
            return items, []
        for index, item in enumerate(items):
            if item.instance in odd and item.seq is not None:
                odd[item.instance].append((item.seq, index))
        resent: set[int] = set()
        stored = set(stored)
        for name, numbered in odd.items():
            # A batch holds several streams, one after the other: in the order of the
            # numbers, most of what looks like a hole is filled at once.
            numbered.sort()
            seen = self._known[name].seen.copy()
            duplicates = set()
            for seq, index in numbered:
                arrival = seen.add(seq)
                if arrival is Arrival.UNKNOWN:
                    if (name, seq) in stored:
                        arrival = Arrival.DUPLICATE
                    stored.add((name, seq))
                if arrival is Arrival.DUPLICATE:
                    duplicates.add(index)
            seen.forget()
            resent |= duplicates
            copies = sum(id(items[index]) not in again for index in duplicates)
            self._try(name, seen, len(numbered) - len(duplicates), copies)
        if not resent:
            return items, []
        new = [item for index, item in enumerate(items) if index not in resent]
        return new, [items[index] for index in sorted(resent)]

    def _try(self, name: str, seen: Seen, events: int, duplicates: int) -> None:
        known = self._known[name]
        self._trial[name] = Instance(known.id, seen, known.sourced), events, duplicates

    async def save(self, connection: asyncpg.Connection) -> None:
        """Writes what the batch changed, in its transaction.

        Raises:
            OffsetsMovedError: the database holds other numbers than this writer left there.
        """
        if not self._trial:
            return
        before = [self._known[name].seen for name in self._trial]
        after = [instance.seen for instance, _, _ in self._trial.values()]
        saved = await connection.fetch(
            _SAVE,
            [instance.id for instance, _, _ in self._trial.values()],
            *([seen.highest for seen in states] for states in (before, after)),
            *([_multirange(seen) for seen in states] for states in (before, after)),
            *([seen.floor for seen in states] for states in (before, after)),
            [events for _, events, _ in self._trial.values()],
            [duplicates for _, _, duplicates in self._trial.values()],
        )
        if len(saved) != len(self._trial):
            raise OffsetsMovedError(
                "the numbers of an engine were changed by a repair or by another writer: "
                "reading what is known of them again"
            )

    def keep(self) -> dict[str, Spans]:
        """The batch is committed; returns what is missing where that has changed."""
        changed = {}
        for name, (instance, _, _) in self._trial.items():
            if (missing := instance.seen.missing) != self._known[name].seen.missing:
                changed[name] = missing
            if instance.seen.floor > self._known[name].seen.floor:
                log.warning(
                    "too many holes in the numbers: the database is asked about old events",
                    instance=name,
                    below=instance.seen.floor,
                )
            self._known[name] = instance
        self._trial.clear()
        return changed

    def drop(self) -> None:
        """The batch was rolled back."""
        self._trial.clear()

    def number(self, name: str | None) -> int | None:
        """The database's number of a loaded instance."""
        return None if name is None else self._known[name].id


def _multirange(seen: Seen) -> str:
    return "{" + ",".join(f"[{start},{end})" for start, end in seen.missing) + "}"


# Only from the very state that the batch was judged by.
_SAVE: Final = """
update engine_instances i set
    seq_max = g.highest, seq_missing = g.missing::int8multirange, seq_floor = g.floor,
    events = i.events + g.events, duplicates = i.duplicates + g.duplicates, last_seen = now()
from unnest(
    $1::integer[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[]
) as g(
    id, old_highest, highest, old_missing, missing, old_floor, floor, events, duplicates
)
where i.id = g.id and i.seq_max = g.old_highest
    and i.seq_missing = g.old_missing::int8multirange and i.seq_floor = g.old_floor
returning i.id
"""
