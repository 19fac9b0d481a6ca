"""Decodes one datagram: strict about what is required, tolerant of extras.

The decoder is derived from the pydantic models of :mod:`tbg_core.events` and
runs on msgspec, which costs about a quarter of pydantic's time per share;
tests/tbg_core/test_decode.py proves that the two agree. It is pure: no I/O, no
state but caches.
"""

import re
import types
from binascii import unhexlify
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import annotated_types
import msgspec
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from tbg_core.events import (
    EVENTS,
    HEX,
    MAX_DATAGRAM,
    MAX_INSTANCE,
    NO_NUL,
    SEQ_MAX,
    STATUS,
    EngineStatusData,
    Event,
    MinerData,
    Proof,
    ShareSubmittedData,
    canonical_address,
    check_proof,
    check_share,
    check_status,
    holds_nul,
)

Check = Callable[[Any], Any]


class Refused(ValueError):
    """A datagram that does not fit the contract.

    Attributes:
        reason: short and countable, one of :data:`REASONS`.
        detail: what was wrong and where, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


REASONS: Final = ("too_large", "not_utf8", "not_json", "unknown_event", "bad_envelope", "bad_data")


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """One event that fits the contract.

    ``raw_data`` is the JSON of ``data`` as it came, extra fields included, with the
    user's address in its canonical form; ``data`` holds the contract's fields as attributes.
    """

    event: str
    timestamp: int
    source: str
    instance: str | None
    seq: int | None
    raw_data: bytes
    data: Any


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    event: str
    timestamp: int
    source: str
    data: msgspec.Raw
    instance: str | None = None
    seq: int | None = None


def _meta(constraints: list[Any]) -> msgspec.Meta | None:
    """Translates the constraints of one pydantic field to msgspec's."""
    kwargs: dict[str, Any] = {}
    for item in constraints:
        match item:
            case annotated_types.Ge():
                kwargs["ge"] = item.ge
            case annotated_types.Le():
                kwargs["le"] = item.le
            case annotated_types.MinLen():
                kwargs["min_length"] = item.min_length
            case annotated_types.MaxLen():
                kwargs["max_length"] = item.max_length
            case AfterValidator():
                pass  # collected by _checks, run after decoding
            case FieldInfo():
                inner = _meta(list(item.metadata))
                if inner is not None:
                    kwargs.update(
                        {k: v for k in _META_KEYS if (v := getattr(inner, k)) is not None}
                    )
            case _ if getattr(item, "pattern", None) in (HEX, NO_NUL):
                pass  # hex is checked by _checks, NUL once for the whole datagram: both
                # cost a fraction of a regular expression on every text
            case _ if getattr(item, "pattern", None) is not None:
                kwargs["pattern"] = item.pattern
            case _ if getattr(item, "allow_inf_nan", None) is False:
                pass  # JSON knows neither, and msgspec refuses both
            case _:
                raise TypeError(f"no msgspec form of the constraint {item!r}")
    return msgspec.Meta(**kwargs) if kwargs else None


# The rules between the fields of a model.
_RULES: Final[dict[type[BaseModel], Check]] = {
    ShareSubmittedData: check_share,
    Proof: check_proof,
    EngineStatusData: check_status,
}
_META_KEYS: Final = ("ge", "le", "min_length", "max_length", "pattern")


def _derive(annotation: Any, constraints: list[Any]) -> Any:
    """Turns a field's annotation into the msgspec type of the same meaning."""
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *more = get_args(annotation)
        return _derive(base, [*constraints, *more])
    if origin in (Union, types.UnionType):
        result: Any = None
        for arm in get_args(annotation):
            derived = None if arm is types.NoneType else _derive(arm, constraints)
            result = derived if result is None else result | derived
        return result
    if origin is Literal:
        return annotation
    if origin is list:
        return list[_derive(get_args(annotation)[0], [])]  # type: ignore[misc]  # made at run time
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _struct(annotation, [])
    if annotation not in (str, int, float, bool):
        raise TypeError(f"no msgspec form of the type {annotation!r}")
    meta = _meta(constraints)
    return annotation if meta is None else Annotated[annotation, meta]


def _find_checks(annotation: Any, constraints: list[Any]) -> list[Check]:
    found: list[Check] = []
    for item in constraints:
        if isinstance(item, AfterValidator):
            if item.func is not canonical_address:  # which changes the text, and refuses nothing
                found.append(cast(Check, item.func))
        elif isinstance(item, FieldInfo):
            found += _find_checks(None, list(item.metadata))
        elif getattr(item, "pattern", None) == HEX:
            found.append(unhexlify)
    if get_origin(annotation) is Annotated:
        base, *more = get_args(annotation)
        found += _find_checks(base, more)
    elif get_origin(annotation) in (Union, types.UnionType):
        for arm in get_args(annotation):
            found += _find_checks(arm, [])
    elif get_origin(annotation) is list:
        found += [_each(check) for check in _find_checks(get_args(annotation)[0], [])]
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found.append(_inner(annotation))
    return found


def _each(check: Check) -> Check:
    def each(values: Any) -> None:
        for value in values:
            check(value)

    return each


def _inner(model: type[BaseModel]) -> Check:
    checks = _checks(model)
    rule = _RULES.get(model)

    def inner(value: Any) -> None:
        _run(checks, value)
        if rule is not None:
            rule(value)

    return inner


def _run(checks: list[tuple[str, Check]], data: Any) -> None:
    """Runs the checks of fields.

    Raises:
        ValueError: names the field that fails.
    """
    for name, check in checks:
        value = getattr(data, name)
        if value is not None:
            try:
                check(value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None


def _fields(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(name, info) for name, info in model.model_fields.items() if name != "data"]


def _struct(model: type[BaseModel], extra: list[tuple[str, Any]]) -> type[msgspec.Struct]:
    required: list[Any] = list(extra)
    optional: list[Any] = []
    for name, info in _fields(model):
        kind = _derive(info.annotation, list(info.metadata))
        if info.is_required():
            required.append((name, kind))
        else:
            optional.append((name, kind, info.default))
    return msgspec.defstruct(
        model.__name__, required + optional, frozen=True, gc=False, kw_only=False
    )


def _checks(model: type[BaseModel]) -> list[tuple[str, Check]]:
    return [
        (name, check)
        for name, info in _fields(model)
        for check in _find_checks(info.annotation, list(info.metadata))
    ]


class _DataDecoder:
    """Decodes and checks the data of one kind of event."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._decode = msgspec.json.Decoder(_struct(model, [])).decode
        self._checks = _checks(model)
        self._rule = _RULES.get(model)
        self._names_user = issubclass(model, MinerData)

    def __call__(self, raw: bytes | msgspec.Raw) -> tuple[Any, bytes]:
        data: Any = self._decode(raw)
        _run(self._checks, data)
        if self._rule is not None:
            self._rule(data)
        if self._names_user:
            user = canonical_address(data.user)
            if user != data.user:
                return msgspec.structs.replace(data, user=user), _with_user(raw, user)
        return data, bytes(raw)


def _with_user(raw: bytes | msgspec.Raw, user: str) -> bytes:
    """The JSON of data with another user; every other value keeps its bytes."""
    fields = _FIELDS.decode(raw)
    fields["user"] = msgspec.Raw(msgspec.json.encode(user))
    return msgspec.json.encode(fields)


_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


_ENVELOPE: Final = msgspec.json.Decoder(_struct(Event, [("data", msgspec.Raw)]))
_ENVELOPE_CHECKS: Final = _checks(Event)
_DATA: Final[dict[str, _DataDecoder]] = {
    name: _DataDecoder(cast(type[BaseModel], model.model_fields["data"].annotation))
    for name, model in EVENTS.items()
}
_STATUS: Final = _DataDecoder(EngineStatusData)


def decode(datagram: bytes) -> Decoded:
    """Decodes one datagram: one of the events, or an ``engine_status``.

    Raises:
        Refused: when it does not fit the contract; nothing else is raised,
            whatever the bytes are.
    """
    if len(datagram) > MAX_DATAGRAM:
        raise Refused("too_large", f"over {MAX_DATAGRAM} bytes")
    try:
        # msgspec does not look into text that it skips; the database would.
        datagram.decode()
    except UnicodeDecodeError as error:
        raise Refused("not_utf8", str(error)) from None
    try:
        envelope = cast(_Envelope, _ENVELOPE.decode(datagram))
        for name, check in _ENVELOPE_CHECKS:
            value = getattr(envelope, name)
            if value is not None:
                check(value)
    except msgspec.ValidationError as error:
        raise Refused("bad_envelope", str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("not_json", str(error)) from None
    except ValueError as error:
        raise Refused("bad_envelope", f"{name} {error}") from None
    decoder = _DATA.get(envelope.event)
    if decoder is None:
        if envelope.event != STATUS:
            raise Refused(
                "unknown_event", f"{envelope.event[:64]!r} is none of {', '.join(EVENTS)}"
            )
        if envelope.seq is not None or envelope.instance is None:
            raise Refused("bad_envelope", f"{STATUS} has no seq, and names an instance")
        decoder = _STATUS
    # One byte is found far sooner than six, and most datagrams escape nothing.
    if b"\\" in datagram and b"\\u0000" in datagram and holds_nul(msgspec.json.decode(datagram)):
        raise Refused("bad_data", "a text holds U+0000, which the database cannot hold")
    try:
        data, raw_data = decoder(envelope.data)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_data", str(error)) from None
    return Decoded(
        envelope.event,
        envelope.timestamp,
        envelope.source,
        envelope.instance,
        envelope.seq,
        raw_data,
        data,
    )


def decode_data(event: str, raw: bytes) -> tuple[Any, bytes]:
    """Decodes the data of an event that was decoded once before.

    Returns:
        The contract's fields as attributes, and the JSON as :class:`Decoded` holds it.

    Raises:
        Refused: when it does not fit; the stream may hold entries that
            another program wrote.
    """
    decoder = _DATA.get(event)
    if decoder is None:
        raise Refused("unknown_event", f"{event[:64]!r}")
    try:
        return decoder(raw)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_data", str(error)) from None


# JSON's tokens, whatever the bytes in its texts are: texts, marks, and everything else.
# A text without an end takes the rest, so that no bytes are looked at twice.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
_OPENING: Final = frozenset({b"{", b"["})
_CLOSING: Final = frozenset({b"}", b"]"})
_ENDS: Final = frozenset({b",", b"}"})
_MARKS: Final = _OPENING | _CLOSING | _ENDS
# A whole number as any writer of JSON has it: 7, 7.0 or "7".
_WHOLE: Final = re.compile(r"([1-9][0-9]{0,15})(?:\.0*)?")


def identify(datagram: bytes) -> tuple[str | None, int | None]:
    """Reads instance and seq of a refused datagram, where they can be read.

    So a refused event is not taken for a lost one. The bytes need not be JSON, nor UTF-8: what
    stands in the outermost object before the damage is read, the number also as a text or with
    a fraction of zeros. A key that comes twice means its last value, as for every decoder. An ``engine_status`` is none: a number on it belongs to
    another event.
    """
    found: dict[str | None, bytes] = {}
    depth = 0
    words: list[bytes] = []
    for match in _TOKEN.finditer(datagram):
        token = match[0]
        if token not in _MARKS:
            if depth == 1:
                words.append(token)
            continue
        # Only a text, a colon and a word before a mark are a member that was read to its end.
        if depth == 1 and token in _ENDS and len(words) == 3 and words[1] == b":":
            found[_text(words[0])] = words[2]
        words = []
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth <= 0 or (depth == 1 and token == b"[" and not found):
            break
    instance, token = _text(found.get("instance", b"")), found.get("seq", b"")
    seq = _WHOLE.fullmatch(_text(token) or token.decode(errors="replace"))
    if not instance or len(instance) > MAX_INSTANCE or "\x00" in instance:
        return None, None
    if not seq or int(seq[1]) > SEQ_MAX or _text(found.get("event", b"")) == STATUS:
        return None, None
    return instance, int(seq[1])


def _text(token: bytes) -> str | None:
    try:
        return msgspec.json.decode(token, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
