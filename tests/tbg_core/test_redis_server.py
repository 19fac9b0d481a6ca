"""A Redis that cannot be used is refused by name; what may lose events is said."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from tbg.stack.embedded import EmbeddedValkey, free_port
from tbg_core.redis_server import (
    About,
    Guard,
    UnusableRedisError,
    check_url,
    explain,
    needs_action,
    refusal,
    warnings,
)
from tests.ingest.harness import Stage, packed, sending, stage
from tests.processes import ROOT, running
from tests.tbg_core.fake_redis import OLD, fake_redis

PAGE = (ROOT / "docs" / "servers.md").read_text()
STUNNEL = shutil.which("stunnel", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
GOOD = {
    **{"redis_version": "7.2.4", "redis_mode": "standalone", "role": "master"},
    **{"maxmemory": 0, "maxmemory_policy": "noeviction", "aof_enabled": 1, "cluster_enabled": 0},
}
Eventually = Callable[..., Awaitable[Any]]


class Lines:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def error(self, text: str, **_: object) -> None:
        self.all.append(text)

    warning = error


def guard(lines: Lines, cell: str = "") -> Guard:
    return Guard(lines, cell)  # type: ignore[arg-type]  # it has the two methods that are called


# Each row of the page's table, and what the server says.
ROWS: dict[str, tuple[dict[str, object], str]] = {
    "Redis 7.0 or newer, Valkey": (GOOD, ""),
    "Redis 6 or older": ({**GOOD, "redis_version": "6.2.14"}, "it is Redis 6.2.14"),
    "a replica": ({**GOOD, "role": "slave"}, "it is a replica"),
    "a Sentinel": ({"redis_version": "7.2.4", "redis_mode": "sentinel"}, "it is a Sentinel"),
    "a node of a cluster, without `CELL`": ({**GOOD, "cluster_enabled": 1}, "set CELL"),
    "`maxmemory` with a policy other than `noeviction`": (
        {**GOOD, "maxmemory": 1000, "maxmemory_policy": "allkeys-lru"},
        "set maxmemory-policy noeviction",
    ),
    "no append-only file": ({**GOOD, "aof_enabled": 0}, "set appendonly yes"),
    "the last save failed": ({**GOOD, "rdb_last_bgsave_status": "err"}, "its last snapshot failed"),
}


def test_the_page_has_a_row_for_each_kind_and_each_row_is_true() -> None:
    part = PAGE.partition("## Redis")[2].partition("### Rights")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", part, re.MULTILINE))
    del rows["what it is"], rows["---"]
    assert rows.keys() - ROWS.keys() == {"a server that answers no `INFO`"}
    assert ROWS.keys() <= rows.keys()
    for row, (info, said) in ROWS.items():
        about = About.read(info)
        why = refusal(about)
        assert (why is not None) == rows[row].startswith("refused"), row
        assert said in (why or "".join(each.text for each in warnings(about))), row
        assert bool(warnings(about)) == ("with an error" in rows[row]), row


def test_versions_are_compared_as_numbers_and_valkey_has_its_own() -> None:
    assert refusal(About.read({**GOOD, "redis_version": "10.0.1"})) is None
    assert refusal(About.read({**GOOD, "redis_version": 7.0})) is None
    valkey = About.read({**GOOD, "valkey_version": "9.1.2"})
    assert (valkey.product, valkey.version) == ("Valkey", "9.1.2")
    assert refusal(About.read({})) is None  # it hides everything
    assert refusal(About.read({**GOOD, "cluster_enabled": 1}), cell="eu1") is None


async def test_a_warning_is_said_once_and_again_when_it_came_back() -> None:
    lines = Lines()
    watch = guard(lines)
    off = About.read({**GOOD, "aof_enabled": 0})
    for about in (off, off, About.read(GOOD), off):
        watch.judge(about)
    assert len(lines.all) == 2


async def test_a_server_without_the_right_to_info_is_used() -> None:
    lines = Lines()
    with fake_redis(None) as url:
        client = redis_async.Redis.from_url(url)
        watch = guard(lines)
        assert await watch.look(client) is None
        assert await watch.look(client) is None
        await client.aclose()
    assert lines.all == ["redis does not say how it keeps streams (INFO): look yourself"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ResponseError("NOAUTH Authentication required."), "set the right user and password"),
        (NoPermissionError("this user has no permissions to run 'xadd'"), "docs/servers.md"),
        (ResponseError("NOPERM User w has no permissions to run 'xadd'"), "docs/servers.md"),
        (ReadOnlyError("You can't write against a read only replica."), "name the primary"),
        (ResponseError("READONLY You can't write against a read only replica."), "the primary"),
        (ResponseError("CROSSSLOT Keys in request don't hash to the same slot"), "set CELL"),
        (ResponseError("MOVED 3999 127.0.0.1:6381"), "set CELL"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "look at its log"),
        (ResponseError("OOM command not allowed when used memory > 'maxmemory'."), "maxmemory"),
        (ResponseError("unknown command 'XADD', with args beginning with:"), "Redis 7 or newer"),
        (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), "ssl_ca_certs="),
        (OSError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "write redis://"),
    ],
)
def test_an_error_says_what_to_do(error: Exception, said: str) -> None:
    assert said in explain(error)
    assert needs_action(error)


def test_a_server_that_is_away_needs_patience_alone() -> None:
    assert explain(ConnectionError("Error 111 connecting")) == "Error 111 connecting"
    assert not needs_action(ConnectionError("Error 111 connecting"))
    assert not needs_action(TimeoutError())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h:1", "must start with redis://, rediss:// or unix://, not with http://"),
        ("h:6379", "must start with redis://"),
        ("redis://:geheim@h:port/0", "the port 'port'"),
        ("redis://:geheim@h/mining", "the database 'mining'"),
        ("redis://:geheim@[::1/0", "brackets"),
        ("redis://h?decode_responses=true", "the option decode_responses"),
        ("redis://h?socket_timeout=1", "the option socket_timeout"),
        ("redis://h?ssl_ca_certs=/etc/hosts", "needs rediss://"),
        ("rediss://h?ssl_ca_certs=/no/such/ca.crt", "/no/such/ca.crt in ssl_ca_certs"),
    ],
)
def test_a_url_that_cannot_work_is_refused_by_name_and_without_its_password(
    url: str, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        check_url(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://user:p%25w@[::1]:6379/3?protocol=3",
        "unix:///run/redis.sock?db=1",
        "rediss://h:6380/0?ssl_ca_certs=/etc/hosts&ssl_check_hostname=false",
    ],
)
def test_a_url_that_can_work_is_taken_as_it_is(url: str) -> None:
    assert check_url(url) == url
    redis_async.ConnectionPool.from_url(url).make_connection()


# --- The stages -----------------------------------------------------------------------


@contextlib.contextmanager
def server_of(kind: str, make: Callable[..., EmbeddedValkey]) -> Iterator[str]:
    if kind == "old":
        with fake_redis(OLD) as url:
            yield url
    elif kind == "old, without INFO":
        with fake_redis(None) as url:
            yield url
    else:
        settings = {"cluster": {"cluster-enabled": "yes"}, "replica": {"replicaof": "127.0.0.1 1"}}
        yield make(**settings[kind]).url


@pytest.mark.parametrize(
    ("kind", "said"), [("old", "it is Redis 6.2.14"), ("replica", "it is a replica")]
)
async def test_a_receiver_keeps_events_on_disk_and_says_what_is_wrong_with_redis(
    kind: str,
    said: str,
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    eventually: Eventually,
) -> None:
    with server_of(kind, valkey_server) as url:
        async with stage("receiver", tmp_path, url, RECEIVER_METRICS_PORT="own") as receiver:
            with sending(tmp_path / "events.sock") as sender:
                sender.send(packed("share_submitted", instance="kept/1", seq=1))
            await receiver.process.saying(said)
            await eventually(lambda: said in receiver.get("/readyz")[1])
            await eventually(lambda: receiver.metric("tbg_spooled_total") >= 1)
            assert await receiver.stop() == 0
            assert "Traceback" not in receiver.process.output


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("old", "it is Redis 6.2.14"),
        ("old, without INFO", "it lacks commands of Redis 7"),
        ("replica", "it is a replica"),
    ],
)
async def test_a_writer_waits_and_says_what_is_wrong_with_redis(
    kind: str,
    said: str,
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    database_url: str,
) -> None:
    with server_of(kind, valkey_server) as url:
        async with stage(
            "writer", tmp_path, url, database_url, ready=said, WRITER_METRICS_PORT="own"
        ) as writer:
            status, text = writer.get("/readyz")
            assert status == 503
            assert said in text
            assert "Traceback" not in writer.process.output
            assert await writer.stop() == 0


async def test_a_cluster_is_judged_by_itself(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    with server_of("cluster", valkey_server) as url:
        client = redis_async.Redis.from_url(url)
        try:
            with pytest.raises(UnusableRedisError, match="set CELL"):
                await guard(Lines()).look(client)
            about = await guard(Lines(), cell="eu1").look(client)
            assert about is not None
            assert about.mode == "cluster"
        finally:
            await client.aclose()


async def test_both_stages_say_that_redis_keeps_nothing(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], database_url: str
) -> None:
    server = valkey_server(appendonly="no")
    async with (
        stage("receiver", tmp_path, server.url) as receiver,
        stage("writer", tmp_path, server.url, database_url) as writer,
    ):
        with sending(tmp_path / "events.sock") as sender:
            sender.send(packed("share_submitted", instance="kept/1", seq=1))
        for one in (receiver, writer):
            await one.process.saying("set appendonly yes")


# --- Rights ---------------------------------------------------------------------------


def rights(user: str, server: EmbeddedValkey) -> tuple[list[str], str]:
    """The page's line for a user, with a password, and the URL of that user."""
    (line,) = re.findall(rf"^ACL SETUSER {user} .*$", PAGE, re.MULTILINE)
    words = line.replace(">PASSWORD", ">geheim").split()
    return words, f"redis://{user}:geheim@127.0.0.1:{server.port}/0"


@pytest.fixture
async def admin(
    valkey_server: Callable[..., EmbeddedValkey],
) -> AsyncIterator[tuple[EmbeddedValkey, redis_async.Redis]]:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    yield server, client
    await client.aclose()


async def test_the_rights_of_the_page_are_enough_for_receiver_and_writer(
    tmp_path: Path,
    admin: tuple[EmbeddedValkey, redis_async.Redis],
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    server, client = admin
    urls = {}
    for user in ("receiver", "writer"):
        words, urls[user] = rights(user, server)
        await client.execute_command(*words)

    async def stored(count: int) -> bool:
        return bool(await db.fetchval("select sum(events) = $1 from engine_instances", count))

    def events(receiver: Stage, boot: str, count: int) -> None:
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, count + 1):
                kind = ("share_submitted", "block_found", "new_block_network")[seq % 3]
                sender.send(packed(kind, instance=boot, seq=seq))
            sender.send(b"no JSON")

    async with (
        stage("receiver", tmp_path, urls["receiver"]) as receiver,
        stage("writer", tmp_path, urls["writer"], database_url, STREAM_KEEP="0") as writer,
    ):
        events(receiver, "rights/1", 30)
        await eventually(lambda: stored(30))
        # A retry after a lost answer asks for marks and types.
        await client.execute_command("CLIENT", "KILL", "USER", "receiver")
        await client.execute_command("CLIENT", "KILL", "USER", "writer")
        events(receiver, "rights/2", 30)
        await eventually(lambda: stored(60))
        assert await writer.stop() == 0
        assert await receiver.stop() == 0
    denied: Any = await client.execute_command("ACL", "LOG")
    assert denied == []
    assert await client.zcard((await client.keys("leaderboard:*"))[0]) > 0


async def test_a_right_that_is_missing_is_named(
    tmp_path: Path, admin: tuple[EmbeddedValkey, redis_async.Redis], database_url: str
) -> None:
    server, client = admin
    words, url = rights("receiver", server)
    await client.execute_command(*(word for word in words if word != "+xadd"))
    async with stage("receiver", tmp_path, url) as receiver:
        with sending(tmp_path / "events.sock") as sender:
            sender.send(packed("share_submitted", instance="rights/1", seq=1))
        await receiver.process.saying("docs/servers.md")
        assert "xadd" in receiver.process.output


# --- TLS ------------------------------------------------------------------------------


def authority(folder: Path) -> None:
    """A private authority in ca.crt, and a certificate of 127.0.0.1 by it in server.pem."""
    steps = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=private"
        " -keyout ca.key -out ca.crt",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=redis"
        " -addext subjectAltName=IP:127.0.0.1 -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
        " -copy_extensions copyall -out server.crt",
    )
    for step in steps:
        subprocess.run(["openssl", *step.split()], cwd=folder, check=True, capture_output=True)
    joined = (folder / "server.key").read_text() + (folder / "server.crt").read_text()
    (folder / "server.pem").write_text(joined)


@pytest.mark.skipif(
    STUNNEL is None, reason="stunnel is not installed (Debian: apt install stunnel4)"
)
async def test_a_private_authority_is_named_in_the_url(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    authority(tmp_path)
    port = free_port()
    password, backend = re.match(r"redis://:(.*)@(.*)/0", redis_url).groups()  # type: ignore[union-attr]  # the fixture's own form
    (tmp_path / "stunnel.conf").write_text(
        f"foreground = yes\npid =\n[redis]\naccept = 127.0.0.1:{port}\nconnect = {backend}\n"
        f"cert = {tmp_path}/server.pem\n"
    )
    url = f"rediss://:{password}@127.0.0.1:{port}/0"
    with running([STUNNEL, tmp_path / "stunnel.conf"], tmp_path / "stunnel.log") as tunnel:
        tunnel.wait_for("Configuration successful")
        async with stage("receiver", tmp_path, url) as receiver:
            with sending(tmp_path / "events.sock") as sender:
                sender.send(packed("share_submitted", instance="tls/1", seq=1))
            await receiver.process.saying("?ssl_ca_certs=/path/ca.crt")
            assert await receiver.stop() == 0
        trusted = f"{url}?ssl_ca_certs={tmp_path}/ca.crt"
        async with (
            stage("receiver", tmp_path, trusted),
            stage("writer", tmp_path, trusted, database_url),
        ):

            async def stored() -> bool:
                return bool(await db.fetchval("select count(*) = 1 from shares"))

            await eventually(stored)
