"""One line of a ckpool share log (``ckpool -L``): pure, no I/O.

Upstream's ``parse_submit`` appends one JSON object per share: workinfoid, clientid, enonce1,
nonce2, nonce, ntime, diff, sdiff, hash, result, error (older trees: reject-reason, too), errn,
createdate (``"<seconds>,<nanoseconds>"``), createby, createcode, createinet, workername,
username, address, agent.

Whether a line is a share depends on the line alone, never on the clock or on other lines:
the number of every later share of its file follows from it.
"""

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from tbg_core.events import EARLIEST, INT64_MAX, MAX_DIFFICULTY, MIN_DIFFICULTY, check_ip

MAX_LINE: Final = 65_536  # bytes; ckpool's own have about 600

KNOWN: Final = frozenset(
    {
        *("workinfoid", "clientid", "enonce1", "secondaryuserid", "nonce2", "nonce", "ntime"),
        *("diff", "sdiff", "hash", "result", "reject-reason", "error", "errn", "createdate"),
        *("createby", "createcode", "createinet", "workername", "username", "address", "agent"),
    }
)

REASONS: Final = {
    1: "Invalid JobID",
    2: "Stale",
    3: "Ntime out of range",
    4: "Duplicate",
    5: "Above target",
    6: "Invalid version mask",
    7: "No workbase",
}
"""Upstream's names of the reject codes (libckpool.h). Negative codes are malformed submits."""

_MAX_USER: Final = 90  # characters, as in the event contract
_MAX_WORKER: Final = 128
_MAX_REASON: Final = 128
_MAX_AGENT: Final = 256
_NO_IP: Final = "0.0.0.0"  # noqa: S104  says that ckpool had none; nothing listens on it
_LATEST: Final = 253_402_300_799  # the last second that a datetime can hold

_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}){1,32}").fullmatch
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_CREATED: Final = re.compile(r"([0-9]{1,12}),([0-9]{1,9})").fullmatch
_SEPARATOR: Final = re.compile(r"[._/+]")
_PREFIX: Final = "bitcoin:"
_PADDING: Final = " \t\n\v\f\r\0"

_decode: Final = msgspec.json.Decoder().decode


class BadLine(ValueError):
    """A line that is not a share.

    Attributes:
        reason: short and countable.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Share(msgspec.Struct, gc=False):
    """One share.

    Attributes:
        micros: when it came in, microseconds since the Unix epoch.
        data: the data of its ``share_submitted`` event.
        unknown: fields of the line that ckpool's share log does not have.
    """

    micros: int
    data: dict[str, Any]
    unknown: frozenset[str]


def parse(line: bytes, *, too_long: bool = False) -> Share:
    """Reads one line.

    Args:
        too_long: it was longer than it is now.

    Raises:
        BadLine: if it is not a share; no input raises anything else.
    """
    if too_long or len(line) > MAX_LINE:
        raise BadLine("too_long")
    if not line.strip():
        raise BadLine("empty")
    try:
        fields = _decode(line)
    except (ValueError, RecursionError):
        raise BadLine("not_json") from None
    if not isinstance(fields, dict):
        raise BadLine("not_an_object")
    get = fields.get
    valid = get("result")
    if not isinstance(valid, bool):
        raise BadLine("no_result")
    micros = _time(get("createdate"))
    user, worker = _miner(get("workername"), get("username"))
    difficulty = _difficulty(get("diff"))
    if difficulty is None:
        raise BadLine("no_difficulty")
    achieved, job = _difficulty(get("sdiff")), _whole(get("workinfoid"))
    nonce, nonce2 = _hex(get("nonce")), _hex(get("nonce2"))
    if valid and (achieved is None or job is None or nonce is None or nonce2 is None):
        raise BadLine("accepted_without_proof")
    digest, agent = get("hash"), get("agent")
    data = {
        "user": user,
        "worker": worker,
        "difficulty": difficulty,
        "share_diff": achieved,
        "valid": valid,
        "reject_reason": None if valid else _reason(fields),
        # ckpool names its jobs by the work info id in hexadecimal.
        "job_id": None if job is None else f"{job:016x}",
        "nonce": nonce,
        "nonce2": nonce2,
        "ip": _ip(get("address")),
        "client_id": _whole(get("clientid")),
        "ntime": _hex(get("ntime")),
        "hash": digest if isinstance(digest, str) and _HASH(digest) else None,
        "user_agent": _text(agent, _MAX_AGENT) if isinstance(agent, str) else None,
    }
    return Share(micros, data, _NONE if KNOWN.issuperset(fields) else frozenset(fields) - KNOWN)


_NONE: Final[frozenset[str]] = frozenset()


def _time(value: Any) -> int:
    match = _CREATED(value) if isinstance(value, str) else None
    if match is None:
        raise BadLine("no_time")
    seconds = int(match[1])
    micros = seconds * 1_000_000 + int(match[2]) // 1000
    if seconds > _LATEST or micros < EARLIEST:
        raise BadLine("no_time")
    return micros


def _miner(workername: Any, username: Any) -> tuple[str, str]:
    user, worker = split_username(workername) if isinstance(workername, str) else ("", "")
    if not user and isinstance(username, str):
        user = split_username(username)[0]
    if not user:
        raise BadLine("no_user")
    return user, worker


@lru_cache(maxsize=65_536)
def split_username(name: str) -> tuple[str, str]:
    """The address and the worker in a Stratum user name, as our engines split it.

    White space around the name and ``bitcoin:`` before it mean nothing. The address ends
    before the first of ``.``, ``_``, ``/`` and ``+``; the worker is the rest. Both are cut
    to what the contract allows.
    """
    text = name.strip(_PADDING).replace("\0", "")  # which the database cannot hold
    if text[: len(_PREFIX)].lower() == _PREFIX:
        text = text[len(_PREFIX) :]
    user, *rest = _SEPARATOR.split(text, maxsplit=1)
    return user.strip(_PADDING)[:_MAX_USER], "".join(rest).strip(_PADDING)[:_MAX_WORKER]


def _reason(fields: dict[str, Any]) -> str:
    """Upstream's word for the code, else what the line says itself."""
    code = fields.get("errn")
    if isinstance(code, bool) or not isinstance(code, int):
        code = 0
    if code in REASONS:
        return REASONS[code]
    for name in ("error", "reject-reason"):
        text = fields.get(name)
        if isinstance(text, str) and (said := _text(text, _MAX_REASON)):
            return said
    return "Malformed" if code < 0 else "unknown"


def _difficulty(value: Any) -> float | None:
    """A difficulty within the contract's bounds, which an infinite one or NaN is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if MIN_DIFFICULTY <= value <= MAX_DIFFICULTY else None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
        return None
    return value


def _hex(value: Any) -> str | None:
    return value if isinstance(value, str) and _HEX(value) else None


@lru_cache(maxsize=65_536)
def _ip_or_none(value: str) -> str | None:
    try:
        return check_ip(value) if len(value) <= 45 else None
    except ValueError:
        return None


def _ip(value: Any) -> str:
    # The contract requires one, and a share is not lost for it: as the ckpool fork does.
    return (_ip_or_none(value) if isinstance(value, str) else None) or _NO_IP


def _text(value: str, limit: int) -> str:
    return value.replace("\x00", "")[:limit]
