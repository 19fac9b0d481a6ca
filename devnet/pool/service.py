"""The running pool: node, Stratum port, events and state file together."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import structlog

from devnet.bitcoin.address import Network
from devnet.bitcoin.difficulty import difficulty_from_bits
from devnet.bitcoin.hashing import to_display
from devnet.emitter import Emitter
from devnet.pool.bests import Bests
from devnet.pool.config import DEFAULT_PORT, ConfigError, PoolConfig, listen_address
from devnet.pool.events import PoolEvents
from devnet.pool.node import Node, Watcher
from devnet.pool.pool import Clock, Pool, wall_clock
from devnet.pool.server import StratumServer
from devnet.pool.tls import Certificate
from devnet.pool.unsubmitted import Unsubmitted
from devnet.pool.work import Template
from tbg_core.files import write_private

SAVE_INTERVAL: Final = 5.0  # seconds between two looks at whether bests must be saved
TIDY_INTERVAL: Final = 10.0
STATUS_INTERVAL: Final = 60.0

log = structlog.get_logger("pool")


class MainnetRefused(ConfigError):
    """The node is on mainnet, which was not asked for."""


async def serve(
    config: PoolConfig,
    stop: asyncio.Event,
    *,
    socket_path: Path,
    state_path: Path,
    name: str,
    allow_mainnet: bool = False,
    clock: Clock = wall_clock,
    ready: Callable[[Pool, list[tuple[str, int]]], None] | None = None,
) -> None:
    """Serves until ``stop`` is set; then closes the connections, sends the events and returns.

    ``clock`` gives the times of shares. ``ready`` is called with the pool and the addresses that it
    listens on, once it does.

    Raises:
        ConfigError: the configuration does not suit the node.
        BestsError: the state file cannot be used.
        OSError: an address cannot be listened on, or the state file not be written.
    """
    bests = Bests.load(state_path)
    state_path.parent.mkdir(parents=True, exist_ok=True)
    write_private(state_path, bests.dump())  # fails now if it cannot write there
    emitter = Emitter(socket_path, name, state_path.parent)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(emitter)
        node = await stack.enter_async_context(Node(config.btcd))
        pool: Pool | None = None
        tips: set[asyncio.Task[None]] = set()
        events = PoolEvents(emitter)

        def apply(template: Template) -> None:
            if pool is not None and pool.renew_work(template):
                announce(template)

        def announce(template: Template) -> None:
            # It takes another call to the node, and no miner waits for that.
            task = asyncio.create_task(_announce_tip(node, events, template))
            tips.add(task)
            task.add_done_callback(tips.discard)

        watcher = Watcher(
            node,
            apply,
            update_interval=config.update_interval,
            poll_interval=config.blockpoll / 1000,
        )
        first = await _unless_stopped(watcher.first(), stop)
        if first is None or node.network is None:
            return
        _check_network(config, node.network, allow_mainnet)
        # Beside the state file: what survives a restart of the pool.
        unsubmitted = Unsubmitted(state_path.with_name(f"{state_path.stem}-blocks"))
        pool = Pool(config, node.network, events, bests, node.submit, first, clock, unsubmitted)
        pool.blocks.resume()
        announce(first)
        server = StratumServer(pool)
        addresses = [listen_address(url) for url in config.serverurl] or [
            ("127.0.0.1", DEFAULT_PORT)
        ]
        secure = [listen_address(url) for url in config.tls_serverurl]
        certificate = None
        if config.tls_certificate is not None:
            certificate = Certificate(config.tls_certificate, config.tls_key)

        def tidy() -> None:
            pool.tidy()
            if certificate is not None:
                certificate.renew()

        # Left in reverse order: connections first, then the last blocks, then the bests.
        stack.callback(lambda: _write(bests, state_path, bests.dump()))
        stack.push_async_callback(pool.blocks.finish, 1.0)
        async with (
            server.listen(addresses) as bound,
            server.listen(secure, certificate) as bound_tls,
            asyncio.TaskGroup() as tasks,
        ):
            running = [
                tasks.create_task(watcher.watch()),
                tasks.create_task(_save_bests(bests, state_path)),
                tasks.create_task(_every(TIDY_INTERVAL, tidy)),
                tasks.create_task(_every(config.hashrate_interval, pool.report_hashrates)),
                tasks.create_task(
                    _every(STATUS_INTERVAL, lambda: _log_status(pool, server, emitter))
                ),
            ]
            log.info(
                "pool ready",
                stratum=[f"stratum+tcp://{host}:{port}" for host, port in bound]
                + [f"stratum+ssl://{host}:{port}" for host, port in bound_tls],
                network=node.network.value,
                height=first.height,
                block_difficulty=pool.works.block_difficulty,
                instance=emitter.instance,
                events=str(socket_path),
            )
            if ready is not None:
                ready(pool, bound + bound_tls)
            await stop.wait()
            log.info("pool stopping", miners=len(pool.sessions))
            for task in running:
                task.cancel()


async def _unless_stopped(
    work: Coroutine[Any, Any, Template], stop: asyncio.Event
) -> Template | None:
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    return task.result()


def _check_network(config: PoolConfig, network: Network, allow_mainnet: bool) -> None:
    if network is Network.MAIN and not allow_mainnet:
        raise MainnetRefused(
            "the node is on mainnet, where mistakes cost real money: this pool is for regtest and"
            " the test networks (--allow-mainnet serves it all the same)"
        )
    if config.block_difficulty is not None and network is not Network.REGTEST:
        raise ConfigError(
            f"block_difficulty is for regtest only, and the node is on {network.value}, where"
            " every share that meets the network's target must be submitted"
        )


async def _announce_tip(node: Node, events: PoolEvents, template: Template) -> None:
    previous = await node.parent(template.prev_hash)
    difficulty = difficulty_from_bits(template.bits)
    events.new_tip(template.height - 1, to_display(template.prev_hash), difficulty, previous)


async def _every(seconds: float, act: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        act()


async def _save_bests(bests: Bests, path: Path) -> None:
    while True:
        await asyncio.sleep(SAVE_INTERVAL)
        if bests.dirty:
            bests.dirty = False
            # In a thread: miners do not wait for a slow disk.
            await asyncio.to_thread(_write, bests, path, bests.dump())


def _write(bests: Bests, path: Path, text: str) -> None:
    """Saves the bests; if the disk refuses, mining goes on and the next try comes soon."""
    try:
        write_private(path, text)
    except OSError as error:
        bests.dirty = True
        log.error("bests not saved", path=str(path), error=str(error))


def _log_status(pool: Pool, server: StratumServer, emitter: Emitter) -> None:
    log.info(
        "pool",
        miners=len(pool.sessions),
        connections=server.connections,
        turned_away=dict(server.turned_away),
        accepted=pool.accepted,
        rejected=pool.rejected,
        unauthorized=pool.refused_strangers,
        blocks=pool.blocks.reported,
        blocks_waiting=len(pool.blocks.waiting),
        height=pool.works.current.template.height,
        events=emitter.seq,
        queued=emitter.queued,
        dropped=dict(emitter.dropped),
    )
