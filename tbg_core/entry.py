"""The layout of stream entries: the only module that knows their fields and order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import chain, repeat
from typing import Final

import msgspec

from tbg_core.decode import Decoded, Refused
from tbg_core.events import MAX_INSTANCE, SEQ_MAX
from tbg_core.names import DEAD_LETTER_STREAM, EVENT_STREAMS, LEDGER_STREAM, in_cell, stream_of

LATEST: Final = 253_402_300_799_999_999  # the last microsecond that a datetime can hold
START: Final = "0-0"  # before the first entry of any stream
DIGEST: Final = 16  # bytes
NUMBER_REUSED: Final = "number_reused"  # reason of a letter: its number is another event's

_EVENT: Final = (b"event", b"timestamp", b"source", b"instance", b"seq", b"data")
_LETTER: Final = (b"event", b"stage", b"reason", b"detail", b"instance", b"seq", b"raw")
FIELDS: Final[dict[str, tuple[bytes, ...]]] = {
    **dict.fromkeys(EVENT_STREAMS, _EVENT),
    DEAD_LETTER_STREAM: _LETTER,
    LEDGER_STREAM: (b"report",),
}
_EVENT_LIST: Final = list(_EVENT)
_DATA: Final = _EVENT.index(b"data")
_DETAIL: Final = 1000  # most characters of a refusal's detail

Values = tuple[bytes, ...]  # what an entry holds, in the order of FIELDS
Places = set[tuple[str, int]]  # entries of a batch: their stream, and which of it


def event_values(event: Decoded) -> Values:
    """What the entry of an event holds."""
    return (
        event.event.encode(),
        str(event.timestamp).encode(),
        event.source.encode(),
        b"" if event.instance is None else event.instance.encode(),
        b"" if event.seq is None else str(event.seq).encode(),
        event.raw_data,
    )


def letter_values(
    refused: Refused, instance: str | None, seq: int | None, datagram: bytes
) -> Values:
    """What the entry of a datagram that was refused holds."""
    return (
        b"dead_letter",
        b"receiver",
        refused.reason.encode(),
        refused.detail[:_DETAIL].encode(errors="backslashreplace"),
        (instance or "").encode(),
        str(seq or "").encode(),
        datagram,
    )


def id_key(entry_id: str) -> tuple[int, int]:
    """An entry id as numbers that compare as Redis does."""
    millis, _, number = entry_id.partition("-")
    return int(millis), int(number or 0)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry as Redis gave it.

    Attributes:
        stream: its name, whatever cell it is in.
        id: entry id, ``<milliseconds>-<number>``.
        fields: names and values in turn.
    """

    stream: str
    id: bytes
    fields: list[bytes]

    @property
    def millis(self) -> int:
        """When Redis added it, by its clock, in milliseconds since the epoch."""
        return int(self.id.partition(b"-")[0])

    @property
    def micros(self) -> int:
        """The same in microseconds, and never more than a datetime can hold."""
        return min(self.millis * 1000, LATEST)

    @property
    def digest(self) -> bytes:
        """What makes it differ from every other entry, also from one with its id in another Redis."""
        return blake2b(b"\0".join((self.id, *self.fields)), digest_size=DIGEST).digest()

    @property
    def mark(self) -> str:
        """Its id and digest, as the database keeps them."""
        return f"{self.id.decode()} {self.digest.hex()}"

    def event(self) -> list[bytes] | None:
        """The values of an event as our receivers write it; None if it is not one."""
        # A dictionary would take a quarter of the time that reading an entry takes.
        return self.fields[1::2] if self.fields[::2] == _EVENT_LIST else None

    def named(self) -> dict[bytes, bytes]:
        """The values by name, whatever they are."""
        return dict(zip(self.fields[::2], self.fields[1::2], strict=False))


def identity(named: dict[bytes, bytes]) -> tuple[str | None, int | None]:
    """Instance and number of an entry; both None if one of them is out of the contract's bounds."""
    instance, seq = text(named.get(b"instance", b"")), number(named.get(b"seq", b""))
    if not 0 < len(instance) <= MAX_INSTANCE or seq is None:
        return None, None
    return instance, seq


def number(value: bytes) -> int | None:
    """A sequence number, None if it is not one."""
    if not value.isdigit() or len(value) > 16 or not 1 <= int(value) <= SEQ_MAX:
        return None
    return int(value)


def text(value: bytes) -> str:
    """Bytes as text for people and for PostgreSQL, which holds no NUL."""
    return value.decode(errors="backslashreplace").replace("\x00", "\\x00")


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that are published together, under a name that makes a retry safe.

    Attributes:
        mark: the key that remembers the last batch, one per receiver boot.
        name: unlike every other batch of that mark.
        values: by stream, what its entries hold in the order of :data:`FIELDS`, one
            entry after the other.
        events: how many of them are events or dead letters; the rest are reports.
    """

    mark: str
    name: str
    values: dict[str, list[bytes]]
    events: int

    def entries(self, stream: str) -> Iterator[list[bytes]]:
        """The values of each entry of a stream."""
        values, width = self.values[stream], len(FIELDS[stream])
        return (values[at : at + width] for at in range(0, len(values), width))

    def entry(self, stream: str, place: int) -> list[bytes]:
        """The values of one entry of a stream."""
        width = len(FIELDS[stream])
        return self.values[stream][place * width : (place + 1) * width]

    def count(self, stream: str) -> int:
        """Entries of a stream."""
        return len(self.values.get(stream, ())) // len(FIELDS[stream])

    def numbers(self) -> Iterator[tuple[str, bytes, bytes, bytes]]:
        """Stream, instance, number and timestamp of every event and dead letter, in order.

        A dead letter has no timestamp to trust: it is empty.
        """
        for stream, values in self.values.items():
            fields = FIELDS[stream]
            if b"seq" not in fields:
                continue
            width = len(fields)
            instances = values[fields.index(b"instance") :: width]
            numbers = values[fields.index(b"seq") :: width]
            times: Iterator[bytes] = repeat(b"")
            if b"timestamp" in fields:
                times = iter(values[fields.index(b"timestamp") :: width])
            for instance, seq, time in zip(instances, numbers, times, strict=False):
                yield stream, instance, seq, time

    def blocks(self) -> list[bytes]:
        """The data of the blocks that were found."""
        stream = stream_of("block_found")
        return [entry[_DATA] for entry in self.entries(stream)] if stream in self.values else []

    def without(self, gone: Places) -> "Batch":
        """The batch without some of its entries."""
        if not gone:
            return self
        values = {
            stream: list(
                chain.from_iterable(
                    entry
                    for place, entry in enumerate(self.entries(stream))
                    if (stream, place) not in gone
                )
            )
            for stream in self.values
        }
        kept = {stream: found for stream, found in values.items() if found}
        events = self.events - sum(stream != LEDGER_STREAM for stream, _ in gone)
        return Batch(self.mark, self.name, kept, events)

    def only(self, kept: Places) -> "Batch":
        """The batch of some of its entries."""
        if not kept:
            return Batch(self.mark, self.name, {}, 0)
        places = {(stream, place) for stream in self.values for place in range(self.count(stream))}
        return self.without(places - kept)


def command(*words: bytes) -> bytes:
    """A command as Redis reads it (RESP2: an array of bulk strings)."""
    return b"*%d\r\n" % len(words) + b"".join(map(_bulk, words))


def additions(batch: Batch, cell: str = "") -> Iterable[bytes]:
    """The XADD commands of a batch, those of a stream in one piece."""
    for stream, values in batch.values.items():
        # One format for all entries: a call in C for each stream, not for each entry.
        pairs = tuple(chain.from_iterable(zip(map(len, values), values, strict=True)))
        yield (_add(stream, cell) * batch.count(stream)) % pairs


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


@cache
def _add(stream: str, cell: str) -> bytes:
    """XADD of one entry with ``%d`` and ``%b`` for each value's length and bytes."""
    fields = FIELDS[stream]
    head = b"".join(map(_bulk, (b"XADD", in_cell(stream, cell).encode(), b"*")))
    pairs = b"".join(_bulk(name) + b"$%d\r\n%b\r\n" for name in fields)
    return b"*%d\r\n" % (3 + 2 * len(fields)) + head + pairs
