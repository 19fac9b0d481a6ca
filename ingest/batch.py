"""Turns stream entries into rows: pure, no I/O.

An entry that cannot be read becomes a dead letter; nothing is left out.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ingest.decode import Refused, decode_data
from ingest.ledger import Report, parse_report
from ingest.names import DEAD_LETTER_STREAM, LEDGER_STREAM

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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

    ``data`` holds the contract's fields of the event; ``raw_data`` is the
    JSON of its data, extra fields included.
    """

    event: str
    time: datetime
    micros: int
    source: str
    instance: str | None
    seq: int | None
    data: Any
    raw_data: bytes
    entry: StreamEntry


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
    fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=False))
    if entry.stream == DEAD_LETTER_STREAM:
        instance, seq = _identity(fields)
        return DeadLetter(
            _text(fields.get(b"stage", b"unknown")),
            _text(fields.get(b"reason", b"unknown")),
            _text(fields.get(b"detail", b"")),
            fields.get(b"raw", b""),
            instance,
            seq,
            _added_at(entry),
        )
    if entry.stream == LEDGER_STREAM:
        try:
            return parse_report(fields.get(b"report", b""))
        except ValueError as error:
            return refuse(entry, "bad_report", str(error))
    try:
        micros = int(fields[b"timestamp"])
        event = fields[b"event"].decode()
        raw = fields[b"data"]
        seq_text = fields.get(b"seq")
        row = Row(
            event,
            _EPOCH + timedelta(microseconds=micros),
            micros,
            fields[b"source"].decode(),
            fields.get(b"instance", b"").decode() or None,
            int(seq_text) if seq_text else None,
            decode_data(event, raw),
            raw,
            entry,
        )
    except KeyError as error:
        return refuse(entry, "bad_entry", f"the stream entry has no field {error}")
    except Refused as refused:
        return refuse(entry, refused.reason, refused.detail)
    except (ValueError, OverflowError) as error:
        return refuse(entry, "bad_entry", str(error))
    if row.instance is None or row.seq is None:
        row.instance = row.seq = None  # one without the other identifies nothing
    return row


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
