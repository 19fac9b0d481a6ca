"""The machines of a fleet: their hashrates, user agents and frequency."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Hardware:
    """One kind of machine.

    ``hashrate`` is nominal, in H/s; ``spread`` the fraction by which single machines differ
    from it (both ways); ``weight`` how many of it there are relative to the others.
    ``rolls_version`` says whether it rolls version bits (BIP 310).
    """

    name: str
    hashrate: float
    spread: float
    weight: float
    user_agent: str
    rolls_version: bool


TERA: Final = 1e12

LOWEST_DIFFICULTY: Final = 0.001
"""The pool's minimum: the slowest machines send about a share a minute at it."""

HARDWARE: Final = (
    Hardware("nerdminer", 60e3, 0.15, 5, "NerdMinerV2", False),
    Hardware("bitaxe", 0.5 * TERA, 0.10, 20, "bitaxe/BM1366/v2.4.1", True),
    Hardware("bitaxe", 0.7 * TERA, 0.10, 15, "bitaxe/BM1368/v2.6.0", True),
    Hardware("bitaxe", 1.2 * TERA, 0.10, 30, "bitaxe/BM1370/v2.9.0", True),
    Hardware("nerdqaxe", 4.8 * TERA, 0.08, 12, "NerdQAxe++/BM1370/v1.0.30", True),
    Hardware("s9", 13.5 * TERA, 0.05, 8, "bmminer/2.0.0", False),
    Hardware("s19", 95.0 * TERA, 0.05, 9, "Antminer S19/cgminer/4.11.1", True),
    Hardware("s21", 200.0 * TERA, 0.03, 6, "Antminer S21/bmminer/1.0.0", True),
)
SLOWEST: Final = 0
FASTEST: Final = len(HARDWARE) - 1
"""Places in ``HARDWARE``."""
