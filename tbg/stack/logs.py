"""The end of a log, for a message."""

from pathlib import Path


def tail(path: Path, lines: int = 15) -> str:
    """Returns the last lines of a log."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
