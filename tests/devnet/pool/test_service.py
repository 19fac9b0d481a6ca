"""The pool over its life: start, restart, a node that comes and goes, the end."""

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devnet.pool.config import ConfigError, NodeConfig
from devnet.pool.node import Node
from devnet.pool.node_answer import NodeAnswer
from devnet.rpc import RPCClient
from tbg_core.rpc import NodeUnreachable
from tests import processes
from tests.devnet.node.conftest import PASSWORD, USER
from tests.devnet.pool.fake_node import FakeNode, nobody_listens
from tests.devnet.pool.harness import ALICE, EASY, Events, client, running_pool
from tests.devnet.pool.test_work import answer
from tests.processes import PYTHON, Process

WARMING_UP = {"result": None, "error": {"code": -28, "message": "Loading block index…"}, "id": 1}


async def test_all_time_and_weekly_bests_survive_a_restart(tmp_path: Path, rpc: RPCClient) -> None:
    def clock() -> int:
        return 1_763_769_600_000_000  # a Saturday: no Monday comes between the two

    async with running_pool(tmp_path, rpc.url, clock=clock) as first, client(first.port) as miner:
        job = await miner.start()
        await miner.ask("mining.submit", *miner.solve(job, 1e-5))
        [*_, best] = await first.events.wait("share_best_diff", 3)
    async with (
        running_pool(tmp_path, rpc.url, clock=clock) as second,
        client(second.port) as miner,
    ):
        assert second.pool is not first.pool
        job = await miner.start()
        await miner.ask("mining.submit", *miner.solve(job, EASY, below=1e-5))
        await miner.ask("mining.submit", *miner.solve(job, 2 * best.new_best_diff, nonce2=1))
        broken = await second.events.wait("share_best_diff", 4)
    assert [item.period for item in broken] == ["session", "session", "week", "alltime"]
    assert [item.previous_best_diff for item in broken[2:]] == [best.new_best_diff] * 2
    instances = {item.instance for item in [*first.events.all, *second.events.all]}
    assert len(instances) == 2


async def test_stopping_says_goodbye_to_every_miner(tmp_path: Path, rpc: RPCClient) -> None:
    async with (
        running_pool(tmp_path, rpc.url) as running,
        client(running.port) as one,
        client(running.port) as two,
    ):
        await one.start(f"{ALICE}.one")
        await two.start(f"{ALICE}.two")
        running.stop()
        left = await running.events.wait("miner_disconnected", 2)
        with pytest.raises(EOFError):
            await one.line()
    assert {(item.worker, item.reason) for item in left} == {
        ("one", "pool shutdown"),
        ("two", "pool shutdown"),
    }


@contextlib.contextmanager
def pool_process(folder: Path, *arguments: object) -> Iterator[Process]:
    """A pool of its own; nothing of it is left when the block ends, however it ends."""
    command = [PYTHON, "-m", "devnet.pool.cli", *map(str, arguments)]
    with processes.running(command, folder / "pool.log", {"TBG_RPC_PASSWORD": PASSWORD}) as process:
        yield process


def logged(process: Process) -> list[dict[str, Any]]:
    """Its whole log lines."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in process.output.splitlines()]
    return lines


async def test_a_pool_process_ends_in_order_on_sigterm(tmp_path: Path, rpc: RPCClient) -> None:
    arguments = [
        *("--node-url", rpc.url, "--rpcuser", USER, "--host", "127.0.0.1", "--port", "0"),
        *("--socket", tmp_path / "events.sock", "--state", tmp_path / "bests.json"),
        *("--start-difficulty", EASY, "--min-difficulty", EASY),
        *("--log-format", "json", "--log-level", "DEBUG"),
    ]
    with (
        contextlib.closing(Events(tmp_path / "events.sock")) as events,
        pool_process(tmp_path, *arguments) as process,
    ):
        await process.saying(re.compile('"pool ready".*\n'))
        [ready] = [line for line in logged(process) if line["event"] == "pool ready"]
        port = int(ready["stratum"][0].rpartition(":")[2])
        async with client(port) as miner:
            job = await miner.start()
            await miner.ask("mining.submit", *miner.solve(job, EASY))
            # It comes from a task of its own, perhaps after the goodbye.
            await events.wait("new_block_network")
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
        [left] = await events.wait("miner_disconnected")
    assert (left.shares_accepted, left.reason) == (1, "pool shutdown")
    assert events.all[-1].event == "miner_disconnected"
    assert [item.seq for item in events.all] == list(range(1, len(events.all) + 1))
    assert events.statuses[-1].data.state == "ended"
    assert events.statuses[-1].data.last_seq == len(events.all)
    # Every event was logged at DEBUG, and nothing of the password.
    debug = [item["seq"] for item in logged(process) if item["level"] == "debug" and "seq" in item]
    assert debug == [item.seq for item in events.all]
    assert PASSWORD not in process.output
    assert json.loads((tmp_path / "bests.json").read_text())["alltime"][ALICE] >= EASY


async def test_a_process_that_waits_for_its_node_ends_on_sigterm_too(tmp_path: Path) -> None:
    with nobody_listens() as url:
        arguments = ["--node-url", url, "--state", tmp_path / "bests.json"]
        with pool_process(tmp_path, *arguments, "--socket", tmp_path / "s") as process:
            await process.saying("the node gives no work")
            process.send(signal.SIGTERM)
            assert await process.ended() == 0


async def test_mainnet_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    async with FakeNode(getblockchaininfo={"chain": "main"}).running() as node:
        with pytest.raises(ConfigError, match="--allow-mainnet"):
            async with running_pool(tmp_path, node.url, block_difficulty=None):
                pass


async def test_a_block_threshold_is_for_regtest_alone(tmp_path: Path) -> None:
    async with FakeNode(getblockchaininfo={"chain": "signet"}).running() as node:
        with pytest.raises(ConfigError, match="for regtest only"):
            async with running_pool(tmp_path, node.url):
                pass
    # A template of signet comes only to who names the rule.
    requests = [params for method, params in node.calls if method == "getblocktemplate"]
    assert requests == [[{"rules": ["segwit", "signet"]}]]


async def test_a_node_without_a_long_poll_is_asked_for_its_tip(tmp_path: Path) -> None:
    first, second = answer(longpollid=None), answer(longpollid=None)
    second["previousblockhash"] = "0e" * 32
    fake = FakeNode(
        getblockchaininfo={"chain": "regtest"}, getbestblockhash=first["previousblockhash"]
    )
    async with (
        fake.running() as node,
        running_pool(tmp_path, node.url, blockpoll=10) as running,
        client(running.port) as miner,
    ):
        await miner.start()
        fake.answers["getblocktemplate"] = second
        fake.answers["getbestblockhash"] = second["previousblockhash"]
        await miner.clean_job()
        tips = await running.events.wait("new_block_network", 2)
    assert [item.prev_hash for item in tips] == [None, None]
    assert tips[1].hash == "0e" * 32


async def test_a_node_that_goes_away_costs_no_miner_its_connection(tmp_path: Path) -> None:
    fake = FakeNode(
        getblockchaininfo={"chain": "regtest"}, getbestblockhash=answer()["previousblockhash"]
    )
    async with (
        fake.running() as node,
        running_pool(tmp_path, node.url, blockpoll=10) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        # Nothing answers now; shares go on as before.
        fake.away = True
        assert (await miner.ask("mining.submit", *miner.solve(job, EASY)))["result"] is True
        renewed = answer(longpollid=None) | {"previousblockhash": "0e" * 32}
        fake.answers |= {"getblocktemplate": renewed, "getbestblockhash": "0e" * 32}
        fake.away = False
        # The first job was clean as well, and was heard by start().
        assert (await miner.clean_job()).prev_hash[::-1].hex() == "0e" * 32


async def test_the_next_node_is_asked_if_one_does_not_answer() -> None:
    with nobody_listens() as url:
        async with (
            FakeNode(getblockchaininfo={"chain": "regtest"}).running() as second,
            Node([NodeConfig(url=url), NodeConfig(url=second.url)]) as node,
        ):
            with pytest.raises(NodeUnreachable, match="not reachable"):
                await node.identify()
            assert (await node.identify()).value == "regtest"


async def test_a_node_of_another_network_is_never_asked_for_work() -> None:
    async with (
        FakeNode(getblockchaininfo={"chain": "regtest"}).running() as regtest,
        FakeNode(getblockchaininfo={"chain": "main"}).running() as main,
        Node([NodeConfig(url=regtest.url), NodeConfig(url=main.url)]) as node,
    ):
        await node.template()
        regtest.away = True
        with pytest.raises(NodeUnreachable, match="not reachable"):
            await node.template()
        with pytest.raises(NodeUnreachable, match="is on main, not on regtest"):
            await node.template()
    assert [method for method, _ in main.calls] == ["getblockchaininfo"]


async def test_a_block_is_delivered_even_if_the_node_is_away_at_first() -> None:
    with nobody_listens() as url:
        async with (
            FakeNode(submitblock=None).running() as second,
            Node([NodeConfig(url=url), NodeConfig(url=second.url)]) as node,
        ):
            assert await node.submit(b"\x01\x02") is NodeAnswer.TAKEN
    assert second.calls == [("submitblock", ["0102"])]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (None, NodeAnswer.TAKEN),
        ("duplicate", NodeAnswer.TAKEN),
        ("inconclusive", NodeAnswer.UNDECIDED),
        ("duplicate-inconclusive", NodeAnswer.UNDECIDED),
        ("duplicate-invalid", NodeAnswer.REFUSED),
        ("high-hash", NodeAnswer.REFUSED),
        ("bad-txnmrklroot", NodeAnswer.REFUSED),
        ({"odd": 1}, NodeAnswer.REFUSED),
    ],
)
async def test_each_answer_to_a_block_has_its_meaning(said: Any, verdict: NodeAnswer) -> None:
    fake = FakeNode(submitblock=said)
    async with fake.running(), Node([NodeConfig(url=fake.url)]) as node:
        assert await node.submit(b"\x01") is verdict
    assert [method for method, _ in fake.calls] == ["submitblock"]


@pytest.mark.parametrize("said", ["inconclusive", "duplicate", "high-hash"])
async def test_a_block_is_reported_unless_the_node_refuses_it(tmp_path: Path, said: str) -> None:
    """Whether it stays in the chain is for its confirmations to say."""
    template = answer(longpollid=None, height=1)
    fake = FakeNode(
        getblockchaininfo={"chain": "regtest"},
        getbestblockhash=template["previousblockhash"],
        getblocktemplate=template,
        submitblock=said,
    )
    async with (
        fake.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        await miner.ask("mining.submit", *miner.solve(job, EASY))
        [share] = await running.events.wait("share_submitted")
        found = running.events.of("block_found")
    if said == "high-hash":
        assert found == []
    else:
        assert [item.hash for item in found] == [share.hash]


async def test_a_node_that_is_still_starting_gets_the_block_again() -> None:
    answers: list[Any] = [web.json_response(WARMING_UP), None]
    fake = FakeNode(submitblock=lambda: answers.pop(0))
    async with fake.running(), Node([NodeConfig(url=fake.url)]) as node:
        assert await node.submit(b"\x01") is NodeAnswer.TAKEN
    assert answers == []


async def test_a_port_in_use_and_a_damaged_state_file_are_named(
    tmp_path: Path, rpc: RPCClient
) -> None:
    (tmp_path / "other").mkdir()
    async with running_pool(tmp_path, rpc.url) as running:
        with pytest.raises(OSError, match="already in use"):
            async with running_pool(
                tmp_path / "other", rpc.url, serverurl=f"127.0.0.1:{running.port}"
            ):
                pass
    (tmp_path / "bests.json").write_text("{")
    with pool_process(
        tmp_path, "--node-url", rpc.url, "--state", tmp_path / "bests.json"
    ) as process:
        assert await process.ended() == 1
    assert "bests.json cannot be read" in process.output
    assert "Traceback" not in process.output
