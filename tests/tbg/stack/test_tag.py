"""Processes are found by a mark in their environment."""

from pathlib import Path

import psutil
import pytest

from tbg.stack.tag import environment, marked
from tests.processes import PYTHON, running

BUSY = "print('busy', flush=True)\nwhile True: pass"


def test_a_process_that_is_just_being_executed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no environment and no command line then: held so for three looks, by a stand-in."""
    environ, cmdline = psutil.Process.environ, psutil.Process.cmdline
    looks: list[int] = []

    with running([PYTHON, "-c", BUSY], tmp_path / "log", {"TBG_TEST_MARK": "this"}) as process:
        process.wait_for("busy")

        def early_environ(one: psutil.Process) -> dict[str, str]:
            if one.pid == process.pid:
                looks.append(one.pid)
            return {} if one.pid == process.pid and len(looks) <= 3 else environ(one)

        def early_cmdline(one: psutil.Process) -> list[str]:
            return [] if one.pid == process.pid and len(looks) <= 3 else cmdline(one)

        monkeypatch.setattr(psutil.Process, "environ", early_environ)
        monkeypatch.setattr(psutil.Process, "cmdline", early_cmdline)

        assert [one.pid for one in marked("TBG_TEST_MARK", "this")] == [process.pid]


def test_a_process_without_an_environment_is_looked_at_twice_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = psutil.Process.environ
    looks: list[int] = []

    def environ(one: psutil.Process) -> dict[str, str]:
        looks.append(one.pid)
        return real(one)

    with running(["/usr/bin/env", "-i", PYTHON, "-c", BUSY], tmp_path / "log") as process:
        process.wait_for("busy")
        monkeypatch.setattr(psutil.Process, "environ", environ)
        assert environment(psutil.Process(process.pid)) == {}
    assert looks.count(process.pid) == 2


def test_a_process_with_another_value_or_none_is_not_found(tmp_path: Path) -> None:
    with running([PYTHON, "-c", BUSY], tmp_path / "log", {"TBG_TEST_MARK": "other"}) as process:
        process.wait_for("busy")
        assert marked("TBG_TEST_MARK", "this") == []
        process.end()
        assert marked("TBG_TEST_MARK", "other") == []
