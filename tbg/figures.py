"""Figures as miners write them."""

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
