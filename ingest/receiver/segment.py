"""A spool file: records one after the other, each readable without the others.

A record is a head, the same head again, the numbers of its events, and its batch. The head
holds the lengths and the checksums (CRC-32) of what follows, how many events there are, and
how many the spool took before them. So one damaged byte costs at most the record that it is
in: the next head is found by its magic and its checksum, and what lies between two heads is
known in events, mostly by their numbers too. All numbers are little-endian.
"""

import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ingest.counts import Numbers, Spans
from tbg_core.entry import Batch

# 0xf5 is in no UTF-8 text, and so in no event.
MAGIC: Final = b"\xf5TBG"
VERSION: Final = 2
_HEAD: Final = struct.Struct("<4sHHIIIQII")
_CRC: Final = struct.Struct("<I")
HEAD_BYTES: Final = _HEAD.size + _CRC.size
_OLD: Final = struct.Struct("<II")  # length and CRC of a record before version 2
_BLOCK: Final = 4096

ByInstance = dict[str, Spans]


class Head(NamedTuple):
    """What a record says of itself.

    Attributes:
        copy: 0 or 1: which of the two it is.
        numbers: bytes of the numbers.
        payload: bytes of the batch.
        events: events and dead letters in it.
        before: events that the spool took before this one, since its process began.
    """

    version: int
    copy: int
    numbers: int
    payload: int
    events: int
    before: int
    numbers_crc: int
    payload_crc: int

    @property
    def length(self) -> int:
        """Bytes of the whole record."""
        return 2 * HEAD_BYTES + self.numbers + self.payload


class Found(NamedTuple):
    """What lies at a place of a file.

    Attributes:
        length: bytes up to the next record.
        events: how many events are in it; of damage without a head, one at least.
        batch: None if it is lost.
        reason: why it is lost.
        numbers: the numbers of its events by engine boot, where they are known.
        after: events that the spool had taken with it; None where it does not say.
    """

    length: int
    events: int
    batch: Batch | None
    reason: str = ""
    numbers: ByInstance | None = None
    after: int | None = None


def record(batch: Batch, before: int) -> bytes:
    """A record of a batch, after so many events."""
    payload = msgspec.msgpack.encode(batch)
    numbers = msgspec.msgpack.encode(_numbers(batch))
    heads = b""
    for copy in (0, 1):
        head = _HEAD.pack(
            MAGIC, VERSION, copy, len(numbers), len(payload), batch.events, before,
            zlib.crc32(numbers), zlib.crc32(payload),
        )  # fmt: skip
        heads += head + _CRC.pack(zlib.crc32(head))
    return heads + numbers + payload


def read(file: int, offset: int, size: int, before: int | None) -> Found:
    """What lies at an offset of a file.

    Args:
        size: of the file, in bytes; the offset is below it.
        before: how many events the spool took up to here, if known.
    """
    head = _head_at(file, offset) or _head_at(file, offset + HEAD_BYTES)
    if head is None:
        return _old(file, offset, size) or _resync(file, offset, size, before)
    after = head.before + head.events
    if offset + head.length > size:
        part = pread(file, head.numbers, offset + 2 * HEAD_BYTES)
        return Found(size - offset, head.events, None, "damaged", _known(head, part), after)
    body = pread(file, head.numbers + head.payload, offset + 2 * HEAD_BYTES)
    numbers, payload = body[: head.numbers], body[head.numbers :]
    reason = "damaged"
    if head.version != VERSION:
        reason = "other_version"
    elif zlib.crc32(payload) == head.payload_crc:
        try:
            batch = msgspec.msgpack.decode(payload, type=Batch)
        except (msgspec.DecodeError, UnicodeDecodeError):
            reason = "other_version"
        else:
            return Found(head.length, batch.events, batch, after=after)
    return Found(head.length, head.events, None, reason, _known(head, numbers), after)


def _numbers(batch: Batch) -> ByInstance:
    found: defaultdict[str, Numbers] = defaultdict(Numbers)
    for _, instance, seq, _ in batch.numbers():
        if instance and seq:
            found[instance.decode()].add(int(seq), int(seq) + 1)
    return {instance: numbers.united() for instance, numbers in found.items()}


def _known(head: Head, raw: bytes) -> ByInstance:
    if zlib.crc32(raw) != head.numbers_crc:
        return {}
    try:
        return msgspec.msgpack.decode(raw, type=ByInstance)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _head(data: bytes) -> Head | None:
    if len(data) < HEAD_BYTES or not data.startswith(MAGIC):
        return None
    if _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]):
        return None
    _, version, copy, numbers, payload, events, before, *crcs = _HEAD.unpack_from(data)
    return Head(version, copy, numbers, payload, events, before, *crcs)


def _head_at(file: int, offset: int) -> Head | None:
    return _head(pread(file, HEAD_BYTES, offset))


def _resync(file: int, offset: int, size: int, before: int | None) -> Found:
    """Damage up to the next head, or to the end."""
    data = pread(file, size - offset, offset)
    for at, head in _heads(data):
        start = at - HEAD_BYTES * head.copy
        if start > 0:
            lost = head.before - before if before is not None else 0
            return Found(start, max(lost, 1), None, "damaged", after=head.before)
    after = None if before is None else before + 1
    return Found(size - offset, 1, None, "damaged", after=after)


def _heads(data: bytes) -> Iterator[tuple[int, Head]]:
    at = data.find(MAGIC)
    while at >= 0:
        head = _head(data[at : at + HEAD_BYTES])
        if head is not None:
            yield at, head
        at = data.find(MAGIC, at + 1)


def _old(file: int, offset: int, size: int) -> Found | None:
    """A record from before version 2, which knows its length and its checksum alone."""
    if (whole := _old_payload(file, offset, size)) is None:
        return None
    payload, good = whole
    length = _OLD.size + len(payload)
    # A length that leads to the end or to the next record is right, whatever is damaged.
    if not good and offset + length < size:
        after = _old_payload(file, offset + length, size)
        if after is None or not after[1]:
            return None
    try:
        batch = msgspec.msgpack.decode(payload, type=Batch)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Found(length, 1, None, "other_version" if good else "damaged")
    if good:
        return Found(length, batch.events, batch)
    return Found(length, batch.events, None, "damaged")


def _old_payload(file: int, offset: int, size: int) -> tuple[bytes, bool] | None:
    head = pread(file, _OLD.size, offset)
    if len(head) < _OLD.size:
        return None
    length, crc = _OLD.unpack(head)
    if not 0 < length <= size - offset - _OLD.size:
        return None
    payload = pread(file, length, offset + _OLD.size)
    return payload, zlib.crc32(payload) == crc


def pread(file: int, count: int, offset: int) -> bytes:
    """Bytes of a file; those that the disk does not give back are zeros."""
    try:
        return os.pread(file, count, offset)
    except OSError:
        pieces = []
        for at in range(offset, offset + count, _BLOCK):
            length = min(_BLOCK, offset + count - at)
            try:
                pieces.append(os.pread(file, length, at))
            except OSError:
                pieces.append(bytes(length))
        return b"".join(pieces)
