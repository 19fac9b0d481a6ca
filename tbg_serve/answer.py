"""Answers that are encoded in one go: what other tools read, in their words."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import Response


def as_json(value: Any) -> Response:
    """A JSON answer; many thousand lines cost milliseconds."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def iso(moment: datetime) -> str:
    """A time as JavaScript writes it: UTC, milliseconds, Z."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
