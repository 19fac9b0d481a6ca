"""How a devnet command ends."""

import asyncio
import os
import signal
from collections.abc import Callable

from tbg_core.signals import STOP


def on_signal(stop: Callable[[], None]) -> None:
    """Has SIGTERM and Ctrl-C call ``stop``; a second one ends the process at once.

    Call it in the running event loop.
    """
    asked: list[signal.Signals] = []

    def ask(number: signal.Signals) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)
        stop()

    for number in STOP:
        asyncio.get_running_loop().add_signal_handler(number, ask, number)
