"""``tbg ingest``: the daemon, both stages or one."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

import click

from ingest import log
from ingest.settings import ReceiverSettings, SettingsError, StageSettings, WriterSettings


class Stage(Protocol):
    """What a process of the daemon runs."""

    async def run(self) -> None:
        """Runs until stopped and drained."""

    def stop(self) -> None:
        """Asks for the end."""


def serve(make: Callable[[], Stage], settings: StageSettings) -> None:
    """Runs one stage until SIGTERM or SIGINT; a second signal exits at once."""
    log.configure(settings.log_level, settings.log_format)

    async def main() -> None:
        stage = make()
        loop = asyncio.get_running_loop()
        asked = False

        def on_signal() -> None:
            nonlocal asked
            if asked:
                os._exit(130)
            asked = True
            stage.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await stage.run()

    asyncio.run(main())


S = TypeVar("S", bound=StageSettings)


def _load(kind: type[S]) -> S:
    try:
        return kind.load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@click.group(invoke_without_command=True)
@click.pass_context
def ingest(context: click.Context) -> None:
    """Carry events from the engines' socket to the database.

    Without a command, runs both stages, each in a process of its own. Settings
    come from the environment; docs/operations.md lists them.

    \b
    Examples:
      REDIS_URL=redis://localhost DATABASE_URL=postgresql://tbg@localhost/tbg tbg ingest
      SOCKET_PATH=/run/tbg/events.sock REDIS_URL=redis://localhost tbg ingest receiver
      DATABASE_URL=postgresql://tbg@localhost/tbg REDIS_URL=redis://localhost tbg ingest writer
    """
    if context.invoked_subcommand is None:
        _load(ReceiverSettings)
        _load(WriterSettings)
        sys.exit(asyncio.run(_both()))


async def _both() -> int:
    """Runs each stage in a process; when one ends, so does the other."""
    stages = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "ingest", name)
        for name in ("receiver", "writer")
    ]
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            for stage in stages:
                if stage.returncode is None:
                    stage.kill()
            os._exit(130)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    ends = [asyncio.create_task(stage.wait()) for stage in stages]
    signalled = asyncio.create_task(asked.wait())
    await asyncio.wait([*ends, signalled], return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    # The receiver first: what it still hands on, the writer still commits.
    codes = []
    for stage, end in zip(stages, ends, strict=True):
        if stage.returncode is None:
            stage.terminate()
        codes.append(await end)
    if not asked.is_set():
        click.echo("a stage ended by itself, so the other one was stopped too", err=True)
        return next((code for code in codes if code > 0), 1)
    return next((code for code in codes if code), 0)


@ingest.command()
def receiver() -> None:
    """Receive events from the socket and publish them to Redis."""
    settings = _load(ReceiverSettings)
    from ingest.datagram import SocketInUseError
    from ingest.receiver import Receiver

    try:
        serve(lambda: Receiver(settings), settings)
    except (SocketInUseError, OSError) as error:
        raise click.ClickException(str(error)) from None


@ingest.command()
def writer() -> None:
    """Commit what is in Redis to the database."""
    settings = _load(WriterSettings)
    from ingest.writer import Writer

    try:
        serve(lambda: Writer(settings), settings)
    except OSError as error:
        raise click.ClickException(str(error)) from None
