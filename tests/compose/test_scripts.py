"""The scripts inside the images do what they say, run here as they are."""

import os
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.compose.engine import STANDINS
from tests.processes import LIMIT, ROOT

SCRIPTS = sorted(
    [*ROOT.glob("images/*/*.sh"), *ROOT.glob("bitcoin-node/*.sh"), *STANDINS.glob("*.sh")]
)


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def probe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["python3", ROOT / "images/tbg/probe.py", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=LIMIT,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_parses_in_its_shell_and_is_executable(script: Path) -> None:
    shell = script.read_text("utf-8").splitlines()[0].removeprefix("#!")
    assert subprocess.run([shell, "-n", script], check=False, timeout=LIMIT).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("network", ["signet", "regtest"])
def test_the_node_gets_its_password_in_a_file_and_on_no_command_line(
    tmp_path: Path, network: str
) -> None:
    program(
        tmp_path / "bitcoind", f'echo "$@" > {tmp_path}/arguments; env > {tmp_path}/environment'
    )
    runtime = tmp_path / "run"
    runtime.mkdir()
    done = subprocess.run(
        [ROOT / "bitcoin-node/entrypoint.sh", network],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "TBG_RPC_PASSWORD": "a-secret_1",
            "BITCOIN_CONF_DIR": str(ROOT / "bitcoin-node"),
            "BITCOIN_RUNTIME_DIR": str(runtime),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert f"-conf={runtime}/bitcoin.conf" in (tmp_path / "arguments").read_text()
    assert (
        "a-secret_1"
        not in (tmp_path / "arguments").read_text() + (tmp_path / "environment").read_text()
    )
    assert (runtime / "rpc.conf").read_text() == "rpcuser=tbg\nrpcpassword=a-secret_1\n"
    assert (runtime / "rpc.conf").stat().st_mode & 0o077 == 0
    assert (runtime / "bitcoin.conf").read_text() == (
        ROOT / f"bitcoin-node/bitcoin-{network}.conf"
    ).read_text()


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["main"], {"TBG_RPC_PASSWORD": "x"}, "signet|regtest"),
        ([], {"TBG_RPC_PASSWORD": "x"}, "signet|regtest"),
        (["signet"], {}, "make secrets"),
    ],
)
def test_the_node_refuses_other_networks_and_a_missing_password(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], says: str
) -> None:
    done = subprocess.run(
        [ROOT / "bitcoin-node/entrypoint.sh", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "BITCOIN_CONF_DIR": str(ROOT / "bitcoin-node"),
            "BITCOIN_RUNTIME_DIR": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode != 0
    assert says in done.stderr


COUNT = "count=/tmp/heal.count"


def test_heal_only_fails_until_the_last_failure_in_a_row(tmp_path: Path) -> None:
    # In a process namespace of its own PID 1 could be killed; here only the counting shows.
    script = (ROOT / "images/tbg/heal.sh").read_text("utf-8")
    harmless = (
        script.replace("kill -TERM 1", "echo terminated")
        .replace("kill -KILL -1", ":")
        .replace("sleep 15", ":")
    )
    assert harmless.count("echo terminated") == 1

    def heal(folder: Path, check: str) -> tuple[int, str]:
        text = harmless.replace(COUNT, f"count={folder}/count")
        done = subprocess.run(
            ["sh", "-c", text, "heal", "3", check],
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        return done.returncode, done.stdout

    checks = ("false", "false", "true", "false", "false", "false")
    said = [heal(tmp_path, check) for check in checks]
    assert [status for status, _ in said] == [1, 1, 0, 1, 1, 1]
    assert [text for _, text in said] == [""] * 5 + ["terminated\n"]


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def do_POST(self) -> None:
        good = self.headers["Authorization"] == "Basic dGJnOnNlY3JldA=="  # tbg:secret
        self.send_response(200 if good else 401)
        self.end_headers()
        if good:
            self.wfile.write(b'{"result": 7, "error": null, "id": 1}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def server() -> "HTTPServer":
    found = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    return found


def test_probe_http_is_healthy_on_200_alone(server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/readyz"
    assert probe("http", url).returncode == 0
    Handler.status = 503
    try:
        assert probe("http", url).returncode == 1
    finally:
        Handler.status = 200
        server.shutdown()
        server.server_close()
    assert probe("http", url).returncode == 1


def test_probe_node_wants_an_answer_to_its_password(server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/"
    assert probe("node", url, TBG_RPC_PASSWORD="secret").returncode == 0  # noqa: S106  made up
    assert probe("node", url, TBG_RPC_PASSWORD="wrong").returncode == 1  # noqa: S106  wrong on purpose
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b'{"id":1,"result":[[],"00",8]}\n', 0), (b'{"id":1,"result":null}\n', 1), (b"", 1)],
)
def test_probe_stratum_wants_an_answer_to_subscribe(answer: bytes, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                assert b"mining.subscribe" in connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = probe("stratum", "127.0.0.1", str(listener.getsockname()[1]))
        thread.join()
    assert done.returncode == status, done.stderr


def test_probe_connected_sees_an_open_connection_and_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert probe("connected", str(port)).returncode == 1
        with socket.create_connection(("127.0.0.1", port)):
            assert probe("connected", str(port)).returncode == 0


def test_probe_says_how_it_is_used() -> None:
    done = probe("nonsense")
    assert done.returncode == 2
    assert "probe http URL" in done.stderr
