"""The parameters of an RPC: by position or by name, checked as bitcoind checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devnet.bitcoin.hashing import from_display
from ingest.rpc import RPCError, RPCErrorCode

REQUIRED = object()

_JSON_NAMES = {
    "string": str,
    "number": int,
    "bool": bool,
    "object": dict,
    "array": list,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, the JSON types it may have, and its value when left out."""

    name: str
    kinds: tuple[str, ...]
    default: Any = REQUIRED


def bind(method: str, parameters: Sequence[Parameter], given: object) -> dict[str, Any]:
    """The arguments by name, from the ``params`` of a request (list, object, or null).

    Raises ``RPCError`` with the code that bitcoind gives: -1 for too many or too few, -8 for an
    unknown name, -3 for a wrong type.
    """
    if isinstance(given, dict):
        unknown = given.keys() - {parameter.name for parameter in parameters}
        if unknown:
            raise RPCError(
                RPCErrorCode.INVALID_PARAMETER, f"Unknown named parameter {min(unknown)}"
            )
        named = dict(given)
    else:
        values = given if isinstance(given, list) else []
        if len(values) > len(parameters):
            raise _usage(method, parameters)
        named = dict(zip((parameter.name for parameter in parameters), values, strict=False))
    arguments = {}
    for parameter in parameters:
        value = named.get(parameter.name)
        if value is None and parameter.default is not REQUIRED:
            arguments[parameter.name] = parameter.default
            continue
        if parameter.name not in named:
            raise _usage(method, parameters)
        if not any(_is_kind(value, kind) for kind in parameter.kinds):
            raise RPCError(
                RPCErrorCode.TYPE_ERROR,
                f"{method}: {parameter.name} must be of type {' or '.join(parameter.kinds)},"
                f" not {_kind_of(value)}",
            )
        if isinstance(value, float):
            raise RPCError(
                RPCErrorCode.MISC_ERROR, f"{method}: {parameter.name} must be an integer"
            )
        arguments[parameter.name] = value
    return arguments


def block_hash(text: str, name: str) -> bytes:
    """The hash in a parameter; raises ``RPCError`` -8 for anything but 64 hex digits."""
    try:
        return from_display(text)
    except ValueError as error:
        raise RPCError(RPCErrorCode.INVALID_PARAMETER, f"{name}: {error}") from error


def _usage(method: str, parameters: Sequence[Parameter]) -> RPCError:
    words = [method]
    for parameter in parameters:
        optional = parameter.default is not REQUIRED
        words.append(f"( {parameter.name} )" if optional else parameter.name)
    return RPCError(RPCErrorCode.MISC_ERROR, "usage: " + " ".join(words))


def _is_kind(value: object, kind: str) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _JSON_NAMES[kind])


def _kind_of(value: object) -> str:
    return next((kind for kind in _JSON_NAMES if _is_kind(value, kind)), "null")
