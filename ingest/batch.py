"""Turns stream entries into rows: pure, no I/O.

An entry that cannot be read becomes a dead letter; nothing is left out.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ingest.decode import Refused, decode_data
from ingest.events import EARLIEST
from ingest.ledger import Report, parse_report
from ingest.names import DEAD_LETTER_STREAM, LEDGER_STREAM

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_FIELDS: Final = [b"event", b"timestamp", b"source", b"instance", b"seq", b"data"]
LATEST: Final = 253_402_300_799_999_999  # the last microsecond that a datetime can hold


class StreamEntry(msgspec.Struct, frozen=True, gc=False):
    """One entry as Redis gave it.

    Attributes:
        stream: key of the stream.
        id: entry id, ``<milliseconds>-<number>``.
        fields: names and values in turn.
    """

    stream: str
    id: bytes
    fields: list[bytes]


class Row(msgspec.Struct, gc=False):
    """One event, ready for the database.

    Attributes:
        micros: its time, in microseconds since the epoch.
        data: the contract's fields of the event.
        raw_data: the JSON of its data, extra fields included.
        user_id: number of the miner in the database, once it is known.
        worker_id: number of the worker; None where the event names none.
    """

    event: str
    micros: int
    source: str
    instance: str | None
    seq: int | None
    data: Any
    raw_data: bytes
    entry: StreamEntry
    user_id: int = 0
    worker_id: int | None = None

    @property
    def time(self) -> datetime:
        """Its time, aware."""
        return from_micros(self.micros)


class DeadLetter(msgspec.Struct, gc=False):
    """One refused event, with where and why."""

    stage: str
    reason: str
    detail: str
    raw: bytes
    instance: str | None
    seq: int | None
    micros: int


Item = Row | DeadLetter | Report


def from_micros(micros: int) -> datetime:
    """Microseconds since the epoch as an aware time."""
    return _EPOCH + timedelta(microseconds=micros)


def refuse(entry: StreamEntry, reason: str, detail: str) -> DeadLetter:
    """Makes a dead letter of an entry that the writer cannot store."""
    fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=False))
    instance, seq = _identity(fields)
    return DeadLetter(
        "writer",
        reason,
        detail,
        msgspec.json.encode({_text(name): _text(value) for name, value in fields.items()}),
        instance,
        seq,
        _added_at(entry),
    )


def parse(entry: StreamEntry) -> Item:
    """Reads one entry of any of the streams."""
    if entry.fields[::2] == _EVENT_FIELDS:
        # As our receivers write it; a dictionary would take a quarter of the time.
        _, event, _, micros, _, source, _, instance, _, seq, _, raw = entry.fields
        return _row(entry, event, micros, source, instance, seq, raw)
    fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=False))
    if entry.stream == DEAD_LETTER_STREAM:
        name, number = _identity(fields)
        return DeadLetter(
            _text(fields.get(b"stage", b"unknown")),
            _text(fields.get(b"reason", b"unknown")),
            _text(fields.get(b"detail", b"")),
            fields.get(b"raw", b""),
            name,
            number,
            _added_at(entry),
        )
    if entry.stream == LEDGER_STREAM:
        try:
            return parse_report(fields.get(b"report", b""))
        except ValueError as error:
            return refuse(entry, "bad_report", str(error))
    try:
        return _row(
            entry,
            fields[b"event"],
            fields[b"timestamp"],
            fields[b"source"],
            fields.get(b"instance", b""),
            fields.get(b"seq", b""),
            fields[b"data"],
        )
    except KeyError as error:
        return refuse(entry, "bad_entry", f"the stream entry has no field {error}")


def _row(
    entry: StreamEntry,
    event: bytes,
    micros: bytes,
    source: bytes,
    instance: bytes,
    seq: bytes,
    raw: bytes,
) -> Row | DeadLetter:
    try:
        name = event.decode()
        time = int(micros)
        if not EARLIEST <= time <= LATEST:
            return refuse(entry, "bad_entry", "the timestamp is out of bounds")
        data = decode_data(name, raw)
        if instance and seq:
            return Row(name, time, source.decode(), instance.decode(), int(seq), data, raw, entry)
        # One without the other identifies nothing.
        return Row(name, time, source.decode(), None, None, data, raw, entry)
    except Refused as refused:
        return refuse(entry, refused.reason, refused.detail)
    except ValueError as error:
        return refuse(entry, "bad_entry", str(error))


def _added_at(entry: StreamEntry) -> int:
    # A refused event has no time to trust: the ledger takes that of its arrival.
    return int(entry.id.partition(b"-")[0]) * 1000


def _identity(fields: dict[bytes, bytes]) -> tuple[str | None, int | None]:
    instance, seq = _text(fields.get(b"instance", b"")), fields.get(b"seq", b"")
    if not instance or not seq.isdigit() or len(seq) > 18:
        return None, None
    return instance, int(seq)


def _text(value: bytes) -> str:
    # For people and for PostgreSQL, whose text holds no NUL.
    return value.decode(errors="backslashreplace").replace("\x00", "\\x00")
