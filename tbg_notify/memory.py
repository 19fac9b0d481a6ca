"""What is sent without a database: from memory, to each target of the system's routes once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from tbg_notify.channel import Undelivered, send, targets
from tbg_notify.pauses import pause_after
from tbg_notify.routes import Route
from tbg_notify.targets import Target
from tbg_notify.text import Text

logger: structlog.stdlib.BoundLogger = structlog.get_logger("notify")


@dataclass
class _Waiting:
    target: Target
    route: str
    text: Text
    failures: int = 0
    until: datetime | None = None


@dataclass
class Memory:
    """Texts on their way, by target; one that does not take its text has a pause.

    Args:
        routes: all of them; those for the system's messages are used.
    """

    routes: Mapping[str, Route]
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _begun: dict[str, _Waiting] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def begin(self, text: Text) -> None:
        """Lets a text wait for every target."""
        self._waiting.clear()
        self._told.clear()
        for name, route in self.routes.items():
            if route.wants_kind("system"):
                try:
                    found = targets(route)
                except Undelivered as error:
                    logger.warning("the channel took nothing", route=name, answer=str(error))
                    continue
                self._waiting |= {one.key: _Waiting(one, name, text) for one in found}
        self._begun = dict(self._waiting)

    def end(self, text: Text) -> None:
        """Lets a text wait for the targets that got the beginning; the others need none."""
        self._waiting = {
            key: _Waiting(one.target, one.route, text)
            for key, one in self._begun.items()
            if key in self._told
        }

    def send(self, now: datetime) -> None:
        """Sends what waits, to whom it is time to ask."""
        for key, one in list(self._waiting.items()):
            if one.until is not None and now < one.until:
                continue
            try:
                send(one.target, one.text)
            except Undelivered as error:
                logger.warning("the channel took nothing", route=one.route, answer=str(error))
                one.failures += 1
                one.until = now + max(pause_after(one.failures), error.rest or pause_after(1))
                if not error.permanent:
                    continue
            else:
                self._told.add(key)
            del self._waiting[key]
