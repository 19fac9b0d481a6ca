"""Stratum V1 on the wire: JSON-RPC in lines, with the id of the request echoed.

Pure: bytes in, values out, and back.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

MAX_LINE: Final = 8192  # bytes; the longest honest line, an authorize, has a few hundred
OTHER: Final = 20  # Stratum's error code for whatever has no code of its own

_MAX_ID: Final = 64  # characters of a textual id
_MAX_SHOWN: Final = 40  # characters of a method's name that an error repeats

RequestId = int | str | None


class ProtocolError(ValueError):
    """A line that is no Stratum request; the text goes back to the miner."""


@dataclass(frozen=True, slots=True)
class Request:
    """One line from a miner."""

    id: RequestId
    method: str
    params: list[Any]


def parse_request(line: bytes) -> Request:
    """Reads one line.

    Raises:
        ProtocolError: when it is no request; nothing else is raised, whatever the bytes are.
    """
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        raise ProtocolError("Not JSON") from None
    if not isinstance(value, dict):
        raise ProtocolError("Not a JSON object")
    request_id = value.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        raise ProtocolError("The id is neither a number nor a text")
    # JSON knows no limit for a number; answers carry back what fits 64 bits.
    if isinstance(request_id, int) and not -(2**63) <= request_id < 2**64:
        raise ProtocolError("The id has more than 64 bits")
    if isinstance(request_id, str) and len(request_id) > _MAX_ID:
        raise ProtocolError("The id is too long")
    method = value.get("method")
    if not isinstance(method, str):
        raise ProtocolError("No method")
    params = value.get("params", [])
    if params is None:
        params = []
    if not isinstance(params, list):
        raise ProtocolError("The params are not a list")
    return Request(request_id, method, params)


def result_line(request_id: RequestId, result: Any) -> bytes:
    """The line that answers a request."""
    return _line({"id": request_id, "result": result, "error": None})


def error_line(request_id: RequestId, code: int, text: str) -> bytes:
    """The line that refuses a request: error is [code, text, traceback], the last always null."""
    return _line({"id": request_id, "result": None, "error": [code, text, None]})


def notification_line(method: str, params: list[Any]) -> bytes:
    """A line that nobody asked for, and nobody answers."""
    return _line({"id": None, "method": method, "params": params})


def shown(method: str) -> str:
    """A method's name as an error may repeat it."""
    return method if len(method) <= _MAX_SHOWN else method[:_MAX_SHOWN] + "…"


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
