"""The chain stays on disk: over an orderly stop, over a kill, and for one node at a time."""

import asyncio
import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from devnet.node.datadir import DataDirectoryInUse
from devnet.node.journal import BlockJournal
from devnet.node.kernel import KernelError
from devnet.node.node import Node
from devnet.rpc import RPCClient
from tbg_core.rpc import (
    CookieCredentials,
    NodeUnauthorized,
    PasswordCredentials,
    RPCError,
    RPCErrorCode,
    decode_response,
    encode_request,
)
from tests.devnet.node.blocks import ADDRESS
from tests.devnet.node.conftest import PATIENCE, running_node
from tests.processes import PYTHON, Process, until


class NodeProcess(Process):
    """``tbg devnet node`` as a process of its own, on a free port.

    Args:
        piped: its log goes through another process, which no limit on its files meets.
    """

    def __init__(
        self, log: Path, datadir: Path, *options: str, piped: bool = False, **environment: str
    ) -> None:
        command = [PYTHON, "-m", "devnet.node.cli", "--log-format", "json", "--port", "0"]
        command += ["--datadir", str(datadir), *options]
        if piped:
            command = ["bash", "-c", 'exec "$@" > >(exec cat) 2>&1', "bash", *command]
        super().__init__(command, log, {"LOG_LEVEL": "INFO", **environment})
        self.datadir = datadir

    @property
    def url(self) -> str:
        [ready] = self.lines("node ready")
        url: str = ready["url"]
        return url

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines whose event this is in."""
        # click writes its last error as text
        whole = [text for text in self.output.splitlines(keepends=True) if text.endswith("}\n")]
        return [line for line in map(json.loads, whole) if event in line["event"]]

    def client(self) -> RPCClient:
        return RPCClient(self.url, CookieCredentials(self.datadir / ".cookie"), timeout=PATIENCE)


Start = Callable[..., NodeProcess]


@pytest.fixture
def start(server_folder: Path) -> Iterator[Start]:
    started: list[NodeProcess] = []

    def start_one(
        datadir: Path, *options: str, piped: bool = False, **environment: str
    ) -> NodeProcess:
        log = server_folder / f"node-{len(started)}.log"
        node = NodeProcess(log, datadir, *options, piped=piped, **environment)
        started.append(node)  # also if it never gets ready
        node.start().wait_for(re.compile('"node ready".*\n'))
        return node

    yield start_one
    for node in started:
        node.kill()


async def chain_of(rpc: RPCClient) -> AsyncIterator[str]:
    for height in range(await rpc.call("getblockcount") + 1):
        yield await rpc.call("getblockhash", height)


async def test_a_restart_in_the_same_process_continues_the_chain(tmp_path: Path) -> None:
    async with running_node(tmp_path) as rpc:
        await rpc.call("generatetoaddress", 5, ADDRESS)
        before = [item async for item in chain_of(rpc)]

    async with running_node(tmp_path) as rpc:
        assert [item async for item in chain_of(rpc)] == before
        await rpc.call("generatetoaddress", 1, ADDRESS)
        assert await rpc.call("getblockcount") == 6


async def test_branches_and_invalid_blocks_survive_a_restart(tmp_path: Path) -> None:
    async with running_node(tmp_path) as rpc:
        genesis = await rpc.call("getblockhash", 0)
        await rpc.call("generatetoaddress", 2, ADDRESS)
        (side,) = await rpc.call("devnet_generate", genesis, 1, ADDRESS)

    async with running_node(tmp_path) as rpc:
        assert (await rpc.call("getblockheader", side))["confirmations"] == -1
        branch = await rpc.call("devnet_generate", side, 2, ADDRESS)
        assert await rpc.call("getbestblockhash") == branch[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_node_in_order(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    node = start(tmp_path / "chain")
    async with node.client() as rpc:
        await rpc.call("generatetoaddress", 3, ADDRESS)
        # A waiting client does not delay it. Its request is with the node before the next one.
        request = {"rules": ["segwit"], "longpollid": await rpc.call("getbestblockhash") + "0"}
        reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.split(":")[-1]))
        body = encode_request("getblocktemplate", [request])
        credentials = CookieCredentials(node.datadir / ".cookie").authorization()
        head = f"POST / HTTP/1.1\r\nAuthorization: {credentials}\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await rpc.call("uptime")

        assert await asyncio.to_thread(node.end, number) == 0
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        with pytest.raises(RPCError) as caught:
            decode_response(500, answer.partition(b"\r\n\r\n")[2])
        assert caught.value.code == RPCErrorCode.CLIENT_NOT_CONNECTED
    assert not (tmp_path / "chain" / ".cookie").exists()
    assert not (tmp_path / "chain" / "blocks.journal").exists()


async def test_the_rpc_stop_ends_the_node_and_the_next_one_continues(
    start: Start, tmp_path: Path
) -> None:
    node = start(tmp_path)
    async with node.client() as rpc:
        hashes = await rpc.call("generatetoaddress", 3, ADDRESS)
        assert await rpc.call("stop") == "devnet node stopping"
    assert await node.ended() == 0

    again = start(tmp_path)
    async with again.client() as rpc:
        assert await rpc.call("getbestblockhash") == hashes[-1]
        # the former password is of no use
        assert (tmp_path / ".cookie").read_text().startswith("__cookie__:")


async def test_every_acknowledged_block_survives_a_kill(start: Start, tmp_path: Path) -> None:
    node = start(tmp_path)
    async with node.client() as rpc:
        genesis = await rpc.call("getblockhash", 0)
        await rpc.call("generatetoaddress", 10, ADDRESS)
        branch = await rpc.call("devnet_generate", genesis, 12, ADDRESS)
        before = [item async for item in chain_of(rpc)]
    assert before[1:] == branch
    assert await asyncio.to_thread(node.end, signal.SIGKILL) == -signal.SIGKILL

    again = start(tmp_path)
    assert [line["blocks"] for line in again.lines("replayed")] == [22]
    async with again.client() as rpc:
        assert [item async for item in chain_of(rpc)] == before
        await rpc.call("generatetoaddress", 1, ADDRESS)
    # killed at once again: what was replayed is on disk by now
    await asyncio.to_thread(again.end, signal.SIGKILL)
    third = start(tmp_path)
    async with third.client() as rpc:
        assert await rpc.call("getblockcount") == 13


async def test_a_second_node_on_the_same_data_directory_is_refused(
    start: Start, tmp_path: Path
) -> None:
    node = start(tmp_path)

    second = await asyncio.to_thread(
        subprocess.run,
        [PYTHON, "-m", "devnet.node.cli", "--port", "0", "--datadir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert second.returncode == 1
    assert f"another node (process {node.pid}) is using {tmp_path}" in second.stderr
    assert "Traceback" not in second.stderr
    # the first one does not notice
    async with node.client() as rpc:
        assert await rpc.call("getblockcount") == 0


async def test_a_second_node_in_the_same_process_is_refused_and_a_later_one_is_not(
    tmp_path: Path,
) -> None:
    async with Node(tmp_path):
        with pytest.raises(DataDirectoryInUse, match="stop it, or choose another"):
            async with Node(tmp_path):
                pass
    async with Node(tmp_path) as node:
        assert node.tip.height == 0


async def test_a_data_directory_that_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "index").write_text("no directory")

    with pytest.raises(KernelError, match=r"cannot open the chain in .*damaged"):
        async with Node(tmp_path):
            pass
    # and it is not left locked
    (tmp_path / "blocks" / "index").unlink()
    async with Node(tmp_path) as node:
        assert node.tip.height == 0


async def test_a_port_in_use_is_named(start: Start, tmp_path: Path) -> None:
    node = start(tmp_path / "one")
    port = node.url.rpartition(":")[2]

    second = await asyncio.to_thread(
        subprocess.run,
        [
            *(PYTHON, "-m", "devnet.node.cli", "--port", port),
            *("--datadir", str(tmp_path / "two")),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in second.stderr


async def test_the_cookie_is_ours_alone_and_gone_with_a_password_of_the_users(
    start: Start, tmp_path: Path
) -> None:
    node = start(tmp_path / "one")
    assert stat.S_IMODE((node.datadir / ".cookie").stat().st_mode) == 0o600
    assert stat.S_IMODE(node.datadir.stat().st_mode) == 0o700

    secret = tmp_path / "password"
    secret.write_text("from a file\n")
    by_file = start(
        tmp_path / "two",
        "--rpcuser",
        "pool",
        "--rpcpassword-file",
        str(secret),
        TBG_RPC_PASSWORD="from the environment",  # noqa: S106 - a test's password
    )
    by_environment = start(tmp_path / "three", TBG_RPC_PASSWORD="from the environment")  # noqa: S106 - as above

    for process, user, password in (
        (by_file, "pool", "from a file"),
        (by_environment, "tbg", "from the environment"),
    ):
        assert not (process.datadir / ".cookie").exists()
        async with RPCClient(process.url, PasswordCredentials(user, password)) as rpc:
            assert await rpc.call("getblockcount") == 0
        async with RPCClient(process.url, PasswordCredentials(user, "wrong")) as rpc:
            with pytest.raises(NodeUnauthorized):
                await rpc.call("getblockcount")
        assert password not in process.output


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
async def test_a_full_disk_ends_the_node_and_costs_no_acknowledged_block(
    start: Start, tmp_path: Path
) -> None:
    node = start(tmp_path, piped=True)
    async with node.client() as rpc:
        await rpc.call("generatetoaddress", 2, ADDRESS)
        before = [item async for item in chain_of(rpc)]
        psutil.Process(node.pid).rlimit(psutil.RLIMIT_FSIZE, (200, 200))

        with pytest.raises(RPCError) as caught:
            await rpc.call("generatetoaddress", 1, ADDRESS)
        assert caught.value.code == RPCErrorCode.VERIFY_ERROR
    # It ends, as Bitcoin Core does, and its supervisor starts it again.
    assert await node.ended() == 1
    [failed] = await until(lambda: node.lines("the node failed"))
    assert failed["level"] == "error"

    again = start(tmp_path)
    async with again.client() as rpc:
        assert [item async for item in chain_of(rpc)] == before


async def test_a_long_run_keeps_the_journal_short_and_the_chain_whole(
    start: Start, tmp_path: Path
) -> None:
    node = start(tmp_path)
    async with node.client() as rpc:
        await rpc.call("generatetoaddress", 1003, ADDRESS)
        before = [item async for item in chain_of(rpc)]
    assert len(list(BlockJournal(tmp_path / "blocks.journal").blocks())) == 3

    await asyncio.to_thread(node.end, signal.SIGKILL)
    again = start(tmp_path)
    async with again.client() as rpc:
        assert [item async for item in chain_of(rpc)] == before


def test_a_record_that_was_cut_short_does_not_hide_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "blocks.journal"
    journal = BlockJournal(path)
    assert list(journal.blocks()) == []
    for block in (b"first", b"", b"third"):
        journal.add(block)
    whole = path.read_bytes()

    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        kept = list(journal.blocks())
        assert kept == [b"first", b"", b"third"][: len(kept)]
        assert len(kept) == (size >= 13) + (size >= 21)
    journal.clear()
    assert list(journal.blocks()) == []
