"""What a Redis must be for us: its URL, what it says of itself, and what its errors mean."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import structlog
from redis import exceptions
from redis.exceptions import RedisError, ResponseError

OLDEST_VERSION: Final = 7
SAFE_POLICY: Final = "noeviction"

_SCHEMES: Final = re.compile(r"(rediss?(\+sentinel)?|unix)://")
_PLAIN_OPTIONS: Final = frozenset({"db", "username", "password", "protocol", "client_name"})
_TLS_OPTIONS: Final = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"}
    | {"ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version"}
)
_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

# How an answer begins, or of which class redis-py makes it; and what to do.
_MEANING: Final[tuple[tuple[str, type[Exception] | None, str], ...]] = (
    (
        "NOAUTH|WRONGPASS|HELLO must be called",
        exceptions.AuthenticationError,
        "set the right user and password in REDIS_URL, as redis://user:password@host:6379/0",
    ),
    (
        "NOPERM",
        exceptions.NoPermissionError,
        "give this user the right: docs/servers.md has the list",
    ),
    (
        "READONLY",
        exceptions.ReadOnlyError,
        "it is a replica, so REDIS_URL must name the primary",
    ),
    (
        "CROSSSLOT|MOVED|ASK ",
        exceptions.MovedError,
        "it is a cluster: set CELL, or name a Redis that is none",
    ),
    ("CLUSTERDOWN", exceptions.ClusterDownError, "mend the cluster: redis-cli --cluster check"),
    ("MISCONF", None, "it cannot save to its disk: look at its log"),
    (
        "OOM",
        exceptions.OutOfMemoryError,
        "it is full: raise maxmemory; the writer trims what is committed",
    ),
    (
        "unknown command|ERR unknown",
        None,
        f"Redis {OLDEST_VERSION} or newer, or Valkey, is needed, and no Sentinel or proxy",
    ),
    (
        ".*CERTIFICATE_VERIFY_FAILED",
        None,
        "name the authority of its certificate, as rediss://host:6379/0?ssl_ca_certs=/path/ca.crt",
    ),
    (".*WRONG_VERSION_NUMBER", None, "it speaks no TLS there: write redis:// or name its TLS port"),
)


class UnusableRedisError(RedisError):
    """Redis answers, and cannot be used as it is; the text says what to change."""


@dataclass(frozen=True)
class About:
    """What a Redis says of itself.

    Attributes:
        product: Redis or Valkey.
        version: such as 7.2.4; of Valkey its own.
        level: the first number of the Redis version whose commands it has.
        mode: standalone, sentinel or cluster.
        replica: whether it follows a primary.
        policy: what it does when its memory is full.
        limit: bytes of that memory; 0 is none.
        append_only: whether it writes an append-only file; None if it does not say.
        trouble: what failed when it last saved, empty if nothing did.
        evicted: keys that it threw away since its start.
    """

    product: str
    version: str
    level: int
    mode: str
    replica: bool
    policy: str
    limit: int
    append_only: bool | None
    trouble: str
    evicted: int

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> "About":
        """Reads the answer to INFO."""
        product = "Valkey" if "valkey_version" in info else "Redis"
        redis_version = str(info.get("redis_version", ""))
        first = redis_version.split(".")[0]
        failed = [
            text
            for name, text in (
                ("aof_last_write_status", "the last write of its append-only file failed"),
                ("aof_last_bgrewrite_status", "the last rewrite of its append-only file failed"),
                ("rdb_last_bgsave_status", "its last snapshot failed"),
            )
            if str(info.get(name, "ok")) != "ok"
        ]
        mode = str(info.get("redis_mode", info.get("server_mode", "standalone")))
        append_only = info.get("aof_enabled")
        return cls(
            product=product,
            version=str(info.get("valkey_version", redis_version)) or "unknown",
            # A server that hides its version is judged by what it answers.
            level=int(first) if first.isdigit() else OLDEST_VERSION,
            mode="cluster" if int(info.get("cluster_enabled", 0)) else mode,
            replica=str(info.get("role", "master")) in ("slave", "replica"),
            policy=str(info.get("maxmemory_policy", SAFE_POLICY)),
            limit=int(info.get("maxmemory", 0)),
            append_only=None if append_only is None else bool(int(append_only)),
            trouble="; ".join(failed),
            evicted=int(info.get("evicted_keys", 0)),
        )


def refusal(about: About, cell: str = "") -> str | None:
    """Why a Redis cannot be used, and what to do; None if it can.

    Args:
        cell: the name under which a cluster keeps our keys together.
    """
    if about.mode == "sentinel":
        return (
            "it is a Sentinel, which keeps no streams: write REDIS_URL as"
            " redis+sentinel://host:26379/name (docs/scale.md)"
        )
    if about.level < OLDEST_VERSION:
        return too_old(about.version)
    if about.replica:
        return "it is a replica, which takes no writes: name the primary in REDIS_URL"
    if about.mode == "cluster" and not cell:
        return (
            "it is a node of a cluster, which keeps our keys on different nodes: set CELL, or name"
            " a Redis that is no cluster"
        )
    return None


def too_old(version: str = "") -> str:
    """What is said of a Redis without the commands that we need."""
    named = f"it is Redis {version}" if version else "it lacks commands of Redis 7"
    return f"{named}, and {OLDEST_VERSION} or newer (or Valkey) is needed: upgrade it"


class Trouble(NamedTuple):
    """What may lose events, what to do about it, and what it was read from."""

    what: str
    action: str
    details: tuple[tuple[str, object], ...] = ()

    @property
    def text(self) -> str:
        return f"{self.what}: {self.action}"


def warnings(about: About) -> list[Trouble]:
    """What may lose events in a Redis that can be used."""
    found = []
    if about.limit and about.policy != SAFE_POLICY:
        found.append(
            Trouble(
                "redis may evict streams that are not committed",
                f"set maxmemory-policy {SAFE_POLICY}",
                (("policy", about.policy), ("maxmemory", about.limit)),
            )
        )
    if about.append_only is False:
        found.append(
            Trouble(
                "redis keeps no append-only file, so what is not committed when it ends is lost",
                "set appendonly yes",
            )
        )
    if about.trouble:
        found.append(
            Trouble(f"redis cannot save ({about.trouble})", "look at its log and its disk")
        )
    return found


def explain(error: BaseException) -> str:
    """Says what an error of Redis means, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    for pattern, kind, action in _MEANING:
        if (kind and isinstance(error, kind)) or re.match(pattern, text, re.IGNORECASE):
            return f"{text}: {action}"
    return text


def needs_action(error: BaseException) -> bool:
    """Whether waiting alone does not help."""
    return isinstance(error, UnusableRedisError) or explain(error) != (
        " ".join(str(error).split()) or type(error).__name__
    )


_SILENT: Final = Trouble("redis does not say how it keeps streams (INFO)", "look yourself")


class Guard:
    """Judges a Redis each time that one connects to it.

    Each warning is logged once, and again when it came back.

    Args:
        log: of the stage.
        cell: see :func:`refusal`.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger, cell: str = "") -> None:
        self._log = log
        self._cell = cell
        self._said: set[Trouble] = set()

    def judge(self, about: About) -> None:
        """Logs what may lose events.

        Raises:
            UnusableRedisError: it cannot be used.
        """
        why = refusal(about, self._cell)
        if why is not None:
            raise UnusableRedisError(f"this Redis cannot be used: {why}")
        self._say(warnings(about), self._log.error)

    def _say(self, found: list[Trouble], how: Callable[..., Any]) -> None:
        for trouble in found:
            if trouble not in self._said:
                how(trouble.text, **dict(trouble.details))
        self._said = set(found)

    async def look(self, client: Any) -> About | None:
        """Asks Redis, and judges it; None if it does not say.

        Args:
            client: of redis.asyncio.

        Raises:
            UnusableRedisError: it cannot be used.
            RedisError, OSError: it is away.
        """
        try:
            about = About.read(await client.info())
        except ResponseError:
            self._say([_SILENT], self._log.warning)
            return None
        self.judge(about)
        return about


def check_url(url: str) -> str:
    """Returns the URL of a Redis, if it can work.

    Raises:
        ValueError: it cannot; the text never holds its password.
    """
    if not _SCHEMES.match(url):
        scheme, mark, _ = url.partition("://")
        named = f", not with {scheme}://" if mark and scheme.isascii() else ""
        raise ValueError(f"must start with redis://, rediss:// or unix://{named}")
    try:
        parts = urlsplit(url)
        parts.hostname  # noqa: B018  reads the brackets of an address
    except ValueError:
        raise ValueError("is no URL of a Redis: look at its brackets") from None
    for place in parts.netloc.rpartition("@")[2].split(","):
        port = place.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"has the port {port!r}, which is no number from 1 to 65535")
    database = parts.path.strip("/")
    if parts.scheme.endswith("+sentinel"):
        name, _, database = database.partition("/")
        if not name:
            raise ValueError("names no primary for Sentinel: end it with /name")
    if parts.scheme != "unix" and database and not database.isdigit():
        raise ValueError(f"names the database {database!r}, which is no number")
    for name, value in parse_qsl(parts.query):
        if name in _TLS_OPTIONS:
            if not parts.scheme.startswith("rediss"):
                raise ValueError(f"has the option {name}, which needs rediss:// (TLS)")
            if name in _FILES and not os.access(value, os.R_OK):
                raise ValueError(f"names the file {value} in {name}, which cannot be read")
        elif name not in _PLAIN_OPTIONS:
            raise ValueError(f"has the option {name}, which means nothing here: leave it out")
    return url
