"""One channel: a text in, delivered or not. All services are Apprise's."""

import contextlib
import functools
import io
import logging
import os
import smtplib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import requests
from apprise import Apprise, NotifyFormat
from urllib3.exceptions import HTTPError

from tbg_notify.deadline import limit
from tbg_notify.routes import Route, resolve
from tbg_notify.targets import Target, said, targets_of, without
from tbg_notify.text import Text, render, style_of

SECONDS: Final = 20.0  # that a target may take for a text
_LONGEST_ANSWER: Final = 300
_LONGEST_BODY: Final = 2**20  # bytes
# Of the HTTP answers 4xx, those that may be different the next time.
_PASSING: Final = frozenset([408, 409, 421, 423, 425, 429])
# A channel that wants to be left alone for longer is asked all the same.
LONGEST_REST: Final = timedelta(hours=1)


class _Answer(NamedTuple):
    """What a server answered: the status of HTTP, or the reply code of SMTP."""

    status: int
    permanent: bool
    retry_after: str | None = None


# Apprise says that a service has refused, but not whether for good, nor for how long: the
# answers are heard below it.
_heard: Final[ContextVar[list[_Answer] | None]] = ContextVar("heard", default=None)


def _note(answer: _Answer) -> None:
    answers = _heard.get()
    if answers is not None and answer.status >= 300:
        answers.append(answer)


def _hearing_web(send: Any) -> Any:
    @functools.wraps(send)
    def heard(*arguments: Any, **options: Any) -> requests.Response:
        answer: requests.Response = send(*arguments, **options)
        if _heard.get() is None:
            return answer
        _shorten(answer)
        status = answer.status_code
        permanent = 400 <= status < 500 and status not in _PASSING
        _note(_Answer(status, permanent, answer.headers.get("Retry-After")))
        return answer

    return heard


def _shorten(answer: requests.Response) -> None:
    """Reads the beginning of a body, and leads nowhere else.

    What a body lacks changes nothing: its status has said whether the text was taken. Where an
    answer leads to another address, a text would arrive there as a question without a body, and
    any page would seem to have taken it.
    """
    body = b""
    with contextlib.suppress(HTTPError, OSError):
        body = answer.raw.read(_LONGEST_BODY, decode_content=True)
    answer.raw.close()
    answer.raw = io.BytesIO(body)
    answer.headers.pop("Location", None)


def _hearing_mail(call: Any) -> Any:
    @functools.wraps(call)
    def heard(*arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except smtplib.SMTPRecipientsRefused as error:
            for code, _ in error.recipients.values():
                _note(_Answer(code, code >= 500))
            raise
        except smtplib.SMTPResponseException as error:
            _note(_Answer(error.smtp_code, error.smtp_code >= 500))
            raise

    return heard


requests.adapters.HTTPAdapter.send = _hearing_web(  # type: ignore[method-assign]
    requests.adapters.HTTPAdapter.send
)
smtplib.SMTP.sendmail = _hearing_mail(smtplib.SMTP.sendmail)  # type: ignore[method-assign]
smtplib.SMTP.login = _hearing_mail(smtplib.SMTP.login)  # type: ignore[method-assign]


class Undelivered(Exception):
    """The channel did not take a message; the text says what it answered.

    Attributes:
        permanent: it would answer the same to the same message.
        rest: how long it wants to be left alone, if it said so.
    """

    def __init__(
        self, answer: str, *, permanent: bool = False, rest: timedelta | None = None
    ) -> None:
        super().__init__(answer)
        self.permanent = permanent
        self.rest = rest


def scheme_of(url: str) -> str:
    """The scheme of an Apprise URL."""
    return url.partition(":")[0].lower()


def targets(route: Route, environ: Mapping[str, str] = os.environ) -> list[Target]:
    """The targets of a route. A secret file is read each time, so that it may change.

    Raises:
        Undelivered: a secret is not there, or makes no URL.
    """
    try:
        url, secrets = resolve(route.to, environ)
        return targets_of(url, secrets)
    except ValueError as error:
        raise Undelivered(str(error)) from None


def send(to: Route | Target, text: Text, environ: Mapping[str, str] = os.environ) -> None:
    """Delivers a text to a target, or to each of a route's.

    Raises:
        Undelivered: with the service's answer, secrets left out. Of several targets, the
            others have been sent the text.
    """
    if isinstance(to, Target):
        _send(to, text)
        return
    refusals = []
    for target in targets(to, environ):
        try:
            _send(target, text)
        except Undelivered as error:
            refusals.append(error)
    if refusals:
        answers = dict.fromkeys(str(error) for error in refusals)
        raise Undelivered("; ".join(answers), permanent=all(error.permanent for error in refusals))


def _send(target: Target, text: Text) -> None:
    service = target.service
    scheme = scheme_of(service.url())  # type: ignore[no-untyped-call]  # theirs
    markdown = getattr(service, "notify_format", None) == NotifyFormat.MARKDOWN
    style = style_of(scheme, markdown=markdown)
    title, body = render(text, style)
    body_format = {"html": NotifyFormat.HTML, "markdown": NotifyFormat.MARKDOWN}.get(
        style, NotifyFormat.TEXT
    )
    if scheme == "discord" and not markdown:
        # It renders markup in what is called text, so what is escaped goes as it is.
        body_format = NotifyFormat.TEXT
    records: list[logging.LogRecord] = []
    answers: list[_Answer] = []
    said.set(records)
    _heard.set(answers)
    try:
        # A service's own pause between two texts would hold up a found block: a target that has
        # enough says so, and then rests.
        service.request_rate_per_sec = 0
        channel = Apprise()
        channel.add(service)
        with limit(SECONDS) as deadline:
            taken = channel.notify(body=body, title=title, body_format=body_format)
    finally:
        said.set(None)
        _heard.set(None)
    if not taken and deadline.over:
        raise Undelivered(f"it took longer than {SECONDS:g} s")
    if not taken:
        raise _refusal(target, records, answers)


def _refusal(
    target: Target, records: Sequence[logging.LogRecord], answers: Sequence[_Answer]
) -> Undelivered:
    spoken = " ".join(" ".join(one.getMessage() for one in records).split())
    text = without(spoken, target.secrets) or "it was not taken"
    if not answers:
        return Undelivered(text[:_LONGEST_ANSWER])
    last = answers[-1]
    if str(last.status) not in text:
        text = f"{last.status}: {text}"
    return Undelivered(
        text[:_LONGEST_ANSWER], permanent=last.permanent, rest=_rest(last.retry_after)
    )


def _rest(header: str | None) -> timedelta | None:
    """How long an answer's ``Retry-After`` asks for: seconds, or a moment (RFC 9110, 10.2.3)."""
    try:
        if header is None:
            return None
        if header.strip().isdecimal():
            asked = timedelta(seconds=min(int(header), LONGEST_REST.total_seconds()))
        else:
            moment = parsedate_to_datetime(header)
            asked = moment - datetime.now(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(asked, timedelta(0)), LONGEST_REST)
