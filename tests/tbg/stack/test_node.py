"""tbg up takes a node that the user runs instead of ours, on a test network alone."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from devnet.bitcoin.address import Network
from tbg.cli import main
from tbg.stack.node import Node

URL = "http://127.0.0.1:18443"
Answer = Callable[[str], tuple[int, bytes]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Serves answers to RPC bodies over HTTP, and returns the URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] == "Basic dXNlcjpwYXNz":  # user:pass
                    status, content = answer(json.loads(body)["method"])
                else:
                    status, content = 401, b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def on_chain(chain: object) -> Answer:
    result = {"chain": chain, "blocks": 0}
    return lambda _: (200, json.dumps({"id": 0, "error": None, "result": result}).encode())


@pytest.mark.parametrize("network", [Network.REGTEST, Network.SIGNET, Network.TESTNET4])
def test_the_test_networks_are_taken(serve: Callable[[Answer], str], network: Network) -> None:
    assert Node(serve(on_chain(network.value)), "user", "pass").network() is network


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (on_chain("main"), "is on mainnet, where mistakes cost real money"),
        (on_chain("chess"), "is on 'chess', a network that we do not know"),
        (on_chain(["main"]), "a network that we do not know"),
        (lambda _: (200, b'{"id": 0, "error": null, "result": {}}'), "without a chain"),
        (lambda _: (200, b'{"id": 0, "error": null, "result": 5}'), "without a chain"),
        (lambda _: (200, b"<html>"), "is this a Bitcoin node?"),
        (
            lambda _: (
                500,
                b'{"id": 0, "result": null, "error": {"code": -28, "message": "Wait"}}',
            ),
            "Wait (code -28)",
        ),
    ],
)
def test_other_nodes_are_refused_with_the_reason(
    serve: Callable[[Answer], str], answer: Answer, says: str
) -> None:
    with pytest.raises(click.ClickException) as caught:
        Node(serve(answer), "user", "pass").network()
    assert says in caught.value.message


def test_a_refused_mainnet_node_starts_nothing(
    serve: Callable[[Answer], str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    done = CliRunner(env={"BITCOIN_RPC_USER": "user", "BITCOIN_RPC_PASSWORD": "pass"}).invoke(
        main, ["up", "--state", str(state), "--node-url", serve(on_chain("main"))]
    )
    assert done.exit_code == 1
    assert "mainnet" in done.output
    assert not state.exists()


def test_a_wrong_password_and_a_node_that_is_away_are_named(
    serve: Callable[[Answer], str],
) -> None:
    with pytest.raises(click.ClickException, match="refused our user and password"):
        Node(serve(on_chain("regtest")), "user", "geheim").network()
    with pytest.raises(click.ClickException, match="is not reachable") as caught:
        Node("http://127.0.0.1:1", "user", "geheim").network()
    assert "geheim" not in caught.value.message


def test_credentials_come_from_option_url_or_environment_in_this_order(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    by_name = {"BITCOIN_RPC_USER": "me", "BITCOIN_RPC_PASSWORD": "word"}
    by_file = {"BITCOIN_RPC_COOKIE_FILE": str(cookie)}
    inside = "http://you:p%40ss@127.0.0.1:18443"
    every = {**by_name, **by_file}
    assert Node.named(inside, cookie, every) == Node(URL, cookie=cookie)
    assert Node.named(inside, None, every) == Node(URL, "you", "p@ss")
    assert Node.named(URL, None, every) == Node(URL, "me", "word")
    assert Node.named(URL, None, by_file) == Node(URL, cookie=cookie)
    with pytest.raises(click.ClickException, match="no credentials for the node at"):
        Node.named(URL, None, {})


@pytest.mark.parametrize("url", ["127.0.0.1:18443", "ftp://h", "file:///etc/passwd", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(click.ClickException, match="must look like"):
        Node.named(url, None, {"BITCOIN_RPC_USER": "u", "BITCOIN_RPC_PASSWORD": "p"})


def test_the_batch_side_gets_the_same_credentials(tmp_path: Path) -> None:
    named = Node(URL, "me", "p@:/ss").environment()
    assert named["BITCOIN_RPC_URL"] == "http://me:p%40%3A%2Fss@127.0.0.1:18443"
    assert named["BITCOIN_RPC_COOKIE_FILE"] == named["BITCOIN_RPC_PASSWORD"] == ""
    by_cookie = Node(URL, cookie=tmp_path / ".cookie").environment()
    assert by_cookie["BITCOIN_RPC_URL"] == URL
    assert by_cookie["BITCOIN_RPC_COOKIE_FILE"] == str(tmp_path / ".cookie")


@pytest.mark.parametrize("arguments", [["--node-cookie", "x"], ["--node-url", URL, "--no-node"]])
def test_options_that_contradict_each_other_are_refused(
    arguments: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, ["up", "--state", str(tmp_path / "state"), *arguments])
    assert done.exit_code == 2
    assert not (tmp_path / "state").exists()
