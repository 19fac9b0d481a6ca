"""What a log is packed in, by its first bytes."""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

GZIP: Final = b"\x1f\x8b"
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PIECE: Final = 16_384  # packed bytes at a time
_WINDOW: Final = 31  # zlib's word for gzip

_FORMATS: Final = {
    b"BZh": "bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\x00": "xz: unpack it with unxz",
    b"\x5d\x00\x00": "LZMA: unpack it with unlzma",
    b"\x28\xb5\x2f\xfd": "Zstandard: unpack it with unzstd",
    b"\x04\x22\x4d\x18": "LZ4: unpack it with unlz4",
    b"\x1f\x9d": "compress: unpack it with uncompress",
    b"PK\x03\x04": "zip: unpack it with unzip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip: unpack it with 7z",
    b"\xff\xfe": "UTF-16: make it UTF-8 with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16: make it UTF-8 with iconv -f UTF-16 -t UTF-8",
    b"{\x00": "UTF-16: make it UTF-8 with iconv -f UTF-16LE -t UTF-8",
    b"\x00{": "UTF-16: make it UTF-8 with iconv -f UTF-16BE -t UTF-8",
}


def foreign(head: bytes) -> str | None:
    """What a log is that begins so, if its lines cannot be read as they stand."""
    return next((name for magic, name in _FORMATS.items() if head.startswith(magic)), None)


class DamagedError(OSError):
    """A log that cannot be read, or not on; everything before was."""


def unpacked(raw: BinaryIO) -> Iterator[bytes]:
    """Yields what a gzip file holds, one member after the other, and loses nothing that is whole.

    Args:
        raw: at its beginning.

    Raises:
        DamagedError: after everything that could be unpacked, if there is more.
    """
    member, fresh, rest = zlib.decompressobj(_WINDOW), True, b""
    unpacked_any = False
    while piece := rest or raw.read(_PIECE):
        rest = b""
        if fresh and not (piece := piece.lstrip(b"\0")):
            continue  # padding of a tape
        before = member.copy()
        try:
            found = member.decompress(piece)
        except zlib.error as error:
            if found := _up_to_the_damage(before, piece):
                yield found
            what = "what follows the gzip is none" if fresh and unpacked_any else "damaged gzip"
            raise DamagedError(f"{what}: {error}") from error
        fresh, unpacked_any = member.eof, True
        if fresh:
            rest, member = member.unused_data, zlib.decompressobj(_WINDOW)
        if found:
            yield found
    if not fresh:
        raise DamagedError("the gzip ends in the middle")


def _up_to_the_damage(member: Any, piece: bytes) -> bytes:
    found = b""
    with suppress(zlib.error):
        for byte in piece:
            found += member.decompress(bytes([byte]))
    return found
