"""Every kind of fault, one upon the other, under load: each number is stored once, or the books
name it and a fault explains it.

Rounds of faults: engines emit, faults come before the last one is over, everything is mended,
all engines end, and the suite judges every number by its own journals.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults import disk, redis_tail
from tests.faults.crew import Crew, Plain
from tests.faults.judge import Excuses, Verdict, judge
from tests.faults.kinds import KINDS
from tests.faults.stack import Stack, running
from tests.ingest.harness import packed
from tests.processes import LIMIT, until
from tests.settled import committed

RATES = [250, 40]  # events a second of each engine
ROUND = 25  # faults
PART = 500  # faults before the stack is a new one
DISK = "48m"


async def test_no_mixture_of_faults_loses_or_doubles_an_event_that_the_books_do_not_name(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    fault_numbers: range,
    fault_seed: str,
    note: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    note(
        f"seed {fault_seed}: repeat with pytest tests/faults --fault-seed {fault_seed} "
        f"--first-fault {fault_numbers.start} --faults {len(fault_numbers)}"
    )
    total, kinds = Verdict(), Counter[str]()
    begun = time.monotonic()
    for first in range(fault_numbers.start, fault_numbers.stop, PART):
        numbers = range(first, min(first + PART, fault_numbers.stop))
        folder = tmp_path / str(first)
        folder.mkdir()
        async with _stack(folder, valkey_server, postgres_server) as stack:
            for start in range(numbers.start, numbers.stop, ROUND):
                some = range(start, min(start + ROUND, numbers.stop))
                verdict = await one_round(stack, some, fault_seed, kinds)
                total += verdict
                minutes = (time.monotonic() - begun) / 60
                show(f"{some.stop - fault_numbers.start} faults in {minutes:.1f} min: {total}")
    minutes = (time.monotonic() - begun) / 60
    note(f"{total.faults:,} faults, {total.faults / minutes:.0f} a minute: {total}")
    note(", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))


@contextlib.asynccontextmanager
async def _stack(
    folder: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
) -> AsyncIterator[Stack]:
    with contextlib.ExitStack() as opened:
        small = folder / "disk"
        if disk.possible():
            opened.enter_context(disk.mounted(small, DISK))
        async with running(
            folder,
            valkey_server,
            postgres_server,
            SPOOL_DIR=str(small / "spool"),
            STREAM_KEEP="2000",
        ) as stack:
            if redis_tail.Clock.possible():
                # From now on it starts with a clock that can be set.
                stack.valkey.stop()
                stack.redis_clock = redis_tail.Clock(stack.valkey.folder, stack.valkey.user)
                await asyncio.to_thread(stack.start_valkey)
            yield stack


def drawn(number: int, seed: str) -> str:
    """The kind of a fault: every kind in turn, each turn in an order of its own."""
    kinds = list(KINDS)
    turn, place = divmod(number, len(kinds))
    random.Random(f"{seed}:order:{turn}").shuffle(kinds)
    return kinds[place]


async def one_round(stack: Stack, numbers: range, seed: str, kinds: Counter[str]) -> Verdict:
    """Injects some faults under load, and judges what became of every event."""
    draw = random.Random(f"{seed}:{numbers.start}")
    stack.excuses = Excuses()
    name = f"e{numbers.start}"
    crew = Crew(stack.folder, name, RATES, f"{seed}:{numbers.start}")
    template = packed("share_submitted", job_id="%b", user=f"{name}-plain")
    plain = Plain(stack.folder / "events.sock", name, template)
    done: list[str] = []
    try:
        await crew.start()
        plain.start()
        for number in numbers:
            await asyncio.sleep(draw.choice([0, draw.uniform(0, 0.3)]))
            kind = drawn(number, seed)
            done.append(kind)
            await KINDS[kind](stack, crew, draw)
            kinds[kind] += 1
        stack.heal()
        # The end of every boot is an end that the books must know.
        for engine in crew.engines:
            await (engine.kill() if draw.random() < 0.5 else engine.stop())
        plain.stop()
        verdict = await _judged(stack, crew, plain)
    except AssertionError as error:
        where = f"faults {numbers.start} to {numbers.stop - 1}, seed {seed}: {', '.join(done)}"
        raise AssertionError(f"{where}\n{error}") from error
    finally:
        plain.stop()
        crew.end()
    verdict.faults = len(numbers)
    return verdict


async def _judged(stack: Stack, crew: Crew, plain: Plain) -> Verdict:
    """Waits until nothing is on its way, and the verdict stands."""
    await stack.unspooled()
    await stack.reported()
    await until(lambda: not list(stack.folder.glob("events.sock.*.boot")), "no page is left")
    await stack.unspooled()
    await stack.reported()
    connection = await stack.connect()
    client = stack.client()
    try:
        await committed(connection, client)
        deadline = time.monotonic() + LIMIT / 8
        while True:
            try:
                return await judge(connection, crew, plain, stack.excuses)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)  # the last reports come within a second or two
    finally:
        await client.aclose()
        await connection.close(timeout=5)
