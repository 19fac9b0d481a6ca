"""Free ports are free, and no two processes get the same."""

import socket
from pathlib import Path

import pytest

from tbg.stack import ports
from tbg.stack.ports import HOST, RESERVED, free_port, why_taken
from tests.processes import PYTHON, running

ANOTHER_PROCESS = "from tbg.stack.ports import free_port; print(free_port(), flush=True); input()"


def choose(monkeypatch: pytest.MonkeyPatch, *offered: int) -> None:
    left = list(offered)
    monkeypatch.setattr("tbg.stack.ports.secrets.choice", lambda _: left.pop(0))


def test_a_port_that_another_process_got_is_not_given_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running([PYTHON, "-c", ANOTHER_PROCESS], tmp_path / "log", listens=True) as other:
        other.wait_for("\n")
        theirs = int(other.output)
        ours = free_port()
        fresh = free_port()
        choose(monkeypatch, theirs, ours, fresh)
        ports._reserved.pop().close()
        assert free_port() == fresh
        other.tell("")
        assert other.wait() == 0


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
