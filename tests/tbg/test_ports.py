"""Free ports are free, and no two processes get the same."""

import socket
import subprocess
import sys

import pytest

from tbg import ports
from tbg.ports import HOST, RESERVED, free_port, why_taken
from tests.tbg.command import ROOT

ANOTHER_PROCESS = "from tbg.ports import free_port; print(free_port(), flush=True); input()"


def choose(monkeypatch: pytest.MonkeyPatch, *offered: int) -> None:
    left = list(offered)
    monkeypatch.setattr("tbg.ports.secrets.choice", lambda _: left.pop(0))


def test_a_port_that_another_process_got_is_not_given_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_PROCESS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        ours = free_port()
        fresh = free_port()
        choose(monkeypatch, theirs, ours, fresh)
        ports._reserved.pop().close()
        assert free_port() == fresh
        other.communicate("")


def test_a_port_in_use_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = free_port()
    ports._reserved.pop().close()
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        assert why_taken(HOST, taken) is not None
        choose(monkeypatch, taken, fresh)
        assert free_port() == fresh


def test_a_process_holds_a_bounded_number_of_reservations() -> None:
    for _ in range(RESERVED + 5):
        free_port()
    assert len(ports._reserved) == RESERVED
