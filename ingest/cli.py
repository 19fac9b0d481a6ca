"""``tbg ingest``: the daemon, both stages or one."""

import asyncio
import gc
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import click
import structlog

from ingest.settings import ReceiverSettings, StageSettings, WriterSettings
from tbg_core import log, signals
from tbg_core.settings import SettingsError

STDIN: Final = 0
# Seconds that the receiver may take to end before the writer is stopped too: what is
# published after that waits in Redis.
RECEIVER_FIRST_SECONDS: Final = 2

logger: structlog.stdlib.BoundLogger = structlog.get_logger("ingest")


class Stage(Protocol):
    """What a process of the daemon runs."""

    async def run(self) -> None:
        """Runs until stopped and drained."""

    def stop(self) -> None:
        """Requests shutdown; may be called before :meth:`run`, and again."""


def serve(make: Callable[[], Stage], *, until_eof: bool) -> None:
    """Runs one stage until SIGTERM or SIGINT; a second signal exits at once.

    Args:
        make: the stage.
        until_eof: the end of standard input requests shutdown too.
    """

    async def main() -> None:
        stage = make()
        loop = asyncio.get_running_loop()
        asked = False

        def on_signal() -> None:
            nonlocal asked
            if asked:
                logger.error("stopped at once by a second signal")
                os._exit(130)
            asked = True
            stage.stop()

        def on_input() -> None:
            if not os.read(STDIN, 4096):
                loop.remove_reader(STDIN)
                stage.stop()

        for number in signals.STOP:
            loop.add_signal_handler(number, on_signal)
        if until_eof:
            loop.add_reader(STDIN, on_input)
        signals.release()
        # What is there now stays: a full collection need not look through it each time.
        gc.freeze()
        await stage.run()

    asyncio.run(main())


def _asked_early(*, until_eof: bool) -> bool:
    """Whether this process was asked to end before its stage is ready."""
    early = signals.held() or (until_eof and bool(select.select([STDIN], [], [], 0)[0]))
    if early:
        logger.info("asked to stop before it was ready")
    return early


S = TypeVar("S", bound=StageSettings)


def _load(kind: type[S]) -> S:
    try:
        settings = kind.load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    log.configure(settings.log_level, settings.log_format)
    return settings


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
    signals.hold()
    if context.invoked_subcommand is None:
        _load(ReceiverSettings)
        _load(WriterSettings)
        sys.exit(_both())


def _start(stage: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603  our own words
        [sys.executable, "-m", "ingest", stage, "--until-eof"],
        # We hold the other end and never write: the kernel closes it however we end,
        # and a stage that is still starting finds it closed later.
        stdin=subprocess.PIPE,
        # Ctrl-C in the terminal is for us: a stage would take our request for a second.
        start_new_session=True,
    )


def _request_stop(stage: "subprocess.Popen[bytes]") -> None:
    assert stage.stdin is not None
    stage.stdin.close()


def _both() -> int:
    """Runs each stage in a process; when one ends, so does the other.

    Every signal that matters is blocked and waited for, so none comes at a moment when
    nobody looks. The receiver is stopped first: what it still hands on, the writer
    still commits.

    Returns:
        The exit code.
    """
    # A signal that is ignored by default may be thrown away while it is blocked.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGALRM})
    if _asked_early(until_eof=False):
        logger.info("stopped")
        return 0
    receiver, writer = stages = [_start(name) for name in ("receiver", "writer")]
    asked = by_itself = False
    while None in (codes := [stage.poll() for stage in stages]):
        if codes != [None, None]:
            if not asked and not by_itself:
                by_itself = True
                logger.error("a stage ended by itself, so the other one was stopped too")
            _request_stop(receiver)
            _request_stop(writer)
        number = signal.sigwait({*signals.STOP, signal.SIGCHLD, signal.SIGALRM})
        if number in signals.STOP and asked:
            for stage in stages:
                stage.kill()
            logger.error("killed both stages: a second signal came")
            return 130
        if number in signals.STOP:
            asked = True
            _request_stop(receiver)
            signal.alarm(RECEIVER_FIRST_SECONDS)
        elif number == signal.SIGALRM:
            _request_stop(writer)
    logger.info("stopped", receiver=codes[0], writer=codes[1])
    # As a shell reports it: 128 and the number of the signal.
    bad = [code if code > 0 else 128 - code for code in codes if code]
    return bad[0] if bad else int(by_itself)


_until_eof = click.option("--until-eof", is_flag=True, hidden=True, help="Stop when stdin ends.")


@ingest.command()
@_until_eof
def receiver(until_eof: bool) -> None:
    """Receive events from the socket and publish them to Redis."""
    settings = _load(ReceiverSettings)
    from ingest.lock import InUseError
    from ingest.receiver.receiver import Receiver

    if _asked_early(until_eof=until_eof):
        logger.info("stopped")  # it has received nothing
        return
    try:
        serve(lambda: Receiver(settings), until_eof=until_eof)
    except (InUseError, OSError) as error:
        raise click.ClickException(str(error)) from None


@ingest.command()
@_until_eof
def writer(until_eof: bool) -> None:
    """Commit what is in Redis to the database."""
    settings = _load(WriterSettings)
    from ingest.writer.writer import Writer

    _asked_early(until_eof=until_eof)  # what was received is committed all the same
    serve(lambda: Writer(settings), until_eof=until_eof)
