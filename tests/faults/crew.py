"""The engines of a round: processes that die, stop and come back, and what they emitted."""

import asyncio
import itertools
import json
import random
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from tbg_core.settings import SUN_PATH_MAX
from tests.faults.journal import Journal
from tests.processes import PYTHON, Process, until

_PAUSE = 0.02  # seconds between two events without a number
_boots = itertools.count()


@dataclass
class Boot:
    """One boot of an engine, alive or over."""

    process: Process
    journal: Journal
    over: bool = False

    @property
    def name(self) -> str:
        """Its instance."""
        return self.journal.name


class Engine:
    """An engine that is started again after each of its deaths.

    Args:
        folder: with the event socket.
        name: of the engine, and address of its only user.
        rate: events a second.
        seed: of what it sends.
    """

    def __init__(self, folder: Path, name: str, rate: int, seed: str) -> None:
        self._folder = folder
        self.name = name
        self._rate = rate
        self._seed = seed
        self.boots: list[Boot] = []

    @property
    def _now(self) -> Boot:
        return self.boots[-1]

    async def start(self) -> None:
        """A new boot."""
        number = next(_boots)
        path = self._folder / f"journal-{number}"
        options = {
            "socket": str(self._folder / "events.sock"),
            "receiver": str(self._folder / "receiver"),
            "journal": str(path),
            "name": self.name,
            "rate": self._rate,
            "seed": f"{self._seed}:{number}",
        }
        words = [PYTHON, "-m", "tests.faults.program", json.dumps(options)]
        process = Process(words, self._folder / f"{self.name}.log", listens=True)
        self.boots.append(Boot(process.start(), Journal(path)))
        await process.saying("emitting")

    async def kill(self) -> None:
        """As kill -9 does."""
        self._now.process.kill()
        self._now.over = True

    async def stop(self) -> None:
        """As an operator does."""
        self._now.process.send(signal.SIGTERM)
        code = await self._now.process.ended()
        assert code == 0, self._now.process.output
        self._now.over = True

    def tell(self, line: str) -> None:
        """A command to the program."""
        self._now.process.tell(line)


class Plain:
    """A sender that numbers nothing and sends nothing again."""

    def __init__(self, path: Path, prefix: str, template: bytes) -> None:
        self._path = str(path)
        self.prefix = prefix
        self._template = template
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        made: socket.socket | None = None
        while not self._stopping.wait(_PAUSE):
            try:
                if made is None:
                    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    made.settimeout(0.2)
                    made.connect(self._path)
                made.send(self._template % b"%b-%d" % (self.prefix.encode(), self.sent))
                self.sent += 1
            except TimeoutError:
                pass
            except OSError:
                assert made is not None
                made.close()
                made = None
        if made is not None:
            made.close()


class Crew:
    """All engines of a round."""

    def __init__(self, folder: Path, name: str, rates: list[int], seed: str) -> None:
        assert len(str(folder / "events.sock")) < SUN_PATH_MAX
        self.engines = [
            Engine(folder, f"{name}-{at}", rate, f"{seed}:{at}") for at, rate in enumerate(rates)
        ]

    async def start(self) -> None:
        """All of them."""
        await asyncio.gather(*(engine.start() for engine in self.engines))

    def clock(self, micros: int) -> None:
        """Makes their clocks wrong by so much."""
        for engine in self.engines:
            engine.tell(f"clock {micros}")

    async def burst(self, events: int) -> None:
        """Has each emit so many at once, and waits until it has."""
        wanted = []
        for engine in self.engines:
            engine.tell(f"burst {events}")
            journal = engine.boots[-1].journal
            wanted.append((journal, len(journal.read()) + events))
        for journal, count in wanted:
            await until(lambda j=journal, c=count: j.words[c], "the burst is emitted")  # type: ignore[misc]

    def one(self, draw: random.Random) -> Engine:
        """Any of them."""
        return draw.choice(self.engines)

    @property
    def boots(self) -> list[Boot]:
        """Every boot so far that had a name."""
        return [boot for engine in self.engines for boot in engine.boots if boot.name]

    def end(self) -> None:
        """Leaves no process behind."""
        for engine in self.engines:
            for boot in engine.boots:
                boot.process.kill()
