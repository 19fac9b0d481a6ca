"""The embedded servers keep what they were given, and keep others out."""

import signal
import threading
from collections.abc import Callable

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey, new_password
from tbg.stack.privileges import give
from tests.processes import LIMIT, wait_until


def test_postgresql_keeps_what_was_committed_when_it_is_killed(
    postgres_server: Callable[..., EmbeddedPostgres],
) -> None:
    server = postgres_server()
    with psycopg.connect(server.url) as connection:
        connection.execute("create table kept as select 42 as answer")
    server.kill()
    assert not server.ready()
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_postgresql_refuses_who_does_not_know_the_password(
    postgres_server: Callable[..., EmbeddedPostgres],
) -> None:
    server = postgres_server()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url_of("postgres", "postgres", "wrong"))


def test_a_role_owns_its_database_and_is_no_superuser(
    postgres_server: Callable[..., EmbeddedPostgres],
) -> None:
    server = postgres_server()
    password = f"quote'{new_password()}"
    for _ in range(2):  # safe to repeat
        server.ensure_role("miner", password)
        server.ensure_database("game", "miner")
    with psycopg.connect(
        host="127.0.0.1", port=server.port, dbname="game", user="miner", password=password
    ) as connection:
        connection.execute("create table mine (id integer)")
        row = connection.execute("select usesuper from pg_user where usename = current_user")
        assert row.fetchone() == (False,)


def test_valkey_keeps_what_it_answered_when_it_is_killed(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        client.xadd("mining:test", {"answer": 42})
    server.kill()
    assert not server.ready()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen("mining:test") == 1
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def command(*words: str) -> bytes:
    """A command as it is in the append-only file."""
    parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


@pytest.mark.parametrize(
    ("tail", "cut"),
    [
        (bytes(4096), 4096),
        (bytes(1), 1),
        (command("XADD", "mining:test", "*", "a", "b")[:20] + bytes(500), 520),
        # A transaction that the power cut interrupted did not happen.
        (command("MULTI") + command("SET", "a", "b") + bytes(512), None),
        (b"what was in this block before", 29),
    ],
)
def test_a_damaged_end_of_the_append_only_file_is_cut_and_a_copy_kept(
    valkey_server: Callable[..., EmbeddedValkey], tail: bytes, cut: int | None
) -> None:
    server = valkey_server(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        client.xadd("mining:test", {"answer": 42})
    server.kill()
    (file,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    sound = file.read_bytes()
    with file.open("ab") as end:
        end.write(tail)
    said = server.prepare()
    assert said is not None
    assert f"cut {cut or len(tail):,} bytes, {tail.count(0):,} of them zeros" in said
    (copy,) = server.folder.glob("*.damaged-*")
    assert str(copy) in said
    assert copy.read_bytes() == sound + tail
    assert copy.stat().st_mode & 0o077 == 0
    assert file.read_bytes() == sound
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen("mining:test") == 1
        assert client.get("a") is None


def test_an_append_only_file_of_zeros_alone_is_emptied(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    server.kill()
    (file,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    assert file.stat().st_size == 0
    file.write_bytes(bytes(8192))
    assert "cut 8,192 bytes, 8,192 of them zeros" in str(server.prepare())
    server.start()
    assert server.ready()


def test_a_sound_append_only_file_is_left_alone(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        client.xadd("mining:test", {"answer": 42})
    server.kill()
    assert server.prepare() is None
    assert list(server.folder.glob("*.damaged-*")) == []


def test_valkey_refuses_who_does_not_know_the_password(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    with (
        redis.Redis(host="127.0.0.1", port=server.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_secrets_are_neither_on_the_command_line_nor_readable_by_others(
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
) -> None:
    for server in (valkey_server(), postgres_server()):
        assert server.password not in " ".join(server.command)
        assert server.password not in repr(server)
    for path in valkey_server().folder.glob("valkey.conf*"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("left", ["", "another", "nonsense\n"], ids=["empty", "another", "torn"])
def test_a_pid_file_that_a_crash_left_keeps_postgresql_from_nothing(
    postgres_server: Callable[..., EmbeddedPostgres], left: str
) -> None:
    server, other = postgres_server(), postgres_server()
    server.kill()
    file = server.data / "postmaster.pid"
    if left == "another":  # the number is that of another PostgreSQL now
        assert other.process is not None
        lines = file.read_text().split("\n")
        left = "\n".join([str(other.process.pid), *lines[1:]])
    file.write_text(left)
    server.start()
    assert server.ready()
    assert other.ready()


def test_a_postgresql_that_runs_in_our_folder_keeps_its_pid_file(
    postgres_server: Callable[..., EmbeddedPostgres],
) -> None:
    server = postgres_server()
    before = (server.data / "postmaster.pid").read_text()
    server.prepare()
    assert (server.data / "postmaster.pid").read_text() == before


def test_a_database_that_recovers_gets_all_the_time_that_it_needs(
    postgres_server: Callable[..., EmbeddedPostgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres_server(hot_standby="off")
    server.stop()
    # A standby recovers without an end, until it is promoted.
    (server.data / "standby.signal").touch()
    give(server.data / "standby.signal", server.user)
    monkeypatch.setattr("tbg.stack.embedded.server.START_SECONDS", 0.5)
    starting = threading.Thread(target=server.start, daemon=True)
    starting.start()
    wait_until(lambda: server.busy, "it says that it recovers")
    busy = server.busy or ""
    assert busy.startswith("the database system is ")
    looks = 0

    def still_recovering() -> bool:
        nonlocal looks
        looks += 1
        return looks > 100  # some seconds, and far more than START_SECONDS

    wait_until(still_recovering, "time passes")
    assert starting.is_alive()
    (server.data / "promote").touch()
    give(server.data / "promote", server.user)
    assert server.process is not None
    server.process.send_signal(signal.SIGUSR1)
    starting.join(LIMIT)
    assert server.ready()
    assert server.busy is None
