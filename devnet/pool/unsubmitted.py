"""Solved blocks on disk until a node has answered for them: a block cannot be found twice.

One JSON file for each block, named by its hash, holds the block as ``submitblock`` takes it (hex),
and its event. A block that a node refused stays there as ``<hash>.refused``, for a person to see.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from tbg_core.files import write_private

_WAITING: Final = ".block"
_REFUSED: Final = ".refused"

log = structlog.get_logger("pool")


class Solved(msgspec.Struct, frozen=True):
    """A solved block.

    Attributes:
        hash: as explorers show it.
        block: hex, as ``submitblock`` takes it.
        event: the data of its ``block_found``.
        timestamp: microseconds since the epoch, of the share.
    """

    hash: str
    block: str
    event: dict[str, Any]
    timestamp: int


@dataclass(frozen=True, slots=True)
class Unsubmitted:
    """The folder of the blocks that no node has answered for; its calls wait for the disk.

    ``folder`` None keeps nothing.
    """

    folder: Path | None

    def keep(self, solved: Solved) -> None:
        """Writes a block, and returns once it is on the disk.

        If the disk refuses, the block is submitted from memory alone, and the log holds it.
        """
        if self.folder is None:
            return
        path = self.folder / f"{solved.hash}{_WAITING}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, msgspec.json.encode(solved).decode())
        except OSError as error:
            log.critical(
                "block not written to disk: a restart would lose it",
                path=str(path),
                error=str(error),
                block=solved.block,
            )

    def answered(self, solved: Solved, *, refused: bool) -> None:
        """A node has answered for a block."""
        if self.folder is None:
            return
        path = self.folder / f"{solved.hash}{_WAITING}"
        try:
            if refused:
                path.replace(path.with_suffix(_REFUSED))
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            # A restart submits it again, and the node answers "duplicate".
            log.warning("block file not removed", path=str(path), error=str(error))

    def waiting(self) -> list[Solved]:
        """The blocks of an earlier run; a file that holds none is named in the log and left."""
        found = []
        for path in sorted(self.folder.glob(f"*{_WAITING}")) if self.folder else ():
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Solved))
            except (OSError, ValueError) as error:
                log.error("block file cannot be read", path=str(path), error=str(error))
        return found


NOWHERE: Final = Unsubmitted(None)
"""For a pool whose blocks need not outlive it."""
