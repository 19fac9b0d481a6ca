"""Where a page ends and the next one begins, as an opaque text."""

import base64
import binascii
from typing import TypeVar

import msgspec
from fastapi import HTTPException

Position = TypeVar("Position")


def write(position: object) -> str:
    """A cursor of a position: a struct or tuple."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read(cursor: str | None, kind: type[Position]) -> Position | None:
    """The position of a cursor, None without one.

    Raises:
        HTTPException: 422, it is none of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return msgspec.json.decode(text, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise HTTPException(422, "cursor: take it from next_cursor, or leave it out") from None
