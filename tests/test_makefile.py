"""The Makefile takes a Python on which everything installs, and tests another one beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT


def machine(folder: Path, **pythons: int) -> dict[str, str]:
    """An environment whose PATH holds these Pythons, by name, of these versions 3.x."""
    commands = folder / "bin"
    commands.mkdir()
    for name, minor in pythons.items():
        program = commands / name.replace("_", ".")
        program.write_text(f"#!/bin/sh\necho {minor}\n")
        program.chmod(0o755)
    for name in ("sh", "seq", "ls"):
        (commands / name).symlink_to(f"/bin/{name}")
    return {"PATH": str(commands), "HOME": str(folder), "PYENV_ROOT": str(folder / "pyenv")}


def run(script: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / script), *words],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3": 12, "python3_13": 13}, "python3"),
        ({"python3": 14, "python3_13": 13, "python3_12": 12}, "python3.13"),
        ({"python3": 14, "python3_11": 11}, "python3.11"),
        ({"python3": 9, "python3_12": 12}, "python3.12"),
        ({"python3_12": 12}, "python3.12"),
    ],
)
def test_a_python_with_wheels_for_everything_is_chosen(
    pythons: dict[str, int], chosen: str, tmp_path: Path
) -> None:
    done = run("choose-python", machine(tmp_path, **pythons))
    assert (done.returncode, done.stdout.strip()) == (0, chosen)
    newer = pythons.get("python3") == 14
    assert ("passed over Python 3.14: py-bitcoinkernel" in done.stderr) == newer


def test_a_machine_without_such_a_python_hears_why(tmp_path: Path) -> None:
    done = run("choose-python", machine(tmp_path, python3=14))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Python 3.14 was found, and py-bitcoinkernel" in done.stderr
    assert "install Python 3.13 to 3.11" in done.stderr
    (tmp_path / "old").mkdir()
    done = run("choose-python", machine(tmp_path / "old", python3=9))
    assert done.returncode == 1
    assert "Python 3.11 to 3.13 is needed" in done.stderr


@pytest.mark.parametrize(
    ("pythons", "first", "other"),
    [
        ({"python3": 13, "python3_12": 12, "python3_11": 11}, "python3", "python3.12"),
        ({"python3": 11, "python3_12": 12, "python3_13": 13}, "python3", "python3.13"),
        ({"python3": 14, "python3_13": 13}, "python3.13", ""),
        ({"python3": 12}, "python3", ""),
    ],
)
def test_another_python_than_the_first_is_tested(
    pythons: dict[str, int], first: str, other: str, tmp_path: Path
) -> None:
    environment = machine(tmp_path, **pythons)
    done = run("newest-python", environment, str(tmp_path / "bin" / first))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == other


def test_a_machine_with_one_python_says_that_there_is_no_other(tmp_path: Path) -> None:
    environment = machine(tmp_path, python3=12)
    for name in ("make", "bash", "test", "echo", "env"):
        for folder in ("/usr/bin", "/bin"):
            if (Path(folder) / name).exists():
                (tmp_path / "bin" / name).symlink_to(f"{folder}/{name}")
                break
    done = subprocess.run(
        ["make", "test-newest", f"VENV={tmp_path / 'none'}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "no Python from 3.11 to 3.13 is on this machine but 12" in done.stdout


def test_the_script_of_the_pictures_starts_and_says_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/pictures", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--grafana" in done.stdout
