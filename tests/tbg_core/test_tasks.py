"""A task that is told to end ends, whenever it is told."""

import asyncio

from tbg_core.tasks import end


async def test_a_task_that_is_told_as_what_it_waits_for_is_done_ends_too() -> None:
    """Python 3.11's wait_for() returns the answer, and forgets that it was cancelled."""
    answers: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def work() -> None:
        while True:
            answer = asyncio.get_running_loop().create_future()
            answers.put_nowait(answer)
            await asyncio.wait_for(answer, 60)

    task = asyncio.create_task(work())
    (await answers.get()).set_result(None)
    async with asyncio.timeout(30):
        await end(task, 0.01)
    assert task.cancelled()


async def test_its_last_acts_are_let_be_and_what_it_raises_is_not_ours() -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            said.append("farewell")
            raise ValueError("too late")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(task, 30)
    assert said == ["farewell"]
    assert isinstance(task.exception(), ValueError)
