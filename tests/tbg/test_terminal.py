"""What commands print never decides what they do."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tbg.stack.state import State
from tbg.stack.supervisor import leftovers, stop_leftovers
from tests.processes import LIMIT, PYTHON
from tests.tbg.command import environment

PRINTS_IN_THE_END = """
import sys
from tbg.terminal import terminal
out = terminal(stderr=sys.argv[1] == "stderr")
try:
    sys.stdin.readline()
    for number in range(2000):
        out.print("x" * 100)
finally:
    for number in range(2000):
        out.print("stopping")
    open(sys.argv[2], "w").write("stopped")
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_who_is_gone_keeps_nothing_from_being_stopped(tmp_path: Path, stream: str) -> None:
    stopped = tmp_path / "stopped"
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS_IN_THE_END, stream, str(stopped)],
        stdin=subprocess.PIPE,
        stdout=write if stream == "stdout" else None,
        stderr=write if stream == "stderr" else None,
    )
    os.close(write)
    os.close(read)
    process.communicate(b"\n", timeout=LIMIT)
    assert process.returncode == 0
    assert stopped.read_text() == "stopped"


@contextlib.contextmanager
def read_until_up(state: State) -> Iterator[subprocess.Popen[bytes]]:
    """A ``tbg up`` into a pipe whose reader leaves as soon as everything runs."""
    command = [PYTHON, "-m", "tbg.cli", "up", "--state", str(state.path), "--no-node"]
    process = subprocess.Popen(
        [*command, "--no-dagster", "--free-ports", "--every", "0.5"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        said = b""
        while b"Ctrl-C stops everything" not in said:
            line = process.stdout.readline()
            assert line, said.decode()
            said += line
        process.stdout.close()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        stop_leftovers(state)


@pytest.mark.parametrize("asked", [True, False], ids=["ctrl-c", "the reader left"])
def test_a_stack_without_a_reader_is_stopped_in_order(server_folder: Path, *, asked: bool) -> None:
    """As in `tbg up | tee log`, where Ctrl-C ends tee first, and in `tbg up | head`."""
    state = State(server_folder / "state")
    with read_until_up(state) as process:
        if asked:
            process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
        assert leftovers(state) == []
