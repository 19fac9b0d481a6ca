"""Turns stream entries into rows: pure, no I/O.

An entry that cannot be read becomes a dead letter; nothing is left out.
"""

from datetime import datetime
from typing import Any

import msgspec

from ingest.counts import Report, parse_report
from tbg_core.decode import Refused, decode_data
from tbg_core.entry import LATEST, Entry, identity, number, text
from tbg_core.events import EARLIEST, MAX_INSTANCE
from tbg_core.names import DEAD_LETTER_STREAM, LEDGER_STREAM
from tbg_core.periods import from_micros


class Row(msgspec.Struct, gc=False):
    """One event, ready for the database.

    Attributes:
        micros: its time, in microseconds since the epoch.
        data: the contract's fields of the event.
        raw_data: the JSON of its data, extra fields included.
        user_id: number of the miner in the database, once it is known.
        worker_id: number of the worker; None if the event names none.
    """

    event: str
    micros: int
    source: str
    instance: str | None
    seq: int | None
    data: Any
    raw_data: bytes
    entry: Entry
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


def refuse(entry: Entry, reason: str, detail: str) -> DeadLetter:
    """Makes a dead letter of an entry that the writer cannot store."""
    named = entry.named()
    raw = msgspec.json.encode({text(name): text(value) for name, value in named.items()})
    return DeadLetter("writer", reason, detail, raw, *identity(named), entry.micros)


def parse(entry: Entry) -> Item:
    """Reads one entry of any of the streams."""
    values = entry.event()
    if values is not None:
        return _row(entry, *values)
    named = entry.named()
    if entry.stream == DEAD_LETTER_STREAM:
        return DeadLetter(
            text(named.get(b"stage", b"unknown")),
            text(named.get(b"reason", b"unknown")),
            text(named.get(b"detail", b"")),
            named.get(b"raw", b""),
            *identity(named),
            entry.micros,  # it has no time to trust: the ledger takes its arrival
        )
    if entry.stream == LEDGER_STREAM:
        try:
            return parse_report(named.get(b"report", b""))
        except ValueError as error:
            return refuse(entry, "bad_report", str(error))
    try:
        return _row(
            entry,
            named[b"event"],
            named[b"timestamp"],
            named[b"source"],
            named.get(b"instance", b""),
            named.get(b"seq", b""),
            named[b"data"],
        )
    except KeyError as error:
        return refuse(entry, "bad_entry", f"the stream entry has no field {error}")


def _row(
    entry: Entry,
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
        data, raw = decode_data(name, raw)
        if not (instance and seq):  # one without the other identifies nothing
            return Row(name, time, source.decode(), None, None, data, raw, entry)
        boot, counted = instance.decode(), number(seq)
        if counted is None or len(boot) > MAX_INSTANCE:
            return refuse(entry, "bad_entry", "instance or seq is out of bounds")
        return Row(name, time, source.decode(), boot, counted, data, raw, entry)
    except Refused as refused:
        return refuse(entry, refused.reason, refused.detail)
    except ValueError as error:
        return refuse(entry, "bad_entry", str(error))
