"""Every kind of fault under load: what was sent is in the database once, or counted.

Each fault has an engine boot of its own: fill, break, mend, drain, look. The next
one fills again.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults.conftest import Tell
from tests.faults.kinds import KILLS_RECEIVER, KINDS
from tests.faults.stack import BATCH, QUEUE_LENGTH, RATE, REDIS_TIMEOUT, Stack, running


async def test_no_kind_of_fault_loses_or_doubles_an_event_uncounted(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    fault_numbers: range,
    fault_seed: str,
    tell: Tell,
    note: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    note(
        f"seed {fault_seed}: repeat with pytest tests/faults --fault-seed {fault_seed} "
        f"--first-fault {fault_numbers.start} --faults {len(fault_numbers)}"
    )
    async with running(tmp_path, valkey_server, postgres_server) as stack:
        for number in fault_numbers:
            kind, recovery = await one_fault(stack, number, fault_seed, tell)
            show(f"fault {number}: {kind}, recovered in {recovery:.2f} s")


async def one_fault(stack: Stack, number: int, seed: str, tell: Tell) -> tuple[str, float]:
    """Injects a fault at a random moment under load, and checks what is left.

    Returns:
        Its kind, and the seconds that recovery took.
    """
    draw = random.Random(f"{seed}:{number}")
    # Every kind in turn, each turn in an order of its own.
    kinds = list(KINDS)
    turn, place = divmod(number, len(kinds))
    random.Random(f"{seed}:order:{turn}").shuffle(kinds)
    kind = kinds[place]
    where = f"fault {number}, {kind}, seed {seed}"
    engine = stack.engine(f"engine-{number}", f"{seed}:{number}").start()
    try:
        await asyncio.sleep(draw.uniform(0.1, 0.6))
        await KINDS[kind](stack, engine, draw)
        recovery = await stack.settled(engine, engine.sent + 1)
        await stack.drained(engine)
        sums = await stack.account(engine)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error
    finally:
        await asyncio.to_thread(engine.stop)
        engine.close()
    tell(kind, sums, recovery)
    kills = KILLS_RECEIVER.get(kind, 0)
    # What a receiver held in memory: its last batch, and what came while it waited
    # for Redis; and the kernel's queue of its socket.
    held = BATCH + QUEUE_LENGTH + int(RATE * REDIS_TIMEOUT)
    assert sums.missing <= kills * held, f"{where}: {sums}"
    assert sums.dropped == 0, f"{where}: {sums}"
    return kind, recovery
