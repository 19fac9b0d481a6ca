"""Stratum V1 on the wire: JSON-RPC in lines, with the id of the request echoed.

Pure: bytes in, values out, and back.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from devnet.pool.values import PADDING

MAX_LINE: Final = 8192  # bytes; the longest honest line, an authorize, has a few hundred
OTHER: Final = 20  # Stratum's error code for everything without its own code

_MAX_ID: Final = 256  # bytes of an id that is echoed
_MAX_SHOWN: Final = 40  # characters of a method's name that an error repeats
_MARGIN: Final = PADDING.encode()

NO_ID: Final = msgspec.Raw(b"null")


class ProtocolError(ValueError):
    """A line that is not a Stratum request; the text goes back to the miner, under ``id``."""

    def __init__(self, text: str, request_id: msgspec.Raw = NO_ID) -> None:
        super().__init__(text)
        self.id = request_id


@dataclass(frozen=True, slots=True)
class Request:
    """One line from a miner. ``id`` is the JSON that the answer repeats, byte for byte."""

    id: msgspec.Raw
    method: str
    params: list[Any]


def parse_request(line: bytes) -> Request | None:
    """Reads one line; None if it is blank, or the answer to one of our notifications.

    Missing params, null and anything else that is not a list count as an empty list: each method
    says what it lacks, and the id comes back.

    Raises:
        ProtocolError: when it is not a request; no input raises anything else.
    """
    line = line.strip(_MARGIN)
    if not line:
        return None
    try:
        parts = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        request_id = parts.get("id", NO_ID).copy()  # the rest of the line is let go
        bytes(request_id).decode()  # it was not looked into yet, and must not spoil our answer
    except msgspec.ValidationError:
        raise ProtocolError("Not a JSON object") from None
    except (ValueError, RecursionError):
        raise ProtocolError("Not JSON") from None
    if len(bytes(request_id)) > _MAX_ID:
        raise ProtocolError("The id is too long")
    try:
        method = msgspec.json.decode(parts.get("method", NO_ID))
        params = msgspec.json.decode(parts.get("params", NO_ID))
    except (ValueError, RecursionError):
        raise ProtocolError("Not JSON", request_id) from None
    if not isinstance(method, str):
        if method is None and parts.keys() & {"result", "error"}:
            return None
        raise ProtocolError("No method", request_id)
    return Request(request_id, method, params if isinstance(params, list) else [])


def result_line(request_id: msgspec.Raw, result: Any) -> bytes:
    """The line that answers a request."""
    return _line({"id": request_id, "result": result, "error": None})


def error_line(request_id: msgspec.Raw, code: int, text: str) -> bytes:
    """The line that refuses a request: error is [code, text, traceback], the last always null."""
    return _line({"id": request_id, "result": None, "error": [code, text, None]})


def notification_line(method: str, params: list[Any]) -> bytes:
    """A line that answers no request, and that the miner does not answer."""
    return _line({"id": None, "method": method, "params": params})


def shown(method: str) -> str:
    """A method's name as an error may repeat it."""
    return method if len(method) <= _MAX_SHOWN else method[:_MAX_SHOWN] + "…"


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
