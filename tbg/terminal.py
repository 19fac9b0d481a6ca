"""The terminal of every command: rich's console, which a broken pipe makes quiet.

rich ends the process when the reader of its output is gone (``tbg up | tee log``, then Ctrl-C).
What a command does must not depend on who reads along: a stack still has to be stopped.
"""

import os
import sys
from typing import Any

from rich.console import Console


class Terminal(Console):
    """A console that goes quiet when nobody reads any more, and raises nothing."""

    def on_broken_pipe(self) -> None:
        """Writes to nowhere from now on."""
        self.quiet = True
        # What is still buffered, and what click prints, would break the pipe again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stderr if self.stderr else sys.stdout).fileno())
        os.close(nowhere)


def terminal(*, stderr: bool = False, **options: Any) -> Terminal:
    """A console of ours; ``options`` are more of rich's.

    Numbers are not coloured: most of what we show has many.
    """
    return Terminal(stderr=stderr, highlight=False, **options)
