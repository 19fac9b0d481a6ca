"""The consensus code: libbitcoinkernel on one data directory, in plain Python values.

No object of the binding leaves this module. Each points into the memory of the chainstate
manager, and the data directory opens again only once the manager is destroyed. A ``Kernel``
belongs to the thread that opened it.
"""

import ctypes
import gc
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pbk
import structlog
from pbk.notifications import NotificationInterfaceCallbacks

from devnet.bitcoin.hashing import to_display
from devnet.bitcoin.header import BlockHeader

log = structlog.get_logger(__name__)

# Bitcoin Core's ValidationSignals::BlockChecked writes the reject reason of BIP 22, and after a
# comma the details. The callback of the same name carries only the reason's class.
_BLOCK_CHECKED: Final = re.compile(
    r"BlockChecked: block hash=(?P<hash>[0-9a-f]{64}) state=(?P<state>.*)"
)


class KernelError(Exception):
    """The consensus code itself failed (disk full, damaged files); the block is not at fault."""


class BlockDecodeError(ValueError):
    """The bytes are not a serialised block."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A block that the node knows the header of, on the active chain or off it."""

    hash: bytes
    height: int
    header: BlockHeader


@dataclass(frozen=True, slots=True)
class BlockCheck:
    """What became of a block.

    Attributes:
        new: it was not known before.
        checked: it was validated to the end. A well-formed block off the active chain that does
            not take over is stored unchecked.
        reject_reason: None unless it is invalid.
    """

    new: bool
    checked: bool
    reject_reason: str | None


class Kernel:
    """The regtest chain in ``datadir``, which is created if the directory has none.

    Raises:
        KernelError: the directory cannot be opened.
    """

    def __init__(self, datadir: Path) -> None:
        self._reasons: dict[str, str] = {}
        self._verdicts: dict[bytes, bool] = {}
        self._failure: str | None = None
        self._closed = False
        self._log_connection = pbk.LoggingConnection(cb=self._on_log_line)
        pbk.set_log_level_category(pbk.LogCategory.VALIDATION, pbk.LogLevel.DEBUG)
        pbk.enable_log_category(pbk.LogCategory.VALIDATION)
        context_options = pbk.ContextOptions()
        context_options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
        context_options.set_validation_interface(
            pbk.ValidationInterfaceCallbacks(block_checked=self._on_block_checked)
        )
        context_options.set_notifications(
            NotificationInterfaceCallbacks(
                flush_error=self._on_failure, fatal_error=self._on_failure
            )
        )
        self._context = pbk.Context(context_options)
        options = pbk.ChainstateManagerOptions(
            self._context, str(datadir.absolute()), str((datadir / "blocks").absolute())
        )
        try:
            self._manager = pbk.ChainstateManager(options)
        except RuntimeError as error:
            raise KernelError(
                f"libbitcoinkernel cannot open the chain in {datadir}:"
                " the files are damaged, not readable, or of another network"
            ) from error
        self._chain = self._manager.get_active_chain()

    def close(self) -> None:
        """Writes everything to disk and releases the data directory; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        del self._chain
        # Destroys the C++ object now, even if the Python one is still referenced.
        self._manager.__exit__(None, None, None)
        self._context.__exit__(None, None, None)
        self._log_connection.__exit__(None, None, None)
        del self._manager, self._context, self._log_connection
        gc.collect()

    @property
    def height(self) -> int:
        """The height of the active chain's tip."""
        return int(self._chain.height)

    def tip(self) -> Entry:
        """The last block of the active chain."""
        return _entry(self._chain.block_tree_entries[self.height])

    def at_height(self, height: int) -> Entry | None:
        """The active chain's block at ``height``; None outside it."""
        if not 0 <= height <= self.height:
            return None
        return _entry(self._chain.block_tree_entries[height])

    def entry(self, block_hash: bytes) -> Entry | None:
        """The block with this hash, on any branch; None when it is unknown."""
        tree_entry = self._tree_entry(block_hash)
        return None if tree_entry is None else _entry(tree_entry)

    def is_active(self, entry: Entry) -> bool:
        """Whether ``entry`` is on the active chain."""
        at_height = self.at_height(entry.height)
        return at_height is not None and at_height.hash == entry.hash

    def best_header_height(self) -> int:
        """The height of the header with the most work."""
        return int(self._manager.best_entry.height)

    def read_block(self, block_hash: bytes) -> bytes | None:
        """The serialised block; None when it is unknown or only its header was kept."""
        tree_entry = self._tree_entry(block_hash)
        if tree_entry is None:
            return None
        try:
            return bytes(self._manager.blocks[tree_entry])
        except RuntimeError:  # the binding's way to say that the block is not on disk
            return None

    def process(self, raw_block: bytes) -> BlockCheck:
        """Validates a block, stores it, and makes it the tip if its branch has the most work.

        Bitcoin Core's ProcessNewBlock.

        Raises:
            BlockDecodeError: the bytes are not a block.
            KernelError: the node itself failed.
        """
        try:
            block = pbk.Block(raw_block)
        except RuntimeError as error:
            raise BlockDecodeError("these bytes are not a serialised block") from error
        block_hash = bytes(block.block_hash)
        if self._failure is not None:
            raise KernelError(f"the node cannot go on: {self._failure}")
        self._reasons.clear()
        self._verdicts.clear()
        try:
            new = self._manager.process_block(block)
        except pbk.ProcessBlockException as error:
            # block_checked reported an invalid block; otherwise the node failed.
            if block_hash not in self._verdicts:
                reason = self._failure or str(error)
                raise KernelError(f"block {to_display(block_hash)}: {reason}") from error
            new = True
        if self._failure is not None:
            raise KernelError(f"block {to_display(block_hash)}: {self._failure}")
        if block_hash not in self._verdicts:
            return BlockCheck(new, checked=False, reject_reason=None)
        if self._verdicts[block_hash]:
            return BlockCheck(new, checked=True, reject_reason=None)
        state = self._reasons.get(to_display(block_hash), "")
        # BIP 22 says "rejected" if the reason is not known.
        return BlockCheck(new, checked=True, reject_reason=state.split(", ")[0] or "rejected")

    def _tree_entry(self, block_hash: bytes) -> pbk.BlockTreeEntry | None:
        try:
            return self._manager.block_tree_entries[pbk.BlockHash(block_hash)]
        except KeyError:
            return None

    def _on_log_line(self, line: str) -> None:
        match = _BLOCK_CHECKED.search(line)
        if match:
            self._reasons[match["hash"]] = match["state"].strip()
        log.debug("kernel", line=line.rstrip())

    def _on_failure(self, _user_data: object, message: Any, size: int) -> None:
        """Bitcoin Core would shut down here: it cannot write what it holds in memory."""
        self._failure = ctypes.string_at(message, size).decode("utf-8", "replace")
        log.error("the consensus code failed", reason=self._failure)

    def _on_block_checked(
        self, _user_data: object, block: pbk.Block, state: pbk.BlockValidationState
    ) -> None:
        mode = state.validation_mode
        if mode is not pbk.ValidationMode.INTERNAL_ERROR:
            self._verdicts[bytes(block.block_hash)] = mode is pbk.ValidationMode.VALID


def _entry(tree_entry: pbk.BlockTreeEntry) -> Entry:
    return Entry(
        bytes(tree_entry.block_hash),
        int(tree_entry.height),
        BlockHeader.unpack(bytes(tree_entry.block_header)),
    )
