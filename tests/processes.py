"""Processes of a test or a benchmark: each wait has a limit, and none is left behind.

Output goes to a file: a pipe that nobody empties stops the process that fills it, and
its end of file looks like silence.
"""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psutil

from tbg.stack.tag import marked

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHON: Final = sys.executable
LIMIT: Final = 240.0  # seconds: no figure, only the end of a wait on a machine that is busy
_LOOK: Final = 0.02  # seconds between two looks
_MARK: Final = "TBG_TEST_PROCESS"  # every process below ours has it in its environment
_SESSION: Final = "TBG_TEST_SESSION"  # and this has every process of a run of the tests


class ProcessError(AssertionError):
    """A process did not do what was waited for; the text holds its output."""


async def until(check: Callable[[], object], what: str = "", seconds: float = LIMIT) -> Any:
    """Waits until ``check()`` is true, and returns what it gave.

    Args:
        check: a plain or an async function.
        what: is waited for, for the message; the function's name otherwise.

    Raises:
        AssertionError: it is not true after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            name = what or getattr(check, "__name__", str(check))
            raise AssertionError(f"not within {seconds:.0f} s: {name}")
        await asyncio.sleep(_LOOK)


def wait_until(check: Callable[[], object], what: str = "", seconds: float = LIMIT) -> Any:
    """:func:`until` where no loop runs, for a plain function."""
    return asyncio.run(until(check, what, seconds))


class Process:
    """A program, in a session of its own, with its output in a file.

    Args:
        words: the command line.
        log: gets standard output and error; what an earlier process left there stays.
        environment: on top of ours; None for a variable takes ours away.
        cwd: its working directory.
        errors: gets standard error instead of ``log``.
        listens: it reads what :meth:`tell` says; otherwise its standard input is empty.

    Attributes:
        popen: the process itself; its ``returncode`` may be asked at any time.
    """

    def __init__(
        self,
        words: Sequence[object],
        log: Path,
        environment: Mapping[str, str | None] | None = None,
        *,
        cwd: Path = ROOT,
        errors: Path | None = None,
        listens: bool = False,
    ) -> None:
        self.words = [str(word) for word in words]
        self.log = log
        self.environment = dict(environment or {})
        self._cwd = cwd
        self._errors = errors or log
        self._listens = listens
        self._mark = secrets.token_hex(8)
        self._before: dict[Path, int] = {}
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self, *, held: bool = False) -> Self:
        """Starts it, perhaps again.

        Args:
            held: SIGTERM and SIGINT wait until the program itself lets them through.
                What comes before an interpreter's first line ends it otherwise.
        """
        assert self.popen is None or self.popen.poll() is not None, "it runs already"
        changed = {**os.environ, _MARK: self._mark, **self.environment}
        environment = {name: value for name, value in changed.items() if value is not None}
        blocked = {signal.SIGTERM, signal.SIGINT} if held else set()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        try:
            with self.log.open("ab") as output, self._errors.open("ab") as errors:
                self._before = {self.log: output.tell(), self._errors: errors.tell()}
                self.popen = subprocess.Popen(
                    self.words,
                    env=environment,
                    cwd=self._cwd,
                    stdin=subprocess.PIPE if self._listens else subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    # Ctrl-C in the terminal is for the test, which then ends this one.
                    start_new_session=True,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.popen is not None
        return self.popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""
        assert self.popen is not None
        return self.popen.poll()

    @property
    def output(self) -> str:
        """What it has written since it was started last."""
        return self._text(self.log)

    @property
    def errors(self) -> str:
        """The same of its standard error, which is in the output if it has no file of its own."""
        return self._text(self._errors)

    def _text(self, file: Path) -> str:
        if not file.exists():
            return ""
        return file.read_bytes()[self._before.get(file, 0) :].decode(errors="replace")

    def _all(self) -> str:
        return self.output if self._errors == self.log else self.output + self.errors

    def tell(self, line: str) -> None:
        """Writes a line to its standard input, which is open until its end."""
        assert self.popen is not None
        assert self.popen.stdin is not None, "it does not listen"
        self.popen.stdin.write(f"{line}\n".encode())
        self.popen.stdin.flush()

    def said(self, words: str | re.Pattern[str]) -> bool:
        """Whether it has written a text, or what fits a pattern.

        Raises:
            ProcessError: it has not, and it has ended.
        """
        # In this order: what it wrote last must be seen.
        code = self.returncode
        text = self._all()
        if words in text if isinstance(words, str) else words.search(text):
            return True
        if code is not None:
            raise ProcessError(f"{self} ended with {code}, without {words!r}:\n{text}")
        return False

    def wait_for(self, words: str | re.Pattern[str], seconds: float = LIMIT) -> Self:
        """Waits until it has written something.

        Raises:
            ProcessError: it ended or did not say so in time.
        """
        deadline = time.monotonic() + seconds
        while not self.said(words):
            if time.monotonic() > deadline:
                raise ProcessError(f"{self} did not say {words!r}:\n{self._all()}")
            time.sleep(_LOOK)
        return self

    async def saying(self, words: str | re.Pattern[str], seconds: float = LIMIT) -> Self:
        """:meth:`wait_for`, while the loop runs."""
        try:
            await until(lambda: self.said(words), seconds=seconds)
        except ProcessError:
            raise
        except AssertionError:
            raise ProcessError(f"{self} did not say {words!r}:\n{self._all()}") from None
        return self

    def send(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        assert self.popen is not None
        self.popen.send_signal(number)

    def freeze(self) -> None:
        """Stops it until SIGCONT; what it is sent meanwhile waits."""
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + LIMIT
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, f"{self} does not stop"
            time.sleep(_LOOK)

    def wait(self, seconds: float = LIMIT) -> int:
        """Waits for its end, and returns its exit code.

        Raises:
            ProcessError: it still runs after ``seconds``.
        """
        assert self.popen is not None
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self} does not end:\n{self._all()}") from None

    async def ended(self, seconds: float = LIMIT) -> int:
        """:meth:`wait`, while the loop runs."""
        with contextlib.suppress(AssertionError):
            await until(lambda: self.returncode is not None, seconds=seconds)
        return self.wait(0)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end, and returns the exit code."""
        self.send(number)
        return self.wait()

    def family(self) -> list[psutil.Process]:
        """Its processes that still run, itself included, adopted ones too."""
        return marked(_MARK, self._mark)

    def kill(self) -> None:
        """Ends it and everything that it started, as kill -9 does."""
        if self.popen is None:
            return
        if self.popen.poll() is None:
            # Itself first: it must not see its children end.
            self.popen.kill()
        self.popen.wait(LIMIT)
        while family := self.family():  # until none of them has started another
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=LIMIT)
        if self.popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a line that it never read
                self.popen.stdin.close()

    def __str__(self) -> str:
        return " ".join(self.words[:6])


@contextlib.contextmanager
def nothing_left(seconds: float = 30) -> Iterator[None]:
    """Whatever was started in the block, directly or not, must have ended with it.

    Args:
        seconds: for what was told to end, and nobody waited for.

    Raises:
        ProcessError: something still runs at the end; it is killed.
    """
    mark, before = secrets.token_hex(8), os.environ.get(_SESSION, "")
    os.environ[_SESSION] = mark
    try:
        yield
    finally:
        os.environ[_SESSION] = before
    deadline = time.monotonic() + seconds
    while left := [
        one for one in marked(_SESSION, mark) if not of_the_interpreter(one, os.getpid())
    ]:
        if time.monotonic() > deadline:
            said = "\n".join(" ".join(process.cmdline()) for process in left)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            raise ProcessError(f"left behind:\n{said}")
        time.sleep(_LOOK)


def of_the_interpreter(process: psutil.Process, parent: int) -> bool:
    """Whether multiprocessing keeps it for ``parent``, a process id, until that ends."""
    with contextlib.suppress(psutil.Error):
        return process.ppid() == parent and any(
            "multiprocessing." in word for word in process.cmdline()
        )
    return False


@contextlib.contextmanager
def running(
    words: Sequence[object],
    log: Path,
    environment: Mapping[str, str | None] | None = None,
    *,
    cwd: Path = ROOT,
    errors: Path | None = None,
    listens: bool = False,
    held: bool = False,
) -> Iterator[Process]:
    """A started :class:`Process`, killed at the end with all that it started."""
    process = Process(words, log, environment, cwd=cwd, errors=errors, listens=listens)
    try:
        yield process.start(held=held)
    finally:
        process.kill()
