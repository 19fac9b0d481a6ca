"""What a node says about a block that it was given."""

from enum import Enum, auto
from typing import Any


class NodeAnswer(Enum):
    """The meaning of an answer to ``submitblock`` (BIP 22)."""

    TAKEN = auto()
    """The block is valid, and the tip unless another one has come since."""
    UNDECIDED = auto()
    """The node keeps the block. It may still become the tip: its confirmations decide."""
    LATER = auto()
    """The node cannot judge the block yet: it does not know the parent, or its clock is behind."""
    REFUSED = auto()

    @classmethod
    def of(cls, answer: Any) -> "NodeAnswer":
        """The verdict in the result of ``submitblock``: null, or a word.

        ``duplicate`` says that the node has the block and found it valid, for instance because
        the answer to an earlier call was lost, or because another of our nodes passed it on.
        """
        if answer is None or answer == "duplicate":
            return cls.TAKEN
        if answer in ("inconclusive", "duplicate-inconclusive"):
            return cls.UNDECIDED
        if answer in ("prev-blk-not-found", "time-too-new"):
            return cls.LATER
        return cls.REFUSED
