"""Shares on a line that is not one share: behind torn bytes, behind zeros, or glued together.

A disk that was full or lost its power ends a line in the middle, and the next share is
appended to what is there. Pure, no I/O.
"""

import json
from typing import Final

from tbg.sharelog.line import BadLine, Share, parse

TAIL: Final = 16_384  # bytes of a longer line, its last ones, in which shares are looked for
_MOST: Final = 200  # beginnings that lead to no share: hostile lines must not cost more

_decode: Final = json.JSONDecoder().raw_decode


def whole_shares(line: bytes) -> list[tuple[bytes, Share]]:
    """Finds every whole share of a line, with its own bytes.

    What it finds depends on the line alone, as the numbers of an import must.
    """
    # Bytes that are no UTF-8 come back as they were.
    text = line.decode("utf-8", "surrogateescape")
    found = []
    at, failed = text.find("{"), 0
    while at >= 0 and failed < _MOST:
        try:
            _, end = _decode(text, at)
            piece = text[at:end].encode("utf-8", "surrogateescape")
            share = parse(piece)
        except (BadLine, ValueError, RecursionError):
            failed += 1
            at = text.find("{", at + 1)
        else:
            found.append((piece, share))
            at = text.find("{", end)
    return found
