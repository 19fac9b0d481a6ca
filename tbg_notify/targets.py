"""The single targets of an Apprise URL: a topic, a chat, a mailbox.

Apprise sends to all targets of a URL at once and says only whether all have taken the
message. Who delivers by target can repeat for one and leave the others alone.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from apprise import Apprise, NotifyBase
from apprise.plugins import url_to_dict
from apprise.utils.parse import parse_emails, parse_list, parse_urls

# Apprise logs what services answer, and at lower levels what it sends: nothing of it goes
# to our logs but the answers, without secrets.
said: Final[ContextVar[list[logging.LogRecord] | None]] = ContextVar("said", default=None)


class _Answers(logging.Handler):
    """Keeps what Apprise complains of for the send that it belongs to."""

    def emit(self, record: logging.LogRecord) -> None:
        heard = said.get()
        if heard is not None:
            heard.append(record)


_logger: Final = logging.getLogger("apprise")
_logger.propagate = False
_logger.addHandler(_Answers(logging.WARNING))


# A shorter part of a URL is a word: to hide it would hide what an answer says.
_LEAST_SECRET: Final = 8
_WEB: Final = {"http": "json", "https": "jsons"}


@dataclass(frozen=True)
class Target:
    """One receiver of a route's messages.

    Attributes:
        key: a digest of its URL; another password makes it another target.
        label: its URL without secrets, for people.
    """

    key: str
    label: str
    service: NotifyBase = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def targets_of(url: str, secrets: Sequence[str] = ()) -> list[Target]:
    """The targets of an Apprise URL, or of several with commas between them.

    A web address that is no service's own takes JSON, whose ``text`` is the message.

    Args:
        url: with its secrets in place.
        secrets: what must not stand in a label; the URL itself may be one.

    Raises:
        ValueError: Apprise does not understand it. The text does not hold the URL.
    """
    found: dict[str, Target] = {}
    singles: list[str] = parse_urls(url)  # type: ignore[no-untyped-call]  # theirs
    for single in singles or [url]:
        hidden = [*secrets, *(_tokens(single) if url in secrets else ())]
        for service in _services(single):
            whole: str = service.url()  # type: ignore[no-untyped-call]  # theirs
            key = hashlib.sha256(whole.encode()).hexdigest()[:16]
            label = _label(service, hidden)
            found[key] = Target(key, label, service, (whole, single, *hidden))
    return list(found.values())


def _services(url: str) -> list[NotifyBase]:
    parts = url_to_dict(url)  # type: ignore[no-untyped-call]  # theirs
    plain = parts is None and url.partition(":")[0].lower() in _WEB
    if plain:
        parts = url_to_dict(_as_json(url))  # type: ignore[no-untyped-call]  # theirs
    service = parts and Apprise.instantiate(dict(parts))
    if not service:
        raise ValueError("the Apprise URL is not understood")
    if plain:
        service.title_maxlen = 0  # the title is the text's first line
        return [service]
    return _split(parts, service)


def _as_json(url: str) -> str:
    """A web address as Apprise has it: its query is the service's, and not Apprise's."""
    shown = urlsplit(url)
    query = [(f"-{name}", value) for name, value in parse_qsl(shown.query, keep_blank_values=True)]
    return urlunsplit(
        (
            _WEB[shown.scheme.lower()],
            shown.netloc,
            shown.path,
            urlencode([*query, (":message", "text")]),
            "",
        )
    )


def _split(parts: dict[str, Any], service: NotifyBase) -> list[NotifyBase]:
    """A service for each target; the service itself where it has one, or cannot be split."""
    copies = [*_addresses(parts, "cc"), *_addresses(parts, "bcc")]
    if len(service) + len(copies) < 2:
        return [service]
    # A copy of a mail is a mail of its own, so that one mailbox cannot hold up another.
    named = [*_addresses(parts, "targets"), *copies]
    if len(service) + len(copies) > len(named):
        return [service]
    single = [
        Apprise.instantiate({**parts, "targets": [one], "cc": None, "bcc": None} if copies
                            else {**parts, "targets": [one]})
        for one in dict.fromkeys(named)
    ]  # fmt: skip
    made = [one for one in single if one is not None]
    return made if sum(map(len, made)) >= len(service) else [service]


def _addresses(parts: dict[str, Any], name: str) -> Iterator[str]:
    value = parts.get(name)
    for entry in [value] if isinstance(value, str) else value or ():
        if "@" in entry and parts["schema"].startswith("mailto"):
            yield from parse_emails(entry)  # type: ignore[no-untyped-call]  # theirs
        else:
            yield from parse_list(entry, sort=False)  # type: ignore[no-untyped-call]  # theirs


def _tokens(url: str) -> list[str]:
    """What may be a secret in a URL that is one as a whole."""
    parts = urlsplit(url)
    named = [parts.username or "", parts.password or "", *parts.path.split("/")]
    named += [value for _, value in parse_qsl(parts.query)]
    return [one for one in named if len(one) >= _LEAST_SECRET]


def _label(service: NotifyBase, secrets: Sequence[str]) -> str:
    shown = urlsplit(service.url(privacy=True))  # type: ignore[no-untyped-call]  # theirs
    return without(f"{shown.scheme}://{shown.netloc}{shown.path}".rstrip("/"), secrets)[:200]


def without(text: str, secrets: Sequence[str]) -> str:
    """The text, in which no secret stands, neither plain nor as in a URL."""
    forms = {form for one in secrets if one for form in (one, quote(one, safe=""), quote(one))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text
