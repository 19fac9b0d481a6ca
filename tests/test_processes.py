"""What the tests start does not outlive them."""

import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.processes import PYTHON, ProcessError, nothing_left, running, wait_until

SLEEPS = "import time; time.sleep(600)"
# A process with another one in a session of its own, as a daemon has.
BOTH = (
    "import subprocess, sys, time\n"
    f"child = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}], start_new_session=True)\n"
    "print(f'child {child.pid}.', flush=True)\n"
    "time.sleep(600)"
)


def test_a_process_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    with running([PYTHON, "-c", BOTH], tmp_path / "log") as process:
        process.wait_for(re.compile(r"child \d+\."))
        child = psutil.Process(int(re.findall(r"child (\d+)", process.output)[0]))
    assert process.returncode == -signal.SIGKILL
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_a_run_of_the_tests_leaves_behind_is_killed_and_fails_it() -> None:
    with pytest.raises(ProcessError, match="left behind"), nothing_left(seconds=0):
        process = subprocess.Popen([PYTHON, "-c", SLEEPS], start_new_session=True)
    assert process.wait(60) == -signal.SIGKILL


# What a test starts takes its time to end, as a server on a busy machine does.
SLOW = """
import time
from pathlib import Path
import pytest
from tests.processes import PYTHON, running

@pytest.fixture(params=[1, 2])
def slow(request, tmp_path):
    with running([PYTHON, "-c", "import time; time.sleep(600)"], tmp_path / "log"):
        yield
        time.sleep(12)
        Path(f"{__file__}.{request.param}").touch()

def test_it(slow):
    with open(f"{__file__}.begun", "a") as file:
        file.write("begun")
    while True:  # a signal just before a long sleep would not end it
        time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("workers", "number"), [(0, signal.SIGTERM), (2, signal.SIGTERM), (2, signal.SIGINT)]
)
def test_a_run_that_is_told_to_end_tears_down_what_it_has_begun(
    tmp_path: Path, workers: int, number: signal.Signals
) -> None:
    (tmp_path / "test_slow.py").write_text(SLOW)
    begun = tmp_path / "test_slow.py.begun"
    words = ["-m", "pytest", "-p", "tests.conftest", "--numprocesses", workers, "--dist", "load"]
    with running([PYTHON, *words, tmp_path], tmp_path / "log") as run:
        wait_until(lambda: begun.exists() and begun.read_text().count("begun") == max(workers, 1))
        # As a terminal does: Ctrl-C is for all of them.
        if number == signal.SIGINT:
            os.killpg(run.pid, number)
        else:
            run.send(number)
        assert run.wait() == 128 + number
    assert len(list(tmp_path.glob("test_slow.py.[12]"))) == max(workers, 1)


def test_a_process_that_ends_without_the_words_is_shown_with_its_output(tmp_path: Path) -> None:
    log, errors = tmp_path / "log", tmp_path / "errors"
    program = "import sys; print(input()); sys.exit('no such thing')"
    with running([PYTHON, "-c", program], log, errors=errors, listens=True) as process:
        process.tell("hello")
        with pytest.raises(ProcessError, match="ended with 1") as caught:
            process.wait_for("ready")
    assert "hello\nno such thing" in str(caught.value)
