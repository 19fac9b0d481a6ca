"""Stratum over TLS in front of ckpool: haproxy as compose runs it, and the miner's own address."""

import contextlib
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ckpool.standin import MINER
from tests.haproxy import free_port, tls_in_front_of
from tests.processes import LIMIT, running, wait_until

Events = Callable[[str, int], list[dict[str, Any]]]
SUBSCRIBE = b'{"id":1,"method":"mining.subscribe"}\n'


@contextlib.contextmanager
def playing(program: Path, folder: Path, proxies: str) -> Iterator[tuple[int, Events]]:
    """A pool; its port, and what waits for so many of its events of one kind."""
    port = free_port()
    (folder / "pool.conf").write_text(
        f'{{\n "serverurl": ["127.0.0.1:{port}"],\n "logdir": "{folder}"\n}}\n'
    )
    environment = {"TBG_EVENTS_SOCKET": str(folder / "events.sock"), "TBG_PROXIES": proxies}
    came: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "events.sock"))
        receiver.settimeout(LIMIT)

        def events(kind: str, count: int) -> list[dict[str, Any]]:
            while len(found := [event["data"] for event in came if event["event"] == kind]) < count:
                came.append(json.loads(receiver.recv(65536)))
            return found

        command = [program, "-c", folder / "pool.conf"]
        with running(command, folder / "pool.log", environment):
            wait_until(lambda: listens(port), "the pool listens")
            yield port, events


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def mine(connection: socket.socket, hash_: str) -> None:
    """Authorises, and has one share accepted."""
    stream = connection.makefile("rw")
    for method, *params in (
        ("mining.subscribe",),
        ("mining.authorize", MINER),
        ("mining.submit", MINER, hash_),
    ):
        request = {"id": 1, "method": method, "params": params}
        stream.write(json.dumps(request, separators=(",", ":")) + "\n")
        stream.flush()
        assert json.loads(stream.readline())["result"]


@contextlib.contextmanager
def secure(port: int, trusted: Path, source: str) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=trusted)
    with (
        socket.create_connection(("127.0.0.1", port), LIMIT, (source, 0)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def test_events_of_miners_over_tls_have_their_own_address(pool: Path, tmp_path: Path) -> None:
    # All of 127.0.0.0/8 is this machine: each miner dials from another address.
    with (
        playing(pool, tmp_path, "127.0.0.1") as (port, events),
        tls_in_front_of(port, tmp_path) as (tls, trusted),
    ):
        with secure(tls, trusted, "127.0.0.5") as one, secure(tls, trusted, "127.0.0.6") as other:
            mine(one, "a1")
            mine(other, "a2")
        with socket.create_connection(("127.0.0.1", port), LIMIT, ("127.0.0.7", 0)) as direct:
            mine(direct, "a3")
        told = ["127.0.0.5", "127.0.0.6", "127.0.0.7"]
        for kind in ("miner_connected", "share_submitted", "miner_disconnected"):
            assert sorted(event["ip"] for event in events(kind, 3)) == told


def test_openssl_speaks_to_the_pool(pool: Path, tmp_path: Path) -> None:
    with (
        playing(pool, tmp_path, "127.0.0.1") as (port, _),
        tls_in_front_of(port, tmp_path) as (tls, trusted),
    ):
        command = ["openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", str(trusted)]
        command += ["-servername", "localhost", "-connect", f"127.0.0.1:{tls}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as client:
            assert client.stdin
            assert client.stdout
            client.stdin.write(SUBSCRIBE)
            client.stdin.flush()
            try:
                assert json.loads(client.stdout.readline())["result"]
            finally:
                client.kill()


def test_plain_bytes_on_the_port_for_tls_cost_that_connection_alone(
    pool: Path, tmp_path: Path
) -> None:
    with (
        playing(pool, tmp_path, "127.0.0.1") as (port, events),
        tls_in_front_of(port, tmp_path) as (tls, trusted),
    ):
        with (
            secure(tls, trusted, "127.0.0.5") as miner,
            socket.create_connection(("127.0.0.1", tls), LIMIT) as plain,
        ):
            plain.sendall(SUBSCRIBE)
            with contextlib.suppress(ConnectionResetError):
                assert b"result" not in plain.recv(4096)
            mine(miner, "a1")
        assert [event["ip"] for event in events("share_submitted", 1)] == ["127.0.0.5"]


@pytest.mark.parametrize("proxies", ["", "127.0.0.2"])
def test_a_proxy_that_is_not_named_is_refused(pool: Path, tmp_path: Path, proxies: str) -> None:
    with playing(pool, tmp_path, proxies) as (port, _):
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stranger:
            stranger.sendall(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 3333\r\n" + SUBSCRIBE)
            with contextlib.suppress(ConnectionResetError):
                assert b"result" not in stranger.recv(4096)
        with socket.create_connection(("127.0.0.1", port), LIMIT) as miner:
            mine(miner, "a1")
