"""The signals that ask a foreground command to end."""

import signal
import threading
from types import FrameType


class Ending:
    """Ctrl-C, SIGTERM or SIGHUP request shutdown; a second one ends at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked.is_set():
            raise KeyboardInterrupt
        self.asked.set()
