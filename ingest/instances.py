"""Engine instances and which of their events are stored."""

from collections import defaultdict

import asyncpg
import msgspec

from ingest.batch import DeadLetter, Row
from ingest.sequence import Arrival, Seen


class Instance(msgspec.Struct):
    """One engine boot: its number and what was seen of it.

    ``sourced`` says whether its source is known: reports and dead letters do not tell.
    """

    id: int
    seen: Seen
    sourced: bool


class Instances:
    """Tells new events from resent ones, and remembers it in the database.

    What :meth:`sift` changes counts only after :meth:`keep`; a failed batch
    is forgotten with :meth:`drop`.
    """

    def __init__(self) -> None:
        self._known: dict[str, Instance] = {}
        self._trial: dict[str, tuple[Instance, int, int, str]] = {}

    async def load(self, connection: asyncpg.Connection, sources: dict[str, str | None]) -> None:
        """Makes sure that these instances are known.

        Args:
            connection: outside a transaction, so that what is remembered is there.
            sources: whence each is, None where nothing tells.
        """
        for name, source in sources.items():
            known = self._known.get(name)
            if known is not None and (known.sourced or source is None):
                continue
            await connection.execute(
                "insert into engine_instances as i (instance, source) "
                "values ($1, coalesce($2, 'hosted')) "
                "on conflict (instance) do update set source = $2 "
                "where $2 is not null and i.source <> $2",
                name,
                source,
            )
            if known is not None:
                known.sourced = True
                continue
            row = await connection.fetchrow(
                "select id, seq_max, seq_missing from engine_instances where instance = $1", name
            )
            assert row is not None
            missing = [(span.lower, span.upper) for span in row["seq_missing"]]
            seen = Seen(row["seq_max"], missing)
            self._known[name] = Instance(row["id"], seen, source is not None)

    def sift(
        self, items: list[Row | DeadLetter]
    ) -> tuple[list[Row | DeadLetter], list[Row | DeadLetter]]:
        """Parts new items from resent ones.

        Returns:
            (new, resent), each in the order that they came.
        """
        arrivals: defaultdict[str, list[int]] = defaultdict(list)
        for item in items:
            if item.instance is not None and item.seq is not None:
                arrivals[item.instance].append(item.seq)
        # Numbers that do not just go on, and where they stand.
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
        for name, numbered in odd.items():
            # Streams are read one after the other: in the order of the numbers most
            # of what looks like a hole is none.
            numbered.sort()
            seen = self._known[name].seen.copy()
            duplicates = {index for seq, index in numbered if seen.add(seq) is Arrival.DUPLICATE}
            resent |= duplicates
            self._try(name, seen, len(numbered) - len(duplicates), len(duplicates))
        if not resent:
            return items, []
        new = [item for index, item in enumerate(items) if index not in resent]
        return new, [items[index] for index in sorted(resent)]

    def _try(self, name: str, seen: Seen, events: int, duplicates: int) -> None:
        known = self._known[name]
        self._trial[name] = Instance(known.id, seen, known.sourced), events, duplicates, name

    async def save(self, connection: asyncpg.Connection) -> None:
        """Writes what the batch changed, in its transaction."""
        for instance, events, duplicates, _ in self._trial.values():
            await connection.execute(
                "update engine_instances set seq_max = $2, seq_missing = $3, "
                "events = events + $4, duplicates = duplicates + $5, last_seen = now() "
                "where id = $1",
                instance.id,
                instance.seen.highest,
                [asyncpg.Range(start, end) for start, end in instance.seen.missing],
                events,
                duplicates,
            )

    def keep(self) -> None:
        """The batch is committed."""
        self._known.update((name, trial[0]) for name, trial in self._trial.items())
        self._trial.clear()

    def drop(self) -> None:
        """The batch was rolled back."""
        self._trial.clear()

    def number(self, name: str | None) -> int | None:
        """The database's number of a loaded instance."""
        return None if name is None else self._known[name].id
