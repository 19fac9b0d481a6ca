"""DATABASE_URL means the same to both drivers, or is refused by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from tbg.stack.embedded import EmbeddedPostgres, free_port
from tbg_core.database import (
    connect,
    connect_async,
    examine,
    libpq_url,
    without_password,
)
from tbg_core.database_url import (
    DatabaseUrlError,
    addresses_of,
    check,
    connect_seconds,
    for_asyncpg,
    read,
)

# Of these, asyncpg has nothing, and something that matters would be silently gone.
REFUSED = {
    *("requirepeer", "require_auth", "replication", "sslcrldir"),
    *("scram_client_key", "scram_server_key"),
    *("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
}
QUESTION = "select current_database(), current_user, current_setting('statement_timeout')"
# Each with what it makes of statement_timeout.
OPTIONS = {
    # Neon puts these two into every URL.
    "sslmode=prefer&channel_binding=prefer": "0",
    "connect_timeout=7": "0",
    "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3": "0",
    "tcp_user_timeout=20000": "0",
    "gssencmode=prefer": "0",
    "gssencmode=disable&sslmode=disable": "0",
    "target_session_attrs=read-write": "0",
    "target_session_attrs=primary&load_balance_hosts=disable": "0",
    "application_name=mine&fallback_application_name=other": "0",
    "options=-c%20statement_timeout%3D4321": "4321ms",
    "client_encoding=utf8": "0",
}


def parts(url: str) -> tuple[str, str, int, str]:
    found = urlsplit(url)
    assert found.password
    assert found.port
    return found.username or "", found.password, found.port, found.path.lstrip("/")


async def both(url: str) -> tuple[Any, ...]:
    """What both drivers answer, which must be the same."""
    with connect(url) as database:
        first = database.execute(QUESTION).fetchone()
    connection = await connect_async(url, application="test")
    try:
        second = tuple(await connection.fetchrow(QUESTION) or ())
    finally:
        await connection.close()
    assert first == second
    return second


@pytest.mark.parametrize(("options", "most"), OPTIONS.items())
async def test_an_option_of_libpq_means_the_same_to_both_drivers(
    options: str, most: str, empty_database_url: str
) -> None:
    user, _, _, name = parts(empty_database_url)
    assert await both(f"{empty_database_url}?{options}") == (name, user, most)


async def test_a_driver_in_the_scheme_is_left_out(empty_database_url: str) -> None:
    url = empty_database_url.replace("postgresql://", "postgresql+psycopg2://")
    assert await both(url) == await both(empty_database_url.replace("postgresql:", "postgres:"))


async def test_a_password_may_hold_any_character(
    empty_database_url: str, postgres_url: str
) -> None:
    role = f"role{free_port()}"
    password = "a%b/c@d:e?f#g h&i=j"  # noqa: S105 of a role that this test makes
    with connect(postgres_url) as database:
        database.execute(
            psycopg.sql.SQL("create role {} login password {}").format(
                psycopg.sql.Identifier(role), psycopg.sql.Literal(password)
            )
        )
    _, _, port, name = parts(empty_database_url)
    try:
        encoded = "a%25b%2Fc%40d%3Ae%3Ff%23g%20h%26i%3Dj"
        url = f"postgresql://{role}:{encoded}@127.0.0.1:{port}/{name}"
        assert (await both(url))[1] == role
        query = f"postgresql://127.0.0.1:{port}/{name}?user={role}&password={encoded}"
        assert (await both(query))[1] == role
    finally:
        with connect(postgres_url) as database:
            database.execute(psycopg.sql.SQL("drop role {}").format(psycopg.sql.Identifier(role)))


async def test_of_several_hosts_the_first_that_answers_is_taken(empty_database_url: str) -> None:
    user, password, port, name = parts(empty_database_url)
    dead = free_port()
    for hosts in (
        f"127.0.0.1:{dead},127.0.0.1:{port}",
        f"[::1]:{dead},127.0.0.1:{dead},127.0.0.1:{port}",
    ):
        url = f"postgresql://{user}:{password}@{hosts}/{name}?target_session_attrs=read-write"
        assert (await both(url))[0] == name
    listed = (
        f"postgresql:///{name}?user={user}&password={password}"
        f"&host=127.0.0.1,127.0.0.1&port={dead},{port}"
    )
    assert (await both(listed))[0] == name
    address = f"postgresql://{user}:{password}@db.invalid:{port}/{name}?hostaddr=127.0.0.1"
    assert (await both(address))[0] == name


@pytest.fixture
def on_a_socket(
    postgres_server: Callable[..., EmbeddedPostgres], server_folder: Path
) -> EmbeddedPostgres:
    server_folder.chmod(0o777)  # the server may run as another user
    return postgres_server(unix_socket_directories=str(server_folder))


async def test_a_unix_socket_is_a_host(on_a_socket: EmbeddedPostgres, server_folder: Path) -> None:
    server = on_a_socket
    user, password, port, name = parts(server.url)
    folder = str(server_folder).replace("/", "%2F")
    for url in (
        f"postgresql://{user}:{password}@{folder}:{port}/{name}",
        f"postgresql:///{name}?host={server_folder}&port={port}&user={user}&password={password}",
    ):
        assert (await both(url))[0] == name


async def test_a_service_and_a_password_file_are_read(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, password, port, name = parts(empty_database_url)
    service, passwords = tmp_path / "services", tmp_path / "passwords"
    service.write_text(f"[mining]\nhost=127.0.0.1\nport={port}\nuser={user}\ndbname={name}\n")
    passwords.write_text(f"127.0.0.1:{port}:*:*:{password}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    assert await both(f"postgresql://?service=mining&passfile={passwords}") == (name, user, "0")
    url = f"postgresql://{user}@127.0.0.1:{port}/{name}?passfile={passwords}"
    assert await both(url) == (name, user, "0")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:geheim@h/tbg", "must start with postgresql://, not with mysql://"),
        ("h:5432/tbg", "must start with postgresql://"),
        ("host=h dbname=tbg password=geheim", "must start with postgresql://"),
        ("", "must start with postgresql://"),
        ("postgresql://u:gehe%im@h/tbg", "write % itself as %25"),
        ("postgresql://u:geheim%@h/tbg", "write % itself as %25"),
        ("postgresql://h/tbg?schema=public", "does not know: schema"),
        ("postgresql://h/tbg?pgbouncer=true", "does not know: pgbouncer"),
        ("postgresql://h/tbg?statement_timeout=5", "options=-c%20statement_timeout%3Dvalue"),
        ("postgresql://u:geheim@h:port/tbg", "the port 'port'"),
        ("postgresql://u:geheim@h:65536/tbg", "the port '65536'"),
        ("postgresql://a,b,c/tbg?port=1,2", "3 hosts and 2 ports"),
        ("postgresql://h/tbg?target_session_attrs=read-only", "use read-write"),
        ("postgresql://h/tbg?target_session_attrs=prefer-standby", "use read-write"),
        ("postgresql://h/tbg?gssencmode=require", "gssencmode=require"),
        ("postgresql://h/tbg?requirepeer=postgres", "the option requirepeer"),
        ("postgresql://h/tbg?require_auth=scram-sha-256", "the option require_auth"),
        ("postgresql://h/tbg?sslcrldir=/etc", "the option sslcrldir"),
        ("postgresql://h/tbg?replication=database", "the option replication"),
        ("postgresql://h/tbg?connect_timeout=soon", "connect_timeout=soon"),
        ("postgresql://h/tbg?sslrootcert=/no/such/ca.crt", "/no/such/ca.crt in sslrootcert"),
        ("postgresql://u:geheim@[::1/tbg", "is no URL"),
    ],
)
def test_a_url_that_cannot_work_is_refused_by_name_and_without_its_password(
    url: str, said: str
) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        check(url)
    assert said in str(caught.value)
    assert str(caught.value) == f"DATABASE_URL {caught.value.reason}"
    assert "gehe" not in str(caught.value)


def test_every_option_of_libpq_is_carried_or_refused() -> None:
    """A new one of a newer libpq is refused by name, not handed to a driver without it."""
    values = {"connect_timeout": "3", "port": "5432", "target_session_attrs": "any"}
    for option in psycopg.pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        value = values.get(name, os.devnull if name.startswith("ssl") else "x")
        url = f"postgresql://h/tbg?{name}={value}"
        if name in REFUSED:
            with pytest.raises(DatabaseUrlError, match=f"the option {name},"):
                read(url)
        else:
            assert read(url)[name] == value


def test_each_host_has_the_time_that_the_url_gives() -> None:
    assert connect_seconds(read("postgresql://h/tbg")) == 10
    assert connect_seconds(read("postgresql://h/tbg?connect_timeout=1")) == 2
    assert connect_seconds(read("postgresql://h/tbg?connect_timeout=90")) == 90
    assert connect_seconds(read("postgresql://h/tbg?connect_timeout=0")) is None
    assert for_asyncpg(read("postgresql://h/tbg?connect_timeout=3"))["timeout"] == 3


def test_a_certificates_name_is_compared_with_the_host_not_its_address() -> None:
    url = "postgresql://db.example/tbg?hostaddr=192.0.2.1&sslmode=verify-full"
    assert addresses_of(read(url))[0].host == "db.example"
    assert addresses_of(read(url.replace("verify-full", "require")))[0].host == "192.0.2.1"


def test_the_authorities_of_the_system_are_a_root_certificate() -> None:
    arguments = for_asyncpg(read("postgresql://h/tbg?sslmode=verify-full&sslrootcert=system"))
    assert arguments["ssl"].check_hostname
    assert "sslrootcert" not in arguments["dsn"]


def test_what_is_shown_of_a_url_holds_no_password() -> None:
    for url in (
        "postgresql://u:geheim@h,i:5433/tbg?sslpassword=geheim",
        "postgresql://h/tbg?user=u&password=geheim",
        "redis://:geheim@h:1/0?ssl_password=geheim",
        "postgresql://u:geheim@[h/tbg",
    ):
        assert "geheim" not in without_password(url)
    assert without_password("postgresql://h/tbg?sslmode=require") == (
        "postgresql://h/tbg?sslmode=require"
    )
    assert libpq_url("postgresql+psycopg2:///tbg?host=/run") == "postgresql:///tbg?host=/run"


async def test_a_password_that_is_wrong_is_named_by_both_drivers(empty_database_url: str) -> None:
    user, _, port, name = parts(empty_database_url)
    url = f"postgresql://{user}:geheim@127.0.0.1:{port}/{name}"
    with (
        pytest.raises(RuntimeError, match=r"refuses.*password authentication failed") as caught,
        connect(url),
    ):
        pass
    assert "geheim" not in str(caught.value)
    with pytest.raises(RuntimeError, match="refuses the password: set the right one"):
        examine(url)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect_async(url, application="test")
    with pytest.raises(RuntimeError, match="is not there: make it with createdb"):
        examine(empty_database_url.replace(name, "nosuch"))
