"""One channel: a text in, delivered or not. All services are Apprise's."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final
from urllib.parse import quote

from apprise import Apprise, NotifyFormat

from tbg.notify.routes import Route, resolve
from tbg.notify.text import Text, render, style_of

_LONGEST_ANSWER: Final = 300

# Apprise logs what services answer, and at lower levels what it sends: nothing of it goes
# to our logs but the answers, without secrets.
# Apprise may work in another thread, which has our context.
_said: Final[ContextVar[list[str] | None]] = ContextVar("said", default=None)


class _Answers(logging.Handler):
    """Keeps what Apprise complains of for the send that it belongs to."""

    def emit(self, record: logging.LogRecord) -> None:
        said = _said.get()
        if said is not None:
            said.append(record.getMessage())


_logger: Final = logging.getLogger("apprise")
_logger.propagate = False
_logger.addHandler(_Answers(logging.WARNING))


class Undelivered(Exception):
    """The channel did not take a message; the text says what it answered."""


def scheme_of(url: str) -> str:
    """The scheme of an Apprise URL."""
    return url.partition(":")[0].lower()


def send(route: Route, text: Text, environ: Mapping[str, str] = os.environ) -> None:
    """Delivers a text. A secret file is read each time, so that it may change.

    Raises:
        Undelivered: with the service's answer, secrets left out.
    """
    try:
        url, secrets = resolve(route.to, environ)
    except ValueError as error:
        raise Undelivered(str(error)) from None
    channel = Apprise()
    if not channel.add(url):
        raise Undelivered("the Apprise URL is not understood any more: its secret has changed")
    service = channel[0]
    markdown = getattr(service, "notify_format", None) == NotifyFormat.MARKDOWN
    style = style_of(scheme_of(url), markdown=markdown)
    title, body = render(text, style)
    body_format = {"html": NotifyFormat.HTML, "markdown": NotifyFormat.MARKDOWN}.get(
        style, NotifyFormat.TEXT
    )
    if scheme_of(url) == "discord" and not markdown:
        # It renders markup in what is called text, so what is escaped goes as it is.
        body_format = NotifyFormat.TEXT
    said: list[str] = []
    _said.set(said)
    taken = channel.notify(body=body, title=title, body_format=body_format)
    if not taken:
        raise Undelivered(_without(said, [*secrets, route.to, url]) or "it was not taken")


def _without(said: Sequence[str], secrets: Sequence[str]) -> str:
    text = " ".join(" ".join(said).split())
    shown = {form for secret in secrets for form in (secret, quote(secret, safe=""))}
    for secret in sorted(shown, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text[:_LONGEST_ANSWER]
