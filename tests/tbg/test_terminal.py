"""What commands print never decides what they do."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tbg import doctor, letters
from tbg.machine import Finding
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


def test_nothing_of_a_table_that_is_there_to_be_copied_is_cut_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    log = "/srv/a-long-folder/of-someone/.tbg/logs/code-server.log"
    doctor._show([Finding("net.unix.max_dgram_qlen", "bad", f"at {log}", f"read {log}")])
    letter = {
        "id": 7, "received_at": datetime.now(UTC), "stage": "receiver", "reason": "number_reused",
        "instance": "ckpool-frankfurt-1/1795957200000000", "seq": 1_234_567, "replayed_at": None,
        "detail": "another event has this number already", "raw": b"",
    }  # fmt: skip
    letters._show([letter])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
