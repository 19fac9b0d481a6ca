"""Routes: which messages go where; read from ``alerts.yml``."""

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tbg_notify.kinds import KINDS, SEVERITIES, Message, Severity, Worker
from tbg_notify.quiet import Quiet
from tbg_notify.targets import targets_of

CAP: Final = 6
_REFERENCE: Final = re.compile(r"\$\{(file:)?([^}]+)\}")


class RoutesError(ValueError):
    """The routes are wrong; the text names each mistake and its place."""


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (OSError, KeyError, ValueError):
        raise ValueError(f"{value!r} is no time zone: write one like Europe/Berlin") from None


def _quiet(value: object) -> Quiet:
    return value if isinstance(value, Quiet) else Quiet.parse(str(value))


def _known(value: str) -> str:
    if value not in KINDS:
        raise ValueError(f"{value!r} is no kind: choose from {', '.join(KINDS)}")
    return value


KindName = Annotated[str, BeforeValidator(_known)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Route(BaseModel):
    """One route: a channel, and what it gets."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    to: str = Field(
        min_length=1, repr=False, description="Apprise URL; secrets as ${NAME} or ${file:/path}"
    )
    kinds: tuple[KindName, ...] | None = Field(
        default=None, description="empty: all that concern it"
    )
    severity: Severity = "info"
    users: tuple[Pattern, ...] = ()
    workers: tuple[Pattern, ...] = ()
    zone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("UTC")
    quiet: Annotated[Quiet, BeforeValidator(_quiet)] | None = None
    wake: tuple[KindName, ...] = ("block_found",)
    cap: int = Field(default=CAP, ge=1, le=1000)

    @field_validator("to")
    @classmethod
    def _is_a_channel(cls, value: str, info: ValidationInfo) -> str:
        url, secrets = resolve(value, (info.context or {}).get("environ", os.environ))
        scheme = value.split(":")[0]
        try:
            services = [target.service for target in targets_of(url, secrets)]
        except ValueError:
            # Not the URL itself, which may hold a secret.
            raise ValueError(
                f"the Apprise URL ({scheme}:…) is not understood: see the page of this service on "
                "https://appriseit.com/services/"
            ) from None
        if not secrets and any(one.url(privacy=True) != one.url() for one in services):  # type: ignore[no-untyped-call]  # theirs
            raise ValueError(
                f"the Apprise URL ({scheme}:…) holds a secret: write it as ${{NAME}}, from the "
                "environment, or ${file:/path}"
            )
        return value

    @model_validator(mode="after")
    def _has_what_it_asks(self) -> "Route":
        if self.quiet is not None and "zone" not in self.model_fields_set:
            raise ValueError("quiet needs zone, as Europe/Berlin")
        return self

    @property
    def of_some(self) -> bool:
        """Whether it is about certain miners only."""
        return bool(self.users or self.workers)

    def wants_kind(self, kind: str) -> bool:
        """Whether it gets this kind: those it names; without names, all that concern it."""
        if self.kinds is not None:
            return kind in self.kinds
        # Every worker breaks its own record a few times: that concerns its owner.
        return kind != "best_worker" if not self.of_some else KINDS[kind].scope != "system"

    def matches(self, user: str, worker: str | None = None) -> bool:
        """Whether its patterns include the user and, if given, the worker."""
        if self.users and not any(fnmatchcase(user, pattern) for pattern in self.users):
            return False
        if worker is None or not self.workers:
            return True
        return any(fnmatchcase(worker, pattern) for pattern in self.workers)

    def workers_of(self, message: Message) -> list[Worker]:
        """The workers of the message that this route is about."""
        return [one for one in message.workers if self.matches(one.user, one.worker)]

    def refuses(self, message: Message) -> str | None:
        """Why this route does not get the message at all; None if it does."""
        kinds = [kind for kind in message.kinds if self.wants_kind(kind)]
        if not kinds:
            named = " and ".join(message.kinds)
            if self.kinds is None:
                return (
                    f"{named} goes only to a route that names it (kinds: [{named}])"
                    if not self.of_some
                    else f"{named} does not concern certain miners, and its kinds do not name it"
                )
            return f"kind {named} is not among its kinds"
        if message.payload.get("is_block") and self.wants_kind("block_found"):
            return "its share is a block's, and told as that"
        if SEVERITIES.index(message.severity) < SEVERITIES.index(self.severity):
            return f"severity {message.severity} is below {self.severity}"
        if message.workers:
            if not self.workers_of(message):
                return "its patterns match none of the workers"
            return None
        scopes = {KINDS[kind].scope for kind in kinds}
        if scopes == {"user"} and message.user is not None:
            finder = message.payload.get("worker")
            if not self.matches(message.user, finder if isinstance(finder, str) else None):
                return "its patterns do not match the user or worker"
        return None


class Routes(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    routes: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], Route] = (
        Field(default_factory=dict)
    )


# The environment's own route: a web address that takes JSON.
WEBHOOK: Final = "ALERT_WEBHOOK_URL"
_OF_THE_WEBHOOK: Final = ("system", "ledger_loss", "data_quality", "worker_offline", "worker_back")


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> dict[str, Route]:
    """Reads and checks the routes of the file, and adds that of ALERT_WEBHOOK_URL.

    Raises:
        RoutesError: naming each mistake.
    """
    return {**_of_file(path, environ), **_of_webhook(environ)}


def _of_webhook(environ: Mapping[str, str]) -> dict[str, Route]:
    if not environ.get(WEBHOOK):
        return {}
    try:
        return Routes.model_validate(
            {"routes": {WEBHOOK: {"to": f"${{{WEBHOOK}}}", "kinds": _OF_THE_WEBHOOK}}},
            context={"environ": environ},
        ).routes
    except ValidationError:
        raise RoutesError(f"{WEBHOOK} is no web address: write https://host/path") from None


def _of_file(path: Path | None, environ: Mapping[str, str]) -> dict[str, Route]:
    if path is None:
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RoutesError(f"{path} (ALERTS_FILE) cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise RoutesError(f"{path} (ALERTS_FILE) is not YAML{place}: {problem}") from None
    if document is None:
        document = {}
    try:
        return Routes.model_validate(document, context={"environ": environ}).routes
    except ValidationError as error:
        lines = [_mistake(item) for item in error.errors(include_input=False, include_url=False)]
        raise RoutesError(f"{path} (ALERTS_FILE) is wrong:\n" + "\n".join(lines)) from None


def _mistake(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "the file"
    text = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = ", ".join(Route.model_fields) if len(item["loc"]) > 1 else "routes"
        text = f"is not a setting: choose from {known}"
    elif item["type"] == "missing":
        text = "is missing"
    return f"  {place}: {text}"


def resolve(url: str, environ: Mapping[str, str] = os.environ) -> tuple[str, list[str]]:
    """The URL with its secrets in place, and these secrets.

    Raises:
        ValueError: naming a variable that is not set, or a file that cannot be read.
    """
    secrets: list[str] = []

    def value(found: re.Match[str]) -> str:
        is_file, name = found.groups()
        if is_file:
            try:
                secret = Path(name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise ValueError(f"the secret file {name} cannot be read: {reason}") from None
        else:
            secret = environ.get(name, "")
        if not secret:
            raise ValueError(f"{'the secret file ' if is_file else ''}{name} is not set or empty")
        secrets.append(secret)
        # Alone, it may be the whole URL; within one, its characters are no delimiters.
        return secret if found.span() == (0, len(url)) else quote(secret, safe=":")

    return _REFERENCE.sub(value, url), secrets
