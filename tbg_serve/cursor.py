"""Where a page ends and the next one begins, as an opaque text."""

import base64
import binascii
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from fastapi import HTTPException
from msgspec.structs import astuple

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
        position = msgspec.json.decode(text, type=kind)
        for value in astuple(position) if isinstance(position, msgspec.Struct) else [position]:
            _check(value)
    except (binascii.Error, ValueError, OverflowError, msgspec.MsgspecError):
        raise HTTPException(422, "cursor: take it from next_cursor, or leave it out") from None
    return position


def _check(value: object) -> None:
    """What no position of ours has the database could not take.

    Raises:
        ValueError, OverflowError: it is such a value.
    """
    match value:
        case datetime():
            if value.tzinfo is None:
                raise ValueError("a time without an offset")
            value.astimezone(UTC)
        case int():
            if abs(value) >= 2**31:
                raise ValueError("a number that no row has")
        case str():
            if "\x00" in value:
                raise ValueError("a text that no row has")
