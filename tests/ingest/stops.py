"""Asks the daemon to end at random moments, from its first millisecond on.

``python -m tests.ingest.stops --signals 500 --seed 1`` says what became of them; run it
beside ``stress-ng --cpu 4``. A smaller number is a test.
"""

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tbg.migrate import migrate
from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey, free_port, new_password
from tests.processes import PYTHON, Process, running

DAEMONS: tuple[tuple[str, ...], ...] = ((), ("receiver",), ("writer",))
LATEST = 3.0  # seconds after the start: well after it is ready on a quiet machine


@dataclass(frozen=True)
class Stop:
    """One daemon, and its end.

    Attributes:
        words: which one; none for both stages.
        after: seconds from its start to the signal.
        seconds: from the signal to its end.
        left: processes that were there after it.
    """

    words: tuple[str, ...]
    after: float
    code: int
    seconds: float
    left: int
    output: str


def stop(daemon: Process, after: float) -> tuple[int, float, int]:
    """Sends SIGTERM so long after the start; exit code, seconds, processes left."""
    time.sleep(after)
    begun = time.monotonic()
    code = daemon.end(signal.SIGTERM)
    seconds = time.monotonic() - begun
    return code, seconds, len(daemon.family())


def stops(
    count: int, seed: str, redis_url: str, database_url: str, *, held: bool = True
) -> Iterator[Stop]:
    """Starts and ends daemons, one after the other.

    Args:
        held: no signal comes before the interpreter's first line of ours, where no
            program can do anything about it.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="tbg-stops-") as home:
        for number in range(count):
            folder = Path(home) / str(number)
            folder.mkdir()
            words = DAEMONS[number % len(DAEMONS)]
            # As many in the first tenth of a second as later.
            after = draw.choice([draw.uniform(0.001, 0.1), draw.uniform(0.001, LATEST)])
            environment = {
                "SOCKET_PATH": str(folder / "events.sock"),
                "SPOOL_DIR": str(folder / "spool"),
                "REDIS_URL": redis_url,
                "DATABASE_URL": database_url,
                "RECEIVER_METRICS_PORT": "0",
                "WRITER_METRICS_PORT": "0",
            }
            command = [PYTHON, "-m", "ingest", *words]
            with running(command, folder / "log", environment, held=held) as daemon:
                code, seconds, left = stop(daemon, after)
                yield Stop(words, after, code, seconds, left, daemon.output)


def main() -> None:
    """Prints each that is not as it should be, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=500)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--plain", action="store_true", help="signals come before Python too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tbg-stops-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = EmbeddedPostgres(folder / "postgres", free_port(), new_password())
        valkey = EmbeddedValkey(folder / "valkey", free_port(), new_password())
        try:
            postgres.start()
            valkey.start()
            migrate(postgres.url)
            found = []
            for one in stops(
                options.signals, options.seed, valkey.url, postgres.url, held=not options.plain
            ):
                found.append(one)
                if one.code or one.seconds > 10 or one.left:
                    print(one, flush=True)
        finally:
            postgres.stop()
            valkey.stop()
    for words in DAEMONS:
        ends = [one for one in found if one.words == words]
        seconds = sorted(one.seconds for one in ends)
        codes = dict(Counter(one.code for one in ends))
        print(
            f"{' '.join(words) or 'both':10} {len(ends)} signals, exit codes {codes}, "
            f"left behind {sum(one.left for one in ends)}, seconds to the end: "
            f"median {seconds[len(seconds) // 2]:.2f}, longest {seconds[-1]:.2f}"
        )


if __name__ == "__main__":
    main()
