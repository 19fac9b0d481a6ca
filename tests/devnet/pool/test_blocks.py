"""A solved block: it cannot be found twice, so it is kept until a node has answered for it."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devnet.pool.config import NodeConfig
from devnet.pool.node import Node
from devnet.pool.node_answer import NodeAnswer
from devnet.rpc import RPCClient
from tbg_core.rpc import RPCErrorCode
from tests.devnet.pool.fake_node import FakeNode
from tests.devnet.pool.harness import EASY, Client, Running, client, running_pool
from tests.devnet.pool.test_work import answer

BLOCK = 2e-5


def refusal(code: int, message: str = "no") -> web.Response:
    error = {"code": code, "message": message}
    return web.json_response({"result": None, "error": error, "id": 1}, status=500)


class Chain:
    """A node at some tip, whose answer to a block a test decides."""

    def __init__(self, said: Any = None, tip: int = 1) -> None:
        self.said = said
        self.tip = tip
        self.node = FakeNode(
            getblockchaininfo={"chain": "regtest"},
            getbestblockhash=lambda: self.template["previousblockhash"],
            getblocktemplate=lambda: self.template,
            submitblock=lambda: self.said() if callable(self.said) else self.said,
        )

    @property
    def template(self) -> dict[str, Any]:
        return answer(longpollid=None, height=1, previousblockhash=f"{self.tip:064x}")

    @property
    def blocks(self) -> list[str]:
        """What was submitted."""
        return [params[0] for method, params in self.node.calls if method == "submitblock"]


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "bests-blocks").glob("*"))


async def found(miner: Client, running: Running) -> Any:
    """Solves a block, and returns its event."""
    job = await miner.start()
    said = await miner.ask("mining.submit", *miner.solve(job, EASY))
    assert said["result"] is True
    [block] = await running.events.wait("block_found")
    return block


NODE_AWAY = {
    "warming up": lambda: refusal(RPCErrorCode.IN_WARMUP),
    "not connected": lambda: refusal(RPCErrorCode.CLIENT_NOT_CONNECTED),
    "syncing": lambda: refusal(RPCErrorCode.CLIENT_IN_INITIAL_DOWNLOAD),
    "broken": lambda: refusal(RPCErrorCode.INTERNAL_ERROR),
    "busy": lambda: web.Response(status=503, text="Work queue depth exceeded"),
    "a gateway": lambda: web.Response(status=502, text="<html>Bad Gateway</html>"),
    "another password": lambda: web.Response(status=401),
    "behind": lambda: "prev-blk-not-found",
    "its clock is behind": lambda: "time-too-new",
}


@pytest.mark.parametrize("away", NODE_AWAY)
async def test_a_block_that_no_node_answers_for_is_reported_kept_and_submitted_until_one_does(
    tmp_path: Path, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.pool.node._LONGEST_PAUSE", 0.3)
    chain = Chain(NODE_AWAY[away])
    async with (
        chain.node.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        block = await found(miner, running)
        # The share does not wait for the node, either.
        [share] = await running.events.wait("share_submitted")
        assert (share.hash, share.valid) == (block.hash, True)
        assert kept(tmp_path) == [f"{block.hash}.block"]
        while len(chain.blocks) < 3:
            await miner.ask("mining.suggest_difficulty", EASY)
        assert list(running.pool.blocks.waiting) == [block.hash]
        chain.said = None
        while running.pool.blocks.waiting or kept(tmp_path):
            await miner.ask("mining.suggest_difficulty", EASY)
    assert set(chain.blocks) == {chain.blocks[0]}
    assert len(running.events.of("block_found")) == 1


async def test_a_block_outlives_the_pool(tmp_path: Path) -> None:
    chain = Chain(NODE_AWAY["warming up"])
    async with chain.node.running() as node:
        async with (
            running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
            client(running.port) as miner,
        ):
            block = await found(miner, running)
        assert kept(tmp_path) == [f"{block.hash}.block"]
        before = len(chain.blocks)
        chain.said = None
        async with running_pool(tmp_path, node.url, block_difficulty=EASY) as running:
            # Its first event may have been lost with the pool: it is written again.
            [again] = await running.events.wait("block_found")
            assert again == block
            while running.pool.blocks.waiting or kept(tmp_path):
                await running.settled()
    assert len(chain.blocks) == before + 1
    assert len(set(chain.blocks)) == 1


async def test_a_block_that_is_solved_as_the_pool_ends_is_reported_all_the_same(
    tmp_path: Path,
) -> None:
    chain = Chain(NODE_AWAY["warming up"])
    async with (
        chain.node.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        await miner.ask("mining.submit", *miner.solve(job, EASY))
        running.stop()
        assert len(await running.events.wait("block_found")) == 1
        assert len(await running.events.wait("share_submitted")) == 1
    assert len(kept(tmp_path)) == 1


async def test_a_block_that_the_node_refuses_late_stays_for_a_person_to_see(
    tmp_path: Path,
) -> None:
    chain = Chain(NODE_AWAY["warming up"])
    async with (
        chain.node.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        block = await found(miner, running)
        chain.said = "bad-txnmrklroot"
        while kept(tmp_path) != [f"{block.hash}.refused"]:
            await miner.ask("mining.suggest_difficulty", EASY)
        assert running.pool.blocks.waiting == {}


async def test_a_disk_that_refuses_does_not_keep_a_block_from_the_node(tmp_path: Path) -> None:
    (tmp_path / "bests-blocks").write_text("no folder")
    chain = Chain()
    async with (
        chain.node.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=EASY) as running,
        client(running.port) as miner,
    ):
        await found(miner, running)
    assert len(chain.blocks) == 1


async def test_a_file_that_holds_no_block_is_left_and_the_pool_starts(tmp_path: Path) -> None:
    folder = tmp_path / "bests-blocks"
    folder.mkdir()
    for name, text in (("empty", ""), ("torn", '{"hash": "a'), ("other", "[]")):
        (folder / f"{name}.block").write_text(text)
    chain = Chain()
    async with chain.node.running() as node, running_pool(tmp_path, node.url):
        pass
    assert chain.blocks == []
    assert len(kept(tmp_path)) == 3


async def test_a_node_that_says_nothing_about_the_block_itself_is_asked_again() -> None:
    """And another one that knows it is asked in the meantime."""
    first, second = FakeNode(submitblock=NODE_AWAY["warming up"]), FakeNode(submitblock=None)
    async with (
        first.running(),
        second.running(),
        Node([NodeConfig(url=first.url), NodeConfig(url=second.url)]) as node,
    ):
        assert await node.submit(b"\x01") is NodeAnswer.TAKEN


@pytest.mark.parametrize("code", [RPCErrorCode.DESERIALIZATION_ERROR, RPCErrorCode.VERIFY_ERROR])
async def test_an_error_about_the_block_itself_is_an_answer(code: RPCErrorCode) -> None:
    fake = FakeNode(submitblock=lambda: refusal(code))
    async with fake.running(), Node([NodeConfig(url=fake.url)]) as node:
        assert await node.submit(b"\x01") is NodeAnswer.REFUSED


async def test_a_block_on_the_job_just_replaced_is_submitted_though_its_share_is_stale(
    tmp_path: Path,
) -> None:
    chain = Chain(said="inconclusive")
    async with (
        chain.node.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=BLOCK, blockpoll=10) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        solved = miner.solve(job, BLOCK)
        below = miner.solve(job, EASY, below=BLOCK)
        chain.tip = 2
        await miner.clean_job()
        for params in (below, solved, solved):
            said = await miner.ask("mining.submit", *params)
            assert said["error"] == [21, "Stale share", None]
        shares = await running.events.wait("share_submitted", 3)
        [block] = running.events.of("block_found")
        names = [item.event for item in running.events.all]
    assert [item.reject_reason for item in shares] == ["Stale"] * 3
    assert [item.hash for item in shares].count(block.hash) == 2
    assert names.index("block_found") < len(names) - 1
    # Once, and as the block that it was: on the parent that it was mined for.
    assert len(chain.blocks) == 1
    assert chain.blocks[0][8:72] == bytes.fromhex(f"{1:064x}")[::-1].hex()


async def test_a_block_below_a_difficulty_from_before_the_networks_fell_is_submitted(
    tmp_path: Path,
) -> None:
    chain = Chain()
    async with (
        chain.node.running() as node,
        running_pool(tmp_path, node.url, block_difficulty=1e-5, startdiff=1e-5) as running,
        client(running.port) as miner,
    ):
        job = await miner.start()
        # As after a retarget: what a miner is held to is harder than a block now.
        running.pool.works.block_difficulty = EASY
        params = miner.solve(job, EASY, below=1e-5)
        said = await miner.ask("mining.submit", *params)
        assert said["error"][1] == "Low difficulty share"
        [share] = await running.events.wait("share_submitted")
        [block] = running.events.of("block_found")
    assert (share.hash, share.valid) == (block.hash, False)
    assert len(chain.blocks) == 1


async def test_two_miners_race_for_one_height_on_a_real_node(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, block_difficulty=BLOCK) as running,
        client(running.port) as fast,
        client(running.port) as slow,
    ):
        job = await fast.start()
        other = await slow.start()
        late = slow.solve(other, BLOCK)
        await fast.ask("mining.submit", *fast.solve(job, BLOCK))
        await slow.clean_job()
        assert (await slow.ask("mining.submit", *late))["error"][1] == "Stale share"
        await running.events.wait("block_found", 2)
        first, second = running.events.of("block_found")
        confirmations = [
            (await rpc.call("getblockheader", item.hash))["confirmations"]
            for item in (first, second)
        ]
    assert first.height == second.height == 1
    assert sorted(confirmations) == [-1, 1]  # the node has both, and has built on neither
