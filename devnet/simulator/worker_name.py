"""The names that miners give their machines, including hostile ones.

Worker names come from the other side of the internet. A small part of every fleet has names that
break careless code, so that every reader of simulated events meets them.
"""

from typing import Final

HOSTILE_EVERY: Final = 97
"""One machine in this many has a hostile name."""

HOSTILE: Final = (
    "Robert'); DROP TABLE shares;--",
    '"quoted" and \\backslashed\\',
    "⛏️🔥 Gräber №1 採掘",
    "\x01\x1b[31mred\x1b[0m\x07\x7f",
    "x" * 128,
    "🐋" * 128,
    "two\nlines\r\nand\ta tab",
    "<script>alert(1)</script>",
    "a.b..c.",
    "\u202etxt.exe\u200b",
    "%s%n{0}${HOME}$(id)",
    " leading and trailing ",
    '","valid":true,"x":"',
    "../../../../etc/passwd",
    "\x1f" * 128,
    "-1",
)


NAMELESS_EVERY: Final = 11
"""One machine in this many has no name, if it is its user's first."""


def worker_name(machine: int, hardware: str, place: int) -> str:
    """The name of a machine, without the user's address before it.

    ``machine`` is its number in the fleet and ``place`` its number with its user, from 0. Names
    are unique for each user as long as no user has ``HOSTILE_EVERY`` machines or more.
    """
    turn, rest = divmod(machine, HOSTILE_EVERY)
    if rest == HOSTILE_EVERY // 2:
        return HOSTILE[turn % len(HOSTILE)]
    if place == 0 and machine % NAMELESS_EVERY == 0:
        return ""
    return f"{hardware}-{place + 1}"
