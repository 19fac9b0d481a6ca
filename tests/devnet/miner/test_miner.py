"""The miner mines: real shares for the real pool on a real chain."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devnet.miner.cli import GUEST_NICE, throwaway_user
from devnet.miner.miner import Miner, MinerError
from devnet.rpc import RPCClient
from tests import processes
from tests.devnet.pool.conftest import rpc, running
from tests.devnet.pool.harness import ALICE, EASY, PATIENCE, Running, running_pool
from tests.processes import PYTHON, Process, until

__all__ = ["rpc", "running"]  # fixtures


def miner(pool: Running, **options: object) -> Miner:
    values: dict[str, object] = {"max_hashrate": 400_000} | options
    return Miner("127.0.0.1", pool.port, throwaway_user(), **values)  # type: ignore[arg-type]  # options of the test


@asynccontextmanager
async def door() -> AsyncIterator[tuple[int, Callable[[int], None]]]:
    """A port that stays ours, and what says to which port it leads.

    A pool cannot bind the port of an earlier one again: it may have a new owner by then.
    """
    behind: list[int] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind[-1])
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], behind.append


@contextlib.contextmanager
def command(folder: Path, *arguments: str) -> Iterator[Process]:
    """``tbg devnet miner`` as a process, which does not outlive the block."""
    with processes.running(
        [PYTHON, "-m", "devnet.miner.cli", *arguments], folder / "miner.log"
    ) as process:
        yield process


async def test_it_mines_shares_with_several_processes_until_it_has_enough(
    running: Running,
) -> None:
    async with asyncio.timeout(PATIENCE):
        tally = await miner(running, processes=2, shares=10).run()
    assert tally.accepted >= 10
    assert tally.rejected == 0
    assert tally.hashes > 10_000
    [left] = await running.events.wait("miner_disconnected")
    # It left with its last share on the way: the pool may have seen more than it heard of.
    shares = running.events.of("share_submitted")
    assert len(shares) == left.shares_accepted >= tally.accepted
    assert all(share.valid for share in shares)
    # Version rolling was negotiated.
    assert {share.version_bits is not None for share in shares} == {True}
    assert tally.best in {share.share_diff for share in shares}
    assert left.worker == "cpu"


async def test_every_process_finds_shares_in_extranonces_of_its_own(running: Running) -> None:
    mining = miner(running, processes=2)
    task = asyncio.create_task(mining.run())
    number = 0
    processes: set[int] = set()
    while processes != {0, 1}:  # one may have started long before the other
        number += 1
        shares = await running.events.wait("share_submitted", number)
        processes = {int(share.nonce2, 16) % 2 for share in shares}
    mining.stop()
    async with asyncio.timeout(PATIENCE):
        await task


async def test_no_share_is_sent_twice_when_the_difficulty_changes_within_a_job(
    running: Running,
) -> None:
    mining = miner(running)
    task = asyncio.create_task(mining.run())
    await running.events.wait("miner_connected")
    [session] = running.pool.sessions.values()
    for number in range(1, 13):
        await running.events.wait("share_submitted", 3 * number)
        session.change_difficulty(EASY / (1 + number % 3))
    mining.stop()
    async with asyncio.timeout(PATIENCE):
        await task
    shares = running.events.of("share_submitted")
    assert len({share.job_id for share in shares}) < 13
    assert [share.reject_reason for share in shares if not share.valid] == []
    assert len({share.hash for share in shares}) == len(shares)


async def test_without_version_rolling_it_mines_as_well(running: Running) -> None:
    async with asyncio.timeout(PATIENCE):
        tally = await miner(running, shares=2, roll_versions=False).run()
    assert tally.accepted >= 2
    shares = await running.events.wait("share_submitted", tally.accepted)
    assert {item.version_bits for item in shares} == {None}


async def test_a_bad_share_is_sent_once_and_rejected(running: Running) -> None:
    async with asyncio.timeout(PATIENCE):
        tally = await miner(running, shares=2, bad_share=True).run()
    assert (tally.accepted >= 2, tally.rejected) == (True, 1)
    shares = await running.events.wait("share_submitted", tally.accepted + 1)
    assert [share.reject_reason for share in shares if not share.valid] == ["Above target"]


async def test_blocks_are_found_and_work_goes_on_on_top_of_them(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with running_pool(tmp_path, rpc.url, startdiff=1e-5, block_difficulty=1e-4) as pool:
        mining = asyncio.create_task(miner(pool, max_hashrate=0).run())
        # Two blocks of one height may be on their way to the node at once.
        await pool.events.until(
            lambda: {block.height for block in pool.events.of("block_found")} >= {1, 2, 3}
        )
        assert not mining.done()
        mining.cancel()
        await asyncio.gather(mining, return_exceptions=True)
        assert await rpc.call("getblockcount") >= 3


async def test_it_comes_back_when_the_pool_does(tmp_path: Path, rpc: RPCClient) -> None:
    async with door() as (port, leads_to):
        async with running_pool(tmp_path, rpc.url) as first:
            leads_to(first.port)
            mining = Miner("127.0.0.1", port, throwaway_user(), max_hashrate=400_000)
            task = asyncio.create_task(mining.run())
            await first.events.wait("share_submitted")
        async with running_pool(tmp_path, rpc.url) as second:
            leads_to(second.port)
            await second.events.wait("share_submitted")
            mining.stop()
            async with asyncio.timeout(PATIENCE):
                await task


async def test_a_user_that_the_pool_refuses_ends_it_with_the_pools_words(running: Running) -> None:
    mining = Miner("127.0.0.1", running.port, "nobody")
    with pytest.raises(MinerError, match="must begin with your address"):
        async with asyncio.timeout(PATIENCE):
            await mining.run()


async def test_the_hashrate_stays_under_its_limit(running: Running) -> None:
    mining = miner(running, max_hashrate=40_000, processes=2, shares=15)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        tally = await mining.run()
    assert tally.hashes < 40_000 * (time.monotonic() - began) * 1.1 + 10_000


async def test_the_command_ends_by_itself_after_its_shares(
    running: Running, tmp_path: Path
) -> None:
    with command(
        tmp_path,
        *("--url", f"stratum+tcp://127.0.0.1:{running.port}", "--user", f"{ALICE}.cli"),
        *("--shares", "3", "--send-bad-share", "--max-hashrate", "0"),
    ) as process:
        assert await process.ended() == 0, process.output
    assert "miner ended" in process.output
    assert "Traceback" not in process.output
    [left] = await running.events.wait("miner_disconnected")
    assert (left.worker, left.shares_rejected) == ("cli", 1)


async def test_by_default_the_command_is_a_guest_on_the_machine(
    running: Running, tmp_path: Path
) -> None:
    with command(tmp_path, "--url", f"127.0.0.1:{running.port}") as process:
        [asked, *_] = await running.events.wait("diff_updated")
        niceness = os.getpriority(os.PRIO_PROCESS, process.pid)
    # A share a second of 200,000 hashes.
    assert (asked.new_diff, asked.reason) == (4.657e-05, "suggest")
    assert niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + GUEST_NICE)


async def test_sigterm_ends_the_command_and_its_processes(running: Running, tmp_path: Path) -> None:
    url = f"127.0.0.1:{running.port}"
    with command(tmp_path, "--url", url, "--processes", "2", "--max-hashrate", "0") as process:
        await running.events.wait("share_submitted")
        process.send(signal.SIGTERM)
        assert await process.ended() == 0, process.output
        # The searching processes see the end of theirs.
        await until(lambda: not process.family(), "the searching processes end")


async def test_the_pool_may_set_a_difficulty_that_the_miner_cannot_reach(
    tmp_path: Path, rpc: RPCClient
) -> None:
    """It goes on without shares, and takes the next difficulty at once."""
    async with running_pool(tmp_path, rpc.url, startdiff=1e5) as pool:
        mining = miner(pool)
        task = asyncio.create_task(mining.run())
        await pool.events.wait("miner_connected")
        [session] = pool.pool.sessions.values()
        session.change_difficulty(EASY)
        await pool.events.wait("share_submitted", 2)
        mining.stop()
        await asyncio.wait_for(task, PATIENCE)
