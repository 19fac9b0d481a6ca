"""Strangers' texts, made fit for logs and terminals."""

from typing import Final

LONGEST: Final = 1000


def printable(text: str, longest: int = LONGEST) -> str:
    """A stranger's text without what a terminal obeys or a log takes for a line's end."""
    # Cut first, so that the work on a hostile text is bounded too.
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(char if char.isprintable() else "�" for char in cut)
