"""supervisord that outlives a full disk: a line that it cannot log is dropped, and it goes on.

Its own handlers print a traceback for each line that they cannot write, and raise when they cannot
put a grown log aside. On a full disk both would end supervisord, and every program with it.
"""

import contextlib
from typing import Any

from supervisor.loggers import FileHandler, RotatingFileHandler
from supervisor.supervisord import main

_roll_over = RotatingFileHandler.doRollover


def _open_again(handler: Any) -> None:
    """Drops what was to be written: its buffer keeps failing, and a failed close leaves it shut."""
    with contextlib.suppress(OSError):
        handler.stream.close()
    with contextlib.suppress(OSError):
        handler.stream = open(handler.baseFilename, "ab", buffering=0)  # noqa: SIM115 the handler's


def _roll_over_or_go_on(handler: Any) -> None:
    try:
        _roll_over(handler)
    except (OSError, ValueError):
        _open_again(handler)


if __name__ == "__main__":
    FileHandler.handleError = _open_again
    RotatingFileHandler.doRollover = _roll_over_or_go_on
    main()
