"""The Makefile takes a Python on which everything installs, and tests another one beside it."""

import shutil
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


def fake(folder: Path, **programs: str) -> dict[str, str]:
    """An environment whose PATH holds these programs, and what a script needs beside them."""
    folder.mkdir(parents=True)
    for name, text in programs.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    for name in ("sh", "mktemp", "mkdir", "rm", "tail"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return {"PATH": str(folder), "TMPDIR": str(folder)}


HAS_NO_PIP = "exit 1"
# apt has lists of packages only if it may keep them in a folder of its own.
APT = """case "$*" in
*State*update) ;;
*State*download*) : > python3-pip-whl_1_all.deb ;;
*) echo 'E: Unable to locate package python3-pip-whl'; exit 100 ;;
esac"""
UNPACK = "mkdir -p usr/share/python-wheels; : > usr/share/python-wheels/pip-25.1-py3-none-any.whl"


def test_pip_comes_from_the_packages_of_the_machine_where_python_came_without_it(
    tmp_path: Path,
) -> None:
    environment = fake(tmp_path / "bin", apt_get=APT, dpkg_deb=UNPACK, python3=HAS_NO_PIP)
    fake(tmp_path / "venv/bin", python='echo "$@"')
    done = run("fetch-pip", environment, "python3", str(tmp_path / "venv"))
    assert done.returncode == 0, done.stderr
    program, *words = done.stdout.split()
    assert program.endswith("/usr/share/python-wheels/pip-25.1-py3-none-any.whl/pip")
    assert words[0] == "install"
    assert words[-2:] == ["--no-index", program.removesuffix("/pip")]
    assert not list((tmp_path / "bin").glob("tmp.*"))  # it leaves nothing behind


def test_a_pip_that_is_installed_puts_one_into_the_environment(tmp_path: Path) -> None:
    environment = fake(tmp_path / "bin", python3='echo "$@"')
    done = run("fetch-pip", environment, "python3", str(tmp_path / "venv"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"-m pip --python {tmp_path}/venv/bin/python install --quiet pip\n"


def test_a_machine_without_pip_and_apt_hears_which_package_to_install(tmp_path: Path) -> None:
    environment = fake(tmp_path / "bin", python3=HAS_NO_PIP)
    done = run("fetch-pip", environment, "python3", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "apt-get: not found" in done.stderr
    assert "install its venv package (Debian, Ubuntu: python3-venv)" in done.stderr
