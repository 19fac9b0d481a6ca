"""supervisord, as the stack talks to it."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tbg.stack.state import State
from tbg.stack.supervisor import Launch, Supervisor
from tests.processes import PYTHON, wait_until

# Its second run ends at once, as PostgreSQL does while what a killed one left still runs.
FAILS_ONCE = """
import sys, time
from pathlib import Path
runs = Path(sys.argv[1])
with runs.open("a") as file:
    file.write("run\\n")
if len(runs.read_text().splitlines()) == 2:
    sys.exit(3)
time.sleep(600)
"""


@pytest.fixture
def supervisor(server_folder: Path) -> Iterator[Supervisor]:
    state = State(server_folder / "state")
    state.make()
    state.make_runtime()
    (server_folder / "program.py").write_text(FAILS_ONCE)
    words = [PYTHON, str(server_folder / "program.py"), str(server_folder / "runs")]
    one = Supervisor(state)
    one.start([Launch("failing", words)])
    yield one
    one.shutdown()


def test_each_death_of_a_program_that_dies_twice_has_its_own_reason(
    supervisor: Supervisor, server_folder: Path
) -> None:
    """Both may come between two looks at it."""
    supervisor.start_program("failing")
    wait_until((server_folder / "runs").exists, "it runs")
    os.kill(supervisor.processes()["failing"].pid, signal.SIGKILL)

    def spawned() -> list[int]:
        lines = re.findall(r"spawned: 'failing' with pid (\d+)\n", supervisor.log.read_text())
        return [int(pid) for pid in lines]

    wait_until(lambda: len(spawned()) == 3, "it was started three times")
    assert [supervisor.exit_of("failing", pid) for pid in spawned()] == [
        "terminated by SIGKILL",
        "exit status 3",
        "for an unknown reason",  # it runs
    ]


TALKS = """
import time
while True:
    print("a line", flush=True)
    time.sleep(0.01)
"""


def test_a_full_disk_costs_log_lines_and_no_program(server_folder: Path) -> None:
    """Of the logs of a program and of supervisord itself, which write to a full device."""
    state = State(server_folder / "state")
    state.make()
    state.make_runtime()
    log, own = state.log_of("talking"), state.logs / "supervisord.log"
    for path in (log, own):
        path.symlink_to("/dev/full")
    one = Supervisor(state)
    (server_folder / "talks.py").write_text(TALKS)
    words = [PYTHON, str(server_folder / "talks.py")]
    one.start([Launch("talking", words), Launch("other", words)])
    try:
        for name in ("talking", "other"):
            one.start_program(name)
        other = state.log_of("other")
        wait_until(lambda: other.exists() and other.stat().st_size > 1000, "it has said much")
        before = one.processes()
        assert all(process.running for process in before.values())
        # There is room again: the lines come back by themselves.
        log.unlink()
        wait_until(lambda: log.exists() and "a line" in log.read_text(), "it logs again")
        after = one.processes()
        assert {process.pid for process in after.values()} == {
            process.pid for process in before.values()
        }
    finally:
        one.shutdown()
