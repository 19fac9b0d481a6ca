"""What cannot be answered now, and why: 503."""


class Unavailable(Exception):
    """A server that we ask is away, slow or busy; ``reason`` is for the caller, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
