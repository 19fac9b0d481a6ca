"""Ends a task of asyncio that works until it is cancelled."""

import asyncio


async def end(task: asyncio.Task[None], patience: float = 1.0) -> None:
    """Cancels a task until it has ended; what it raised is its own affair.

    Once is not enough: before Python 3.12, asyncio.wait_for() forgets a cancellation that comes in
    the moment in which it is done.

    Args:
        patience: seconds that its last acts may take before it is cancelled again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=patience)
