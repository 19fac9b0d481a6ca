"""The running node: the kernel in its own thread, and a signal at every new tip."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

import structlog

from devnet.bitcoin.hashing import to_display
from devnet.bitcoin.header import HEADER_SIZE, BlockHeader
from devnet.node.datadir import DataDirectory
from devnet.node.journal import BlockJournal
from devnet.node.kernel import BlockCheck, Entry, Kernel, KernelError
from devnet.node.mining import mine_block
from devnet.node.submission import complete_witness

log = structlog.get_logger(__name__)

T = TypeVar("T")

_JOURNAL_BLOCKS: Final = 1000
"""Blocks in the journal after which the kernel writes everything to disk. It does so only when it
is closed; closing and reopening takes a fraction of a second and keeps the replay after a kill
short."""


class UnknownBlock(LookupError):
    """No block has this hash."""


class BlockRefused(Exception):
    """A block that the node mined itself was not accepted; the text is the reject reason."""


class Node:
    """The chain in ``datadir``; use it as an asynchronous context manager.

    Every kernel call runs in one thread, one after the other, so that the event loop never waits
    for validation.

    Raises:
        DataDirectoryInUse: on entering, as are the other two.
        KernelError: the chain cannot be opened.
        OSError: the directory cannot be created.
    """

    def __init__(self, datadir: Path) -> None:
        self.datadir = datadir
        self.started_at = time.monotonic()
        self.failed = asyncio.Event()
        """Set when the consensus code or the disk failed. Its state is then uncertain, and the
        process should end, as Bitcoin Core does."""
        self._stopping = False
        self._journalled = 0
        self._tip_changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._directory = DataDirectory(self.datadir)
        self._journal = BlockJournal(self.datadir / "blocks.journal")
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        try:
            self.tip = await self._loop.run_in_executor(self._executor, self._open)
        except BaseException:
            self._executor.shutdown()
            self._directory.release()
            raise
        log.info("chain opened", height=self.tip.height, tip=to_display(self.tip.hash))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release_waiters()
        await self._loop.run_in_executor(self._executor, self._close)
        self._executor.shutdown()
        self._directory.release()
        log.info("chain closed", height=self.tip.height)

    async def run(self, function: Callable[[Kernel], T]) -> T:
        """``function`` of the kernel, in its thread, so that what it reads is consistent.

        A ``KernelError`` is passed on and sets ``failed``.
        """
        try:
            return await self._loop.run_in_executor(self._executor, lambda: function(self._kernel))
        except KernelError as error:
            log.error("the node failed", error=str(error))
            self.failed.set()
            raise

    async def submit(self, raw_block: bytes) -> BlockCheck:
        """Validates and stores a serialised block.

        A cancelled call is finished in the background or never begun.

        Raises:
            BlockDecodeError: the bytes are not a block.
            KernelError: the node itself failed.
        """
        completed = complete_witness(raw_block)
        return await self.run(lambda kernel: self._process(kernel, completed))

    async def generate(self, script_pubkey: bytes, parent_hash: bytes | None = None) -> bytes:
        """Mines a block on top of ``parent_hash`` (the tip when None); returns its hash.

        Raises:
            UnknownBlock: there is no such parent.
            BlockRefused: the parent is invalid, or the chain's time is ahead of the clock.
            KernelError: the node itself failed.
        """
        return await self.run(lambda kernel: self._mine(kernel, script_pubkey, parent_hash))

    async def wait_for_new_tip(self, known: bytes) -> bool:
        """Waits until the tip is not ``known``; False when the node is stopping."""
        while self.tip.hash == known and not self._stopping:
            await self._tip_changed.wait()
        return not self._stopping

    def release_waiters(self) -> None:
        """Ends every wait for a new tip: the node is stopping."""
        self._stopping = True
        self._tip_changed.set()

    def _open(self) -> Entry:
        self._kernel = Kernel(self.datadir)
        replayed = 0
        for raw_block in self._journal.blocks():
            self._kernel.process(raw_block)
            replayed += 1
        if replayed:
            self._write_down()
            log.warning("the node was not stopped in order; blocks replayed", blocks=replayed)
        return self._kernel.tip()

    def _write_down(self) -> None:
        """Makes the kernel write everything to disk, then clears the journal."""
        self._kernel.close()
        self._kernel = Kernel(self.datadir)
        self._journal.clear()
        self._journalled = 0

    def _close(self) -> None:
        self._kernel.close()
        if not self.failed.is_set():  # what failed may not have been written
            self._journal.clear()

    def _process(self, kernel: Kernel, raw_block: bytes) -> BlockCheck:
        verdict = kernel.process(raw_block)
        if verdict.new and verdict.reject_reason is None:
            try:
                self._journal.add(raw_block)
            except OSError as error:
                raise KernelError(f"the journal cannot be written: {error}") from error
            self._journalled += 1
        tip = kernel.tip()
        # Before the result reaches the caller, who may ask for a template at once.
        self._loop.call_soon_threadsafe(self._announce, tip)
        log.debug(
            "block processed",
            hash=BlockHeader.unpack(raw_block[:HEADER_SIZE]).hash_hex,
            new=verdict.new,
            reject_reason=verdict.reject_reason,
        )
        if self._journalled >= _JOURNAL_BLOCKS:
            self._write_down()
        return verdict

    def _mine(self, kernel: Kernel, script_pubkey: bytes, parent_hash: bytes | None) -> bytes:
        parent = kernel.tip() if parent_hash is None else kernel.entry(parent_hash)
        if parent is None:
            raise UnknownBlock("the parent block is not known")
        raw_block = mine_block(kernel, parent, script_pubkey, int(time.time()))
        verdict = self._process(kernel, raw_block)
        if verdict.reject_reason is not None:
            raise BlockRefused(verdict.reject_reason)
        if not verdict.new:
            raise KernelError("a block just mined was known before")
        return BlockHeader.unpack(raw_block[:HEADER_SIZE]).hash

    def _announce(self, tip: Entry) -> None:
        if tip.hash == self.tip.hash:
            return
        self.tip = tip
        log.info("new tip", height=tip.height, hash=to_display(tip.hash))
        self._tip_changed.set()
        self._tip_changed = asyncio.Event()
