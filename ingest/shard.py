"""Which engines' entries a writer takes, when several share the work: pure.

Every boot of an engine belongs to one writer, so that one writer alone keeps its
sequence state, and a block and the share that solved it meet in the same hands.
"""

import re
import zlib
from functools import lru_cache
from typing import Final

import msgspec

MOST: Final = 64  # writers; each reads all of every stream

_TEXT: Final = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})")
_SUFFIX: Final = re.compile(r"-([1-9][0-9]{0,2})-of-([1-9][0-9]{0,2})$")


class Shard(msgspec.Struct, frozen=True, order=True):
    """One of ``count`` writers, numbered from 1."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def consumer(self, base: str) -> str:
        """The name that this writer's offsets are kept under."""
        return base if self.count == 1 else f"{base}-{self.number}-of-{self.count}"

    def owns(self, instance: bytes) -> bool:
        """Whether entries of an instance are this writer's; ``b""`` if they name none."""
        return _number_of(instance, self.count) == self.number


def parse_shard(text: str) -> Shard:
    """Reads ``number/count``.

    Raises:
        ValueError: if the text is not a shard.
    """
    match = _TEXT.fullmatch(text)
    if match is None or not int(match[1]) <= int(match[2]) <= MOST:
        raise ValueError(
            f"is {text!r}, but must be number/count with at most {MOST} writers, "
            "such as 2/3 for the second of three"
        )
    return Shard(int(match[1]), int(match[2]))


def shard_of(base: str, consumer: str) -> Shard | None:
    """The shard whose offsets a consumer name stands for, None if it is another base's."""
    if consumer == base:
        return Shard()
    match = _SUFFIX.fullmatch(consumer.removeprefix(base))
    if match is None or not consumer.startswith(base):
        return None
    return Shard(int(match[1]), int(match[2]))


def names_a_shard(consumer: str) -> bool:
    """Whether a consumer name looks like that of one of several writers."""
    return _SUFFIX.search(consumer) is not None


def shards(count: int) -> list[Shard]:
    """All writers of a count."""
    return [Shard(number, count) for number in range(1, count + 1)]


@lru_cache(maxsize=65_536)
def _number_of(instance: bytes, count: int) -> int:
    if not instance:
        return 1
    # Before the slash stands the engine, after it the boot. As text, in the form that
    # dead letters keep it in: what is stored under one name must be in one hand.
    text = instance.decode(errors="backslashreplace").replace("\x00", "\\x00")
    return zlib.crc32(text.partition("/")[0].encode()) % count + 1
