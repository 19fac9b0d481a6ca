"""The one reader of DATABASE_URL, for both drivers: psycopg (libpq) and asyncpg.

libpq itself reads the URL, so percent signs, lists of hosts and folders of Unix sockets
mean here what they mean to psql. Each of its options is carried to both drivers, mapped to
what asyncpg has, left out where nothing depends on it, or refused by name
(docs/servers.md has the list).
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

CONNECT_SECONDS: Final = 10  # that one host may take to answer, unless connect_timeout says more
_LEAST_SECONDS: Final = 2  # libpq takes a connect_timeout of 1 s as 2 s
_PORT: Final = "5432"

# The same meaning in asyncpg's own URL.
_CARRIED: Final = frozenset(
    {
        "service",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
        "target_session_attrs",
    }
)
# asyncpg has arguments of its own for these.
_MAPPED: Final = frozenset(
    {"user", "password", "passfile", "dbname", "host", "hostaddr", "port", "options"}
    | {"connect_timeout"}
)
# For psycopg alone: asyncpg does without, and nothing that was sent or stored changes.
_LEFT_OUT: Final = frozenset(
    {
        "application_name",  # each of our programs has a name of its own
        "fallback_application_name",
        "channel_binding",
        "client_encoding",  # both drivers speak UTF-8
        "gssdelegation",
        "gssencmode",
        "keepalives",  # the writer gives up on a statement without an answer by itself
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "sslcertmode",
        "sslcompression",
        "sslkeylogfile",
        "sslsni",
        "tcp_user_timeout",
    }
)
_WRITABLE: Final = ("any", "read-write", "primary")


class DatabaseError(RuntimeError):
    """The database cannot be used; the text names it, and says what to do."""


class DatabaseUrlError(DatabaseError, ValueError):
    """The URL of a database cannot work; the text never holds its password.

    Attributes:
        reason: the text without the name of the setting.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"DATABASE_URL {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Address:
    """Where asyncpg connects to.

    Attributes:
        host: name, address, or folder of a Unix socket; None is the driver's own default.
    """

    host: str | None
    port: int | None


def read(url: str) -> dict[str, str]:
    """Returns the options of a URL, percent signs decoded, as libpq names them.

    A driver in the scheme (``postgresql+psycopg2://``) is left out.

    Raises:
        DatabaseUrlError: it cannot work, with either driver.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    scheme, mark, rest = url.partition("://")
    if not mark or scheme.split("+")[0] not in ("postgresql", "postgres"):
        named = f", not with {scheme}://" if mark and scheme.isascii() else ""
        raise DatabaseUrlError(f"must start with postgresql://{named}")
    try:
        found = conninfo_to_dict(f"postgresql://{rest}")
    except ProgrammingError as error:
        raise DatabaseUrlError(_reason(str(error))) from None
    options = {name: str(value) for name, value in found.items() if value is not None}
    _check(options)
    return options


def _reason(text: str) -> str:
    """What libpq says of a URL, without what it quotes of it: that may be the password."""
    what, _, quoted = text.strip().partition(": ")
    if "percent-encoded" in what or "%00" in what:
        return "has a % that begins no escape: write % itself as %25"
    if "query parameter" in what:
        name = quoted.strip('"').partition("=")[0]
        return (
            f"has an option that PostgreSQL does not know: {name}. Leave it out; a setting of the"
            f" session is written as options=-c%20{name}%3Dvalue"
        )
    return f"is no URL of a PostgreSQL: {what.partition(chr(34))[0].strip()}"


def _check(options: Mapping[str, str]) -> None:
    for name in options:
        if name not in _CARRIED | _MAPPED | _LEFT_OUT:
            raise DatabaseUrlError(
                f"has the option {name}, which the writer's driver does not have: leave it out"
            )
    if options.get("gssencmode") == "require":
        raise DatabaseUrlError(
            "has gssencmode=require, which the writer's driver does not have: use TLS"
            " (sslmode=verify-full)"
        )
    wanted = options.get("target_session_attrs", "any")
    if wanted not in _WRITABLE:
        raise DatabaseUrlError(
            f"has target_session_attrs={wanted}, and everything here writes: use read-write"
        )
    hosts = _hosts(options)
    ports = options.get("port", _PORT).split(",")
    for port in ports:
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise DatabaseUrlError(f"has the port {port!r}, which is no number from 1 to 65535")
    if len(ports) not in (1, len(hosts)):
        raise DatabaseUrlError(f"has {len(hosts)} hosts and {len(ports)} ports")
    seconds = options.get("connect_timeout", "0")
    if not seconds.strip().lstrip("+-").isdigit():
        raise DatabaseUrlError(f"has connect_timeout={seconds}, which is no number of seconds")
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        file = options.get(name, "")
        if file and file != "system" and not os.access(file, os.R_OK):
            raise DatabaseUrlError(f"names the file {file} in {name}, which cannot be read")


def _hosts(options: Mapping[str, str]) -> list[str]:
    # With verify-full the certificate must name what is connected to, and an address may not.
    if options.get("hostaddr") and options.get("sslmode") != "verify-full":
        return options["hostaddr"].split(",")
    return options.get("host", options.get("hostaddr", "")).split(",")


def check(url: str) -> str:
    """Returns the URL itself, if it can work.

    Raises:
        DatabaseUrlError: it cannot.
    """
    read(url)
    return url


def for_psycopg(url: str) -> dict[str, str]:
    """Arguments of ``psycopg.connect``.

    Raises:
        DatabaseUrlError: the URL cannot work.
    """
    return {"connect_timeout": str(CONNECT_SECONDS), **read(url)}


def addresses_of(options: Mapping[str, str]) -> list[Address]:
    """The hosts of :func:`read`'s options, in the order in which they are tried."""
    hosts = _hosts(options)
    ports = options.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return [
        Address(host or None, int(port) if port else None)
        for host, port in zip(hosts, ports, strict=True)
    ]


def connect_seconds(options: Mapping[str, str]) -> float | None:
    """Seconds that one host may take to answer; None is no limit."""
    seconds = int(options.get("connect_timeout", CONNECT_SECONDS))
    return max(_LEAST_SECONDS, seconds) if seconds > 0 else None


def for_asyncpg(options: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of ``asyncpg.connect`` for :func:`read`'s options, but for host and port.

    Raises:
        DatabaseUrlError: a certificate cannot be read.
    """
    carried = {name: value for name, value in options.items() if name in _CARRIED}
    arguments: dict[str, Any] = {
        "user": options.get("user"),
        "password": options.get("password"),
        "passfile": options.get("passfile"),
        "database": options.get("dbname"),
        "server_settings": {},
        "timeout": connect_seconds(options),
    }
    if "options" in options:
        arguments["server_settings"]["options"] = options["options"]
    if carried.get("sslrootcert") == "system":
        # As libpq: the authorities of the system, and then always the name too.
        del carried["sslrootcert"]
        carried["sslmode"] = "verify-full"
        context = ssl.create_default_context()
        if "sslcert" in carried:
            context.load_cert_chain(
                carried["sslcert"], carried.get("sslkey"), carried.get("sslpassword")
            )
        arguments["ssl"] = context
    return {**arguments, "dsn": f"postgresql://?{urlencode(carried)}" if carried else None}
