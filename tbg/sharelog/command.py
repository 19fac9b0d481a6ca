"""``tbg import``: brings in what was recorded elsewhere."""

import os
import sys
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tbg import outputs
from tbg.migrate import retention_days
from tbg.options import Parsed, utc
from tbg.servers import Urls, find_urls, usable, usable_redis
from tbg.sharelog.backlog import Backlog
from tbg.sharelog.delivery import Delivery, Stopped
from tbg.sharelog.folder import WORD, Folder
from tbg.sharelog.importer import Importer
from tbg.sharelog.summary import Summary
from tbg.stack.state import State, state_option
from tbg.stack.stopping import Ending
from tbg.terminal import Terminal, terminal
from tbg_core.periods import HOUR
from tbg_core.wording import counted

POLL: Final = 1.0  # seconds between two looks at logs that are followed
# An import must end before its first events are too old for the writer.
_MARGIN: Final = timedelta(hours=1)


SINCE: Final = Parsed(utc, "look like 2026-11-22 or 2026-11-22T07, in UTC")


def _hour_of(moment: datetime) -> int:
    """The full hour of a moment, microseconds."""
    micros = (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    return micros - micros % HOUR


@click.group("import")
def command() -> None:
    """Bring in what other software recorded.

    \b
    Examples:
      tbg import sharelog /var/log/ckpool
      tbg import sharelog --help
    """


@command.command("sharelog")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@state_option
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    envvar="SOCKET_PATH",
    show_envvar=True,
    help="The receiver's event socket.  [default: the stack's]",
)
@click.option("--follow", is_flag=True, help="Follow new lines until Ctrl-C.")
@click.option(
    "--since",
    type=SINCE,
    metavar="T",
    help="Send shares from this hour on, UTC, as 2026-11-22T07.  [default: what the writer keeps]",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
def sharelog(
    paths: tuple[Path, ...],
    state_path: Path,
    socket_path: Path | None,
    follow: bool,
    since: datetime | None,
    as_json: bool,
) -> None:
    """Import the share logs of a stock ckpool (its option -L).

    PATH is a log, or a folder: then every file below it with "sharelog" in its name,
    plain or gzip. Importing again stores nothing twice. Shares older than the writer
    keeps (RETENTION_DAYS) are not sent unless --since asks for them.

    \b
    Examples:
      tbg import sharelog /var/log/ckpool
      tbg import sharelog /var/log/ckpool --since 2026-11-01 --json
      tbg import sharelog /var/log/ckpool --follow
    """
    ending = Ending()
    ending.install()
    console = terminal(stderr=True)
    summary = Summary()
    hour = _start_hour(since, console)
    began = time.monotonic()
    with ExitStack() as exits:
        path, urls = _target(State(state_path), socket_path)
        progress = exits.enter_context(_progress(console))

        def say(text: str) -> None:
            progress.console.print(text, markup=False, soft_wrap=True)

        backlog = None
        if urls is None:
            say("without DATABASE_URL and REDIS_URL the writer's backlog is not watched")
        else:
            backlog = Backlog(urls, ending.asked.is_set, say)
            exits.callback(backlog.close)
        delivery = exits.enter_context(Delivery(path, ending.asked.is_set, say))
        folder = Folder(paths, summary.damage)
        pace = _Pace(progress, backlog, ending)
        importer = Importer(folder, hour, delivery, pace, summary)
        pace.importer = importer
        exits.callback(importer.close)
        try:
            importer.run(follow=follow)
            pace.show()
            if follow:
                say(f"following; {counted(summary.events, 'event')} so far, Ctrl-C ends it")
            while follow and not ending.asked.wait(POLL):
                importer.look()
                pace.show()
            last = importer.end()
            if (
                last is not None
                and backlog is not None
                and not backlog.until_stored(last, delivery)
            ):
                say("the end of it was not seen in the database: import the same logs again")
        except Stopped:
            summary.interrupted = True
            with suppress(Stopped):
                importer.end()
        except OSError as error:
            raise click.ClickException(
                f"cannot send to {path}: {error}; name the receiver's socket with --socket, and "
                "run as its owner or as one of its group"
            ) from error
    summary.seconds = time.monotonic() - began
    if not summary.files and not summary.unreadable:
        raise click.ClickException(
            f'no file below {", ".join(map(str, paths))} has "{WORD}" in its name: '
            "name the files themselves, or switch on ckpool's option -L"
        )
    if as_json:
        outputs.show(outputs.Imported, summary.document())
    else:
        summary.show(terminal())
    if summary.interrupted:
        sys.exit(130)
    if summary.unreadable:
        sys.exit(1)


class _Pace:
    """Shows the import's progress, waits for the writer, and ends on request."""

    def __init__(self, progress: Progress, backlog: Backlog | None, ending: Ending) -> None:
        self._progress = progress
        self._backlog = backlog
        self._ending = ending
        self._task = progress.add_task("import", total=None)
        self.importer: Importer | None = None

    def __call__(self) -> None:
        self.show()
        if self._backlog is not None:
            self._backlog.wait()
        if self._ending.asked.is_set():
            raise Stopped

    def show(self) -> None:
        if self.importer is not None:
            self._progress.update(
                self._task, total=self.importer.size, completed=self.importer.position
            )


def _progress(console: Terminal) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _start_hour(since: datetime | None, console: Terminal) -> int:
    """The hour from which shares are sent; reports what happens to older ones."""
    days = retention_days()
    oldest = datetime.now(UTC) - timedelta(days=days) + _MARGIN
    kept = _hour_of(oldest) + HOUR
    hour = kept if since is None else _hour_of(since)
    shown = datetime.fromtimestamp(hour // 1_000_000, UTC).strftime("%Y-%m-%dT%H:00")
    lines = [f"sending shares from {shown} UTC on; earlier ones count for bests alone"]
    if hour < kept:
        lines.append(
            f"the writer keeps {counted(days, 'day')} (RETENTION_DAYS): what is older becomes dead letters "
            "(past_retention). Start it with a higher RETENTION_DAYS first to keep them, see "
            "docs/import.md"
        )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return hour


def _target(state: State, socket_path: Path | None) -> tuple[Path, Urls | None]:
    """The socket, and the database and Redis behind it if they are known."""
    if socket_path is not None:
        database, cache = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
        both = Urls(usable(database), usable_redis(cache)) if database and cache else None
        return socket_path, both
    stack = state.read_stack()
    if stack is None:
        raise click.ClickException(
            f"{state.never_started}, name its folder with --state, or the receiver's socket with "
            "--socket"
        )
    return Path(stack.socket_path), find_urls(state)
