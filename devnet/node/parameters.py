"""The parameters of an RPC: by position or by name, checked as bitcoind checks them."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from types import UnionType
from typing import Any, Final, get_args, get_origin

from devnet.bitcoin.hashing import from_display
from tbg_core.rpc import RPCError, RPCErrorCode

Handler = Callable[..., Awaitable[Any]]
"""A coroutine method whose parameters are those of the RPC; None stands for one left out."""

_JSON_NAMES: Final[dict[str, type]] = {
    "string": str,
    "number": int,
    "bool": bool,
    "object": dict,
    "array": list,
}


def bind(handler: Handler, given: object) -> dict[str, Any]:
    """The arguments of ``handler`` by name, from the ``params`` of a request.

    ``given`` is a list, an object, or null.

    Raises:
        RPCError: with bitcoind's code: -1 for too many or too few, -8 for an unknown name, -3 for
            a wrong type.
    """
    method = handler.__name__[1:]
    parameters = inspect.signature(handler).parameters
    if isinstance(given, dict):
        unknown = given.keys() - parameters.keys()
        if unknown:
            raise RPCError(
                RPCErrorCode.INVALID_PARAMETER, f"Unknown named parameter {min(unknown)}"
            )
        named = dict(given)
    else:
        values = given if isinstance(given, list) else []
        if len(values) > len(parameters):
            raise _usage(method, parameters.values())
        named = dict(zip(parameters, values, strict=False))
    arguments = {}
    for name, parameter in parameters.items():
        value = named.get(name)
        if value is None and parameter.default is not parameter.empty:
            continue
        if name not in named:
            raise _usage(method, parameters.values())
        kinds = _kinds(parameter.annotation)
        if not any(_is_kind(value, kind) for kind in kinds):
            raise RPCError(
                RPCErrorCode.TYPE_ERROR,
                f"{method}: {name} must be of type {' or '.join(kinds)}, not {_kind_of(value)}",
            )
        if isinstance(value, float):
            raise RPCError(RPCErrorCode.MISC_ERROR, f"{method}: {name} must be an integer")
        arguments[name] = value
    return arguments


def block_hash(text: str, name: str) -> bytes:
    """The hash in a parameter.

    Raises:
        RPCError: with code -8, for anything but 64 hex digits.
    """
    try:
        return from_display(text)
    except ValueError as error:
        raise RPCError(RPCErrorCode.INVALID_PARAMETER, f"{name}: {error}") from error


def _usage(method: str, parameters: Iterable[inspect.Parameter]) -> RPCError:
    words = [method]
    for parameter in parameters:
        optional = parameter.default is not parameter.empty
        words.append(f"( {parameter.name} )" if optional else parameter.name)
    return RPCError(RPCErrorCode.MISC_ERROR, "usage: " + " ".join(words))


def _kinds(annotation: Any) -> list[str]:
    """The JSON names of the types that ``annotation`` allows."""
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    types = [get_origin(member) or member for member in members]
    return [kind for kind, known in _JSON_NAMES.items() if known in types]


def _is_kind(value: object, kind: str) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _JSON_NAMES[kind])


def _kind_of(value: object) -> str:
    return next((kind for kind in _JSON_NAMES if _is_kind(value, kind)), "null")
