"""What a writer knows of a million miners, in arrays instead of objects."""

from array import array
from typing import Any, Final

_PARTS: Final = 64  # each grows by itself, so that no growth stops the writer for long
_PART_BITS: Final = 6
_LEAST: Final = 16  # slots of a part, a power of two
_CHECK: Final = 0xFFFF_FFFF
_PAGE_BITS: Final = 8
_PAGE: Final = 1 << _PAGE_BITS
_IN_PAGE: Final = _PAGE - 1


class Directory:
    """Finds the number of a worker or a user by its name: 16 bytes a slot, 34 a name.

    Names are not kept: 64 and 32 bits of two hashes stand for one. They are SipHash under
    a key of the process's own (unless PYTHONHASHSEED sets it), so that nobody can choose
    names that collide. By chance any two of n names do with odds of n^2 / 2^97: one in
    10^16 for four million.

    Open addressing with linear probing; a part is at most two thirds full.
    """

    def __init__(self) -> None:
        self._keys = [array("q", [0]) * _LEAST for _ in range(_PARTS)]
        self._checks = [array("I", [0]) * _LEAST for _ in range(_PARTS)]
        self._numbers = [array("i", [0]) * _LEAST for _ in range(_PARTS)]
        self._used = [0] * _PARTS

    def __len__(self) -> int:
        return sum(self._used)

    def get(self, user: str, worker: str | None) -> int:
        """The number of a worker, of the user itself where ``worker`` is None; 0 if unknown."""
        name = _name(user, worker)
        key = hash(name)
        part = key & (_PARTS - 1)
        return self._numbers[part][self._slot(part, key, hash("." + name) & _CHECK)]

    def put(self, user: str, worker: str | None, number: int) -> None:
        """Sets a number, from 1 to 2^31 - 1."""
        name = _name(user, worker)
        key, check = hash(name), hash("." + name) & _CHECK
        part = key & (_PARTS - 1)
        slot = self._slot(part, key, check)
        if not self._numbers[part][slot]:
            self._used[part] += 1
            if 3 * self._used[part] > 2 * len(self._numbers[part]):
                self._grow(part)
                slot = self._slot(part, key, check)
        self._set(part, slot, key, check, number)

    def _slot(self, part: int, key: int, check: int) -> int:
        """Where the name is, or the free slot that is its place."""
        keys, checks, numbers = self._keys[part], self._checks[part], self._numbers[part]
        last = len(numbers) - 1
        slot = (key >> _PART_BITS) & last
        while numbers[slot] and (keys[slot] != key or checks[slot] != check):
            slot = (slot + 1) & last
        return slot

    def _set(self, part: int, slot: int, key: int, check: int, number: int) -> None:
        self._keys[part][slot] = key
        self._checks[part][slot] = check
        self._numbers[part][slot] = number

    def _grow(self, part: int) -> None:
        old = zip(self._keys[part], self._checks[part], self._numbers[part], strict=True)
        size = 2 * len(self._numbers[part])
        self._keys[part] = array("q", [0]) * size
        self._checks[part] = array("I", [0]) * size
        self._numbers[part] = array("i", [0]) * size
        for key, check, number in old:
            if number:
                self._set(part, self._slot(part, key, check), key, check, number)


def _name(user: str, worker: str | None) -> str:
    # No two names make the same text, whatever is in them.
    return f"-{user}" if worker is None else f"{len(user)}.{user}.{worker}"


class Column:
    """A value for each number of a table's rows, ``blank`` where none was set.

    Pages of 256 numbers are made when they are needed: ids may have holes.
    """

    def __init__(self, typecode: str, blank: float) -> None:
        self._blank: array[Any] = array(typecode, [blank])
        self._pages: dict[int, array[Any]] = {}

    def __getitem__(self, number: int) -> Any:
        try:
            return self._pages[number >> _PAGE_BITS][number & _IN_PAGE]
        except KeyError:
            return self._blank[0]

    def __setitem__(self, number: int, value: float) -> None:
        page = self._pages.get(number >> _PAGE_BITS)
        if page is None:
            page = self._pages[number >> _PAGE_BITS] = self._blank * _PAGE
        page[number & _IN_PAGE] = value

    @property
    def pages(self) -> int:
        """How many there are."""
        return len(self._pages)
