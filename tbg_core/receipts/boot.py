"""The tree of an engine boot's numbers in an hour: a leaf for every number, rows or not."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from tbg_core.receipts.merkle import Growing
from tbg_core.receipts.node import EMPTY, Node, join
from tbg_core.receipts.records import (
    DROPPED,
    MISSING,
    REFUSED,
    Event,
    Share,
    event_leaf,
    share_leaf,
    statement_leaf,
)

Spans = list[tuple[int, int]]  # half-open ranges of numbers, in order, none touching another
Row = Share | Event


class DoubledError(ValueError):
    """Two rows have the same number, or one lies outside of the tree."""


class Stated(NamedTuple):
    """What is said of the numbers that have no row."""

    refused: Spans
    dropped: Spans
    missing: Spans


class Built(NamedTuple):
    """A tree.

    Attributes:
        root: of all numbers.
        stated: what its leaves say of the numbers without a row.
        shares: rows that are shares.
        events: other rows.
        marked: shares that the proof is for, in order.
        proof: the nodes beside them, as :meth:`tbg_core.receipts.merkle.Growing.finish` has them.
    """

    root: Node
    stated: Stated
    shares: int
    events: int
    marked: list[Share]
    proof: list[Node]


_KINDS: Final = (REFUSED, DROPPED, MISSING)


class _Runs:
    """Statements along the numbers, from left to right; a number in no span is missing."""

    def __init__(self, stated: Stated) -> None:
        spans = sorted(
            (start, end, kind)
            for kind, found in zip(_KINDS, stated, strict=True)
            for start, end in found
        )
        self._spans: Iterator[tuple[int, int, bytes]] = iter(spans)
        self._next = next(self._spans, None)

    def holds(self, seq: int) -> bool:
        """Whether something is stated of a number; asked in order."""
        self._skip(seq)
        return self._next is not None and self._next[0] <= seq

    def between(self, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
        """Statements of the numbers from ``start`` up to but without ``end``."""
        while start < end:
            self._skip(start)
            if self._next is None or self._next[0] >= end:
                yield start, end, MISSING
                return
            if start < self._next[0]:
                yield start, self._next[0], MISSING
                start = self._next[0]
            upto = min(end, self._next[1])
            yield start, upto, self._next[2]
            start = upto

    def _skip(self, seq: int) -> None:
        while self._next is not None and self._next[1] <= seq:
            self._next = next(self._spans, None)


def build(
    first: int,
    last: int,
    rows: Iterable[Row],
    stated: Stated,
    *,
    again: bool = False,
    marks: Callable[[Share], bool] | None = None,
) -> Built:
    """Builds the tree of the numbers ``first`` to ``last``.

    The same numbers in a row cost what their number of digits does: a hole of 2^50 is no work.

    Args:
        first: number.
        last: number; ``first - 1`` for none.
        rows: those with a number in the span, in the order of their numbers.
        stated: what is known of the numbers without a row.
        again: whether the tree is one that was published: what it states of a number holds,
            also where a row has come since.
        marks: which shares are to be proved.

    Raises:
        DoubledError: when a number has two rows, or lies outside of the span.
    """
    runs, overruled = _Runs(stated), _Runs(stated if again else Stated([], [], []))
    said: dict[bytes, Spans] = {kind: [] for kind in _KINDS}
    tree: Growing[Node] = Growing(join)
    uniform: dict[tuple[bytes, int], Node] = {}
    marked: list[Share] = []
    shares = events = 0

    def state(start: int, end: int) -> None:
        for begin, stop, kind in runs.between(start, end):
            found = said[kind]
            if found and found[-1][1] == begin:
                found[-1] = found[-1][0], stop
            else:
                found.append((begin, stop))
            _add_run(tree, kind, stop - begin, uniform)

    expected = first
    for row in rows:
        seq = row.seq
        if again and overruled.holds(seq):
            continue
        if not expected <= seq <= last:
            raise DoubledError(
                f"number {seq} has two rows"
                if seq < expected
                else f"number {seq} is not in the tree"
            )
        if seq > expected:
            state(expected, seq)
        expected = seq + 1
        if isinstance(row, Share):
            shares += 1
            mine = marks is not None and marks(row)
            if mine:
                marked.append(row)
            tree.add(share_leaf(row), 1, mine)
        else:
            events += 1
            tree.add(event_leaf(row))
    state(expected, last + 1)
    root, proof = tree.finish() or (EMPTY, [])
    return Built(root, Stated(*said.values()), shares, events, marked, proof)


def _add_run(
    tree: Growing[Node], kind: bytes, count: int, uniform: dict[tuple[bytes, int], Node]
) -> None:
    """Adds so many leaves that say the same, as whole subtrees."""
    while count:
        most = 1 << count.bit_length() - 1
        # The lowest binary digit of the leaves before it: what is whole from here on.
        leaves = min(most, tree.size & -tree.size) if tree.size else most
        tree.add(_uniform(kind, leaves, uniform), leaves)
        count -= leaves


def _uniform(kind: bytes, leaves: int, uniform: dict[tuple[bytes, int], Node]) -> Node:
    node = uniform.get((kind, leaves))
    if node is None:
        if leaves == 1:
            node = statement_leaf(kind)
        else:
            half = _uniform(kind, leaves // 2, uniform)
            node = join(half, half)
        uniform[kind, leaves] = node
    return node
