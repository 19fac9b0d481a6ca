"""Words and figures for people: counts, difficulties, chances, and texts of strangers."""

from typing import Final

_UNITS: Final = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def si(value: float, digits: int = 3) -> str:
    """A difficulty or a hash rate: 4.29G."""
    step = 0
    while float(f"{abs(value):.{digits}g}") >= 1000 and step < len(_UNITS) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.{digits}g}{_UNITS[step]}"


def percent(chance: float) -> str:
    """A chance: 37 %, or one in how many."""
    if chance >= 0.001:
        return f"{100 * chance:.2g} %" if chance < 0.995 else "> 99 %"
    return f"1 in {1 / chance:,.0f}" if chance > 0 else "none"


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 event``, ``1,300 events``; ``many`` where the plural is not ``one`` with an s.

    Verbs go along: ``counted(n, "hour waits", "hours wait")``.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def shortened(name: str) -> str:
    """A name or address as a person tells it apart: its beginning and its end."""
    return name if len(name) <= 16 else f"{name[:8]}…{name[-6:]}"


LONGEST: Final = 1000


def printable(text: str, longest: int = LONGEST, *, instead: str = "�", ending: str = "…") -> str:
    """A stranger's text without what a terminal obeys or a log takes for a line's end.

    What remains fits every store: PostgreSQL refuses U+0000, UTF-8 refuses surrogates.

    Args:
        longest: characters of the result.
        instead: stands for each character that cannot be printed; may be empty.
        ending: of a text that was cut.
    """
    # Cut first, so that the work on a hostile text is bounded too.
    seen = text[: 4 * longest]
    clean = "".join(char if char.isprintable() else instead for char in seen)
    if len(clean) <= longest and len(seen) == len(text):
        return clean
    return clean[: longest - len(ending)] + ending
